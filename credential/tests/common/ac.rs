//! VOMS attribute certificates, right ones and every kind of wrong one.

use openssl::hash::MessageDigest;
use openssl::sign::Signer;
use openssl::x509::X509Extension;

use super::{Cert, HOUR, NOW, der, extension, oid};

pub const AC_SEQUENCE: &str = "1.3.6.1.4.1.8005.100.100.5";
const VOMS_ATTRIBUTE: &str = "1.3.6.1.4.1.8005.100.100.4";
const CERTIFICATE_LIST: &str = "1.3.6.1.4.1.8005.100.100.10";
pub const TARGETS: &str = "2.5.29.55";
const NO_REVOCATION: &str = "2.5.29.56";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const RSA_SHA256: &str = "1.2.840.113549.1.1.11";

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

/// Unix seconds as a GeneralizedTime.
pub fn generalized_time(unix: i64) -> Vec<u8> {
    let output = openssl::asn1::Asn1Time::from_unix(unix)
        .unwrap()
        .to_string();
    // "Jan  1 00:00:00 2027 GMT"
    let words: Vec<&str> = output.split_whitespace().collect();
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(words[0]).unwrap() / 3 + 1;
    let day: u32 = words[1].parse().unwrap();
    let text = format!(
        "{}{month:02}{day:02}{}Z",
        words[3],
        words[2].replace(':', "")
    );
    der(0x18, text.as_bytes())
}

/// What an attribute certificate shall say; every field may be changed before it is signed.
pub struct AcSpec {
    pub version: Vec<u8>,
    pub holder: Vec<u8>,
    pub issuer: Vec<u8>,
    pub algorithm_inside: Vec<u8>,
    pub algorithm_outside: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub authority: String,
    pub fqans: Vec<String>,
    /// The attributes instead of those made from `authority` and `fqans`.
    pub attributes: Option<Vec<u8>>,
    pub certificates: Option<Vec<Vec<u8>>>,
    /// OID, critical, value.
    pub extra: Vec<(&'static str, bool, Vec<u8>)>,
    /// Changed after the signature was made.
    pub spoil: bool,
}

impl AcSpec {
    /// Twelve hours of `fqans` of the VO `vo.lab` for a user, from a server.
    pub fn new(user: &Cert, server: &Cert, fqans: &[&str]) -> Self {
        let algorithm = match server.key.ec_key() {
            Ok(_) => sequence(&[oid(ECDSA_SHA256)]),
            Err(_) => sequence(&[oid(RSA_SHA256), der(5, &[])]),
        };
        Self {
            version: der(2, &[1]),
            holder: holder(&user.x509.issuer_name().to_der().unwrap(), &serial(user)),
            issuer: issuer(&server.x509.subject_name().to_der().unwrap()),
            algorithm_inside: algorithm.clone(),
            algorithm_outside: algorithm,
            not_before: generalized_time(NOW - 300),
            not_after: generalized_time(NOW + 12 * HOUR),
            authority: "vo.lab://voms.example.org:15000".into(),
            fqans: fqans.iter().map(|&fqan| fqan.to_owned()).collect(),
            attributes: None,
            certificates: Some(vec![server.x509.to_der().unwrap()]),
            extra: vec![(NO_REVOCATION, false, der(5, &[]))],
            spoil: false,
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn signed_by(self, server: &Cert) -> Vec<u8> {
        let attributes = self.attributes.unwrap_or_else(|| {
            let values: Vec<Vec<u8>> = self.fqans.iter().map(|f| der(4, f.as_bytes())).collect();
            voms_attribute(&self.authority, &sequence(&values))
        });
        let mut extensions = Vec::new();
        if let Some(certificates) = self.certificates {
            let list = sequence(&[sequence(&certificates)]);
            extensions.push(sequence(&[oid(CERTIFICATE_LIST), der(4, &list)]));
        }
        for (id, critical, value) in self.extra {
            let critical = if critical { der(1, &[0xff]) } else { vec![] };
            extensions.push(sequence(&[oid(id), critical, der(4, &value)]));
        }
        let mut info = sequence(&[
            self.version,
            self.holder,
            self.issuer,
            self.algorithm_inside,
            der(2, &[7]),
            sequence(&[self.not_before, self.not_after]),
            attributes,
            sequence(&extensions),
        ]);
        let mut signer = Signer::new(MessageDigest::sha256(), &server.key).unwrap();
        let mut signature = vec![0];
        signature.extend(signer.sign_oneshot_to_vec(&info).unwrap());
        if self.spoil {
            let at = info.len() - 1;
            info[at] ^= 1;
        }
        sequence(&[info, self.algorithm_outside, der(3, &signature)])
    }
}

/// The content of a certificate's serial number.
pub fn serial(cert: &Cert) -> Vec<u8> {
    let bytes = cert.x509.serial_number().to_bn().unwrap().to_vec();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        [vec![0], bytes].concat()
    } else {
        bytes
    }
}

/// A holder by issuer and serial number.
pub fn holder(name: &[u8], serial: &[u8]) -> Vec<u8> {
    let id = [sequence(&[der(0xa4, name)]), der(2, serial)].concat();
    sequence(&[der(0xa0, &id)])
}

/// An issuer in the V2 form.
pub fn issuer(name: &[u8]) -> Vec<u8> {
    der(0xa0, &sequence(&[der(0xa4, name)]))
}

/// The list of attributes with the VOMS attribute in it.
pub fn voms_attribute(authority: &str, values: &[u8]) -> Vec<u8> {
    let syntax = sequence(&[der(0xa0, &der(0x86, authority.as_bytes())), values.to_vec()]);
    sequence(&[sequence(&[oid(VOMS_ATTRIBUTE), der(0x31, &syntax)])])
}

/// The extension of a proxy that carries attribute certificates.
pub fn carrier(acs: &[Vec<u8>]) -> X509Extension {
    extension(AC_SEQUENCE, false, &sequence(&[sequence(acs)]))
}

/// The value of a target extension for these hosts, as URIs (tag 0x86) or DNS names (0x82).
pub fn targets(tag: u8, hosts: &[&str]) -> Vec<u8> {
    let hosts: Vec<Vec<u8>> = hosts
        .iter()
        .map(|host| der(0xa0, &der(tag, host.as_bytes())))
        .collect();
    sequence(&[sequence(&hosts)])
}
