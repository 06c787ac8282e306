//! The trial: a broker is started, a payload opened, and every scenario played in it, in a thread of its own. Each check
//! waits for its own part.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use launch_protocol::broker::{
    Command, CredentialRequired, Hello, Opened, RefusalClass, RefusedBy,
};
use tokio::sync::watch;

use super::client::{Client, ClientError, Launcher, sealed};
use super::policy::Account;
use super::refusal;
use super::scenarios;
use super::stage::{Stage, StageError};
use crate::outcome::{Failure, Outcome, Whose};

/// Names of the checks before the scenarios.
pub(super) const START: &str = "switch-start";
pub(super) const OPEN: &str = "switch-account";
/// And after them.
pub(super) const END: &str = "switch-end";

/// How long a broker may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What a trial needs.
#[derive(Debug, Clone)]
pub struct Script {
    /// How the broker is started.
    pub launcher: Launcher,
    /// Whose account payloads have to have.
    pub account: Account,
    /// `EXECUTE`.
    pub execute: PathBuf,
    /// The credential to try with.
    pub credential: Option<PathBuf>,
    /// The pilot's own, for helpers that want to see it.
    pub pilot_proxy: Option<PathBuf>,
    /// The account of the first slot, if it has one.
    pub slot_account: Option<String>,
}

/// What came of each part so far.
type Results = BTreeMap<&'static str, Outcome>;

/// A trial that begins when somebody first asks for a part of it.
#[derive(Debug)]
pub(super) struct Trial {
    script: Script,
    results: OnceLock<watch::Receiver<Results>>,
}

impl Trial {
    pub(super) const fn new(script: Script) -> Self {
        Self {
            script,
            results: OnceLock::new(),
        }
    }

    /// What came of a part.
    pub(super) async fn part(&self, name: &str) -> Outcome {
        let mut results = self
            .results
            .get_or_init(|| begin(self.script.clone()))
            .clone();
        let came = results.wait_for(|results| results.contains_key(name)).await;
        match came {
            Ok(results) => results.get(name).cloned().unwrap_or_else(stopped),
            Err(_) => stopped(),
        }
    }
}

fn stopped() -> Outcome {
    Outcome::failed(Failure::new(
        Whose::Pilot,
        "the trial of the identity switch stopped in its middle",
        "send the log of this pilot to its authors",
    ))
}

fn begin(script: Script) -> watch::Receiver<Results> {
    let (sender, receiver) = watch::channel(Results::new());
    let told = sender.clone();
    let tell = move |name: &'static str, outcome: Outcome| {
        sender.send_modify(|results| {
            results.insert(name, outcome);
        });
    };
    let thread = std::thread::Builder::new()
        .name("switch-trial".to_owned())
        .spawn(move || play(&script, &tell));
    if let Err(error) = thread {
        told.send_modify(|results| *results = without_thread(&error));
    }
    receiver
}

/// Of every part, where the trial cannot even begin.
fn without_thread(error: &std::io::Error) -> Results {
    let failure = Failure::site(
        format!(
            "the trial of the identity switch cannot be begun: no thread can be started ({error})"
        ),
        "see the check processes",
    );
    let begun = [START].map(|name| (name, Outcome::failed(failure.clone().transient())));
    let scenes = scenarios::ALL.iter().map(|(name, ..)| *name);
    let rest = [OPEN, END].into_iter().chain(scenes);
    begun
        .into_iter()
        .chain(rest.map(|name| (name, Outcome::skipped("the trial could not be begun"))))
        .collect()
}

/// Plays the whole trial here and now: what came of each part, in their order. For those who have no engine.
#[must_use]
pub fn rehearse(script: &Script) -> Vec<(&'static str, Outcome)> {
    let all = std::cell::RefCell::new(Vec::new());
    play(script, &|name, outcome| {
        all.borrow_mut().push((name, outcome))
    });
    all.into_inner()
}

