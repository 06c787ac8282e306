//! The schedd: claims on slots, and which job runs on which.

pub mod claim;
mod config;
pub mod expand;

use std::sync::Arc;

use cedar::command;
use cedar::net::{Client, Incoming};
use cedar::security::Level;
use cedar::security::server::CommandRule;
use tokio_util::sync::CancellationToken;

pub use config::SchedConfig;

use crate::collector::Collector;
use crate::negotiator::{Match, MatchSink};
use crate::queue::Queue;
use crate::user_log::EventSink;

/// What the schedd works with.
#[derive(Clone)]
pub struct Parts {
    /// For connections to startds and starters; its session cache must be that of the server.
    pub client: Client,
    /// The jobs.
    pub queue: Queue,
    /// The slots.
    pub collector: Collector,
    /// The jobs' logs.
    pub log: Arc<dyn EventSink>,
}

/// The schedd. Clones share everything.
#[derive(Clone)]
pub struct Schedd {}

impl Schedd {
    /// A schedd without claims.
    pub fn new(config: SchedConfig, parts: Parts) -> Self {
        let _ = (config, parts);
        todo!()
    }

    /// The commands served by [`Schedd::serve`].
    pub fn commands() -> Vec<(i32, CommandRule)> {
        [command::ALIVE, command::RELEASE_CLAIM]
            .into_iter()
            .map(|number| (number, CommandRule::new(Level::Daemon)))
            .collect()
    }

    /// Serves one command.
    pub async fn serve(&self, incoming: Incoming) {
        let _ = incoming;
        todo!()
    }

    /// Reconnects to what ran before a restart, and passes on the queue's wishes about running jobs, until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        let _ = cancel;
        todo!()
    }
}

impl MatchSink for Schedd {
    fn matched(&self, matches: Vec<Match>) {
        let _ = matches;
        todo!()
    }
}
