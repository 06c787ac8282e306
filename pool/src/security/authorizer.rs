//! The access lists as a server asks them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use cedar::security::server::{Authorizer, CommandRule, CommandTable, Decision};
use cedar::security::{Level, PeerIdentity};

use super::access::AccessLists;

/// Commands from a table, decisions from the lists.
pub(super) struct ListAuthorizer {
    lists: Arc<AccessLists>,
    table: CommandTable,
}

impl ListAuthorizer {
    pub(super) fn new(lists: Arc<AccessLists>, commands: Vec<(i32, CommandRule)>) -> Self {
        let table = commands
            .into_iter()
            .fold(CommandTable::new(), |table, (command, rule)| {
                table.serve_with(command, rule.level, &rule.alternates)
            });
        Self { lists, table }
    }
}

impl Authorizer for ListAuthorizer {
    fn rule(&self, command: i32) -> Option<CommandRule> {
        self.table.rule(command)
    }

    fn decide(&self, peer: &PeerIdentity, from: Option<IpAddr>, level: Level) -> Decision {
        match self.lists.decide(peer, from, level) {
            Ok(()) => Decision::Allowed,
            Err(reason) => Decision::Denied(reason.sentence(peer, from)),
        }
    }

    fn commands(&self) -> Vec<i32> {
        self.table.commands()
    }
}

impl fmt::Debug for ListAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListAuthorizer")
            .field("lists", &self.lists)
            .finish_non_exhaustive()
    }
}
