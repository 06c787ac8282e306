//! Which commands are served, and who may run them.

use std::net::IpAddr;

use super::ServerRules;
use crate::command::{self, Named};
use crate::error::HandshakeError;
use crate::security::policy::Wish;
use crate::security::{Level, PeerIdentity, SUBMIT_SIDE};

/// The level a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRule {
    /// The level that is looked up for the peer, and whose policy the handshake follows.
    pub level: Level,
    /// Further levels of which each alone is enough.
    pub alternates: Vec<Level>,
}

impl CommandRule {
    /// A command that needs `level`.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            alternates: Vec::new(),
        }
    }

    /// The same rule, met by `level` too.
    #[must_use]
    pub fn or(mut self, level: Level) -> Self {
        self.alternates.push(level);
        self
    }

    fn levels(&self) -> impl Iterator<Item = Level> {
        std::iter::once(self.level).chain(self.alternates.iter().copied())
    }
}

/// What an [`Authorizer`] says about a peer and a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The peer has the level.
    Allowed,
    /// It does not: one sentence says which list of which level decided, and why. It is for the
    /// server's log, the peer never sees it.
    Denied(String),
}

/// The decision about commands. Implemented by [`CommandTable`] for simple needs.
pub trait Authorizer: Send + Sync {
    /// What a command needs; `None`: it is not served here. The tests of access (`DC_NOP` and those
    /// of each level) are served without being listed.
    fn rule(&self, command: i32) -> Option<CommandRule>;

    /// Whether `peer`, connected from the address `from` if it is known, has `level`. A limit of the
    /// peer's own ([`PeerIdentity::limit`]) is checked elsewhere.
    fn decide(&self, peer: &PeerIdentity, from: Option<IpAddr>, level: Level) -> Decision;

    /// Every command served, for the client's session cache.
    fn commands(&self) -> Vec<i32>;
}

/// Why a peer may not run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The level of the command; `None`: the command is unknown.
    pub(super) level: Option<Level>,
    /// Why, in a sentence.
    pub(super) why: String,
}

/// Decides whether a peer may run a command: by its own limit, then by level and alternates.
pub(super) fn permit(
    authorizer: &dyn Authorizer,
    command: i32,
    peer: &PeerIdentity,
    from: Option<IpAddr>,
) -> Result<(), Refusal> {
    let Some(rule) = rule(authorizer, command) else {
        return Err(Refusal {
            level: None,
            why: "the command is not served here".to_owned(),
        });
    };
    let refuse = |why| {
        Err(Refusal {
            level: Some(rule.level),
            why,
        })
    };
    if !peer.limit_allows(rule.level, &rule.alternates) {
        return refuse(limit_text(peer));
    }
    let mut sentences = Vec::new();
    for level in rule.levels() {
        if level == Level::Allow {
            return Ok(());
        }
        match authorizer.decide(peer, from, level) {
            Decision::Allowed => return Ok(()),
            Decision::Denied(why) => sentences.push(why),
        }
    }
    sentences.dedup();
    refuse(sentences.join("; "))
}

/// The rule of a command; the tests of access are served everywhere.
fn rule(authorizer: &dyn Authorizer, command: i32) -> Option<CommandRule> {
    let listed = authorizer.rule(command);
    listed.or_else(|| access_test(command).map(CommandRule::new))
}

/// The tests of access, see [`access_test`].
pub(super) fn access_tests() -> impl Iterator<Item = i32> {
    let tests = command::DC_NOP_READ..=command::DC_NOP_ADVERTISE_MASTER;
    std::iter::once(command::DC_NOP)
        .chain(tests)
        .filter(|number| access_test(*number).is_some())
}

impl ServerRules {
    /// What a command needs; `None`: it is not served here.
    pub fn rule(&self, command: i32) -> Option<CommandRule> {
        rule(&*self.authorizer, command)
    }

