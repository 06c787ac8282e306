//! A running helper, and a folder for its sandboxes.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::broker::{Command, CredentialRequired, Hello, OpenLimits, Opened, Purpose};
use validation::switching::client::{Client, ClientError, Launcher, sealed};
use validation::{Failure, Outcome};

use super::credentials::{Secret, Wallet};
use super::ground::{self, Account, Ground};
use super::options::Options;
use super::results::{self, Found, Results, check};

/// What has been used, for the look at what is left.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Process numbers of helpers.
    pub(super) helpers: Vec<u32>,
    /// Accounts that payloads had to themselves.
    pub(super) own_uids: BTreeSet<u32>,
    /// Names of leases of pool accounts.
    pub(super) leases: Vec<String>,
    /// The folder that was made.
    pub(super) work: Option<PathBuf>,
}

/// The helper, ready to be asked.
#[derive(Debug)]
pub(super) struct Session<'a> {
    /// The node.
    pub(super) ground: &'a Ground,
    /// Who calls.
    pub(super) caller: Account,
    /// What the helper said about itself.
    pub(super) hello: Hello,
    /// Longest time of a step.
    pub(super) limit: Duration,
    /// What has been used.
    pub(super) touched: Touched,
    launcher: Launcher,
    client: Option<Client>,
    pilot: Option<Secret>,
    work: WorkFolder,
}

/// Starts the helper as its caller; `None` if that does not work, and then the results say why.
pub(super) fn start<'a>(
    results: &mut Results,
    ground: &'a Ground,
    options: &Options,
    wallet: &Wallet,
) -> Option<Session<'a>> {
    let mut hello = None;
    let caller = ground.caller.clone().unwrap_or_else(|_| Account {
        name: String::new(),
        uid: u32::MAX,
        gid: u32::MAX,
    });
    let launcher = launcher(ground, &caller);
    results.run(
        check(
            "helper-starts",
            "the helper admits its caller and says what it can do",
        )
        .needs("helper-installed")
        .needs("helper-filesystem")
        .needs("helper-programs")
        .needs("helper-config")
        .needs("caller"),
        || greet(ground, &launcher, &mut hello),
    );
    let (client, hello) = hello?;
    let mut work = None;
    results.run(
        check(
            "work-folder",
            "a pilot can make its folder below execute_dirs",
        )
        .needs("execute-dirs"),
        || {
            let parent = ground.execute.as_deref().unwrap_or_else(|| Path::new("/"));
            work = Some(WorkFolder::make(parent, &caller, ground.is_root)?);
            Ok(Outcome::passed())
        },
    );
    let work = work?;
    let mut session = Session {
        ground,
        caller,
        limit: Duration::from_secs(options.limit),
        touched: Touched {
            helpers: vec![client.pid()],
            work: Some(work.path.clone()),
            ..Touched::default()
        },
        hello,
        launcher,
        client: Some(client),
        pilot: wallet.pilot().cloned(),
        work,
    };
    if session.hello.credential_required == CredentialRequired::PilotAndUser {
        results.run(
            check(
                "pilot-credential",
                "the pilot's own credential, which this site requires",
            ),
            || session.present(),
        );
    }
    Some(session)
}

fn launcher(ground: &Ground, caller: &Account) -> Launcher {
    let launcher = Launcher::switch(&ground.helper);
    if ground.is_root {
        launcher.by(caller.uid, caller.gid)
    } else {
        launcher
    }
}

fn greet(ground: &Ground, launcher: &Launcher, hello: &mut Option<(Client, Hello)>) -> Found {
    match Client::start(launcher) {
        Ok((client, said)) => {
            let features = if said.features.is_empty() {
                "none".to_owned()
            } else {
                said.features.join(", ")
            };
            let outcome = Outcome::passed()
                .text("mapping", said.mapping.clone())
                .text("tracking", said.tracking.clone())
                .text("memory_source", said.memory_source.clone())
                .text("features", features);
            *hello = Some((client, said));
            Ok(outcome)
        }
        // Not an account of pilots: nothing is wrong with the node.
        Err(ClientError::Refused(refusal))
            if !ground.is_root && refusal.code == "caller.not_listed" =>
        {
            Ok(Outcome::skipped(format!(
                "{}; run this as root, or as an account of pilots",
                refusal.message
            )))
        }
        Err(error) => Err(results::client(&error)),
    }
}

