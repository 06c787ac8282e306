//! How a check is written.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::check::Check;
use crate::knob::Knobs;
use crate::outcome::Outcome;
use crate::process::Command;
use crate::setup::{Endpoint, Setup};

/// A boxed future, so that checks of every kind fit into one list.
pub type Running<'a, T = Outcome> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A check with its code.
pub trait Probe: Send + Sync {
    /// What it is.
    fn check(&self) -> &Check;

    /// Looks, once. The engine drops the future at the limit; children started through [`Context::command`] die with
    /// it, and threads of [`Context::blocking`] are left to themselves. Nothing here may block the thread it is on.
    fn run<'a>(&'a self, context: &'a Context) -> Running<'a>;
}

/// What a check has to work with, in one run.
#[derive(Clone)]
pub struct Context {
    setup: Arc<Setup>,
    knobs: Arc<Knobs>,
    ping: Option<Arc<dyn PoolPing>>,
    deadline: Instant,
    again: bool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("deadline", &self.deadline)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context for one run that has to end by `deadline`.
    #[must_use]
    pub fn new(setup: Arc<Setup>, knobs: Arc<Knobs>, deadline: Instant) -> Self {
        Self {
            setup,
            knobs,
            ping: None,
            deadline,
            again: false,
        }
    }

    /// With somebody who can speak to the pool.
    #[must_use]
    pub fn with_ping(mut self, ping: Option<Arc<dyn PoolPing>>) -> Self {
        self.ping = ping;
        self
    }

    /// For a repetition while the pilot lives.
    #[must_use]
    pub const fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// The pilot.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The knobs of the checks.
    #[must_use]
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// Who can speak to the pool; without a pilot (the site's suite) nobody.
    #[must_use]
    pub fn pool(&self) -> Option<&dyn PoolPing> {
        self.ping.as_deref()
    }

    /// Whether this is a repetition while the pilot lives.
    #[must_use]
    pub const fn is_again(&self) -> bool {
        self.again
    }

    /// Time left for this run.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// When this run has to have ended.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A child in a session of its own, which is killed with everything it started at the end of this run, whatever
    /// it did to escape.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        Command::new(program.as_ref()).deadline(self.deadline)
    }

    /// Does something that may block (a file system that may not answer) on a thread of its own, which is left
    /// behind if it does not come back; here and now where no thread can be started. `None`: it panicked.
    pub async fn blocking<T, F>(&self, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = tokio::sync::oneshot::channel();
        // Kept here as well, because a thread that cannot be started takes its work with it.
        let work = Arc::new(Mutex::new(Some(work)));
        let there = Arc::clone(&work);
        let take =
            |work: &Mutex<Option<F>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = std::thread::Builder::new()
            .name("check".to_owned())
            .spawn(move || {
                if let Some(work) = take(&there) {
                    // Nobody waits any more after the limit.
                    let _ = answer.send(work());
                }
            });
        match thread {
            Ok(_) => result.await.ok(),
            // The limit of processes is reached, which is another check's to say. This one is done here.
            Err(_) => take(&work).map(|work| work()),
        }
    }
}

/// Speaks to daemons of the pool as the pilot will.
pub trait PoolPing: Send + Sync {
    /// Authenticates and is answered, at the level that advertising needs.
    fn ping<'a>(&'a self, endpoint: &'a Endpoint) -> Running<'a, Result<Pong, PingError>>;

    /// Whether a collector's clock, at the moment of its answer, shows no less than `from` and no more than `to`, Unix
    /// seconds; any time suits a bound that is not there. `false` also if it has nothing to show to us.
    fn is_clock_within<'a>(
        &'a self,
        collector: &'a Endpoint,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Running<'a, Result<bool, PingError>>;
}

/// A daemon's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pong {
    /// Who we are for it, if it said so.
    pub identity: Option<String>,
    /// How we proved it: `IDTOKENS`, `SSL`, ...
    pub method: Option<String>,
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// It could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It was reached, and does not speak as a daemon of a pool does.
    #[error("{0}")]
    Malformed(String),
    /// It was reached, and would not have us, or we not it.
    #[error("{0}")]
    Refused(String),
    /// The pilot has no token yet and asks for one: it may have to wait until an administrator approves it.
    #[error("{0}")]
    Waiting(String),
}
