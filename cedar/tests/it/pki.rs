//! A throw-away authority with certificates and proxies for tests.

use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Extension, X509Name, X509NameBuilder};

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Holder {
    certificate: X509,
    key: PKey<Private>,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use<'a> {
    Authority,
    /// A server with these names.
    Host(&'a [&'a str]),
    User,
    Proxy,
    /// A user certificate whose time is over.
    Expired,
}

impl Holder {
    /// A new authority.
    pub(crate) fn authority(name: &str) -> Self {
        make(None, &[(Nid::ORGANIZATIONNAME, name)], Use::Authority)
    }

    /// A certificate signed by this one, named by organization and common name.
    pub(crate) fn issue(&self, name: &str, purpose: Use<'_>) -> Self {
        let names = [(Nid::ORGANIZATIONNAME, "Test"), (Nid::COMMONNAME, name)];
        make(Some(self), &names, purpose)
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// Writes the certificate.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, self.pem()).unwrap();
        path
    }

    /// Writes certificate, key and chain into one file, as a proxy is kept.
    pub(crate) fn write_bundle(&self, directory: &Path, name: &str, chain: &[&Self]) -> PathBuf {
        let path = directory.join(name);
        let mut content = self.pem();
        content.extend(self.key.private_key_to_pem_pkcs8().unwrap());
        chain.iter().for_each(|link| content.extend(link.pem()));
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn make(issuer: Option<&Holder>, names: &[(Nid, &str)], purpose: Use<'_>) -> Holder {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial
        .rand(63, openssl::bn::MsbOption::MAYBE_ZERO, false)
        .unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
        .unwrap();
    let subject = match (purpose, issuer) {
        (Use::Proxy, Some(owner)) => below(owner),
        _ => {
            let mut subject = X509NameBuilder::new().unwrap();
            for (nid, text) in names {
                subject.append_entry_by_nid(*nid, text).unwrap();
            }
            subject.build()
        }
    };
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    let day = 86_400;
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    let end = match purpose {
        Use::Expired => now - day,
        _ => now + day,
    };
    let date = |unix| Asn1Time::from_unix(unix).unwrap();
    builder.set_not_before(&date(now - 2 * day)).unwrap();
    builder.set_not_after(&date(end)).unwrap();
    builder.set_pubkey(&key).unwrap();
    let mut usage = KeyUsage::new();
    match purpose {
        Use::Authority => {
            let mut constraints = BasicConstraints::new();
            let constraints = constraints.critical().ca().build().unwrap();
            builder.append_extension(constraints).unwrap();
            usage.critical().key_cert_sign().crl_sign();
        }
        Use::Host(names) => {
            let mut alternatives = SubjectAlternativeName::new();
            for name in names {
                alternatives.dns(name);
            }
            let context = builder.x509v3_context(None, None);
            let alternatives = alternatives.build(&context).unwrap();
            builder.append_extension(alternatives).unwrap();
            usage.critical().digital_signature();
        }
        Use::Proxy => {
            builder.append_extension(proxy_info()).unwrap();
            usage.critical().digital_signature();
        }
        Use::User | Use::Expired => {
            usage.critical().digital_signature();
        }
    }
    builder.append_extension(usage.build().unwrap()).unwrap();
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Holder {
        certificate: builder.build(),
        key,
    }
}

/// The subject of a proxy: that of its owner and one more common name.
fn below(owner: &Holder) -> X509Name {
    let mut subject = X509NameBuilder::new().unwrap();
    for entry in owner.certificate.subject_name().entries() {
        let text = entry.data().to_string().unwrap();
        subject
            .append_entry_by_nid(entry.object().nid(), &text)
            .unwrap();
    }
    subject
        .append_entry_by_nid(Nid::COMMONNAME, "123456")
        .unwrap();
    subject.build()
}

/// The extension of RFC 3820: inherit all rights, no limit of length.
fn proxy_info() -> X509Extension {
    use openssl::asn1::{Asn1Object, Asn1OctetString};
    let oid = Asn1Object::from_str("1.3.6.1.5.5.7.1.14").unwrap();
    // SEQUENCE { SEQUENCE { OBJECT IDENTIFIER id-ppl-inheritAll } }
    let value = [
        0x30, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x15, 0x01,
    ];
    let value = Asn1OctetString::new_from_bytes(&value).unwrap();
    X509Extension::new_from_der(&oid, true, &value).unwrap()
}
