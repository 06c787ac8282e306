//! Entry points of the fuzz targets. Not part of the interface.

use std::sync::LazyLock;

use crate::delegation::DelegationRequest;
use crate::pem::Bundle;
use crate::trust::TrustStore;
use crate::verify::{VerifyOptions, earliest_end, verify_proxy};
use crate::warm::{SAMPLE_CA, SAMPLE_TIME};

/// Cutting of bundles, and reading of the certificates and the key in them.
pub fn fuzz_credential_bundle(data: &[u8]) {
    let _ = Bundle::parse(data);
    let _ = earliest_end(data);
}

/// The whole verification against a fixed CA. Whatever is accepted must have a sane identity.
pub fn fuzz_credential_verify(data: &[u8]) {
    static TRUST: LazyLock<Option<TrustStore>> =
        LazyLock::new(|| TrustStore::from_pem(SAMPLE_CA).ok());
    let Some(trust) = &*TRUST else { return };
    let mut options = VerifyOptions::at(SAMPLE_TIME);
    options.require_key = false;
    if let Ok(credential) = verify_proxy(data, trust, &options) {
        let identity = credential.identity().as_str();
        assert!(identity.starts_with('/') && identity.bytes().all(|b| (b' '..=b'~').contains(&b)));
        assert!(credential.not_after().unix() > SAMPLE_TIME);
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
