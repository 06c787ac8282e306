//! SciTokens and WLCG tokens (rules T1 to T4): a signed text that says who may do what, judged by keys
//! that are files on this node. Nothing is ever fetched.
//!
//! `json` reads strictly, `jws` cuts and checks the header, `jwks` holds the keys, `check` decides.

pub(crate) mod check;
mod json;
mod jwks;
mod jws;
mod problem;

use std::fmt;
use std::path::PathBuf;

pub use check::verify_token;
pub(crate) use json::Json;
pub(crate) use jwks::{KeySet, Unusable};
pub(crate) use jws::Jws;
pub use problem::TokenError;

use crate::identity::Expiry;

/// Largest token, bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Most groups in one token.
const MAX_GROUPS: usize = 64;

/// Longest `ISSUER,GROUP`, bytes.
const MAX_GROUP_BYTES: usize = 255;

/// Seconds by which the clocks of issuers may differ from ours.
const SKEW: i64 = 60;

/// One issuer whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// What the token's `iss` has to be, byte by byte.
    pub url: String,
    /// The file with its public keys (a JWK set).
    pub jwks: PathBuf,
}

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenOptions {
    /// Whose tokens.
    pub issuers: Vec<TokenIssuer>,
    /// Refuse key files that anybody but root can change; default: false.
    pub root_only: bool,
    /// Our names; a token's `aud` has to contain one of them. Put the "any" value of a token profile
    /// here to accept it. Default: none, so that no token is accepted.
    pub audiences: Vec<String>,
    /// Words that a token's `scope` has to contain, all of them; default: `compute.create`.
    pub scopes: Vec<String>,
    /// The longest validity, seconds; default: one day.
    pub maximum_lifetime: i64,
}

impl TokenOptions {
    /// Tokens of these issuers for one of these audiences, with the other defaults.
    #[must_use]
    pub fn new(issuers: Vec<TokenIssuer>, audiences: Vec<String>) -> Self {
        Self {
            issuers,
            root_only: false,
            audiences,
            scopes: vec![String::from("compute.create")],
            maximum_lifetime: 86_400,
        }
    }
}

/// Who a token speaks for. Never the same as the name of a certificate: that begins with a slash,
/// and this with the issuer, which does not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenIdentity {
    issuer: String,
    subject: String,
}

impl TokenIdentity {
    /// The issuer, a URL without comma or blank.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The subject, printable ASCII.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// `ISSUER,SUBJECT`.
impl fmt::Display for TokenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.issuer, self.subject)
    }
}

impl fmt::Debug for TokenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenIdentity({self})")
    }
}

/// A token that passed [`verify_token`], the only maker of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    identity: TokenIdentity,
    groups: Vec<String>,
    scopes: Vec<String>,
    not_after: Expiry,
}

impl VerifiedToken {
    /// Who it speaks for.
    #[must_use]
    pub fn identity(&self) -> &TokenIdentity {
        &self.identity
    }

    /// Its groups (`wlcg.groups`) in their order, each `ISSUER,/group`: the group of one issuer is
    /// not that of another, and never an attribute of a VOMS server.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Its scopes.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> Expiry {
        self.not_after
    }
}

/// Whether a credential is to be taken for a token rather than for a PEM bundle: it has no PEM block,
/// and either nothing but the characters of a compact JWS with a dot among them, or the beginning of
/// one. A damaged token is still one, and is refused as such.
#[must_use]
pub fn looks_like_token(credential: &[u8]) -> bool {
    let text = credential.trim_ascii();
    if text
        .windows(PEM_BEGIN.len())
        .any(|window| window == PEM_BEGIN)
    {
        return false;
    }
    // `{"` and `{ ` in base64, with which every header begins.
    let begins = text.starts_with(b"eyJ") || text.starts_with(b"eyA");
    let consists = text.contains(&b'.')
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(byte));
    begins || consists
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
