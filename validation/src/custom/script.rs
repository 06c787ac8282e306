//! One custom check: runs an executable as the field runs it, at the start and again, and reads what it leaves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::area::{Area, Scope};
use super::condition::Condition;
use super::gconfig::{self, RUNNER_RESULT};
use super::periodic::{self, Repetition};
use super::result::{self, CheckResult, Run};
use super::{cron, stamp, store};
use crate::check::{Check, Owner, Period, Severity};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};
use crate::process::{Background, Command, Ended, How};

/// How much sooner than the engine we end a check, so that its results are still read.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// Of what a check said, as much as goes into a report, bytes.
const SAID_MAX: usize = 4096;

/// What all checks of one pilot share.
#[derive(Debug)]
pub struct Chain {
    area: Area,
    /// Variables that every check sees, beside our own.
    environment: Vec<(OsString, OsString)>,
    /// The check that ended the chain.
    stopped: OnceLock<String>,
    /// How many are in the schedule.
    scheduled: Mutex<u32>,
    /// What came of them, for the documents at the end.
    last: Mutex<Option<Last>>,
    /// What checks left running: mounts, monitors.
    background: Mutex<Vec<Background>>,
}

/// The last check that ran at the start: the result documents are about it.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) result: CheckResult,
}

impl Chain {
    /// A chain of checks in an area.
    #[must_use]
    pub fn new(area: Area, environment: Vec<(OsString, OsString)>) -> Self {
        Self {
            area,
            environment,
            stopped: OnceLock::new(),
            scheduled: Mutex::new(0),
            last: Mutex::new(None),
            background: Mutex::new(Vec::new()),
        }
    }

    /// Where it works.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// The check that ended the chain, if one did.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    pub(super) fn last(&self) -> Option<Last> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends what checks left running.
    pub(super) fn end_background(&self) {
        self.background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// A child in the environment of checks.
    pub(super) fn command(&self, program: &Path, directory: &Path) -> Command {
        let inherited = std::env::var_os("PATH");
        let bin = self.area.top().join(".gwms.d/bin");
        let mut command = Command::new(program)
            .directory(directory)
            .env("LANG", "C")
            .env("PATH", self.area.search_path(inherited.as_deref()))
            .env("GWMS_PATH", bin)
            .env("GLIDEIN_UUID", self.area.uuid());
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        command
    }

    fn next_schedule(&self) -> String {
        let mut count = self
            .scheduled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        format!("GLIDEIN_PS_{count}")
    }
}

/// An executable with what is said of it in its manifest.
#[derive(Debug)]
pub struct Script {
    /// The check.
    check: Check,
    chain: Arc<Chain>,
    scope: Scope,
    /// Absolute.
    file: PathBuf,
    condition: Option<Condition>,
    /// Whether it runs beside others, and so in a folder of its own.
    beside: bool,
    prefix: String,
    /// Its own limit; none is without limit.
    limit: Option<Duration>,
    /// Its place in the schedule, after its first run passed.
    schedule: OnceLock<String>,
}

impl Script {
    /// A check of a scope, with a condition, the prefix of the attributes it prints when it runs again, and its limit.
    #[must_use]
    pub fn new(check: Check, chain: Arc<Chain>, scope: Scope, file: PathBuf) -> Self {
        Self {
            check,
            chain,
            scope,
            file,
            condition: None,
            beside: false,
            prefix: cron::DEFAULT_PREFIX.to_owned(),
            limit: None,
            schedule: OnceLock::new(),
        }
    }

    /// Only if this holds.
    #[must_use]
    pub fn when(mut self, condition: Option<Condition>) -> Self {
        self.condition = condition;
        self
    }

    /// Beside others: in a folder of its own, as when it runs again.
    #[must_use]
    pub fn beside(mut self, beside: bool) -> Self {
        self.beside = beside;
        self
    }

    /// With this prefix for its attributes.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// With a limit of its own. The engine's is a little later.
    #[must_use]
    pub fn limit(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        // A year is no limit for a pilot.
        self.check.limit = limit.map_or(Duration::from_secs(365 * 86400), |limit| limit + MARGIN);
        self
    }

    fn name(&self) -> String {
        let file = self
            .file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        format!("{}/{file}", self.scope.id())
    }

