//! What all certificates made here have in common.

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef};
use zeroize::Zeroizing;

use super::error::IssueError;
use crate::pem::push_block;
use crate::secret::SecretPem;

/// What kind of key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KeyType {
    /// ECDSA on P-256: made in microseconds.
    #[default]
    P256,
    /// RSA of 2048 bits: what every grid tool reads; takes about a tenth of a second.
    Rsa2048,
}

impl KeyType {
    pub(super) fn generate(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            Self::P256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)
            }
            Self::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?),
        }
    }
}

/// The parts of a certificate that differ.
pub(super) struct Draft<'a> {
    pub(super) subject: &'a X509NameRef,
    pub(super) issuer: &'a X509NameRef,
    pub(super) serial: u64,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) key: &'a PKeyRef<Public>,
    pub(super) extensions: Vec<X509Extension>,
}

impl Draft<'_> {
    /// Signs it with the issuer's key and SHA-256.
    pub(super) fn sign(self, issuer_key: &PKey<Private>) -> Result<X509, IssueError> {
        let mut builder = X509Builder::new()?;
        builder.set_version(2)?; // which is called version 3
        let serial = BigNum::from_slice(&self.serial.to_be_bytes())?;
        let serial: Asn1Integer = serial.to_asn1_integer()?;
        builder.set_serial_number(&serial)?;
        builder.set_subject_name(self.subject)?;
        builder.set_issuer_name(self.issuer)?;
        let (not_before, not_after) = (time(self.not_before)?, time(self.not_after)?);
        builder.set_not_before(&not_before)?;
        builder.set_not_after(&not_after)?;
        builder.set_pubkey(self.key)?;
        for extension in self.extensions {
            builder.append_extension(extension)?;
        }
        builder.sign(issuer_key, MessageDigest::sha256())?;
        Ok(builder.build())
    }
}

fn time(unix: i64) -> Result<Asn1Time, IssueError> {
    Asn1Time::from_unix(unix).map_err(|_| IssueError::Time(unix))
}

/// A positive number that nobody can predict (RFC 5280 4.1.2.2).
pub(super) fn serial() -> Result<u64, ErrorStack> {
    let mut bytes = [0; 8];
    openssl::rand::rand_bytes(&mut bytes)?;
    // The sign bit stays clear, and zero is no serial number.
    Ok((u64::from_be_bytes(bytes) >> 1).max(1))
}

/// The public half.
pub(super) fn public(key: &PKey<Private>) -> Result<PKey<Public>, ErrorStack> {
    PKey::public_key_from_der(&key.public_key_to_der()?)
}

/// An extension given by its OID and DER value.
pub(super) fn extension(
    oid: &str,
    is_critical: bool,
    value: &[u8],
) -> Result<X509Extension, ErrorStack> {
    let oid = Asn1Object::from_str(oid)?;
    let value = Asn1OctetString::new_from_bytes(value)?;
    X509Extension::new_from_der(&oid, is_critical, &value)
}

/// `/C=XX/O=Lab/CN=Jane Doe` as a name.
pub(super) fn parse_name(text: &str) -> Result<X509Name, IssueError> {
    let wrong = || IssueError::Name(text.to_owned());
    let mut name = X509Name::builder()?;
    let mut parts = text.split('/');
    if parts.next() != Some("") {
        return Err(wrong());
    }
    let mut is_empty = true;
    for part in parts {
        let (kind, value) = part.split_once('=').ok_or_else(wrong)?;
        if kind.is_empty() || value.is_empty() {
            return Err(wrong());
        }
        name.append_entry_by_text(kind, value)
            .map_err(|_| wrong())?;
        is_empty = false;
    }
    if is_empty {
        Err(wrong())
    } else {
        Ok(name.build())
    }
}

/// A credential file: certificate, key in its traditional form, the rest of the chain.
pub(super) fn bundle(
    certificate: &[u8],
    key: &PKey<Private>,
    chain: &[Vec<u8>],
) -> Result<SecretPem, ErrorStack> {
    let (label, der) = match key.rsa() {
        Ok(rsa) => ("RSA PRIVATE KEY", Zeroizing::new(rsa.private_key_to_der()?)),
        Err(_) => (
            "EC PRIVATE KEY",
            Zeroizing::new(key.ec_key()?.private_key_to_der()?),
        ),
    };
    let length: usize = chain.iter().map(Vec::len).sum::<usize>() + certificate.len() + der.len();
    // Reserved at once: a growing buffer would leave copies of the key behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(length * 3 / 2 + 4096));
    push_block(&mut pem, "CERTIFICATE", certificate);
    push_block(&mut pem, label, &der);
    for der in chain {
        push_block(&mut pem, "CERTIFICATE", der);
    }
    Ok(SecretPem::new(pem))
}
