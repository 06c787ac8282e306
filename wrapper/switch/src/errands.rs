//! What root has done in an account's name, by `sailplane-job` started as that account: root itself
//! never looks at anything that a payload has left.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::account::TargetAccount;
use crate::sandbox::Sandbox;
use crate::spawn::{Errand, Identity};
use crate::sys;

/// Everything is gone, or done.
pub(crate) const DONE: u8 = 0;
/// Nothing was done, because other processes of the account live.
pub(crate) const IN_USE: u8 = 2;

/// How much is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The sandbox only: others may use the account.
    Sandbox,
    /// The account is the payload's alone: also its files in shared places and its System V objects.
    Account,
    /// The same, but ends with [`IN_USE`] and removes nothing if anything runs as the account.
    AccountIfAlone,
}

/// Who runs errands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runner<'a> {
    /// `sailplane-job`
    pub(crate) program: &'a Path,
    pub(crate) null: BorrowedFd<'a>,
}

impl Runner<'_> {
    fn start(
        &self,
        who: &Identity<'_>,
        words: &[&OsStr],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Pid, Errno> {
        let mut all = vec![OsStr::new("sailplane-job")];
        all.extend_from_slice(words);
        Errand {
            who: *who,
            program: self.program,
            words: &all,
            environment: &[],
            descriptors,
            group: None,
            sees_parent: true,
        }
        .start()
    }

    /// Empties a sandbox, and whatever else the account may have left.
    pub(crate) fn remove(
        &self,
        who: &Identity<'_>,
        sandbox: Option<&Sandbox>,
        extent: Extent,
    ) -> Result<Pid, Errno> {
        let mut words = vec![OsStr::new("--remove")];
        words.extend((extent == Extent::AccountIfAlone).then_some(OsStr::new("--if-alone")));
        words.extend((extent != Extent::Sandbox).then_some(OsStr::new("--everywhere")));
        let mut descriptors = vec![self.null; 3];
        descriptors.extend(sandbox.into_iter().flat_map(Sandbox::dirs));
        self.start(who, &words, &descriptors)
    }

    /// Does any process run as this account?
    pub(crate) fn is_in_use(&self, who: &Identity<'_>) -> Result<bool, Errno> {
        match exit_status(sys::wait_for(self.look_for_processes(who)?)?) {
            Some(DONE) => Ok(false),
            Some(IN_USE) => Ok(true),
            _ => Err(Errno::EPERM),
        }
    }

    /// Begins to find that out. The child ends with [`DONE`] if nothing runs as this account.
    pub(crate) fn look_for_processes(&self, who: &Identity<'_>) -> Result<Pid, Errno> {
        self.start(who, &[OsStr::new("--alone")], &[self.null; 3])
    }

    /// Does nothing run as this account, and is its home as empty as a new one (requirement M6)?
    pub(crate) fn is_unused(&self, account: &TargetAccount) -> bool {
        let words = [OsStr::new("--alone"), account.home().as_os_str()];
        let child = self.start(&Identity::from(account), &words, &[self.null; 3]);
        child.and_then(sys::wait_for).map(exit_status) == Ok(Some(DONE))
    }

    /// Kills every process of an account that is the payload's alone.
    pub(crate) fn kill_all(&self, who: &Identity<'_>) -> Result<(), Errno> {
        let child = self.start(who, &[OsStr::new("--kill-all")], &[self.null; 3])?;
        sys::wait_for(child).map(drop)
    }

    /// Removes what an account that nobody uses has left, and kills what runs as it; what was found is
    /// written to `report`.
    pub(crate) fn sweep(
        &self,
        who: &Identity<'_>,
        places: &[OsString],
        report: BorrowedFd<'_>,
    ) -> Result<Pid, Errno> {
        let mut words = vec![OsStr::new("--sweep")];
        words.extend(places.iter().map(OsString::as_os_str));
        self.start(who, &words, &[self.null, report, self.null])
    }

    /// Writes a renewed credential beneath the sandbox. Ends with [`DONE`] if it is there.
    pub(crate) fn put_proxy(
        &self,
        account: &TargetAccount,
        sandbox: &Path,
        name: &Path,
        credential: BorrowedFd<'_>,
    ) -> Result<Pid, Errno> {
        let words = [
            "--put-proxy".as_ref(),
            sandbox.as_os_str(),
            name.as_os_str(),
        ];
        let who = Identity::from(account);
        self.start(&who, &words, &[credential, self.null, self.null])
    }
}

/// What a child returned, if it was not killed.
pub(crate) fn exit_status(status: i32) -> Option<u8> {
    (status & 0x7f == 0)
        .then(|| u8::try_from(status >> 8 & 0xff).ok())
        .flatten()
}
