//! A throw-away PKI: CAs, users and proxies, right ones and every kind of wrong one.
//!
//! Shared by the tests and the benchmark of this crate and by those of `sailplane-verify` (by
//! `#[path]`). Keys are EC P-256 unless asked otherwise, because they are made in microseconds.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each user takes what it needs, as a module of its own"
)]

pub mod ac;
pub mod crl;
pub mod raw;
pub mod token;

use std::path::Path;

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef};

/// The time at which the test PKI is looked at: 2027-01-01 00:00:00 UTC.
pub const NOW: i64 = 1_798_761_600;
pub const HOUR: i64 = 3_600;
pub const DAY: i64 = 86_400;

pub const INHERIT_ALL: &str = "1.3.6.1.5.5.7.21.1";
pub const INDEPENDENT: &str = "1.3.6.1.5.5.7.21.2";
pub const ANY_LANGUAGE: &str = "1.3.6.1.5.5.7.21.0";
pub const LIMITED: &str = "1.3.6.1.4.1.3536.1.1.1.9";

pub fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub fn rsa_key(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

/// `/C=XX/O=Lab/CN=Jane` as a name; values must not hold a slash.
pub fn dn(text: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    for part in text.split('/').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap();
        name.append_entry_by_text(key, value).unwrap();
    }
    name.build()
}

