//! The pilot from start to retirement: what is started in which order, and what is ended in which.
//!
//! Start-up is arranged around the first slot ad: the links to the collectors do their handshakes while the helper
//! starts and the node is checked; the first ad goes out when all of them are done. Where no jobs can run, the pilot
//! says so (`failing`) instead of that ad.

mod assemble;
mod brokers;
pub(crate) mod checks;
mod failing;
mod foreign;
mod health;
mod lacks;
mod ping;
mod reconcile;
pub(crate) mod result_file;
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
use validation::{CheckName, Class, Failure};

use crate::advertise::board::Board;
use crate::advertise::facts::NodeFacts;
use crate::advertise::link::{Link, LinkReport};
use crate::blame::Exit;
use crate::broker::{Broker, BrokerError, BrokerHello};
use crate::execute::{self, ExecuteError, Reach};
use crate::job::JobServices;
use crate::join::{CredentialFiles, Proofs};
use crate::knobs::{KnobErrors, Knobs};
use crate::serve::Port;
use crate::serve::address::{self, AddressError};
use crate::slot::claims::ClaimError;
use crate::slot::clock::Clock;
use brokers::Brokers;
use checks::{Checked, Checks};
use failing::Failing;
pub use foreign::ForeignError;
use health::Heed;
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
    /// The checks say that no jobs can run here.
    #[error("check {check} failed: {}", failure.why)]
    Unfit {
        /// The gravest check that failed.
        check: CheckName,
        /// Why it did.
        failure: Box<Failure>,
    },
    /// What a check says about the configuration cannot be.
    #[error("a check of the node changes the configuration into one that is wrong")]
    Knobs(#[source] KnobErrors),
    /// Nobody passes connections on to the pilot.
    #[error("no CCB server of CCB_ADDRESS registers the pilot: {why}")]
    NoBroker {
        /// What came of it.
        why: String,
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
            Self::Unfit { failure, .. } => Exit::of_class(Class::of(failure)),
            Self::Knobs(_) => Exit::Factory,
            Self::Address(_) => Exit::SiteTransient,
            Self::NoBroker { .. } => Exit::Pool,
            Self::Claim(_) | Self::Signals(_) | Self::Port(_) | Self::Policy(_) => Exit::Pilot,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Execute(error) => Some(error.hint()),
            Self::Unfit { failure, .. } => Some(failure.hint.clone()),
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
            Self::NoBroker { .. } => Some(
                "check that the node reaches the brokers of CCB_ADDRESS; without CCB_REQUIRED_TO_START the pilot starts \
                 nevertheless"
                    .to_owned(),
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

/// Reads the configuration again, with further values that win over all others.
pub type Reload<'a> = &'a (dyn Fn(&[(String, String)]) -> Result<Knobs, KnobErrors> + Sync);

/// Runs the pilot until it has retired. `reload` is asked when a check of the node changes the configuration.
///
/// # Errors
/// [`StartError`] if it could not start; how it ended otherwise.
pub async fn run(knobs: Knobs, reload: Reload<'_>) -> Result<Ending, StartError> {
    let clock = Clock::start();
    let mut signals = watch::Signals::catch().map_err(StartError::Signals)?;
    let (listener, address) = open_port(&knobs).await?;
    let node = NodeFacts::probe();
    let identity = Arc::new(assemble::identity(&knobs, &node, address, &clock));
    let sessions = SessionCache::new();
    let client = assemble::client(&knobs, &identity, sessions.clone());
    let (mut brokers, reversed) = Brokers::new(address, client.clone(), Arc::clone(&identity));
    brokers.register(&knobs.ccb);
    let (startd, commands) = StartdCommands::channel();
    let (board, reader) = Board::new();
    let stop = CancellationToken::new();
    let proofs = Proofs::default();
    let files = CredentialFiles::of(&knobs.credentials, &knobs.client_policy);
    let link = Link {
        // Each link gets its own.
        collector: identity.address.get(),
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

    // The pool hears nothing of the pilot before it is known that jobs can run here.
    let (checked, switched) = tokio::select! {
        both = look(&knobs, &node) => both,
        signal = signals.any() => {
            let why = format!("{signal}, before the pilot had joined");
            return Ok(Ending { exit: Exit::Retired, why });
        }
    };
    let heed = Heed::of(&knobs);
    let fit = async {
        let fit = fit(&knobs, reload, heed, checked.as_ref(), switched)?;
        // The checks may have brought brokers with them.
        brokers.register(&fit.knobs.ccb);
        brokers.settle().await?;
        Ok(fit)
    };
    let fit = tokio::select! {
        fit = fit => fit,
        signal = signals.any() => {
            let why = format!("{signal}, before the pilot had joined");
            return Ok(Ending { exit: Exit::Retired, why });
        }
    };
    let fit = match fit {
        Ok(fit) => fit,
        Err(error) => {
            drop((brokers, reversed));
            let failing = Failing {
                knobs: &knobs,
                node: &node,
                identity: &identity,
                checked,
                commands,
                board,
                links,
                stop,
            };
            return Err(failing.stay(error, signals).await);
        }
    };
    let Fit {
        knobs,
        switching,
        broker,
        hello,
        execute,
    } = fit;
    switching.tell(&hello);
    let mut offer = assemble::offer(&knobs, &node, &identity, &hello, &switching);
    if let Some(checked) = &checked {
        offer.checks = checked.engine.attributes(clock.started());
    }
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
    let server = Arc::new(assemble::server(&knobs, &identity, sessions)?);
    let port = tokio::spawn(
        Port {
            listener,
            reversed,
            server,
            startd: startd.clone(),
            stop: stop.clone(),
        }
        .run(),
    );
    let follower = brokers.follow(startd.clone());
    let health = checked.map(|checked| {
        let result = result_file::place(&knobs);
        tokio::spawn(health::watch(
            checked,
            heed,
            result,
            startd.clone(),
            stop.clone(),
        ))
    });
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
    drop((watchers, follower));
    cleanups.close();
    if timeout(CLEAN_UP, cleanups.wait()).await.is_err() {
        tracing::warn!("not everything is cleaned up; the helper goes on with it");
    }
    if let Some(health) = health
        && timeout(CLEAN_UP, health).await.is_err()
    {
        tracing::warn!("the checks did not end in time; what they started is killed");
    }
    // The port's task ends by the same order; a panic in it is worth no more than that now.
    let _ = port.await;
    Ok(ending)
}

/// What came of starting whoever starts the payloads.
type Switched = Result<(Switching, Broker, BrokerHello), SwitchError>;

/// Looks at the node, and starts what starts the payloads, at the same time.
async fn look(knobs: &Knobs, node: &NodeFacts) -> (Option<Checked>, Switched) {
    let checks = async {
        if Heed::of(knobs) == Heed::None {
            return None;
        }
        match Checks::new(knobs, node, None) {
            Ok(checks) => Some(checks.first(|done| checks::log(&done)).await),
            Err(error) => {
                // Our own checks are tested to go together; a pilot is worth more than they are.
                tracing::error!("the node is not checked: {error}");
                None
            }
        }
    };
    let (checked, switched) = tokio::join!(
        checks,
        Switching::start(knobs, assemble::slots(knobs, node))
    );
    if let (Some(checked), Some(path)) = (&checked, result_file::place(knobs)) {
        result_file::write(&path, &checked.engine.report());
    }
    (checked, switched)
}

/// What a pilot on a node that is fit has.
struct Fit {
    knobs: Knobs,
    switching: Switching,
    broker: Broker,
    hello: BrokerHello,
    execute: PathBuf,
}

/// Whether jobs can run here. What the checks found is the better explanation of what does not work otherwise.
fn fit(
    knobs: &Knobs,
    reload: Reload<'_>,
    heed: Heed,
    checked: Option<&Checked>,
    switched: Switched,
) -> Result<Fit, StartError> {
    let mut knobs = knobs.clone();
    if let Some(checked) = checked {
        if heed == Heed::Full {
            checked.verdict()?;
        }
        checked.apply(&mut knobs, reload)?;
    }
    let (switching, broker, hello) = switched?;
    let execute = execute::prepare(
        &knobs.execute,
        if switching.separates() {
            Reach::Everybody
        } else {
            Reach::Ourselves
        },
    )?;
    assemble::check_execute(&execute, &hello)?;
    Ok(Fit {
        knobs,
        switching,
        broker,
        hello,
        execute,
    })
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
