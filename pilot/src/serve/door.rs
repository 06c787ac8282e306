//! Who comes in at the command port, and what for.
//!
//! The holders of claims do, by the sessions of those claims. Where the configuration has access lists or a certificate
//! for the port, peers that prove their names do as well, with HTCondor's own knobs and meaning: `condor_ping`,
//! `condor_status -direct`, `condor_drain`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::command;
use cedar::net::{Server, ServerConfig, SessionCache};
use cedar::security::server::{Authorizer, CommandRule, CommandTable, Decision, LevelPolicyError};
use cedar::security::{Level, PeerIdentity, SUBMIT_SIDE};
use pool::security::Security;

use super::UPDATE_GSI_CRED;

/// Every command served, with the level that HTCondor's startd wants for it.
const COMMANDS: [(i32, Level); 17] = [
    (UPDATE_GSI_CRED, Level::Daemon),
    (command::DELEGATE_GSI_CRED_STARTER, Level::Daemon),
    (command::SUSPEND_CLAIM, Level::Daemon),
    (command::CONTINUE_CLAIM, Level::Daemon),
    (command::REQUEST_CLAIM, Level::Daemon),
    (command::ACTIVATE_CLAIM, Level::Daemon),
    (command::DEACTIVATE_CLAIM, Level::Daemon),
    (command::DEACTIVATE_CLAIM_FORCIBLY, Level::Daemon),
    (command::DEACTIVATE_CLAIM_JOB_DONE, Level::Daemon),
    (command::RELEASE_CLAIM, Level::Daemon),
    (command::ALIVE, Level::Daemon),
    (command::CA_CMD, Level::Daemon),
    (command::QUERY_STARTD_ADS, Level::Read),
    (command::DC_NOP, Level::Allow),
    (command::DRAIN_JOBS, Level::Administrator),
    (command::DC_OFF_GRACEFUL, Level::Administrator),
    (command::DC_OFF_FAST, Level::Administrator),
];

/// Limits of handshakes: a resumption is two small messages, and a peer without a claim shall not keep a place for
/// long, nor shall a crowd of them keep a schedd out.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKES: usize = 256;

/// The port's end of the handshakes. `names`: what is asked of peers without a claim; `None` turns them away.
pub(crate) fn server(
    version: &str,
    program: &str,
    sessions: SessionCache,
    names: Option<&Security>,
) -> Result<Server, LevelPolicyError> {
    let claims = COMMANDS
        .into_iter()
        .fold(CommandTable::new(), |table, (number, level)| {
            table.serve(number, level)
        });
    let mut config = match names {
        None => ServerConfig::for_sessions(sessions, Arc::new(claims), program),
        Some(security) => {
            let rules = COMMANDS.map(|(number, level)| (number, CommandRule::new(level)));
            let mut config = security.server_config(sessions, rules.to_vec());
            let names = Arc::clone(&config.authorizer);
            config.authorizer = Arc::new(Door { claims, names });
            config
        }
    };
    version.clone_into(&mut config.version);
    config.deadline = HANDSHAKE;
    config.max_handshakes = HANDSHAKES;
    Server::new(config)
}

/// Holders of claims by the table, all others by the access lists.
struct Door {
    claims: CommandTable,
    names: Arc<dyn Authorizer>,
}

impl Authorizer for Door {
    fn rule(&self, command: i32) -> Option<CommandRule> {
        self.claims.rule(command)
    }

    fn decide(&self, peer: &PeerIdentity, from: Option<IpAddr>, level: Level) -> Decision {
        // Only a claim's session has this name without a method that has proven it.
        if peer.method.is_none() && peer.user == SUBMIT_SIDE {
            self.claims.decide(peer, from, level)
        } else {
            self.names.decide(peer, from, level)
        }
    }

    fn commands(&self) -> Vec<i32> {
        self.claims.commands()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}