    async fn first(&self, context: &Context) -> Outcome {
        if let Some(name) = self.chain.stopped() {
            return Outcome::skipped(format!("{name} failed before it"));
        }
        if let Some(condition) = &self.condition {
            let (condition, dashboard) = (condition.clone(), self.chain.area.dashboard());
            let holds = context
                .blocking(move || {
                    let board = dashboard.load().unwrap_or_default();
                    condition.holds(&board, stamp::now())
                })
                .await;
            if holds != Some(true) {
                let text = self.condition.as_ref().map_or("", Condition::text);
                return Outcome::skipped(format!("its condition {text} does not hold"));
            }
        }
        let top = self.chain.area.top().to_owned();
        let private = match self.beside.then(|| private_folder(&top)).transpose() {
            Ok(private) => private,
            Err(error) => return Outcome::failed(lost_area(&error.to_string())),
        };
        let (folder, dashboard) = match &private {
            Some(private) => (
                private.0.clone(),
                top.join("glidein_config").display().to_string(),
            ),
            None => (top, "glidein_config".to_owned()),
        };
        if let Err(error) = gconfig::init(&folder) {
            return Outcome::failed(lost_area(&error.to_string()));
        }
        let command = self
            .chain
            .command(&self.file, &folder)
            .arg(&dashboard)
            .arg(self.scope.id())
            // Some are there to start something: mounts, monitors.
            .leaves(true);
        let outcome = self.run_in(context, command, &folder, &dashboard).await;
        let (outcome, last) = match outcome {
            Ok((outcome, last, _)) => (outcome, last),
            Err(outcome) => (outcome, None),
        };
        if let Some(last) = last {
            *self
                .chain
                .last
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(last);
        }
        if outcome.failure().is_some() && self.check.severity >= Severity::Drain {
            let _ = self.chain.stopped.set(self.name());
        }
        if outcome.is_passed() && matches!(self.check.period, Period::Every(_)) {
            let _ = self.schedule.set(self.chain.next_schedule());
        }
        outcome
    }

    async fn repeat(&self, context: &Context) -> Outcome {
        let Some(schedule) = self.schedule.get() else {
            return Outcome::skipped("its first run did not pass");
        };
        let top = self.chain.area.top();
        let private = match private_folder(top) {
            Ok(folder) => folder,
            Err(error) => return Outcome::failed(lost_area(&error.to_string())),
        };
        let folder = private.0.clone();
        if let Err(error) = gconfig::init(&folder) {
            return Outcome::failed(lost_area(&error.to_string()));
        }
        let dashboard = top.join("glidein_config");
        let command = self
            .chain
            .command(&self.file, &folder)
            .arg(&dashboard)
            .arg(self.scope.id())
            .env("GLIDEIN_PERIODIC_SCRIPT", "true")
            .env("start_dir", top)
            .env("CONDOR_CONFIG", top.join("condor_config"));
        let words = dashboard.display().to_string();
        let (mut outcome, printed) = match self.run_in(context, command, &folder, &words).await {
            Ok((outcome, _, printed)) => (outcome, printed),
            Err(outcome) => (outcome, Vec::new()),
        };
        let prefix = match self.prefix.as_str() {
            cron::NO_PREFIX => "",
            prefix => prefix,
        };
        let printed = cron::read(&printed, prefix);
        for line in &printed.noise {
            tracing::debug!(check = %self.check.name, "printed, and no attribute: {line}");
        }
        let failure = outcome
            .failure()
            .map(|failure| format!("Error running '{}': {}", self.file.display(), failure.why));
        let (store, file, prefix, schedule) = (
            self.chain.area.dashboard(),
            self.file.clone(),
            self.prefix.clone(),
            schedule.clone(),
        );
        let told = context
            .blocking(move || {
                let mut attributes = Vec::new();
                let done = store.update(|board| {
                    let run = Repetition {
                        schedule: &schedule,
                        file: &file,
                        prefix: &prefix,
                        end: stamp::now(),
                        failure: failure.as_deref(),
                    };
                    let (said, lines) = periodic::tell(board, &run);
                    attributes = said;
                    lines
                });
                if let Err(error) = done {
                    tracing::warn!("the dashboard does not know of a periodic check: {error}");
                }
                attributes
            })
            .await
            .unwrap_or_default();
        outcome.attributes = printed.attributes;
        outcome.attributes.extend(told);
        outcome
    }

