//! The checks of the node, as the pilot uses them: what they are told, who pings for them, and what they are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cedar::Sinful;
use validation::engine::{Done, Engine, GraphError};
use validation::{
    Check, Endpoint, Failure, Launcher, PoolPing, Probe, Setup, Severity, Status, SwitchOffer,
    Wish, custom,
};

use super::assemble::slots;
use super::ping::Ping;
use super::switching::own_launcher;
use super::{Reload, StartError};
use crate::advertise::facts::NodeFacts;
use crate::knobs::{Knobs, Offered, SwitchWish};

/// The engine with everything that is to be checked, and a directory for it.
pub(crate) struct Checks {
    /// What runs them.
    pub(crate) engine: Engine,
    later: validation::Running<'static, custom::Brought>,
    scratch: Scratch,
}

/// What is left when the first round is over.
#[derive(Debug)]
pub(crate) struct Checked {
    /// What runs them again.
    pub(crate) engine: Engine,
    scratch: Scratch,
}

impl Checks {
    /// Everything that these knobs want checked, or one of the built-in checks alone. Nothing has been run.
    ///
    /// # Errors
    /// [`GraphError`]: our own checks do not go together.
    pub(crate) fn new(
        knobs: &Knobs,
        node: &NodeFacts,
        only: Option<&str>,
    ) -> Result<Self, GraphError> {
        let scratch = Scratch::make(knobs);
        let setup = Arc::new(setup(knobs, node, scratch.path.clone()));
        let checks = Arc::new(knobs.checks.clone());
        let ping: Arc<dyn PoolPing> = Arc::new(Ping::new(knobs));
        let mut probes: Vec<Arc<dyn Probe>> = validation::builtin::all(&checks);
        probes.extend(validation::site_command::all(&checks));
        probes.extend(validation::switching::all(&checks, &setup));
        let mut later: validation::Running<'static, custom::Brought> =
            Box::pin(custom::prepare(Arc::clone(&checks), Arc::clone(&setup)));
        if let Some(only) = only {
            probes.retain(|probe| probe.check().name.as_str() == only);
            later = validation::engine::nothing();
        }
        let engine = Engine::new(probes, setup, checks, Some(ping))?;
        Ok(Self {
            engine,
            later,
            scratch,
        })
    }

    /// Runs each once.
    pub(crate) async fn first(self, tell: impl FnMut(Done<'_>) + Send) -> Checked {
        let Self {
            mut engine,
            later,
            scratch,
        } = self;
        engine.first(later, tell).await;
        Checked { engine, scratch }
    }
}

impl Checked {
    /// Whether the pilot may start.
    ///
    /// # Errors
    /// [`StartError::Unfit`]: the gravest failure that keeps it from doing so.
    pub(crate) fn verdict(&self) -> Result<(), StartError> {
        let mut worst: Option<(&Check, &Failure, Severity)> = None;
        for (check, outcome) in self.engine.outcomes() {
            let severity = outcome.severity(check);
            let Some(failure) = outcome.failure().filter(|_| severity >= Severity::Drain) else {
                continue;
            };
            let graver = worst.is_none_or(|(_, known, known_severity)| {
                (severity, !failure.transient) > (known_severity, !known.transient)
            });
            if graver {
                worst = Some((check, failure, severity));
            }
        }
        match worst {
            None => Ok(()),
            Some((check, failure, _)) => Err(StartError::Unfit {
                check: check.name.clone(),
                failure: Box::new(failure.clone()),
            }),
        }
    }

    /// Changes the configuration as the checks want it.
    ///
    /// # Errors
    /// [`StartError::Knobs`].
    pub(crate) fn apply(&self, knobs: &mut Knobs, reload: Reload<'_>) -> Result<(), StartError> {
        let outcomes = || self.engine.outcomes().map(|(_, outcome)| outcome);
        let sets: Vec<_> = outcomes()
            .flat_map(|outcome| outcome.knobs.clone())
            .collect();
        if !sets.is_empty() {
            tracing::info!(?sets, "the checks change the configuration");
            *knobs = reload(&sets).map_err(StartError::Knobs)?;
        }
        for (name, value) in outcomes().flat_map(|outcome| &outcome.environment) {
            knobs.site_environment.retain(|(known, _)| known != name);
            knobs.site_environment.push((name.clone(), value.clone()));
        }
        Ok(())
    }