    /// Checks that `peer` may run `command` in a session it has.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] with the reason.
    pub fn check(
        &self,
        command: i32,
        peer: &PeerIdentity,
        from: Option<IpAddr>,
    ) -> Result<(), HandshakeError> {
        if let Some(rule) = self.rule(command) {
            self.check_method(Named(command), rule.level, peer)?;
        }
        let permit = permit(&*self.authorizer, command, peer, from);
        permit.map_err(|refusal| HandshakeError::Unauthorized {
            user: peer.user.clone(),
            command: Named(command),
            level: refusal.level,
            why: refusal.why,
        })
    }

    /// What was agreed under the policy of one level is good at another only if that level's policy
    /// would have taken it too. Claims' sessions have no method and no policy.
    pub(super) fn check_method(
        &self,
        command: Named,
        level: Level,
        peer: &PeerIdentity,
    ) -> Result<(), HandshakeError> {
        let of_claim = peer.method.is_none() && peer.is_authenticated();
        if level == Level::Allow || of_claim {
            return Ok(());
        }
        let Some(policy) = self.policies.of(level) else {
            return Err(HandshakeError::NoPolicy { command, level });
        };
        let good = match peer.method {
            Some(method) => {
                policy.authentication < Wish::Required || policy.methods.contains(&method)
            }
            // Without authentication there is no key either.
            None => [policy.authentication, policy.encryption, policy.integrity]
                .into_iter()
                .all(|wish| wish < Wish::Required),
        };
        if good {
            return Ok(());
        }
        Err(HandshakeError::WeakSession {
            command,
            level,
            method: peer.method,
        })
    }

    /// Checks that `command` may be run without any security: its level requires none, and the
    /// lists let in a peer that is known by its address only.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] with the reason.
    pub fn check_raw(&self, command: i32, from: Option<IpAddr>) -> Result<(), HandshakeError> {
        if self.raw_commands.contains(&command) {
            return Ok(());
        }
        let Some(rule) = self.rule(command) else {
            return Err(HandshakeError::UnknownCommand(Named(command)));
        };
        let open = self.policies.of(rule.level).is_some_and(|policy| {
            let wishes = [
                policy.negotiation,
                policy.authentication,
                policy.encryption,
                policy.integrity,
            ];
            wishes.into_iter().all(|wish| wish < Wish::Required)
        });
        if !open {
            return Err(HandshakeError::RawCommand(Named(command)));
        }
        self.check(command, &PeerIdentity::unauthenticated(), from)
    }
}

fn limit_text(peer: &PeerIdentity) -> String {
    let limit = peer.limit.as_deref().unwrap_or_default();
    let names: Vec<_> = limit.iter().map(|level| level.name()).collect();
    format!("its session is limited to: {}", names.join(", "))
}

/// A fixed table of commands and of users per level.
///
/// The submit side of claim sessions has DAEMON, as at a real startd; nobody else has anything
/// before [`permit`](Self::permit) says so.
#[derive(Debug, Clone)]
pub struct CommandTable {
    commands: Vec<(i32, CommandRule)>,
    grants: Vec<(Level, String)>,
}

impl Default for CommandTable {
    fn default() -> Self {
        Self::new()
    }
}

impl CommandTable {
    /// A table without commands.
    pub fn new() -> Self {
        Self {
            commands: Vec::new(),
            grants: vec![
                (Level::Daemon, SUBMIT_SIDE.to_owned()),
                (Level::Client, SUBMIT_SIDE.to_owned()),
            ],
        }
    }

    /// Serves a command at `level`.
    #[must_use]
    pub fn serve(self, command: i32, level: Level) -> Self {
        self.serve_with(command, level, &[])
    }

    /// Serves a command at `level` or any of `alternates`.
    #[must_use]
    pub fn serve_with(mut self, command: i32, level: Level, alternates: &[Level]) -> Self {
        let rule = CommandRule {
            level,
            alternates: alternates.to_vec(),
        };
        self.commands.push((command, rule));
        self
    }

    /// Grants a level to the users that match `pattern`: a full name, or one with `*` at the
    /// beginning, the end or both.
    #[must_use]
    pub fn permit(mut self, level: Level, pattern: &str) -> Self {
        self.grants.push((level, pattern.to_owned()));
        self
    }
}

