//! Puts the parts together: one process, one port.

mod address;
mod error;
mod tasks;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cedar::Sinful;
use cedar::net::{Client, Incoming, Server, SessionCache};
use cedar::security::Level;
use cedar::security::server::{Authorizer, CommandRule, Decision};
use condorconf::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::ServeError;

use crate::collector::{Collector, CollectorConfig};
use crate::files::{FilesConfig, UserFiles};
use crate::negotiator::{Negotiator, NegotiatorConfig};
use crate::queue::{Admission, Queue, QueueConfig};
use crate::schedd::{Parts, SchedConfig, Schedd};
use crate::security::{Place, Security};
use crate::transfer::{Transfers, TransfersConfig};
use crate::user_log::UserLog;

/// How long connections in progress, and the jobs' logs, may take when the pool stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// The parts, and which command goes to which. Clones share everything.
#[derive(Clone)]
struct Pool {
    security: Security,
    collector: Collector,
    negotiator: Negotiator,
    queue: Queue,
    schedd: Schedd,
    transfers: Transfers,
    log: Arc<UserLog>,
    routes: Arc<HashMap<i32, Service>>,
}

#[derive(Debug, Clone, Copy)]
enum Service {
    Security,
    Collector,
    Negotiator,
    Queue,
    Schedd,
    Transfers,
}

/// Every command served, and by which part.
fn routes() -> Vec<(i32, CommandRule, Service)> {
    let of = |commands: Vec<(i32, CommandRule)>, service| {
        commands
            .into_iter()
            .map(move |(number, rule)| (number, rule, service))
    };
    of(Security::commands(), Service::Security)
        .chain(of(Collector::commands(), Service::Collector))
        .chain(of(Negotiator::commands(), Service::Negotiator))
        .chain(of(Queue::commands(), Service::Queue))
        .chain(of(Schedd::commands(), Service::Schedd))
        .chain(of(Transfers::commands(), Service::Transfers))
        .collect()
}

/// Serves until SIGTERM, SIGINT or SIGQUIT.
///
/// # Errors
/// [`ServeError`] if it cannot begin: configuration, folders, address, or somebody else has the queue.
pub async fn serve(config: &Config) -> Result<(), ServeError> {
    raise_descriptor_limit();
    let spool = folder(config, "SPOOL")?;
    let place = Place::here();
    let security = Security::load(config, &place)?;
    security.ensure_signing_key()?;
    for warning in security.warnings() {
        tracing::warn!("{warning}");
    }
    let (listener, address) = address::listen(config, &place.host_name).await?;
    let sessions = SessionCache::new();
    let routes = routes();
    let rules = routes
        .iter()
        .map(|(number, rule, _)| (*number, rule.clone()))
        .collect();
    let server_config = security.server_config(sessions.clone(), rules);
    let client = {
        let mut client = security.client_config("SCHEDD");
        client.command_sock = Some(address.clone());
        Client::new(client, sessions)
    };
    let authorizer = Arc::clone(&server_config.authorizer);
    let ssl = server_config.authenticators.ssl.clone();
    let server = Server::new(server_config).map_err(ServeError::Policy)?;
    let pool = Pool::assemble(&Setting {
        config,
        place: &place,
        address: &address,
        spool: &spool,
        security: &security,
        authorizer,
        client,
        routes: &routes,
    })?;
    let cancel = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks::start(&pool, &tasks, &cancel);
    if let Some(ssl) = ssl {
        tasks.spawn(tasks::until(cancel.clone(), tasks::renew_certificates(ssl)));
    }
    let announced = address::announce(config, &address)?;
    tracing::info!("the pool is at {address}");
    let stop = stop_signal()?;
    tokio::select! {
        () = accept(&listener, &server, &pool, &tasks, &cancel) => {}
        () = stop => tracing::info!("stopping"),
    }
    drop(announced);
    drop(listener);
    cancel.cancel();
    tasks.close();
    // Jobs that run go on: a pool that comes back reconnects to them.
    if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
        tracing::debug!("some connections were still busy");
    }
    // Once before, so that the queue need not keep what the logs have.
    pool.flush_logs().await;
    pool.queue.close().await;
    pool.flush_logs().await;
    Ok(())
}

/// What the parts are made from.
struct Setting<'a> {
    config: &'a Config,
    place: &'a Place,
    address: &'a Sinful,
    spool: &'a Path,
    security: &'a Security,
    authorizer: Arc<dyn Authorizer>,
    client: Client,
    routes: &'a [(i32, CommandRule, Service)],
}

