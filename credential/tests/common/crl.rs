//! Certificate revocation lists, right ones and every kind of wrong one.

use openssl::hash::MessageDigest;
use openssl::sign::Signer;

use super::ac::{generalized_time, sequence, serial};
use super::{Cert, DAY, NOW, der, oid};

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

/// What a CRL shall say; every field may be changed before it is signed.
pub struct CrlSpec {
    pub version: Vec<u8>,
    pub issuer: Vec<u8>,
    pub algorithm_inside: Vec<u8>,
    pub algorithm_outside: Vec<u8>,
    pub this_update: Vec<u8>,
    pub next_update: Vec<u8>,
    /// Serial numbers and extensions of their entries.
    pub revoked: Vec<(Vec<u8>, Vec<u8>)>,
    /// OID, critical, value.
    pub extensions: Vec<(&'static str, bool, Vec<u8>)>,
}

impl CrlSpec {
    pub fn new(ca: &Cert, revoked: &[&Cert]) -> Self {
        let algorithm = sequence(&[oid(ECDSA_SHA256)]);
        Self {
            version: der(2, &[1]),
            issuer: ca.x509.subject_name().to_der().unwrap(),
            algorithm_inside: algorithm.clone(),
            algorithm_outside: algorithm,
            this_update: generalized_time(NOW - DAY),
            next_update: generalized_time(NOW + DAY),
            revoked: revoked.iter().map(|cert| (serial(cert), vec![])).collect(),
            extensions: vec![("2.5.29.20", false, der(2, &[9]))],
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn signed_by(self, ca: &Cert) -> Vec<u8> {
        let entries: Vec<Vec<u8>> = self
            .revoked
            .into_iter()
            .map(|(number, extensions)| {
                sequence(&[der(2, &number), generalized_time(NOW - DAY), extensions])
            })
            .collect();
        let revoked = if entries.is_empty() {
            vec![]
        } else {
            sequence(&entries)
        };
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .into_iter()
            .map(|(id, critical, value)| {
                let critical = if critical { der(1, &[0xff]) } else { vec![] };
                sequence(&[oid(id), critical, der(4, &value)])
            })
            .collect();
        let extensions = if extensions.is_empty() {
            vec![]
        } else {
            der(0xa0, &sequence(&extensions))
        };
        let list = sequence(&[
            self.version,
            self.algorithm_inside,
            self.issuer,
            self.this_update,
            self.next_update,
            revoked,
            extensions,
        ]);
        let mut signer = Signer::new(MessageDigest::sha256(), &ca.key).unwrap();
        let mut signature = vec![0];
        signature.extend(signer.sign_oneshot_to_vec(&list).unwrap());
        sequence(&[list, self.algorithm_outside, der(3, &signature)])
    }
}

/// As a PEM text.
pub fn pem(crl: &[u8]) -> String {
    let text = openssl::base64::encode_block(crl);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n",
        lines.join("\n")
    )
}