impl Session<'_> {
    /// A helper that runs; a new one if the last broke.
    pub(super) fn client(&mut self) -> Result<&mut Client, ClientError> {
        if self.client.is_none() {
            let client = self.another()?;
            self.client = Some(client);
        }
        // It was put there just now.
        self.client.as_mut().ok_or(ClientError::Unexpected("hello"))
    }

    /// One more helper, which has seen the pilot's credential if it wants to.
    pub(super) fn another(&mut self) -> Result<Client, ClientError> {
        let (mut client, _) = Client::start(&self.launcher)?;
        self.touched.helpers.push(client.pid());
        if let Some(pilot) = &self.pilot {
            client.present(memory(pilot)?.as_fd())?;
        }
        Ok(client)
    }

    /// Has a credential verified and mapped; with [`Purpose::Run`] a payload exists then.
    pub(super) fn open(
        &mut self,
        credential: &[u8],
        purpose: Purpose,
    ) -> Result<Opened, ClientError> {
        let command = self.order(purpose);
        self.open_as(command, credential)
    }

    /// The same with an order of one's own.
    pub(super) fn open_as(
        &mut self,
        command: Command,
        credential: &[u8],
    ) -> Result<Opened, ClientError> {
        let memory = memory(credential)?;
        let answer = self.client()?.open(command, memory.as_fd());
        match &answer {
            Ok(opened) => self.note(opened),
            Err(error) => self.put_aside(error),
        }
        answer
    }

    /// The usual order.
    pub(super) fn order(&self, purpose: Purpose) -> Command {
        Command::Open {
            job_label: "sailplane-site-test".to_owned(),
            execute_dir: (purpose == Purpose::Run).then(|| self.work.path.clone()),
            slot_account: None,
            purpose,
            limits: OpenLimits::default(),
            agent: false,
        }
    }

    /// Remembers what a payload had.
    pub(super) fn note(&mut self, opened: &Opened) {
        if opened.payload == 0 {
            return;
        }
        if opened.lease != "account" {
            self.touched.own_uids.insert(opened.uid);
        }
        if let Some(name) = opened.lease.strip_prefix("pool ") {
            self.touched.leases.push(name.to_owned());
        }
    }

    /// After an error of the connection the helper is not used again.
    pub(super) fn put_aside(&mut self, error: &ClientError) {
        if !matches!(error, ClientError::Refused(_) | ClientError::Encode(_)) {
            self.client = None;
        }
    }

    fn present(&mut self) -> Found {
        let Some(pilot) = self.pilot.clone() else {
            return Ok(Outcome::skipped(
                "give it with --pilot-credential; without it every payload is refused",
            ));
        };
        let memory = memory(&pilot).map_err(|error| results::client(&error))?;
        let answer = self
            .client()
            .and_then(|client| client.present(memory.as_fd()));
        answer.map_err(|error| results::client(&error))?;
        Ok(Outcome::passed())
    }

    /// Ends the helper and removes the folder.
    pub(super) fn end(mut self, results: &mut Results) -> Touched {
        let (client, limit) = (self.client.take(), self.limit);
        results.run_always(
            check("helper-ends", "the helper ends when its pilot does"),
            || {
                if client.is_none_or(|client| client.end(limit)) {
                    return Ok(Outcome::passed());
                }
                Err(Failure::site(
                    format!(
                        "it still runs {} s after its pilot has gone",
                        limit.as_secs()
                    ),
                    "end it by hand, and look into its log",
                ))
            },
        );
        let left = self.work.left();
        results.run_always(
            check(
                "sandboxes-removed",
                "no sandbox is left below the pilot's folder",
            ),
            || {
                let Some(first) = left.first() else {
                    return Ok(Outcome::passed());
                };
                let failure = Failure::site(
                    format!(
                        "{} is left{}",
                        first.display(),
                        if left.len() > 1 { ", and more" } else { "" }
                    ),
                    "look into the helper's log for why it could not be removed",
                );
                Ok(Outcome::failed(failure))
            },
        );
        self.touched
    }
}

/// A credential to be handed over.
pub(super) fn memory(credential: &[u8]) -> Result<std::os::fd::OwnedFd, ClientError> {
    sealed(credential).map_err(ClientError::Socket)
}

/// A pilot's folder, removed with the value.
#[derive(Debug)]
struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn make(parent: &Path, caller: &Account, is_root: bool) -> Result<Self, Failure> {
        let path = parent.join(format!("sailplane-site-test.{}", std::process::id()));
        let failed = |error: std::io::Error| {
            Failure::site(
                format!("{}: {}", path.display(), ground::words(&error)),
                format!(
                    "let {} make a folder in {}: chmod 1777",
                    caller.name,
                    parent.display()
                ),
            )
        };
        fs::create_dir(&path).map_err(failed)?;
        let made = Self { path: path.clone() };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        if is_root {
            chown(&path, Some(caller.uid), Some(caller.gid)).map_err(failed)?;
        }
        Ok(made)
    }
}

impl WorkFolder {
    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Follows no links. What belongs to payloads only root can remove.
        let _ = fs::remove_dir_all(&self.path);
    }
}
