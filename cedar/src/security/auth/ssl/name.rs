//! The name a client certificate proves.

use openssl::ssl::SslRef;
use openssl::x509::{X509NameRef, X509Ref};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::super::MethodFailure;

/// Object identifier of the extension that makes a certificate a proxy (RFC 3820).
const PROXY_CERT_INFO: &str = "1.3.6.1.5.5.7.1.14";

/// Longest name in bytes; HTCondor cuts at 1023, which could make two names one.
const MAX_NAME: usize = 4096;

/// The subject of the client's certificate, or of the user certificate behind a proxy, in OpenSSL's
/// one-line form; `None` if the client has shown none. TLS has verified the chain.
pub(super) fn of_peer(ssl: &SslRef) -> Result<Option<String>, MethodFailure> {
    let Some(leaf) = ssl.peer_certificate() else {
        return Ok(None);
    };
    let owner = match kind(&leaf)? {
        Kind::Proxy => {
            let chain = ssl.verified_chain();
            let mut found = None;
            for certificate in chain.into_iter().flatten() {
                if kind(certificate)? == Kind::EndEntity {
                    found = Some(certificate.to_owned());
                    break;
                }
            }
            found.ok_or_else(|| bad("it is a proxy of nobody"))?
        }
        Kind::EndEntity | Kind::Authority => leaf,
    };
    let name = one_line(owner.subject_name());
    match name.len() {
        0 => Err(bad("its subject is empty")),
        length if length > MAX_NAME => Err(bad("its subject is too long")),
        _ => Ok(Some(name)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Proxy,
    EndEntity,
    Authority,
}

fn kind(certificate: &X509Ref) -> Result<Kind, MethodFailure> {
    let unreadable = || bad("it cannot be read");
    let der = certificate.to_der().map_err(|_| unreadable())?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| unreadable())?;
    let extensions = parsed.extensions();
    if extensions
        .iter()
        .any(|extension| extension.oid.to_id_string() == PROXY_CERT_INFO)
    {
        return Ok(Kind::Proxy);
    }
    let constraints = parsed.basic_constraints().map_err(|_| unreadable())?;
    Ok(match constraints {
        Some(constraints) if constraints.value.ca => Kind::Authority,
        _ => Kind::EndEntity,
    })
}

/// `/DC=org/CN=Alice`: short names of the attributes, bytes outside printable ASCII as `\xC3`.
fn one_line(name: &X509NameRef) -> String {
    let mut line = String::new();
    for entry in name.entries() {
        line.push('/');
        match entry.object().nid().short_name() {
            Ok(short) if entry.object().nid() != openssl::nid::Nid::UNDEF => line.push_str(short),
            _ => line.push_str(&entry.object().to_string()),
        }
        line.push('=');
        for byte in entry.data().as_slice() {
            match byte {
                b' '..=b'~' => line.push(char::from(*byte)),
                _ => line.push_str(&format!("\\x{byte:02X}")),
            }
        }
    }
    line
}

fn bad(what: &str) -> MethodFailure {
    MethodFailure::Tls(format!(
        "the certificate of the client is not accepted: {what}"
    ))
}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::x509::X509NameBuilder;

    use super::*;

    #[test]
    fn a_subject_is_written_as_openssl_writes_it() {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_nid(Nid::DOMAINCOMPONENT, "org")
            .unwrap();
        name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "A/B Test")
            .unwrap();
        name.append_entry_by_nid(Nid::COMMONNAME, "Jos\u{e9}")
            .unwrap();
        let name = name.build();
        assert_eq!(one_line(&name), r"/DC=org/O=A/B Test/CN=Jos\xC3\xA9");
    }
}
