//! What the users of this crate rely on: verdicts over real and forged chains.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test may panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod accept;
mod ca_files;
mod condor;
mod corpus;
mod delegation;
mod globus;
mod issue;
mod matrix;
mod names;
mod refuse_bundle;
mod refuse_certificate;
mod refuse_chain;
mod refuse_proxy;
mod token;
mod voms;

use common::{Cert, NOW};
use credential::{
    SecondOpinion, TrustStore, VerifiedCredential, VerifyError, VerifyOptions, verify_proxy,
};

/// Verifies at [`NOW`] with one trusted CA.
fn verify(bundle: &str, ca: &Cert) -> Result<VerifiedCredential, VerifyError> {
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    verify_with(bundle, &trust, &VerifyOptions::at(NOW))
}

/// The verdict, after making sure that OpenSSL's second opinion does not change it.
fn verify_with(
    bundle: &str,
    trust: &TrustStore,
    options: &VerifyOptions,
) -> Result<VerifiedCredential, VerifyError> {
    let verdict = verify_proxy(bundle.as_bytes(), trust, options);
    let mut twice = options.clone();
    twice.second_opinion = SecondOpinion::Always;
    let second = verify_proxy(bundle.as_bytes(), trust, &twice);
    match (&verdict, &second) {
        (Ok(first), Ok(second)) => assert_eq!(first, second),
        (Err(first), Err(second)) => assert_eq!(first.code(), second.code()),
        _ => panic!("the opinions differ: {verdict:?} and {second:?}"),
    }
    verdict
}

/// The code of the refusal; an accepted credential fails the test.
#[track_caller]
fn code(verdict: Result<VerifiedCredential, VerifyError>) -> &'static str {
    match verdict {
        Ok(credential) => panic!("accepted as {}", credential.identity()),
        Err(error) => error.code(),
    }
}

/// CA, user and a proxy of the user.
struct Pki {
    ca: Cert,
    user: Cert,
    proxy: Cert,
}

impl Pki {
    fn new() -> Self {
        Self::of("Jane Doe")
    }

    fn of(cn: &str) -> Self {
        let ca = common::Spec::ca("/C=XX/O=Lab/CN=Lab CA").self_signed();
        let user = common::Spec::user(&format!("/C=XX/O=Lab/CN={cn}")).signed_by(&ca);
        let proxy = common::Spec::proxy(&user, "1").signed_by(&user);
        Self { ca, user, proxy }
    }

    /// Another user of the same CA, with a proxy.
    fn other_user(&self) -> (Cert, Cert) {
        let user = common::Spec::user("/C=XX/O=Lab/CN=Mallory").signed_by(&self.ca);
        let proxy = common::Spec::proxy(&user, "2").signed_by(&user);
        (user, proxy)
    }
}
