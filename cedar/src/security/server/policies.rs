//! Which policy a server applies to which command.

use std::collections::BTreeMap;

use crate::security::Level;
use crate::security::policy::{ConsistentPolicy, PolicyError, SecurityPolicy};

/// A server's policies for new sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Policies {
    /// None: only sessions that are known already (of claims) are accepted.
    #[default]
    SessionsOnly,
    /// One for all commands.
    All(SecurityPolicy),
    /// By the level of the command asked for. The commands of a level that is missing are refused.
    ByLevel(BTreeMap<Level, SecurityPolicy>),
}

impl Policies {
    /// The policies made consistent, see [`SecurityPolicy::tightened`].
    ///
    /// # Errors
    ///
    /// [`LevelPolicyError`] for the first that contradicts itself.
    pub fn tightened(&self) -> Result<ConsistentPolicies, LevelPolicyError> {
        let check = |level, policy: &SecurityPolicy| {
            policy
                .tightened()
                .map_err(|error| LevelPolicyError { level, error })
        };
        Ok(ConsistentPolicies(match self {
            Self::SessionsOnly => Inner::SessionsOnly,
            Self::All(policy) => Inner::All(Box::new(check(None, policy)?)),
            Self::ByLevel(policies) => Inner::ByLevel(
                policies
                    .iter()
                    .map(|(level, policy)| Ok((*level, check(Some(*level), policy)?)))
                    .collect::<Result<_, _>>()?,
            ),
        }))
    }
}

/// A policy of a server contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct LevelPolicyError {
    /// The level whose policy it is; `None` for a policy for all.
    pub level: Option<Level>,
    /// What is wrong with it.
    pub error: PolicyError,
}

impl LevelPolicyError {
    fn text(&self) -> String {
        match self.level {
            Some(level) => format!("{level}: {}", self.error),
            None => self.error.to_string(),
        }
    }
}

/// Policies without contradictions. The default accepts known sessions only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsistentPolicies(Inner);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Inner {
    #[default]
    SessionsOnly,
    All(Box<ConsistentPolicy>),
    ByLevel(BTreeMap<Level, ConsistentPolicy>),
}

impl ConsistentPolicies {
    /// The policy of a level's commands; `None`: no new session is made for them.
    pub fn of(&self, level: Level) -> Option<&ConsistentPolicy> {
        match &self.0 {
            Inner::SessionsOnly => None,
            Inner::All(policy) => Some(policy),
            Inner::ByLevel(policies) => policies.get(&level),
        }
    }

    /// True if new sessions are never made.
    pub fn sessions_only(&self) -> bool {
        self.0 == Inner::SessionsOnly
    }
}

impl From<ConsistentPolicy> for ConsistentPolicies {
    fn from(policy: ConsistentPolicy) -> Self {
        Self(Inner::All(Box::new(policy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Wish;

    #[test]
    fn a_level_without_a_policy_has_none() {
        let policies =
            Policies::ByLevel(BTreeMap::from([(Level::Read, SecurityPolicy::default())]));
        let policies = policies.tightened().unwrap();
        assert!(policies.of(Level::Read).is_some());
        assert!(policies.of(Level::Write).is_none());
        assert!(!policies.sessions_only());
    }

    #[test]
    fn a_contradiction_is_reported_with_its_level() {
        let bad = SecurityPolicy {
            authentication: Wish::Never,
            ..SecurityPolicy::default()
        };
        let policies = Policies::ByLevel(BTreeMap::from([(Level::Write, bad)]));
        let error = policies.tightened().unwrap_err();
        assert_eq!(error.level, Some(Level::Write));
        assert!(error.to_string().starts_with("WRITE: "), "{error}");
    }
}