/// The whole trial; `tell` is told of each part once.
pub(super) fn play(script: &Script, tell: &dyn Fn(&'static str, Outcome)) {
    let skip_all = |names: &[&'static str], why: &str| {
        for name in names {
            tell(name, Outcome::skipped(why));
        }
    };
    let scenes: Vec<&'static str> = scenarios::ALL.iter().map(|(name, ..)| *name).collect();
    let began = Instant::now();
    let (mut client, hello) = match Client::start(&script.launcher) {
        Ok(started) => started,
        Err(error) => {
            tell(
                START,
                Outcome::failed(refusal::failure("the helper that starts jobs", &error)),
            );
            skip_all(&[OPEN], "the helper did not start");
            skip_all(&scenes, "the helper did not start");
            tell(END, Outcome::skipped("the helper did not start"));
            return;
        }
    };
    tell(START, judge_start(&hello, script, began.elapsed()));
    match open(&mut client, &hello, script) {
        Ok(Ok((opened, credential))) => {
            tell(
                OPEN,
                Outcome::passed()
                    .text("account", opened.account.clone())
                    .text("identity", opened.identity.clone()),
            );
            let stage = Stage {
                client,
                hello,
                opened,
                credential,
                execute: script.execute.clone(),
                account: script.account,
            };
            let client = act(stage, tell);
            tell(END, judge_end(client));
        }
        Ok(Err(not)) => {
            let why = match &not.status {
                crate::outcome::Status::Skipped { why } => why.clone(),
                _ => "there is no account for a job".to_owned(),
            };
            tell(OPEN, *not);
            skip_all(&scenes, &why);
            tell(END, judge_end(client));
        }
        Err(error) => {
            tell(OPEN, judge_refused(script, &error));
            skip_all(&scenes, "there is no account for a job");
            tell(END, judge_end(client));
        }
    }
}

/// The pilot's own proxy need not be anybody's whom the site runs jobs for: that it gets no account says nothing. A credential
/// that was named for this should get one.
fn judge_refused(script: &Script, error: &ClientError) -> Outcome {
    match error {
        ClientError::Refused(refusal)
            if refusal.class == RefusalClass::Job
                && refusal.who != RefusedBy::Credential
                && script.credential == script.pilot_proxy =>
        {
            Outcome::skipped(format!(
                "the site gives the pilot's own proxy no account ({}: {}); name a credential to try with \
                 (SAILPLANE_SWITCH_CREDENTIAL)",
                refusal.code, refusal.message
            ))
        }
        error => Outcome::failed(refusal::failure("an account for a job", error)),
    }
}

fn judge_start(hello: &Hello, script: &Script, took: Duration) -> Outcome {
    let allows = hello.execute_dirs.is_empty()
        || hello
            .execute_dirs
            .iter()
            .any(|folder| is_below(&script.execute, folder));
    let outcome = if allows {
        Outcome::passed()
    } else {
        let folders: Vec<String> = hello
            .execute_dirs
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let why = format!(
            "the helper makes no sandboxes in {}: the site allows {}",
            script.execute.display(),
            folders.join(", ")
        );
        let hint = "set EXECUTE to a directory of the pilot's own below one of these, or let the site add it to execute_dirs in \
                    /etc/sailplane/switch.conf";
        Outcome::failed(Failure::new(Whose::Factory, why, hint).kind("Config"))
    };
    outcome
        .text("version", hello.switch_version.clone())
        .text("tracking", hello.tracking.clone())
        .text("mapping", hello.mapping.clone())
        .text("features", hello.features.join(" "))
        .number(
            "start_time",
            (took.as_secs_f64() * 1e4).round() / 10.0,
            "ms",
            None,
        )
}

fn is_below(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(path).starts_with(real(folder))
}

/// An open payload with the credential that it was opened with, or what is said instead.
type OpenedOr = Result<(Opened, Vec<u8>), Box<Outcome>>;

fn open(client: &mut Client, hello: &Hello, script: &Script) -> Result<OpenedOr, ClientError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path, &error));
    let credential = match (&script.credential, script.account) {
        (Some(path), _) => match read(path) {
            Ok(bytes) => bytes,
            Err(failure) => return Ok(Err(Box::new(Outcome::failed(failure)))),
        },
        // Jobs without a credential run there, too.
        (None, Account::Own) => Vec::new(),
        (None, Account::Other) => {
            return Ok(Err(Box::new(Outcome::skipped(
                "there is no credential to try with: the pilot has no proxy, and SAILPLANE_SWITCH_CREDENTIAL is not set",
            ))));
        }
    };
    if hello.credential_required == CredentialRequired::PilotAndUser
        && let Some(path) = &script.pilot_proxy
        && let Ok(bytes) = read(path)
    {
        let file = sealed(&bytes).map_err(ClientError::Socket)?;
        client.present(file.as_fd())?;
    }
    let mut command = Command::open("validation", script.execute.clone());
    if let Command::Open { slot_account, .. } = &mut command {
        slot_account.clone_from(&script.slot_account);
    }
    let file = sealed(&credential).map_err(ClientError::Socket)?;
    let opened = client.open(command, file.as_fd())?;
    Ok(Ok((opened, credential)))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let why = format!("the credential {} cannot be read: {error}", path.display());
    let hint = "send it along, mode 0600 of the pilot's account";
    Failure::new(Whose::Frontend, why, hint).kind("VO_Proxy")
}

/// Plays the scenarios; gives the broker back.
fn act(mut stage: Stage, tell: &dyn Fn(&'static str, Outcome)) -> Client {
    let mut is_gone = false;
    for (name, about, scenario) in scenarios::ALL {
        if is_gone {
            tell(name, Outcome::skipped("the helper is gone"));
            continue;
        }
        let began = Instant::now();
        let outcome = match scenario(&mut stage) {
            Ok(outcome) => outcome,
            Err(error) => {
                is_gone = matches!(
                    error,
                    StageError::Client(ClientError::Gone { .. })
                        | StageError::Agent(super::agent::AgentError::Client(
                            ClientError::Gone { .. }
                        ))
                );
                Outcome::failed(match &error {
                    StageError::Client(error) => refusal::failure(about, error),
                    StageError::Agent(error) => refusal::of_agent(about, error),
                    StageError::Pipe(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                        Failure::site(
                            format!("{about}: the job says nothing more, and does not end"),
                            "see what processes of the job's account wait for (`ps -o pid,stat,wchan,cmd -u ACCOUNT`); the helper's log says which \
             account it was",
                        )
                        .transient()
                    }
                    StageError::Pipe(error) => {
                        Failure::site(format!("{about}: {error}"), "see the check open-files")
                            .transient()
                    }
                })
            }
        };
        let failed = outcome.failure().is_some();
        let took = (began.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        tell(name, outcome.number("time", took, "ms", None));
        if failed && !is_gone {
            stage.settle();
        }
    }
    stage.client
}

fn judge_end(client: Client) -> Outcome {
    if client.end(END_LIMIT) {
        return Outcome::passed();
    }
    Outcome::failed(
        Failure::site(
            format!(
                "the helper does not end within {} s after its pilot is gone",
                END_LIMIT.as_secs()
            ),
            "look at its log, and for processes of jobs that hang in the kernel",
        )
        .kind("WN_Resource"),
    )
}