/// A name and one more CN.
pub fn dn_plus(name: &X509NameRef, cn: &str) -> X509Name {
    let mut longer = X509Name::builder().unwrap();
    for entry in name.entries() {
        let value = entry.data().as_slice();
        let value = std::str::from_utf8(value).unwrap();
        longer
            .append_entry_by_nid(entry.object().nid(), value)
            .unwrap();
    }
    longer.append_entry_by_nid(Nid::COMMONNAME, cn).unwrap();
    longer.build()
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Cert {
    pub x509: X509,
    pub key: PKey<Private>,
}

impl Cert {
    pub fn pem(&self) -> String {
        String::from_utf8(self.x509.to_pem().unwrap()).unwrap()
    }

    pub fn key_pem(&self) -> String {
        let pem = match self.key.rsa() {
            Ok(rsa) => rsa.private_key_to_pem().unwrap(),
            Err(_) => self.key.ec_key().unwrap().private_key_to_pem().unwrap(),
        };
        String::from_utf8(pem).unwrap()
    }

    /// As a user would: the proxy or certificate, its key, the rest of the chain.
    pub fn bundle(&self, chain: &[&Self]) -> String {
        let mut text = self.pem() + &self.key_pem();
        chain.iter().for_each(|cert| text.push_str(&cert.pem()));
        text
    }
}

/// A DER element.
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        middle @ 128..=255 => out.extend([0x81, middle as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend(content);
    out
}

pub fn oid(dotted: &str) -> Vec<u8> {
    der(6, Asn1Object::from_str(dotted).unwrap().as_slice())
}

/// The value of a proxyCertInfo extension.
pub fn proxy_info(path_length: Option<u8>, language: &str, text: Option<&[u8]>) -> Vec<u8> {
    let mut policy = oid(language);
    policy.extend(text.map(|text| der(4, text)).unwrap_or_default());
    let mut body = path_length.map(|n| der(2, &[n])).unwrap_or_default();
    body.extend(der(0x30, &policy));
    der(0x30, &body)
}

pub fn extension(dotted: &str, critical: bool, value: &[u8]) -> X509Extension {
    let object = Asn1Object::from_str(dotted).unwrap();
    let value = Asn1OctetString::new_from_bytes(value).unwrap();
    X509Extension::new_from_der(&object, critical, &value).unwrap()
}

pub const PROXY_CERT_INFO: &str = "1.3.6.1.5.5.7.1.14";

/// What a certificate shall be; every field may be changed before it is signed.
pub struct Spec {
    pub subject: X509Name,
    pub version: i32,
    pub not_before: i64,
    pub not_after: i64,
    pub serial: u32,
    pub key: PKey<Private>,
    pub digest: MessageDigest,
    /// basicConstraints: CA or not, path length. `None`: no extension.
    pub basic: Option<(bool, Option<u32>)>,
    pub usage: Option<KeyUsage>,
    pub key_identifiers: bool,
    pub alternative_name: Option<&'static str>,
    pub extra: Vec<X509Extension>,
}

impl Spec {
    pub fn new(subject: X509Name) -> Self {
        Self {
            subject,
            version: 2,
            not_before: NOW - DAY,
            not_after: NOW + 365 * DAY,
            serial: 1,
            key: ec_key(),
            digest: MessageDigest::sha256(),
            basic: None,
            usage: None,
            key_identifiers: true,
            alternative_name: None,
            extra: Vec::new(),
        }
    }

    pub fn ca(subject: &str) -> Self {
        let mut usage = KeyUsage::new();
        usage.critical().key_cert_sign().crl_sign();
        Self {
            basic: Some((true, None)),
            usage: Some(usage),
            ..Self::new(dn(subject))
        }
    }

    pub fn user(subject: &str) -> Self {
        let mut usage = KeyUsage::new();
        usage.critical().digital_signature().key_encipherment();
        Self {
            basic: Some((false, None)),
            usage: Some(usage),
            ..Self::new(dn(subject))
        }
    }

    /// A full RFC 3820 proxy for 12 hours, without path limit.
    pub fn proxy(issuer: &Cert, cn: &str) -> Self {
        Self::proxy_with(issuer, cn, &proxy_info(None, INHERIT_ALL, None))
    }

    pub fn limited(issuer: &Cert, cn: &str) -> Self {
        Self::proxy_with(issuer, cn, &proxy_info(None, LIMITED, None))
    }

    pub fn proxy_with(issuer: &Cert, cn: &str, info: &[u8]) -> Self {
        let mut usage = KeyUsage::new();
        usage.critical().digital_signature().key_encipherment();
        Self {
            not_before: NOW - 300,
            not_after: NOW + 12 * HOUR,
            usage: Some(usage),
            key_identifiers: false,
            extra: vec![extension(PROXY_CERT_INFO, true, info)],
            ..Self::new(dn_plus(issuer.x509.subject_name(), cn))
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn valid(self, not_before: i64, not_after: i64) -> Self {
        Self {
            not_before,
            not_after,
            ..self
        }
    }

    pub fn key(self, key: PKey<Private>) -> Self {
        Self { key, ..self }
    }

    pub fn self_signed(self) -> Cert {
        self.make(None)
    }

    pub fn signed_by(self, issuer: &Cert) -> Cert {
        self.make(Some(issuer))
    }

    fn make(self, issuer: Option<&Cert>) -> Cert {
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(self.version).unwrap();
        builder.set_subject_name(&self.subject).unwrap();
        let issuer_name = issuer.map_or(&*self.subject, |issuer| issuer.x509.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        let serial = BigNum::from_u32(self.serial)
            .unwrap()
            .to_asn1_integer()
            .unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(self.not_before).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(self.not_after).unwrap())
            .unwrap();
        builder.set_pubkey(&self.key).unwrap();
        if self.version == 2 {
            if let Some((ca, path_length)) = self.basic {
                let mut basic = BasicConstraints::new();
                basic.critical();
                if ca {
                    basic.ca();
                }
                if let Some(length) = path_length {
                    basic.pathlen(length);
                }
                builder.append_extension(basic.build().unwrap()).unwrap();
            }
            if let Some(usage) = &self.usage {
                builder.append_extension(usage.build().unwrap()).unwrap();
            }
            if self.key_identifiers {
                let context = builder.x509v3_context(issuer.map(|i| &*i.x509), None);
                let id = SubjectKeyIdentifier::new().build(&context).unwrap();
                builder.append_extension(id).unwrap();
                if issuer.is_some_and(|issuer| issuer.x509.subject_key_id().is_some()) {
                    let context = builder.x509v3_context(issuer.map(|i| &*i.x509), None);
                    let id = AuthorityKeyIdentifier::new()
                        .keyid(false)
                        .build(&context)
                        .unwrap();
                    builder.append_extension(id).unwrap();
                }
            }
            if let Some(name) = self.alternative_name {
                let context = builder.x509v3_context(None, None);
                let name = SubjectAlternativeName::new()
                    .dns(name)
                    .build(&context)
                    .unwrap();
                builder.append_extension(name).unwrap();
            }
            for extra in self.extra {
                builder.append_extension(extra).unwrap();
            }
        }
        builder
            .sign(issuer.map_or(&self.key, |issuer| &issuer.key), self.digest)
            .unwrap();
        Cert {
            x509: builder.build(),
            key: self.key,
        }
    }
}

/// Writes a CA the way `openssl rehash` and the IGTF distribution name it: under the new hash, with a
/// signing policy that lets it certify anybody.
pub fn install_ca(directory: &Path, ca: &Cert) {
    install_bare_ca(directory, ca);
    install_policy(directory, ca, "*");
}

/// The same without a signing policy.
pub fn install_bare_ca(directory: &Path, ca: &Cert) {
    install_at(directory, &hash(ca), ca);
}

/// Lets a CA certify subjects like this.
pub fn install_policy(directory: &Path, ca: &Cert, subjects: &str) {
    let text = format!(
        "access_id_CA X509 '{}'\npos_rights globus CA:sign\ncond_subjects globus '\"{subjects}\"'\n",
        line(ca.x509.subject_name())
    );
    std::fs::write(directory.join(format!("{}.signing_policy", hash(ca))), text).unwrap();
}

/// The name of a CA's files.
pub fn hash(ca: &Cert) -> String {
    format!("{:08x}", ca.x509.subject_name_hash())
}

/// A name on one line.
pub fn line(name: &X509NameRef) -> String {
    name.entries()
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap();
            format!(
                "/{key}={}",
                std::str::from_utf8(entry.data().as_slice()).unwrap()
            )
        })
        .collect()
}

/// Writes a certificate under the first free number of a hash.
pub fn install_at(directory: &Path, hash: &str, ca: &Cert) {
    let free = (0..)
        .map(|n| directory.join(format!("{hash}.{n}")))
        .find(|path| !path.exists());
    std::fs::write(free.unwrap(), ca.pem()).unwrap();
}
