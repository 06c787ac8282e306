//! A chain that HTCondor's shadow really delegated.

use credential::{ChainProblem, Role, TrustStore, VerifyError, VerifyOptions, verify_proxy};

use crate::common::{DAY, Spec};

const DELEGATED: &[u8] = include_bytes!("../data/condor-23.9.6-delegated.der");
/// 2026-11-22 13:00:00 UTC, in the life of the delegated proxy.
const THEN: i64 = 1_795_352_400;

/// Its CA is not at hand. One of the same name gets the chain through every rule, up to the
/// signature of the CA on the user certificate.
#[test]
fn a_proxy_delegated_by_htcondor_obeys_the_rules() {
    let mut pem = String::new();
    let mut rest = DELEGATED;
    while !rest.is_empty() {
        let length = 4 + usize::from(rest[2]) * 256 + usize::from(rest[3]);
        let x509 = openssl::x509::X509::from_der(&rest[..length]).unwrap();
        pem.push_str(std::str::from_utf8(&x509.to_pem().unwrap()).unwrap());
        rest = &rest[length..];
    }
    let ca = Spec::ca("/DC=test/CN=Test CA")
        .valid(THEN - DAY, THEN + 9 * DAY)
        .key(crate::common::rsa_key(2048))
        .set(|s| s.key_identifiers = false)
        .self_signed();
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(THEN);
    options.require_key = false;
    let error = verify_proxy(pem.as_bytes(), &trust, &options).unwrap_err();
    let VerifyError::Chain {
        which,
        problem: ChainProblem::Signature,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((which.role, which.position), (Role::User, Some(3)));
    options.at = THEN + DAY;
    let error = verify_proxy(pem.as_bytes(), &trust, &options).unwrap_err();
    assert_eq!(error.code(), "proxy.expired");
    assert!(
        error.to_string().contains("2026-11-23 12:39:02 UTC"),
        "{error}"
    );
}
