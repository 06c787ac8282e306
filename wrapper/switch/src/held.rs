//! What the monitor holds for one payload.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use launch_protocol::broker::Refusal;
use launch_protocol::lease::Record;
use launch_protocol::monitor::Errand;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use crate::account::TargetAccount;
use crate::cgroup::Group;
use crate::introduce::Standing;
use crate::isolate::Numbers;
use crate::lease::Lease;
use crate::nest::{self, Kit, Launch};
use crate::refuse::{caller, trouble};
use crate::sandbox::Sandbox;
use crate::spawn::{self, Identity, Started};

/// With this word for the front no agent executes what is a link (requirement S13).
const NO_LINKS: &str = "prohibit_exec_via_symlink=yes";

/// What is there of a payload, or of a program of the site.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) account: Option<TargetAccount>,
    pub(crate) lease: Option<Lease>,
    pub(crate) record: Record,
    pub(crate) group: Option<Group>,
    pub(crate) sandbox: Option<Sandbox>,
    /// Process numbers of its own, as long as anything may have one.
    pub(crate) numbers: Option<Numbers>,
}

impl Held {
    pub(crate) fn account(&self) -> Result<&TargetAccount, Refusal> {
        let text = "this payload has no account";
        self.account.as_ref().ok_or_else(|| caller("payload.account", text))
    }

    fn group(&self) -> Result<&Group, Errno> {
        self.group.as_ref().ok_or(Errno::ESRCH)
    }

    /// Sends a child that waits in the group, or a new one, on its way to be an agent.
    pub(crate) fn start_agent(
        &mut self,
        waiting: Option<Started>,
        kit: Kit<'_>,
        standing: &Standing,
    ) -> Result<(Pid, OwnedFd), Errno> {
        let child = match waiting {
            Some(waiting) => waiting,
            None => nest::hatch(self.group()?, kit)?,
        };
        let settings = &standing.settings;
        let place = self.sandbox.as_ref().map(Sandbox::path).unwrap_or_default();
        let mut dirs = settings.execute_dirs.iter().map(PathBuf::as_path);
        let no_links = settings.front.iter().any(|word| word == NO_LINKS);
        let mut rules: Vec<OsString> = no_links.then(|| "--no-links".into()).into_iter().collect();
        for owner in &settings.isolation.forbidden_owners {
            rules.extend(["--not-owned-by".into(), owner.to_string().into()]);
        }
        let launch = Launch {
            account: self.account.as_ref().ok_or(Errno::ESRCH)?,
            sandbox: self.sandbox.as_ref(),
            execute_dir: dirs.find(|dir| place.starts_with(dir)),
            limits: &settings.limits,
            isolation: &settings.isolation,
            rules: &rules,
        };
        nest::order(&child, launch)?;
        self.numbers = child.numbers;
        Ok((child.pid, child.socket))
    }

    /// Starts `sailplane-job` as the account. `below`: the monitor, as payloads see it.
    pub(crate) fn run_errand(
        &self,
        errand: &Errand,
        credential: Option<&OwnedFd>,
        kit: Kit<'_>,
    ) -> Result<(Pid, Option<OwnedFd>), Refusal> {
        let account = self.account()?;
        let null = kit.null;
        let mut words: Vec<OsString> = vec!["sailplane-job".into()];
        let mut descriptors = vec![null; 3];
        let report = match errand {
            Errand::Sweep { .. } => Some(pipe2(OFlag::O_CLOEXEC).map_err(failed)?),
            _ => None,
        };
        let below = || ["--below".into(), std::process::id().to_string().into()];
        match errand {
            Errand::Remove { account, if_alone } => {
                words.push("--remove".into());
                words.extend(if_alone.then(|| "--if-alone".into()));
                words.extend(account.then(|| "--everywhere".into()));
                descriptors.extend(self.sandbox.iter().flat_map(Sandbox::dirs));
            }
            Errand::Alone { home } => {
                words.push("--alone".into());
                words.extend(home.then(|| account.home().into()));
            }
            Errand::KillAll => words.push("--kill-all".into()),
            Errand::Members => {
                words.push("--members".into());
                words.extend(below());
            }
            Errand::SignalMembers { signal } => {
                words.extend(["--signal".into(), signal.to_string().into()]);
                words.extend(below());
            }
            Errand::Sweep { places } => {
                words.push("--sweep".into());
                words.extend(places.iter().map(|path| path.into()));
                if let Some((_, report)) = &report {
                    descriptors = vec![null, report.as_fd(), null];
                }
            }
            Errand::PutProxy { name } => {
                let text = "the payload has no sandbox for a file";
                let sandbox = self.sandbox.as_ref();
                let sandbox = sandbox.ok_or_else(|| caller("renew.sandbox", text))?;
                words.extend(["--put-proxy".into(), sandbox.path().into(), name.into()]);
                let credential = credential.map_or(null, |file| file.as_fd());
                descriptors = vec![credential, null, null];
            }
        }
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let urgent = matches!(errand, Errand::KillAll | Errand::SignalMembers { .. });
        let child = self.start(account, &words, &descriptors, urgent, kit);
        Ok((child.map_err(failed)?, report.map(|(read, _)| read)))
    }

    fn start(
        &self,
        account: &TargetAccount,
        words: &[&OsStr],
        descriptors: &[BorrowedFd<'_>],
        urgent: bool,
        kit: Kit<'_>,
    ) -> Result<Pid, Errno> {
        spawn::Errand {
            who: Identity::from(account),
            program: kit.program,
            words,
            environment: &[],
            descriptors,
            group: None,
            sees_parent: true,
            urgent,
        }
        .start()
    }

    /// Kills everything in its group. Returns as soon as the order is given.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = &mut self.group {
            group.kill();
        }
        if !self.group.as_ref().is_some_and(Group::has_events) {
            // Where the kernel kills no group at once, it does so with its process numbers.
            self.numbers = None;
        }
    }

    /// Removes what is empty now.
    pub(crate) fn remove(&mut self) -> Result<(), Refusal> {
        if let Some(sandbox) = &self.sandbox {
            sandbox.remove_tops().map_err(|errno| {
                let (path, why) = (sandbox.path(), errno.desc());
                let text = format!("the sandbox {} could not be removed: {why}", path.display());
                trouble("close.sandbox", text)
            })?;
        }
        let group = self.group.as_mut().map_or(Ok(()), Group::remove);
        group.map_err(|errno| {
            let why = errno.desc();
            let text = format!("the payload's group could not be removed: {why}");
            trouble("close.group", text)
        })
    }
}

fn failed(errno: Errno) -> Refusal {
    trouble("errand.start", format!("starting sailplane-job: {}", errno.desc()))
}