impl Authorizer for CommandTable {
    fn rule(&self, command: i32) -> Option<CommandRule> {
        let listed = self.commands.iter().find(|(known, _)| *known == command);
        listed.map(|(_, rule)| rule.clone())
    }

    fn decide(&self, peer: &PeerIdentity, _from: Option<IpAddr>, level: Level) -> Decision {
        let mut grants = self.grants.iter();
        let granted =
            grants.any(|(have, pattern)| have.implies(level) && matches(pattern, &peer.user));
        if granted || level == Level::Allow {
            return Decision::Allowed;
        }
        Decision::Denied(format!("nothing grants it {level}"))
    }

    fn commands(&self) -> Vec<i32> {
        self.commands.iter().map(|(command, _)| *command).collect()
    }
}

/// The level that a test of access is about.
fn access_test(number: i32) -> Option<Level> {
    Some(match number {
        command::DC_NOP => Level::Allow,
        command::DC_NOP_READ => Level::Read,
        command::DC_NOP_WRITE => Level::Write,
        command::DC_NOP_NEGOTIATOR => Level::Negotiator,
        command::DC_NOP_ADMINISTRATOR => Level::Administrator,
        command::DC_NOP_CONFIG => Level::Config,
        command::DC_NOP_DAEMON => Level::Daemon,
        command::DC_NOP_ADVERTISE_STARTD => Level::AdvertiseStartd,
        command::DC_NOP_ADVERTISE_SCHEDD => Level::AdvertiseSchedd,
        command::DC_NOP_ADVERTISE_MASTER => Level::AdvertiseMaster,
        _ => return None,
    })
}

/// Compares a user with a pattern, ignoring case as HTCondor does.
fn matches(pattern: &str, user: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let user = user.to_ascii_lowercase();
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(rest), Some(_)) => user.contains(rest.trim_end_matches('*')),
        (Some(end), None) => user.ends_with(end),
        (None, Some(start)) => user.starts_with(start),
        (None, None) => pattern == user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::EXECUTE_SIDE;

    fn may(table: &CommandTable, command: i32, peer: &PeerIdentity) -> bool {
        permit(table, command, peer, None).is_ok()
    }

    #[test]
    fn the_submit_side_of_a_claim_may_do_what_a_schedd_must() {
        let table = CommandTable::new()
            .serve(command::REQUEST_CLAIM, Level::Daemon)
            .serve(command::VACATE_CLAIM, Level::Administrator);
        let schedd = PeerIdentity::named(SUBMIT_SIDE);
        assert!(may(&table, command::REQUEST_CLAIM, &schedd));
        assert!(may(&table, command::DC_NOP_WRITE, &schedd));
        assert!(!may(&table, command::VACATE_CLAIM, &schedd));
        assert!(!may(&table, command::CONFIG_VAL, &schedd));
        assert!(!may(
            &table,
            command::REQUEST_CLAIM,
            &PeerIdentity::named(EXECUTE_SIDE)
        ));
    }

    #[test]
    fn a_token_limited_to_advertising_does_nothing_else() {
        let table = CommandTable::new()
            .serve(command::UPDATE_STARTD_AD, Level::AdvertiseStartd)
            .serve(command::QUERY_STARTD_ADS, Level::Read)
            .serve(command::DC_NOP_DAEMON, Level::Daemon)
            .permit(Level::Daemon, "*")
            .permit(Level::AdvertiseStartd, "*@test.pool");
        let mut pilot = PeerIdentity::named("Pilot@test.pool");
        pilot.limit = Some(vec![Level::AdvertiseStartd]);
        assert!(may(&table, command::UPDATE_STARTD_AD, &pilot));
        assert!(may(&table, command::QUERY_STARTD_ADS, &pilot));
        assert!(!may(&table, command::DC_NOP_DAEMON, &pilot));
        assert!(!may(
            &table,
            command::UPDATE_STARTD_AD,
            &PeerIdentity::named("x@other")
        ));
    }
}