    /// Ends what still runs, and takes everything away.
    pub(crate) async fn end(self) {
        self.engine.end().await;
        drop(self.scratch);
    }
}

/// A line of the log for each outcome that is worth one.
pub(crate) fn log(done: &Done<'_>) {
    let check = done.check.name.as_str();
    let elapsed = done.outcome.elapsed;
    match &done.outcome.status {
        Status::Passed => tracing::debug!(check, ?elapsed, "passed"),
        Status::Skipped { why } => tracing::debug!(check, "skipped: {why}"),
        // Once is enough, until it passes again.
        Status::Failed(failure)
            if !done.news || done.outcome.severity(done.check) == Severity::AttributeOnly =>
        {
            tracing::debug!(check, ?elapsed, "failed: {}", failure.why);
        }
        Status::Failed(failure) => tracing::warn!(
            check,
            ?elapsed,
            severity = done.outcome.severity(done.check).word(),
            whose = %failure.whose,
            hint = failure.hint,
            "failed: {}",
            failure.why
        ),
    }
}

fn setup(knobs: &Knobs, node: &NodeFacts, scratch: PathBuf) -> Setup {
    let cpus = knobs.num_cpus.unwrap_or(node.cpus);
    Setup {
        execute: knobs.execute.clone(),
        start_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        scratch,
        program: std::env::current_exe().ok(),
        collectors: knobs.collectors.iter().map(endpoint).collect(),
        ccb: knobs.ccb.brokers.iter().map(endpoint).collect(),
        pilot_proxy: knobs.pilot_proxy.clone(),
        token_directories: knobs.credentials.token_directories.clone(),
        ca_directory: knobs.ca_directory.clone(),
        voms_directory: std::env::var_os("X509_VOMS_DIR").map(PathBuf::from),
        switch: match &knobs.sailplane_switch {
            Offered::Switch(path) => SwitchOffer::Helper(path.clone()),
            Offered::Glexec(path) => SwitchOffer::Glexec(path.clone()),
            Offered::Sudo(path) => SwitchOffer::Sudo(path.clone()),
            Offered::Nothing => SwitchOffer::Nothing,
        },
        launcher: launcher(knobs),
        identity_switch: wish(knobs.identity_switch),
        isolation: wish(knobs.isolation),
        job_agent: knobs.job_agent.clone(),
        cpus,
        memory_mib: knobs
            .memory_mib
            .unwrap_or_else(|| node.memory_mib.saturating_sub(knobs.reserved_memory_mib)),
        slots: slots(knobs, node),
        slot_users: knobs.slot_users.clone(),
        configuration: knobs.configuration.clone(),
    }
}

/// How a broker is started that does what the pilot's own will do.
fn launcher(knobs: &Knobs) -> Option<Launcher> {
    let (program, arguments) = match &knobs.sailplane_switch {
        Offered::Switch(path) if knobs.identity_switch != SwitchWish::Never => {
            (path.clone(), vec!["--broker".into()])
        }
        _ => own_launcher(knobs)?,
    };
    Some(Launcher {
        program,
        arguments,
        account: None,
    })
}

const fn wish(wish: SwitchWish) -> Wish {
    match wish {
        SwitchWish::Required => Wish::Required,
        SwitchWish::Optional => Wish::Optional,
        SwitchWish::Never => Wish::Never,
    }
}

fn endpoint(address: &Sinful) -> Endpoint {
    Endpoint {
        text: address.to_string(),
        host: address.host().to_owned(),
        port: address.port(),
    }
}

/// The directory of the checks; it goes away with this.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    made: bool,
    /// `EXECUTE`, if it was not there; it goes with this if it is empty.
    execute: Option<PathBuf>,
}

impl Scratch {
    /// Where the pilot may write: beside its sandboxes or logs if it can, else where temporary files are.
    fn make(knobs: &Knobs) -> Self {
        let mut places: Vec<PathBuf> = Vec::new();
        places.extend(knobs.execute.parent().map(Path::to_owned));
        places.extend(std::env::current_dir());
        places.push(std::env::temp_dir());
        let answers = within({
            let execute = knobs.execute.clone();
            move || execute.exists()
        });
        if answers.is_none() {
            // Its checks say so; nothing else is kept waiting for it.
            places.retain(|place| Some(place.as_path()) != knobs.execute.parent());
        }
        let execute = match answers {
            Some(false) => make_execute(knobs),
            Some(true) | None => None,
        };
        let name = format!("sailplane-checks-{}", std::process::id());
        for place in &places {
            let path = place.join(&name);
            let made = within({
                let path = path.clone();
                move || fresh(&path)
            });
            match made.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => {
                    return Self {
                        path,
                        made: true,
                        execute,
                    };
                }
                Err(error) => tracing::debug!(path = %path.display(), "not made: {error}"),
            }
        }
        // The checks of the work folder say what is wrong; what needs the directory fails.
        Self {
            path: std::env::temp_dir().join(&name),
            made: false,
            execute,
        }
    }
}

/// How long a file system may take for what is done before the checks.
const ANSWER: Duration = Duration::from_secs(5);

/// What comes of something that a file system may never answer to, on a thread that is left behind then; `None`: nothing in
/// time.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // Kept here as well, because a thread that cannot be started takes its work with it.
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let there = Arc::clone(&work);
    let (sender, answer) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        if let Some(work) = take(&there) {
            // Nobody may wait any more.
            let _ = sender.send(work());
        }
    });
    match thread {
        Ok(_) => answer.recv_timeout(ANSWER).ok(),
        // The limit of processes is reached, which a check says.
        Err(_) => take(&work).map(|work| work()),
    }
}

/// Makes `EXECUTE`, which is not there, as the pilot would. What cannot be made is for the check of it to say.
fn make_execute(knobs: &Knobs) -> Option<PathBuf> {
    let may_switch =
        knobs.identity_switch != SwitchWish::Never && knobs.sailplane_switch != Offered::Nothing;
    let execute = knobs.execute.clone();
    let made = within(move || {
        DirBuilder::new()
            .recursive(true)
            .mode(if may_switch { 0o755 } else { 0o700 })
            .create(execute)
    })?;
    match made {
        Ok(()) => Some(knobs.execute.clone()),
        Err(error) => {
            tracing::debug!(path = %knobs.execute.display(), "cannot make EXECUTE: {error}");
            None
        }
    }
}

/// Makes a directory that was not there: one of an earlier pilot of the same number goes first.
fn fresh(path: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o755).create(path);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(path)?;
            make()
        }
        made => made,
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (execute, made) = (self.execute.take(), self.made);
        let path = std::mem::take(&mut self.path);
        let gone = within(move || {
            if let Some(execute) = execute {
                // Something in it is somebody's.
                let _ = fs::remove_dir(execute);
            }
            if made && let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), "cannot remove the checks' directory: {error}");
            }
        });
        if gone.is_none() {
            tracing::warn!("the checks' directory is left: its file system does not answer");
        }
    }
}