    /// Runs it, and puts its results beside the others. Returns what came of it and what it printed.
    async fn run_in(
        &self,
        context: &Context,
        command: Command,
        folder: &Path,
        dashboard: &str,
    ) -> Result<(Outcome, Option<Last>, Vec<u8>), Outcome> {
        let command = match self.own_limit() {
            Some(limit) => command.deadline((Instant::now() + limit).min(context.deadline())),
            None => command,
        };
        let start = stamp::now();
        let mut ended = command
            .run()
            .await
            .map_err(|error| Outcome::failed(self.not_run(&error)))?;
        if let Some(background) = ended.background.take() {
            self.chain
                .background
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(background);
        }
        let end = stamp::now();
        let passed = ended.how == How::Exited(0);
        let how = self.how(&ended);
        let (id, area) = (self.name(), self.chain.area.clone());
        let command = format!("{} {dashboard}", self.file.display());
        let folder = folder.to_owned();
        let own = context
            .blocking({
                let how = how.clone();
                let id = id.clone();
                move || {
                    let cwd = folder.display().to_string();
                    let run = Run {
                        id: &id,
                        cwd: &cwd,
                        command: &command,
                        start,
                        end,
                        passed,
                        how: &how,
                    };
                    let own = gconfig::own_result(&folder, passed);
                    let document = result::augmented(&run, own.as_ref());
                    let put = store::replace(&folder.join(RUNNER_RESULT), document.as_bytes())
                        .map_err(|error| error.to_string())
                        .and_then(|()| gconfig::concat(&folder, &area.results()));
                    if let Err(why) = put {
                        tracing::warn!("a result is missing in the list of results: {why}");
                    }
                    let seen = own.clone().unwrap_or_else(|| result::without_file(&run));
                    (own, seen)
                }
            })
            .await;
        let (own, seen) = own.unwrap_or_default();
        log_output(&self.check, &ended);
        let last = Last {
            start,
            end,
            result: seen,
        };
        let outcome = self.outcome(&ended, own.as_ref(), &how);
        Ok((outcome, Some(last), ended.stdout))
    }

    /// A periodic run ends before the next one begins.
    fn own_limit(&self) -> Option<Duration> {
        match (self.limit, self.check.period) {
            (Some(limit), Period::Every(period)) if self.schedule.get().is_some() => {
                Some(limit.min(period))
            }
            (None, Period::Every(period)) if self.schedule.get().is_some() => Some(period),
            (limit, _) => limit,
        }
    }

    fn how(&self, ended: &Ended) -> String {
        match ended.how {
            How::Exited(status) => format!("exit status {status}"),
            How::Signalled(signal) => format!("ended by signal {signal}"),
            How::TimedOut => format!("killed after {} s", ended.elapsed.as_secs()),
        }
    }

    fn outcome(&self, ended: &Ended, own: Option<&CheckResult>, how: &str) -> Outcome {
        let passed = ended.how == How::Exited(0);
        let mut outcome = if passed {
            Outcome::passed()
        } else {
            Outcome::failed(self.failure(ended, own, how))
        };
        if ended.how == How::TimedOut {
            let limit = self.own_limit().unwrap_or_default().as_secs_f64();
            outcome = outcome.number("limit", limit, "s", None).number(
                "elapsed",
                ended.elapsed.as_secs_f64(),
                "s",
                None,
            );
        }
        for (name, value) in own.iter().flat_map(|own| &own.metrics) {
            outcome = match value.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => outcome.number(name, number, "", None),
                _ => outcome.text(name, value),
            };
        }
        let mut detail = own.and_then(|own| own.detail.clone()).unwrap_or_default();
        if !passed {
            for (what, said) in [
                ("It printed", &ended.stdout),
                ("It complained", &ended.stderr),
            ] {
                let said = tail(said);
                if !said.is_empty() {
                    let gap = if detail.is_empty() { "" } else { "\n" };
                    detail.push_str(&format!("{gap}{what}:\n{said}"));
                }
            }
        }
        if !detail.is_empty() {
            outcome = outcome.detail(detail);
        }
        outcome
    }

