//! Who the peer is.

use super::{AuthMethod, Level};

/// Identity of schedd and shadow in a claim session, as seen by startd and starter.
pub const SUBMIT_SIDE: &str = "submit-side@matchsession";

/// Identity of startd and starter in a claim session, as seen by schedd and shadow.
pub const EXECUTE_SIDE: &str = "execute-side@matchsession";

/// Identity of a peer that did not authenticate.
pub const UNAUTHENTICATED: &str = "unauthenticated@unmapped";

/// What an id token said about its bearer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// `sub`.
    pub subject: String,
    /// `iss`.
    pub issuer: String,
    /// `jti`, if there is one.
    pub id: Option<String>,
    /// `scope` as it stands in the token, if there is one.
    pub scopes: Option<String>,
    /// `exp`, unix time, if there is one.
    pub expires: Option<i64>,
}

/// Turns the name that a method proved into an identity, as the unified map file does.
///
/// Asked for the methods that prove a name of their own (SSL, FS, CLAIMTOBE, ANONYMOUS); TOKEN and
/// PASSWORD prove an identity directly (protocol 01 section 5.9).
pub trait IdentityMap: Send + Sync {
    /// `user@domain` for the `name` that `method` proved; `None`: no line fits, and what the method
    /// says by itself stands.
    fn map(&self, method: AuthMethod, name: &str) -> Option<String>;
}

/// The peer of a connection or session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// `user@domain`, or a user alone.
    pub user: String,
    /// How it was proven; `None` for claim sessions and without authentication.
    pub method: Option<AuthMethod>,
    /// The name the method itself proved, before it was mapped to `user`, such as the subject of a
    /// certificate; `None` for methods without one (TOKEN, PASSWORD).
    pub authenticated_name: Option<String>,
    /// The levels the peer limited itself to (`LimitAuthorization`); `None`: no limit.
    pub limit: Option<Vec<Level>>,
    /// Facts from an id token.
    pub token: Option<TokenFacts>,
}

impl PeerIdentity {
    /// A peer known by its name only, such as [`SUBMIT_SIDE`].
    pub fn named(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            method: None,
            authenticated_name: None,
            limit: None,
            token: None,
        }
    }

    /// A peer that did not authenticate.
    pub fn unauthenticated() -> Self {
        Self::named(UNAUTHENTICATED)
    }

    /// A peer whose name was proven by `method`.
    pub fn proven(user: String, method: AuthMethod) -> Self {
        Self {
            user,
            method: Some(method),
            authenticated_name: None,
            limit: None,
            token: None,
        }
    }

    /// The same peer, with the name that the method itself proved.
    #[must_use]
    pub(crate) fn with_name(mut self, name: &str) -> Self {
        self.authenticated_name = Some(name.to_owned());
        self
    }

    /// True if the peer is anything but unauthenticated.
    pub fn is_authenticated(&self) -> bool {
        !self.user.ends_with("@unmapped")
    }

    /// True if the peer's own limit leaves room for a command of `level` or one of `alternates`.
    pub fn limit_allows(&self, level: Level, alternates: &[Level]) -> bool {
        let Some(limit) = &self.limit else {
            return true;
        };
        // What anybody may do, a limited peer may do too.
        if level == Level::Allow || alternates.contains(&Level::Allow) {
            return true;
        }
        std::iter::once(&level)
            .chain(alternates)
            .any(|wanted| limit.iter().any(|have| have.implies(*wanted)))
    }
}
