//! Why tokens are refused.

use std::path::PathBuf;

use crate::date::Utc;
use crate::error::Blame;
use crate::problem::TrustError;

/// Why a token is refused. `Display` is one sentence: what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token is larger than {0} bytes")]
    TooLarge(usize),
    /// Not a compact JWS with JSON objects in it, or a member twice.
    #[error("the token is not a well-formed JSON Web Token ({0}); copy it again, or get a new one")]
    Malformed(&'static str),
    /// The header names a key of its own, an extension, or encryption.
    #[error("the header of the token has the member '{0}', which is not accepted here")]
    Header(&'static str),
    /// It is not an access token.
    #[error("the token is of another type than an access token (typ)")]
    Type,
    /// The issuer is not trusted here.
    #[error(
        "the token was issued by '{0}', which is not trusted here; if it should be, the administrator has to add it with its keys"
    )]
    Issuer(String),
    /// The issuer has no such key.
    #[error(
        "the token is signed with a key that is not among those of its issuer here; get a new token, or the administrator has to update {}", .0.display()
    )]
    Key(PathBuf),
    /// The algorithm is not the one of the key, or the key is of no accepted kind.
    #[error(
        "the token is signed with an algorithm that is not accepted for its key; RS256 with 2048 bits or more and ES256 are"
    )]
    Algorithm,
    /// The signature is wrong.
    #[error("the token carries a signature that its issuer did not make; it is damaged or forged")]
    Signature,
    /// A claim is missing or not of its kind.
    #[error("the token has no usable claim '{0}'; its issuer has to be asked")]
    Claim(&'static str),
    /// It is meant for others.
    #[error("the token is meant for others (aud) than this site; get one for its name")]
    Audience,
    /// After its end.
    #[error("the token expired on {}; get a new one", Utc(*.0))]
    Expired(i64),
    /// Before its start.
    #[error("the token is not valid before {}; check the clocks of this node and of its issuer", Utc(*.0))]
    NotYetValid(i64),
    /// Valid for longer than is accepted.
    #[error(
        "the token is valid for {seconds} seconds, and at most {maximum} are accepted; get one for a shorter time"
    )]
    TooLong {
        /// Its validity, seconds.
        seconds: i64,
        /// What is accepted, seconds.
        maximum: i64,
    },
    /// It does not allow what is asked.
    #[error("the token does not have the scope '{0}'; get one that has it")]
    Scope(String),
    /// A file of keys cannot be understood.
    #[error("the file {} is not a set of public keys (JWKS); the administrator has to replace it", .0.display())]
    Keys(PathBuf),
    /// A file of keys cannot be read.
    #[error(transparent)]
    Trust(TrustError),
}

impl TokenError {
    /// A short stable code, for example `token.expired`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "token.too-large",
            Self::Malformed(_) => "token.malformed",
            Self::Header(_) => "token.header",
            Self::Type => "token.type",
            Self::Issuer(_) => "token.issuer",
            Self::Key(_) => "token.key",
            Self::Algorithm => "token.algorithm",
            Self::Signature => "token.signature",
            Self::Claim(_) => "token.claim",
            Self::Audience => "token.audience",
            Self::Expired(_) => "token.expired",
            Self::NotYetValid(_) => "token.not-yet-valid",
            Self::TooLong { .. } => "token.lifetime",
            Self::Scope(_) => "token.scope",
            Self::Keys(_) => "jwks.malformed",
            Self::Trust(problem) => problem.code(),
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Keys(_) | Self::Trust(_) => Blame::Site,
            _ => Blame::Job,
        }
    }

    /// Whether the same token may be accepted a little later with nobody doing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Trust(problem) if problem.retryable())
    }
}

impl From<TrustError> for TokenError {
    fn from(problem: TrustError) -> Self {
        Self::Trust(problem)
    }
}
