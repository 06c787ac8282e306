//! Certificates put together element by element, so that any of them can be wrong.

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};

use super::ac::{generalized_time, sequence};
use super::{Cert, DAY, HOUR, INHERIT_ALL, NOW, PROXY_CERT_INFO, der, ec_key, oid, proxy_info};

pub const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
pub const CN: &str = "2.5.4.3";
pub const KEY_USAGE: &str = "2.5.29.15";
pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub const UTF8: u8 = 0x0c;

/// keyUsage with digitalSignature and keyEncipherment.
pub const SIGN: &[u8] = &[3, 2, 5, 0xa0];
/// keyUsage with keyCertSign and cRLSign.
pub const CERT_SIGN: &[u8] = &[3, 2, 1, 6];
/// basicConstraints with cA.
pub const IS_CA: &[u8] = &[0x30, 3, 1, 1, 0xff];

/// A certificate as bytes, with its key.
#[derive(Clone)]
pub struct Piece {
    pub der: Vec<u8>,
    pub key: PKey<Private>,
}

impl From<&Cert> for Piece {
    fn from(cert: &Cert) -> Self {
        Self {
            der: cert.x509.to_der().unwrap(),
            key: cert.key.clone(),
        }
    }
}

impl Piece {
    pub fn pem(&self) -> String {
        block("CERTIFICATE", &self.der)
    }

    pub fn key_pem(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    /// As a user would: the first certificate, its key, the rest of the chain.
    pub fn bundle(&self, chain: &[&Self]) -> String {
        let rest: String = chain.iter().map(|piece| piece.pem()).collect();
        self.pem() + &self.key_pem() + &rest
    }

    /// For helpers that want a certificate OpenSSL can read.
    pub fn cert(&self) -> Cert {
        Cert {
            x509: openssl::x509::X509::from_der(&self.der).unwrap(),
            key: self.key.clone(),
        }
    }
}

/// A PEM block.
pub fn block(label: &str, content: &[u8]) -> String {
    let text = openssl::base64::encode_block(content);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A name of RDNs with one attribute each: type, tag and bytes of the value.
pub fn name(attributes: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = attributes.iter().map(|one| rdn(&[*one])).collect();
    sequence(&rdns)
}

/// One RDN.
pub fn rdn(attributes: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let members: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, tag, value)| sequence(&[oid(kind), der(*tag, value)]))
        .collect();
    der(0x31, &members.concat())
}

/// A name and one RDN more.
pub fn longer(base: &[u8], rdn: &[u8]) -> Vec<u8> {
    let content = openssl_content(base);
    sequence(&[content.to_vec(), rdn.to_vec()])
}

fn openssl_content(element: &[u8]) -> &[u8] {
    match element[1] {
        short if short < 0x80 => &element[2..],
        0x81 => &element[3..],
        _ => &element[4..],
    }
}

/// An extension: `critical` is left out when it is false, as DER wants.
pub fn ext(dotted: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der(1, &[0xff]) } else { vec![] };
    sequence(&[oid(dotted), critical, der(4, value)])
}

/// The elements of a certificate; any may be changed before it is signed.
#[derive(Clone)]
pub struct Raw {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub inside: Vec<u8>,
    pub outside: Option<Vec<u8>>,
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub key_info: Option<Vec<u8>>,
    pub unique_ids: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
    /// Behind the extensions, inside what is signed.
    pub trailer: Vec<u8>,
    pub key: PKey<Private>,
    pub digest: MessageDigest,
    /// Sign with RSASSA-PSS: the digest of the mask, and the bytes of the salt.
    pub pss: Option<(MessageDigest, i32)>,
}

impl Raw {
    fn new(issuer: &[u8], subject: Vec<u8>) -> Self {
        Self {
            version: der(0xa0, &der(2, &[2])),
            serial: der(2, &[7]),
            inside: sequence(&[oid(ECDSA_SHA256)]),
            outside: None,
            issuer: issuer.to_vec(),
            subject,
            not_before: generalized_time(NOW - HOUR),
            not_after: generalized_time(NOW + 12 * HOUR),
            key_info: None,
            unique_ids: vec![],
            extensions: vec![],
            trailer: vec![],
            key: ec_key(),
            digest: MessageDigest::sha256(),
            pss: None,
        }
    }

    /// A CA of this name, below `issuer`.
    pub fn ca(issuer: &[u8], subject: Vec<u8>) -> Self {
        Self {
            not_before: generalized_time(NOW - DAY),
            not_after: generalized_time(NOW + 365 * DAY),
            extensions: vec![
                ext(BASIC_CONSTRAINTS, true, IS_CA),
                ext(KEY_USAGE, true, CERT_SIGN),
            ],
            ..Self::new(issuer, subject)
        }
    }

    /// A user of this name.
    pub fn user(issuer: &Cert, subject: Vec<u8>) -> Self {
        let issuer = issuer.x509.subject_name().to_der().unwrap();
        Self {
            not_after: generalized_time(NOW + 365 * DAY),
            extensions: vec![
                ext(BASIC_CONSTRAINTS, true, &[0x30, 0]),
                ext(KEY_USAGE, true, SIGN),
            ],
            ..Self::new(&issuer, subject)
        }
    }

    /// A full proxy of `/...USER/CN=1`.
    pub fn proxy(user: &[u8]) -> Self {
        let subject = longer(user, &rdn(&[(CN, UTF8, b"1")]));
        Self {
            extensions: vec![
                ext(KEY_USAGE, true, SIGN),
                ext(PROXY_CERT_INFO, true, &proxy_info(None, INHERIT_ALL, None)),
            ],
            ..Self::new(user, subject)
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With one extension more.
    pub fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    pub fn signed_by(self, key: &PKey<Private>) -> Piece {
        let key_info = self
            .key_info
            .unwrap_or_else(|| self.key.public_key_to_der().unwrap());
        let extensions = if self.extensions.is_empty() {
            vec![]
        } else {
            der(0xa3, &sequence(&self.extensions))
        };
        let signed = sequence(&[
            self.version,
            self.serial,
            self.inside.clone(),
            self.issuer,
            sequence(&[self.not_before, self.not_after]),
            self.subject,
            key_info,
            self.unique_ids,
            extensions,
            self.trailer,
        ]);
        let mut signer = Signer::new(self.digest, key).unwrap();
        if let Some((mask, salt)) = self.pss {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_mgf1_md(mask).unwrap();
            signer
                .set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt))
                .unwrap();
        }
        let mut signature = vec![0];
        signature.extend(signer.sign_oneshot_to_vec(&signed).unwrap());
        let outside = self.outside.unwrap_or(self.inside);
        Piece {
            der: sequence(&[signed, outside, der(3, &signature)]),
            key: self.key,
        }
    }
}