impl Pool {
    fn assemble(setting: &Setting<'_>) -> Result<Self, ServeError> {
        let Setting {
            config,
            place,
            address,
            ..
        } = setting;
        let machine = place.host_name.as_str();
        let uid_domain = setting.security.uid_domain();
        let collector = Collector::new(CollectorConfig::from_config(
            config,
            (*address).clone(),
            machine,
        )?);
        let negotiator = Negotiator::new(NegotiatorConfig::from_config(
            config,
            (*address).clone(),
            machine,
        )?);
        let files = UserFiles::new(FilesConfig::new().map_err(ServeError::OwnProgram)?);
        let log = Arc::new(UserLog::from_config(config, files.clone())?);
        let authorizer = Arc::clone(&setting.authorizer);
        let mut queue =
            QueueConfig::from_config(config, setting.spool.to_owned(), uid_domain, machine)?;
        queue.address = address.to_string();
        queue.is_administrator = Arc::new(move |peer, from| {
            authorizer.decide(peer, from, Level::Administrator) == Decision::Allowed
        });
        // A pool of an ordinary account has that account's files only; jobs of others wait there for a better day.
        if nix::unistd::geteuid().is_root() {
            queue.admission = Some(admission(&files, &log));
        }
        let name = queue.schedd_name.clone();
        let queue = Queue::open(queue, log.clone())?;
        let transfers = TransfersConfig::from_config(config, machine.to_owned())?;
        let transfers = Transfers::new(transfers, files.clone());
        let schedd = Schedd::new(
            SchedConfig::from_config(config, &name, machine, (*address).clone(), uid_domain)?,
            Parts {
                client: setting.client.clone(),
                queue: queue.clone(),
                collector: collector.clone(),
                transfers: transfers.clone(),
                files,
                log: log.clone(),
            },
        );
        let routes = setting
            .routes
            .iter()
            .map(|(number, _, service)| (*number, *service));
        Ok(Self {
            security: setting.security.clone(),
            collector,
            negotiator,
            queue,
            schedd,
            transfers,
            log,
            routes: Arc::new(routes.collect()),
        })
    }

    /// Waits for the jobs' logs; what one that does not answer lacks is left to the next pool.
    async fn flush_logs(&self) {
        if tokio::time::timeout(FAREWELL, self.log.flush())
            .await
            .is_err()
        {
            tracing::warn!("some event logs could not be written in time");
        }
    }

    async fn dispatch(&self, incoming: Incoming) {
        let Some(service) = self.routes.get(&incoming.command) else {
            tracing::warn!(command = incoming.command, "nobody serves this command");
            return;
        };
        match service {
            Service::Security => self.security.serve(incoming).await,
            Service::Collector => self.collector.serve(incoming).await,
            Service::Negotiator => self.negotiator.serve(incoming).await,
            Service::Queue => self.queue.serve(incoming).await,
            Service::Schedd => self.schedd.serve(incoming).await,
            Service::Transfers => self.transfers.serve(incoming).await,
        }
    }
}

/// Jobs whose owner has no account here that we can act for, or whose event log cannot be written, are refused at once
/// rather than held later.
fn admission(files: &UserFiles, log: &Arc<UserLog>) -> Admission {
    let (files, log) = (files.clone(), Arc::clone(log));
    Arc::new(move |cluster| {
        let (files, log) = (files.clone(), Arc::clone(&log));
        Box::pin(async move {
            let owner = cluster.string("Owner").unwrap_or_default();
            let checked = files.as_owner(&owner).check().await;
            checked.map_err(|error| error.to_string())?;
            let checked = log.check(&cluster).await;
            checked.map_err(|error| format!("the event log: {error}"))
        })
    })
}

async fn accept(
    listener: &TcpListener,
    server: &Server,
    pool: &Pool,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) {
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that has gone again: the next one may do better.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (server, pool) = (server.clone(), pool.clone());
        let connection = async move {
            // The server has said why, if it refused.
            let Ok(incoming) = server.accept(tcp, peer).await else {
                return;
            };
            match incoming.serve_builtin().await {
                Ok(Some(incoming)) => pool.dispatch(incoming).await,
                Ok(None) => {}
                Err(error) => tracing::debug!("{error}"),
            }
        };
        let cancel = cancel.clone();
        // A pilot keeps its connection to the collector for life: a pool that stops does not wait for it.
        tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = cancel.cancelled() => {}
            }
        });
    }
}

/// A folder of the pool's own, made if it is missing; nobody else may look into it, but owners of jobs go through it to
/// what their evicted jobs left. Those above it are made for all to
/// search: the address file is for everybody.
fn folder(config: &Config, knob: &str) -> Result<PathBuf, ServeError> {
    let path = PathBuf::from(config.required(knob)?);
    let make = |path: &Path, mode| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
    };
    let made = path.parent().map_or(Ok(()), |above| make(above, 0o755));
    made.and_then(|()| make(&path, 0o711))
        .map_err(|source| ServeError::Folder {
            knob: knob.to_owned(),
            path: path.clone(),
            source,
        })?;
    Ok(path)
}

/// Every running job has a connection: as many as the system lets us have.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    let listen = |kind| signal(kind).map_err(ServeError::Runtime);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut quit = listen(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// An error about a file of the pool's own.
fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ServeError + use<> {
    let path = path.to_owned();
    move |source| ServeError::File { path, source }
}
