//! Getting ready: a first verification costs OpenSSL milliseconds that no later one pays.

use std::hint::black_box;

use crate::cert::Certificate;
use crate::trust::TrustStore;
use crate::verify::{VerifyOptions, verify_proxy};

/// A CA made for this purpose; nobody trusts it.
pub(crate) const SAMPLE_CA: &[u8] = include_bytes!("sample_ca.pem");
/// A proxy and its user, RSA 2048, from that CA; without key.
pub(crate) const SAMPLE_PROXY: &[u8] = include_bytes!("sample_proxy.pem");
/// A time at which both are valid: 2027-01-01 00:00:00 UTC.
pub(crate) const SAMPLE_TIME: i64 = 1_798_761_600;

/// Verifies a built-in credential, so that OpenSSL has read its configuration, loaded its
/// algorithms and warmed its caches before the caller gives up the right to open such files, and
/// before somebody waits. Returns whether that credential verified, which a broken or restricted
/// OpenSSL shows at once.
#[must_use]
pub fn warm_up() -> bool {
    let mut options = VerifyOptions::at(SAMPLE_TIME);
    options.require_key = false;
    let Ok(trust) = TrustStore::from_pem(SAMPLE_CA) else {
        return false;
    };
    let verified = verify_proxy(SAMPLE_PROXY, &trust, &options).is_ok();
    for der in crate::pem::certificates_only(SAMPLE_CA, 1) {
        if let Ok(ca) = Certificate::parse(der, None) {
            black_box((ca.subject.hash(), ca.subject.old_hash()));
        }
    }
    verified
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sample_verifies() {
        assert!(super::warm_up());
    }
}
