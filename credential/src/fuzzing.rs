//! Entry points of the fuzz targets. Not part of the interface.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::cert::Certificate;
use crate::crl::Crl;
use crate::delegation::DelegationRequest;
use crate::der::tag;
use crate::issue::{Authority, KeyType, ProxyIssuer, ProxyOptions};
use crate::namespace::Namespace;
use crate::pem::{self, Bundle, MAX_CERTIFICATES, certificates_only, push_block, split_der};
use crate::signature::token_signed_by;
use crate::token::{Jws, KeySet, looks_like_token};
use crate::trust::TrustStore;
use crate::verify::{SecondOpinion, VerifyOptions, earliest_end, verify_proxy};
use crate::voms;
use crate::warm::{SAMPLE_CA, SAMPLE_PROXY, SAMPLE_TIME};

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

/// Attribute certificates, as the extension of a proxy carries them.
pub fn fuzz_voms_attributes(data: &[u8]) {
    voms::fuzz(data);
}

/// The list of a VOMS server's names.
pub fn fuzz_voms_lsc(data: &[u8]) {
    voms::fuzz_lsc(data);
}

/// A signing policy, judged for a fixed CA and user.
pub fn fuzz_signing_policy(data: &[u8]) {
    let mut namespace = Namespace::default();
    if namespace.add_signing_policy(data).is_ok() {
        permits(&namespace);
    }
}

/// A namespaces file, judged for a fixed CA and user.
pub fn fuzz_namespaces(data: &[u8]) {
    let mut namespace = Namespace::default();
    if namespace.add_namespaces(data).is_ok() {
        permits(&namespace);
    }
}

fn permits(namespace: &Namespace) {
    static CERTIFICATES: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
        let ders = [SAMPLE_CA, SAMPLE_PROXY].map(|pem| certificates_only(pem, 4));
        let parsed = ders.concat().into_iter();
        parsed
            .filter_map(|der| Certificate::parse(der, None).ok())
            .collect()
    });
    if let [ca, .., user] = CERTIFICATES.as_slice() {
        std::hint::black_box(namespace.permits(&ca.subject, &user.subject));
    }
}

/// A certificate revocation list. One that is accepted names nobody or some.
pub fn fuzz_crl(data: &[u8]) {
    let der = pem::crl(data).unwrap_or(Cow::Borrowed(data));
    if let Ok(crl) = Crl::parse(&der) {
        let _ = crl.revocation(&[1]);
    }
}

/// A token, up to the choice of a key.
pub fn fuzz_token(data: &[u8]) {
    if let Ok(token) = Jws::parse(data) {
        assert!(data.trim_ascii().starts_with(token.signed));
    }
    let _ = looks_like_token(data);
}

/// The keys of a token issuer.
pub fn fuzz_jwks(data: &[u8]) {
    if let Some(keys) = KeySet::parse(data) {
        for id in [None, Some("k")] {
            if let Some((key, _)) = keys.find(id, "RS256").and_then(|key| key.usable().ok()) {
                assert!(!token_signed_by(key, b"a.b", &[1; 64]));
            }
        }
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
