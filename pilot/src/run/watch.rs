//! What is watched while the pilot runs: signals, the helper, the end of our credential.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::switching::Switching;
use crate::advertise::live::LifeLimit;
use crate::blame::{Exit, chain};
use crate::job::JobServices;
use crate::join::Proofs;
use crate::knobs::Knobs;
use crate::life::{Promises, end_of_life};
use crate::slot::{JobRunner, Order, StartdHandle};

/// Pause before a helper that died is started again; once only.
const HELPER_PAUSE: Duration = Duration::from_secs(2);

/// A helper that worked for so long has earned another start.
const HELPER_PROVEN: Duration = Duration::from_secs(600);

/// How often the end is reckoned again though nothing was heard of it.
const END_POLL: Duration = Duration::from_secs(60);

/// The signals a pilot obeys.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that ends a pilot, in words.
    pub(super) async fn any(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.quit.recv() => return "SIGQUIT",
                _ = self.hangup.recv() => {}
            }
        }
    }

    /// SIGTERM retires, as does condor_master's graceful stop; a second one, SIGINT and SIGQUIT stop at once.
    async fn obey(mut self, startd: StartdHandle) {
        let mut asked = false;
        loop {
            let order = tokio::select! {
                _ = self.terminate.recv() => if asked {
                    Order::RetireFast { why: "second SIGTERM".to_owned() }
                } else {
                    Order::Retire { exit: Exit::Retired, why: "SIGTERM".to_owned() }
                },
                _ = self.interrupt.recv() => Order::RetireFast { why: "SIGINT".to_owned() },
                _ = self.quit.recv() => Order::RetireFast { why: "SIGQUIT".to_owned() },
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: the configuration is read at the start only");
                    continue;
                }
            };
            asked = true;
            startd.order(order).await;
        }
    }
}

/// Starts the watchers; they end when the returned set is dropped.
pub(super) fn spawn(
    knobs: &Knobs,
    signals: Signals,
    startd: StartdHandle,
    (switching, services): (Switching, JobServices),
    started: i64,
    promises: Promises,
    proofs: Proofs,
) -> JoinSet<()> {
    let mut watchers = JoinSet::new();
    watchers.spawn(signals.obey(startd.clone()));
    watchers.spawn(keep_helper(switching, startd.clone(), services));
    watchers.spawn(watch_end(
        knobs.max_lifetime,
        startd,
        started,
        promises,
        proofs,
    ));
    watchers
}

/// When the helper dies there are no jobs until it is back; if it does not come back the pilot retires.
async fn keep_helper(switching: Switching, startd: StartdHandle, mut services: JobServices) {
    let helper = if switching.separates() {
        "the identity-switch helper"
    } else {
        "the process that starts the jobs"
    };
    let mut restarted = None;
    loop {
        services.broker.closed().await;
        let why = format!("{helper} died");
        tracing::error!("{why}; no jobs until it is back");
        startd.order(Order::Pause { why: why.clone() }).await;
        if restarted.is_some_and(|at: Instant| at.elapsed() < HELPER_PROVEN) {
            startd
                .order(Order::Retire {
                    exit: Exit::SitePermanent,
                    why: format!("{why} again"),
                })
                .await;
            return;
        }
        sleep(HELPER_PAUSE).await;
        match switching.restart().await {
            Ok((broker, _)) => {
                tracing::info!("{helper} is back");
                services.broker = broker;
                restarted = Some(Instant::now());
                startd
                    .order(Order::Resume(JobRunner::with_services(services.clone())))
                    .await;
            }
            Err(error) => {
                let why = format!("{why} and does not start again: {}", chain(&error));
                startd
                    .order(Order::Retire {
                        exit: Exit::SitePermanent,
                        why,
                    })
                    .await;
                return;
            }
        }
    }
}

/// Follows the end of the pilot's time, which moves when its credential is renewed.
async fn watch_end(
    max_lifetime: Option<Duration>,
    startd: StartdHandle,
    started: i64,
    promises: Promises,
    proofs: Proofs,
) {
    let lifetime = max_lifetime
        .map(|life| started.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX)));
    let mut changes = proofs.changes();
    loop {
        changes.mark_unchanged();
        let limits = [
            (LifeLimit::Lifetime, lifetime),
            (LifeLimit::Credential, proofs.end()),
        ];
        let end = end_of_life(started, &limits, promises);
        startd.order(Order::End(end)).await;
        // Our own handle keeps the channel open.
        let _ = timeout(END_POLL, changes.changed()).await;
    }
}
