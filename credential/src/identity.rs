//! What a verified credential says. None of these types can be made outside the verification.

use std::fmt;

use crate::date::Utc;
use crate::error::Role;
use crate::voms::Fqan;

/// Who a credential speaks for: the subject of the end-entity certificate of the verified path.
///
/// The text is the slash form that grid map files use, `/C=XX/O=Lab/CN=Jane Doe`. Inside values `/`,
/// `+` and the backslash are preceded by a backslash, attributes of a multi-valued RDN are joined by
/// `+`, and everything outside printable ASCII appears as `\xHH`, byte by byte in UTF-8. Two names
/// that differ in an attribute type or in a character never have the same text. Names with control
/// characters have no text at all: such a credential is refused.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(String);

impl Identity {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The name as text, printable ASCII only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0)
    }
}

/// When a verified credential ends: the earliest end of validity in its path, trust anchor
/// included, and of its attributes. In that very second it is already over, as OpenSSL sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(i64);

impl Expiry {
    pub(crate) fn new(unix: i64) -> Self {
        Self(unix)
    }

    /// Seconds since 1970-01-01 00:00:00 UTC.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0
    }

    /// Seconds left at `now` (Unix seconds); negative when it is over.
    #[must_use]
    pub fn seconds_left(self, now: i64) -> i64 {
        self.0.saturating_sub(now)
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Utc(self.0).fmt(f)
    }
}

/// One certificate of a verified path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// What the certificate is in this path.
    pub role: Role,
    /// Its subject, escaped for display.
    pub subject: String,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
}

/// A credential that passed [`verify_proxy`](crate::verify_proxy), the only maker of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCredential {
    pub(crate) identity: Identity,
    pub(crate) issuers: Vec<Identity>,
    pub(crate) fqans: Vec<Fqan>,
    pub(crate) not_after: Expiry,
    pub(crate) limited: bool,
    pub(crate) chain: Vec<ChainLink>,
}

impl VerifiedCredential {
    /// The user: subject of the end-entity certificate.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Subject of the first certificate (the proxy itself), escaped for display.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.chain.first().map_or("", |link| &link.subject)
    }

    /// The CAs of the path, from the one that issued the user's certificate to the trust anchor.
    #[must_use]
    pub fn issuers(&self) -> &[Identity] {
        &self.issuers
    }

    /// Verified attributes, in the order of the credential; empty where none were asked for.
    #[must_use]
    pub fn fqans(&self) -> &[Fqan] {
        &self.fqans
    }

    /// The earliest end of anything that this value depends on: the certificates of the path, and
    /// those of its attributes.
    #[must_use]
    pub fn not_after(&self) -> Expiry {
        self.not_after
    }

    /// Whether any proxy of the path is a limited one.
    #[must_use]
    pub fn limited(&self) -> bool {
        self.limited
    }

    /// The path, from the first certificate of the bundle to the trust anchor.
    #[must_use]
    pub fn chain(&self) -> &[ChainLink] {
        &self.chain
    }

    /// How many proxy certificates are below the user's certificate; 0 for a plain certificate.
    #[must_use]
    pub fn proxy_depth(&self) -> usize {
        self.chain
            .iter()
            .filter(|link| link.role == Role::Proxy)
            .count()
    }
}
