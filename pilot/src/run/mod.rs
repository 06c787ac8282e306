//! The pilot from start to retirement: what is started in which order, and what is ended in which.
//!
//! Start-up is arranged around the first slot ad: the links to the collectors do their handshakes while the helper
//! starts and the node is looked at; the first ad goes out when all of them are done.

mod assemble;
mod foreign;
mod lacks;
mod reconcile;
mod switching;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cedar::Sinful;
use cedar::net::SessionCache;
use cedar::security::server::LevelPolicyError;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::advertise::board::Board;
use crate::advertise::facts::NodeFacts;
use crate::advertise::link::{Link, LinkReport};
use crate::blame::Exit;
use crate::broker::BrokerError;
use crate::execute::{self, ExecuteError, Reach};
use crate::job::JobServices;
use crate::join::{CredentialFiles, Proofs};
use crate::knobs::Knobs;
use crate::serve::Port;
use crate::serve::address::{self, AddressError};
use crate::slot::claims::ClaimError;
use crate::slot::clock::Clock;
pub use foreign::ForeignError;
pub use switching::SwitchError;
use switching::Switching;

use crate::slot::{Ending, JobRunner, Parts, Startd, StartdCommands};

/// Time for sandboxes and processes to go away at the end; the helper goes on with it when the pilot is gone.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// The pilot could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandboxes have no place.
    #[error("no place for sandboxes")]
    Execute(#[from] ExecuteError),
    /// No command port.
    #[error("no command port")]
    Address(#[from] AddressError),
    /// No collector is configured.
    #[error("COLLECTOR_HOST is not set, so there is no pool to join")]
    NoCollector,
    /// Nobody starts the jobs.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The helper makes no sandboxes there.
    #[error("the identity-switch helper makes no sandboxes below EXECUTE = {}", execute.display())]
    ExecuteNotAllowed {
        /// `EXECUTE`.
        execute: PathBuf,
        /// Where it does.
        allowed: Vec<PathBuf>,
    },
    /// No claim ids.
    #[error("no claim ids")]
    Claim(#[from] ClaimError),
    /// The command port cannot be asked for its number.
    #[error("cannot learn the number of the command port")]
    Port(#[source] std::io::Error),
    /// The rules of the command port contradict each other.
    #[error("no rules for the command port")]
    Policy(#[from] LevelPolicyError),
    /// The signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
}

impl StartError {
    /// The exit status.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoCollector | Self::Address(AddressError::NoInterface(_)) => Exit::Configuration,
            Self::Switch(
                SwitchError::NoAgent { .. }
                | SwitchError::Root
                | SwitchError::Foreign(
                    ForeignError::NoAccount { .. } | ForeignError::SharedAccount { .. },
                ),
            ) => Exit::Configuration,
            Self::Execute(_) | Self::Switch(_) | Self::ExecuteNotAllowed { .. } => {
                Exit::SitePermanent
            }
            Self::Address(_) => Exit::SiteTransient,
            Self::Claim(_) | Self::Signals(_) | Self::Port(_) | Self::Policy(_) => Exit::Pilot,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Execute(error) => Some(error.hint()),
            Self::NoCollector => {
                Some("add to the configuration: COLLECTOR_HOST = cm.example.org:9618".to_owned())
            }
            Self::Switch(SwitchError::Helper(BrokerError::Spawn { .. })) => Some(
                "SAILPLANE_SWITCH must name the installed helper, which root makes setuid; with \
                 SAILPLANE_IDENTITY_SWITCH = OPTIONAL all jobs would run under the pilot's own account"
                    .to_owned(),
            ),
            Self::Switch(SwitchError::NoAgent { .. }) => {
                Some("set SAILPLANE_JOB_AGENT to the program sailplane-job".to_owned())
            }
            Self::Switch(SwitchError::Foreign(ForeignError::Unreachable { path, .. })) => Some(format!(
                "put sailplane and sailplane-job where every account can execute them, or run: chmod o+x {}",
                path.display()
            )),
            Self::Switch(SwitchError::Foreign(ForeignError::Trial { .. })) => Some(
                "the site must allow it in sudoers: PILOT ALL=(ACCOUNTS) NOPASSWD: /path/of/sailplane".to_owned(),
            ),
            Self::Switch(SwitchError::Root) => Some(
                "start the pilot under an ordinary account, or install the identity-switch helper"
                    .to_owned(),
            ),
            Self::ExecuteNotAllowed { execute, allowed } => Some(format!(
                "allowed are {}; set EXECUTE to a directory below one of them, or ask the site to add {} to execute_dirs in switch.conf",
                allowed
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                execute.display()
            )),
            _ => None,
        }
    }
}

/// Runs the pilot until it has retired.
///
/// # Errors
/// [`StartError`] if it could not start; how it ended otherwise.
pub async fn run(knobs: Knobs) -> Result<Ending, StartError> {
    let clock = Clock::start();
    let signals = watch::Signals::catch().map_err(StartError::Signals)?;
    let (listener, address) = open_port(&knobs).await?;
    let node = NodeFacts::probe();
    let identity = Arc::new(assemble::identity(&knobs, &node, address, &clock));
    let sessions = SessionCache::new();
    let client = assemble::client(&knobs, &identity, sessions.clone());
    let (startd, commands) = StartdCommands::channel();
    let (board, reader) = Board::new();
    let stop = CancellationToken::new();
    let proofs = Proofs::default();
    let files = CredentialFiles::of(&knobs.credentials, &knobs.client_policy);
    let link = Link {
        // Each link gets its own.
        collector: identity.address.clone(),
        client: client.clone(),
        identity: Arc::clone(&identity),
        interval: knobs.update_interval,
        startd: startd.clone(),
        board: reader,
        stop: stop.clone(),
        renewals: files.watch(),
        proofs: proofs.clone(),
        requests: assemble::token_requests(&knobs, &identity, &client),
    };
    let links = spawn_links(&knobs.collectors, &link);
    drop(link);
    let _stopped_on_error = stop.clone().drop_guard();

    let slots = assemble::slots(&knobs, &node);
    let (switching, broker, hello) = Switching::start(&knobs, slots).await?;
    let execute = execute::prepare(
        &knobs.execute,
        if switching.separates() {
            Reach::Everybody
        } else {
            Reach::Ourselves
        },
    )?;
    assemble::check_execute(&execute, &hello)?;
    switching.tell(&hello);
    let offer = assemble::offer(&knobs, &node, &identity, &hello, &switching);
    let job_config = assemble::job_config(&knobs, &identity, &execute, &hello, &switching);
    let services = JobServices::new(job_config, broker, client.clone(), identity.address.clone());
    let cleanups = services.cleanups.clone();
    let parts = Parts {
        config: assemble::startd_config(&knobs, execute),
        identity: Arc::clone(&identity),
        offer: offer.clone(),
        client,
        runner: JobRunner::with_services(services.clone()),
        sessions: sessions.clone(),
        board,
        clock,
        commands,
    };
    let slots = Startd::new(parts, &node)?;
    let promises = slots.promises();
    let server = Arc::new(assemble::server(&identity, sessions)?);
    let port = tokio::spawn(
        Port {
            listener,
            server,
            startd: startd.clone(),
            stop: stop.clone(),
        }
        .run(),
    );
    let watchers = watch::spawn(
        &knobs,
        signals,
        startd,
        (switching, services),
        clock.started(),
        promises,
        proofs,
    );
    tracing::info!(
        name = identity.startd_name,
        address = %identity.address,
        slots = offer.slots,
        cpus = offer.cpus,
        memory_mib = offer.memory_mib,
        "ready"
    );

    let ending = slots.run().await;
    stop.cancel();
    let ending = blame_the_pool(ending, links.join_all().await);
    drop(watchers);
    cleanups.close();
    if timeout(CLEAN_UP, cleanups.wait()).await.is_err() {
        tracing::warn!("not everything is cleaned up; the helper goes on with it");
    }
    // The port's task ends by the same order; a panic in it is worth no more than that now.
    let _ = port.await;
    Ok(ending)
}

async fn open_port(knobs: &Knobs) -> Result<(TcpListener, SocketAddr), StartError> {
    let collector = knobs.collectors.first().ok_or(StartError::NoCollector)?;
    let towards = assemble::resolve(collector).await;
    let place = address::choose(&knobs.network_interface, towards)?;
    let listener = address::listen(place.listen, knobs.port_range).await?;
    let port = listener.local_addr().map_err(StartError::Port)?.port();
    Ok((listener, SocketAddr::new(place.advertise, port)))
}

fn spawn_links(collectors: &[Sinful], model: &Link) -> JoinSet<LinkReport> {
    let mut links = JoinSet::new();
    for collector in collectors {
        let link = Link {
            collector: collector.clone(),
            ..model.clone()
        };
        links.spawn(link.run());
    }
    links
}

/// A pilot that never reached its pool did not retire cleanly, whatever made it stop.
fn blame_the_pool(ending: Ending, links: Vec<LinkReport>) -> Ending {
    if ending.exit != Exit::Retired || links.iter().any(|link| link.connected) {
        return ending;
    }
    match links.into_iter().find_map(|link| link.last_error) {
        Some(error) => Ending {
            exit: Exit::Pool,
            why: format!("no collector could be reached: {error}"),
        },
        None => ending,
    }
}
