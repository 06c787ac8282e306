//! Entry points of the fuzz targets. Not part of the interface.

use std::sync::LazyLock;

use crate::delegation::DelegationRequest;
use crate::der::tag;
use crate::issue::{Authority, KeyType, ProxyIssuer, ProxyOptions};
use crate::pem::{Bundle, MAX_CERTIFICATES, push_block, split_der};
use crate::trust::TrustStore;
use crate::verify::{SecondOpinion, VerifyOptions, earliest_end, verify_proxy};
use crate::warm::{SAMPLE_CA, SAMPLE_TIME};

/// Cutting of bundles, and reading of the certificates and the key in them.
pub fn fuzz_credential_bundle(data: &[u8]) {
    let _ = Bundle::parse(data);
    let _ = earliest_end(data);
}

/// The whole verification against a fixed CA. The input is a PEM bundle, or DER certificates one
/// after the other, which a fuzzer changes more easily. Whatever is accepted must have a sane
/// identity, and OpenSSL must accept it too.
pub fn fuzz_credential_verify(data: &[u8]) {
    static TRUST: LazyLock<Option<TrustStore>> =
        LazyLock::new(|| TrustStore::from_pem(SAMPLE_CA).ok());
    let Some(trust) = &*TRUST else { return };
    let mut pem = Vec::new();
    if data.first() == Some(&tag::SEQUENCE) {
        let Some(certificates) = split_der(data, MAX_CERTIFICATES) else {
            return;
        };
        certificates
            .iter()
            .for_each(|der| push_block(&mut pem, "CERTIFICATE", der));
    } else {
        pem.extend_from_slice(data);
    }
    let mut options = VerifyOptions::at(SAMPLE_TIME);
    options.require_key = false;
    options.allow_sha1 = true;
    if let Ok(credential) = verify_proxy(&pem, trust, &options) {
        let identity = credential.identity().as_str();
        assert!(identity.starts_with('/') && identity.bytes().all(|b| (b' '..=b'~').contains(&b)));
        assert!(credential.not_after().unix() > SAMPLE_TIME);
        options.second_opinion = SecondOpinion::Always;
        assert!(verify_proxy(&pem, trust, &options).is_ok());
    }
}

/// The answer to a delegation request.
pub fn fuzz_delegation_reply(data: &[u8]) {
    static REQUEST: LazyLock<Option<DelegationRequest>> =
        LazyLock::new(|| DelegationRequest::generate().ok());
    if let Some(request) = &*REQUEST {
        let _ = request.assemble(data);
    }
}

/// Certificate requests of an execute machine. Whatever is accepted gives a proxy that can be read again.
pub fn fuzz_delegation_request(data: &[u8]) {
    static ISSUER: LazyLock<Option<ProxyIssuer>> = LazyLock::new(|| {
        let user = Authority::new("/O=Fuzz/CN=CA", KeyType::P256, SAMPLE_TIME, 86_400)
            .and_then(|authority| authority.user("/O=Fuzz/CN=User", SAMPLE_TIME, 86_400))
            .ok()?;
        user.issuer().ok()
    });
    let Some(issuer) = &*ISSUER else { return };
    if let Ok(chain) = issuer.sign_request(data, &ProxyOptions::at(SAMPLE_TIME)) {
        let parts = split_der(&chain, MAX_CERTIFICATES);
        assert_eq!(parts.map(|parts| parts.len()), Some(2));
    }
}