    fn failure(&self, ended: &Ended, own: Option<&CheckResult>, how: &str) -> Failure {
        let name = self.name();
        let author = whose(self.check.owner);
        if ended.how == How::TimedOut {
            let why = format!("{name} did not end within its limit and was {how}");
            let hint = format!(
                "Ask the {author} what it waits for; its limit is `limit` in the manifest, or SAILPLANE_CUSTOM_LIMIT."
            );
            return Failure::new(author, why, hint).kind("Timeout");
        }
        let detail = own
            .and_then(|own| own.detail.as_deref())
            .and_then(|detail| detail.lines().find(|line| !line.trim().is_empty()))
            .map(str::trim);
        let why = match detail {
            Some(said) => format!("{name} failed ({how}): {said}"),
            None => format!("{name} failed ({how})"),
        };
        let kind = own.and_then(|own| own.failure.as_deref()).unwrap_or("");
        let (whose, hint, transient) = match kind {
            "WN_Resource" => (
                Whose::Site,
                "Ask the site's administrator for what the check wants of the node.".to_owned(),
                false,
            ),
            "Network" => (
                Whose::Site,
                "See what the check wants to reach, and whether the node's network lets it."
                    .to_owned(),
                true,
            ),
            "VO_Config" => (
                Whose::Frontend,
                "Correct the frontend's configuration.".to_owned(),
                false,
            ),
            "VO_Proxy" => (
                Whose::Frontend,
                "See to the credential that the frontend sends along.".to_owned(),
                false,
            ),
            "Config" => (
                author,
                format!("Correct the {author}'s configuration."),
                false,
            ),
            "Corruption" => (
                author,
                format!("See whether the {author}'s files arrive as they were sent."),
                true,
            ),
            _ => (
                author,
                format!("The check is the {author}'s: its own words and its author know more."),
                false,
            ),
        };
        let failure = Failure::new(whose, why, hint).kind(kind);
        if transient {
            failure.transient()
        } else {
            failure
        }
    }

    fn not_run(&self, error: &crate::process::ProcessError) -> Failure {
        let mut why = format!("{} could not be run: {error}", self.name());
        if let Some(cause) = std::error::Error::source(error) {
            why.push_str(&format!(": {cause}"));
        }
        let hint = "See whether the program that its first line names is on the node, and whether the work area lies on \
                    a file system mounted noexec.";
        Failure::new(whose(self.check.owner), why, hint).kind("Config")
    }
}

impl Probe for Script {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async move {
            if context.is_again() {
                self.repeat(context).await
            } else {
                self.first(context).await
            }
        })
    }
}

/// Who can mend what a check of this owner complains about without saying whose it is.
pub(super) const fn whose(owner: Owner) -> Whose {
    match owner {
        Owner::Factory => Whose::Factory,
        Owner::Site => Whose::Site,
        Owner::Frontend => Whose::Frontend,
    }
}

fn lost_area(why: &str) -> Failure {
    Failure::site(
        format!("custom checks cannot work in their area: {why}"),
        "See whether the disk is full or was removed under the pilot.",
    )
    .kind("WN_Resource")
}

/// The last words of an output, for people.
fn tail(output: &[u8]) -> String {
    let from = output.len().saturating_sub(SAID_MAX);
    let end = output.get(from..).unwrap_or_default();
    String::from_utf8_lossy(end).trim_end().to_owned()
}

/// What a check says goes into the pilot's log, as its author is used to.
fn log_output(check: &Check, ended: &Ended) {
    for (stream, bytes) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        for line in String::from_utf8_lossy(bytes).lines() {
            tracing::info!(check = %check.name, stream, "{line}");
        }
    }
}

/// A folder for one run, gone afterwards.
struct Private(PathBuf);

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn private_folder(top: &Path) -> std::io::Result<Private> {
    let mut tries = 0_u32;
    loop {
        let mut bytes = [0_u8; 8];
        openssl::rand::rand_bytes(&mut bytes).map_err(std::io::Error::other)?;
        let folder = top.join(format!("tmp.{:016x}", u64::from_ne_bytes(bytes)));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(Private(folder)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tries < 5 => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
