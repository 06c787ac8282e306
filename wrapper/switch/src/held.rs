//! What the monitor holds for one payload.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use launch_protocol::broker::Refusal;
use launch_protocol::lease::Record;
use launch_protocol::monitor::Errand;
use launch_protocol::order::Order;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::account::TargetAccount;
use crate::cgroup::Group;
use crate::introduce::{Ground, Standing};
use crate::isolate::Numbers;
use crate::lease::Lease;
use crate::nest::{Waiting, hatch};
use crate::refuse::{caller, failed, trouble};
use crate::sandbox::Sandbox;
use crate::spawn::Child;
use crate::wire::transmit;

/// What is there of a payload, or of a program of the site.
#[derive(Debug, Default)]
pub struct Held {
    /// As whom it runs.
    pub account: Option<TargetAccount>,
    /// That nobody else uses it, where that must be so.
    pub lease: Option<Lease>,
    /// What the lease says.
    pub record: Record,
    /// Where its processes are.
    pub group: Option<Group>,
    /// Where its files are.
    pub sandbox: Option<Sandbox>,
    /// Process numbers of its own, as long as anything may have one.
    pub(crate) numbers: Option<Numbers>,
}

impl Held {
    /// The account.
    ///
    /// # Errors
    /// If it has none.
    pub fn account(&self) -> Result<&TargetAccount, Refusal> {
        self.account.as_ref().ok_or_else(|| caller("payload.account", "it has no account"))
    }

    /// Sends a child that waits in the group, or a new one, on its way to be an agent.
    pub(crate) fn start_agent(
        &mut self,
        (waiting, alone): (Option<Waiting>, bool),
        standing: &Standing,
        ground: &Ground,
    ) -> Result<(Pid, OwnedFd), Errno> {
        let (Some(account), Some(group)) = (&self.account, &self.group) else {
            return Err(Errno::ESRCH);
        };
        let Waiting { pid, socket, numbers } = match waiting {
            Some(waiting) => waiting,
            None => hatch(group, standing, ground)?,
        };
        let places = self.sandbox.as_ref().map(Sandbox::whereabouts).unwrap_or_default();
        let order = Order::new(account, &standing.settings, numbers.is_some(), places, alone);
        let packet = order.encode().map_err(|_| Errno::E2BIG)?;
        transmit(socket.as_fd(), &packet, &[])?;
        self.numbers = numbers;
        Ok((pid, socket))
    }

    /// Starts `sailplane-job` as the account. `beside`: its standard input and output.
    pub(crate) fn run_errand(
        &self,
        errand: &Errand,
        beside: Option<&OwnedFd>,
        null: BorrowedFd<'_>,
        standing: &Standing,
    ) -> Result<Pid, Refusal> {
        let account = self.account()?;
        if self.sandbox.is_none() && matches!(errand, Errand::PutProxy { .. }) {
            return Err(caller("renew.sandbox", "the payload has no sandbox for a file"));
        }
        let place = self.sandbox.as_ref().map(Sandbox::path).unwrap_or_default();
        let words = errand.words(&place, &account.home, std::process::id());
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let own = beside.map_or(null, |file| file.as_fd());
        let mut descriptors = vec![own, own, null];
        if let Errand::Remove { .. } = errand {
            descriptors.extend(self.sandbox.iter().flat_map(Sandbox::dirs));
        }
        let who = account.numbers();
        let child = Child::plain(&who, &standing.agent, &words, &descriptors);
        let started = Child { urgent: errand.is_urgent(), ..child }.start();
        started.map_err(failed("errand.start", "starting sailplane-job"))
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
        group.map_err(failed("close.group", "the payload's group could not be removed"))
    }
}
