//! X.509 proxy credentials: read them, verify them, know when they end, receive them by delegation.
//!
//! Grid users prove who they are by a *proxy* (RFC 3820): a short-lived certificate signed by the
//! user's own certificate, or by another proxy. This crate turns the bytes of such a credential
//! into a [`VerifiedCredential`], which cannot be made in any other way, or into a [`VerifyError`]
//! that says in one sentence which certificate is at fault, what is wrong and what to do.
//!
//! ```no_run
//! use credential::{TrustStore, VerifyOptions, verify_proxy};
//!
//! let bundle = std::fs::read("/tmp/x509up_u1000").unwrap();
//! let trust = TrustStore::load("/etc/grid-security/certificates".as_ref());
//! let now = 1_790_000_000; // seconds since 1970, the caller's clock
//! match verify_proxy(&bundle, &trust, &VerifyOptions::at(now)) {
//!     Ok(credential) => println!("{} until {}", credential.identity(), credential.not_after()),
//!     Err(why) => println!("{}: {why}", why.code()),
//! }
//! ```
//!
//! How a verdict is reached, one module a step: the bundle is cut into certificates and a key
//! (`pem`, `key`), certificates become facts (`cert`, `name`), exactly one path from the first
//! certificate to a trust anchor is built (`path`, `climb`, [`TrustStore`]), the rules of RFC 5280 and
//! RFC 3820 run over it (`rules`, `proxy`, `strength`), the signatures are checked (`signature`),
//! and then what the CA directory says beside the certificates: whom a CA may certify, and whom it
//! has revoked (`ca_files`, `namespace`, `crl`). Attributes of a VO come last (`voms`). OpenSSL
//! verifies the same path once more where a CA limits names (`opinion`; policies: `policy`); the tests
//! have it verify every path, so that the two cannot drift apart.
//!
//! Tokens of the SciTokens and WLCG kinds are verified by [`verify_token`] (`token`).
//!
//! No network, no clock, no environment variable is read.
#![forbid(unsafe_code)]

mod ca_files;
mod cert;
mod climb;
mod crl;
mod date;
mod delegation;
mod der;
mod error;
mod expression;
mod extension;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod inspect;
pub mod issue;
mod key;
mod name;
mod namespace;
mod opinion;
mod path;
mod pem;
mod policy;
mod problem;
mod proxy;
mod rules;
mod secret;
mod signature;
mod strength;
mod token;
mod trust;
mod verify;
mod voms;
mod warm;

pub use delegation::{DelegationError, DelegationRequest};
pub use error::{Blame, Role, VerifyError, Which};
pub use identity::{ChainLink, Expiry, Identity, VerifiedCredential};
pub use inspect::{
    InspectedAttributes, InspectedBundle, InspectedCertificate, InspectedToken, inspect_bundle,
    inspect_token,
};
pub use pem::{MAX_BUNDLE_BYTES, MAX_CERTIFICATES};
pub use problem::{
    BundleProblem, CertificateProblem, ChainProblem, CrlProblem, NameProblem, ProxyProblem,
    TrustError,
};
pub use secret::SecretPem;
pub use token::{
    MAX_TOKEN_BYTES, TokenError, TokenIdentity, TokenIssuer, TokenOptions, VerifiedToken,
    looks_like_token, verify_token,
};
pub use trust::TrustStore;
pub use verify::{LimitedProxies, SecondOpinion, VerifyOptions, earliest_end, verify_proxy};
pub use voms::{AcProblem, Fqan, VomsOptions};
pub use warm::warm_up;
