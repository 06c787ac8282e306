//! What each side wants, and what comes out (protocol 01 section 3.4).

use std::fmt;

use super::AuthMethod;

/// How much one side wants a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wish {
    /// Must not be used.
    Never,
    /// Only if the other side insists.
    Optional,
    /// If the other side can.
    Preferred,
    /// Must be used.
    Required,
}

impl Wish {
    /// Reads a wish by its first letter, as HTCondor does.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.trim().bytes().next()?.to_ascii_uppercase() {
            b'R' | b'Y' | b'T' => Some(Self::Required),
            b'P' => Some(Self::Preferred),
            b'O' => Some(Self::Optional),
            b'N' | b'F' => Some(Self::Never),
            _ => None,
        }
    }

    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "NEVER",
            Self::Optional => "OPTIONAL",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The feature a wish is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Whether to negotiate at all.
    Negotiation,
    /// Whether the client proves who it is.
    Authentication,
    /// Whether the connection is encrypted.
    Encryption,
    /// Whether the connection is protected against changes.
    Integrity,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negotiation => "negotiation",
            Self::Authentication => "authentication",
            Self::Encryption => "encryption",
            Self::Integrity => "integrity",
        })
    }
}

/// Two wishes that cannot both be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// One's own policy contradicts itself.
    #[error("policy wants {strong} REQUIRED but {weak} NEVER, without which it cannot be had")]
    Contradiction {
        /// The required feature.
        strong: Feature,
        /// The forbidden one it needs.
        weak: Feature,
    },
    /// The two sides exclude each other.
    #[error(
        "{feature}: one side says REQUIRED, the other NEVER (client {client}, server {server})"
    )]
    Conflict {
        /// The feature in question.
        feature: Feature,
        /// The client's wish.
        client: Wish,
        /// The server's wish.
        server: Wish,
    },
}

/// One side's policy. The default is that of a careful client: everything required, tokens only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// Whether to negotiate.
    pub negotiation: Wish,
    /// Whether the client must prove who it is.
    pub authentication: Wish,
    /// Whether traffic must be encrypted.
    pub encryption: Wish,
    /// Whether traffic must be protected against changes.
    pub integrity: Wish,
    /// Methods in order of preference.
    pub methods: Vec<AuthMethod>,
    /// Longest life of a session, in seconds.
    pub session_duration: i64,
    /// Longest idle time of a session in seconds; 0: no limit.
    pub session_lease: i64,
}

impl Default for SecurityPolicy {
    fn default() -> Self {
        Self {
            negotiation: Wish::Required,
            authentication: Wish::Required,
            encryption: Wish::Required,
            integrity: Wish::Required,
            methods: vec![AuthMethod::Token],
            session_duration: 86_400,
            session_lease: 3_600,
        }
    }
}

impl SecurityPolicy {
    /// The policy made consistent: a feature raises those it depends on, and a forbidden feature
    /// forbids those that depend on it. The order of the pairs is HTCondor's.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Contradiction`].
    pub fn tightened(&self) -> Result<ConsistentPolicy, PolicyError> {
        let mut out = self.clone();
        tie(
            (&mut out.authentication, Feature::Authentication),
            (&mut out.encryption, Feature::Encryption),
        )?;
        tie(
            (&mut out.authentication, Feature::Authentication),
            (&mut out.integrity, Feature::Integrity),
        )?;
        tie(
            (&mut out.negotiation, Feature::Negotiation),
            (&mut out.authentication, Feature::Authentication),
        )?;
        tie(
            (&mut out.negotiation, Feature::Negotiation),
            (&mut out.encryption, Feature::Encryption),
        )?;
        tie(
            (&mut out.negotiation, Feature::Negotiation),
            (&mut out.integrity, Feature::Integrity),
        )?;
        Ok(ConsistentPolicy(out))
    }
}

/// A policy without contradictions: what a handshake works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistentPolicy(SecurityPolicy);

impl ConsistentPolicy {
    /// Takes a policy as it is. Only for replaying recorded exchanges of programs that do not
    /// tighten theirs.
    #[doc(hidden)]
    pub fn unchecked(policy: SecurityPolicy) -> Self {
        Self(policy)
    }
}

impl std::ops::Deref for ConsistentPolicy {
    type Target = SecurityPolicy;

    fn deref(&self) -> &SecurityPolicy {
        &self.0
    }
}

fn tie(base: (&mut Wish, Feature), top: (&mut Wish, Feature)) -> Result<(), PolicyError> {
    if *base.0 == Wish::Never {
        if *top.0 == Wish::Required {
            return Err(PolicyError::Contradiction {
                strong: top.1,
                weak: base.1,
            });
        }
        *top.0 = Wish::Never;
    } else if *top.0 > *base.0 {
        *base.0 = *top.0;
    }
    Ok(())
}

/// What two wishes come to.
///
/// # Errors
///
/// [`PolicyError::Conflict`] for REQUIRED against NEVER.
pub fn reconcile(feature: Feature, client: Wish, server: Wish) -> Result<bool, PolicyError> {
    match (client, server) {
        (Wish::Required, Wish::Never) | (Wish::Never, Wish::Required) => {
            Err(PolicyError::Conflict {
                feature,
                client,
                server,
            })
        }
        (Wish::Never, _) | (_, Wish::Never) | (Wish::Optional, Wish::Optional) => Ok(false),
        _ => Ok(true),
    }
}

/// The methods both sides have, in the server's order.
pub fn common_methods(client: &[AuthMethod], server: &[AuthMethod]) -> Vec<AuthMethod> {
    server
        .iter()
        .copied()
        .filter(|method| client.contains(method))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Wish::*;
    use super::*;

    #[test]
    fn the_table_of_the_protocol_page_holds() {
        let table = [
            (Required, [Some(true), Some(true), Some(true), None]),
            (Preferred, [Some(true), Some(true), Some(true), Some(false)]),
            (Optional, [Some(true), Some(true), Some(false), Some(false)]),
            (Never, [None, Some(false), Some(false), Some(false)]),
        ];
        for (client, row) in table {
            for (server, wanted) in [Required, Preferred, Optional, Never].into_iter().zip(row) {
                let got = reconcile(Feature::Integrity, client, server).ok();
                assert_eq!(got, wanted, "client {client}, server {server}");
            }
        }
    }

    #[test]
    fn required_encryption_pulls_authentication_and_negotiation_up() {
        let policy = SecurityPolicy {
            negotiation: Preferred,
            authentication: Optional,
            encryption: Required,
            integrity: Optional,
            ..SecurityPolicy::default()
        };
        let out = policy.tightened().unwrap();
        assert_eq!((out.negotiation, out.authentication), (Required, Required));
        assert_eq!(out.integrity, Optional);
    }

    #[test]
    fn without_authentication_nothing_can_be_required() {
        let policy = SecurityPolicy {
            authentication: Never,
            encryption: Preferred,
            integrity: Required,
            ..SecurityPolicy::default()
        };
        assert!(matches!(
            policy.tightened(),
            Err(PolicyError::Contradiction {
                strong: Feature::Integrity,
                ..
            })
        ));
    }
}
