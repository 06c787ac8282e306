//! The ways in: how the keeper of a payload gets to where the payload is to run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::MAX_CODE;
use launch_protocol::broker::{Answer, Refusal, RefusalClass, RefusedBy, Reply};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::census::Process;
use super::enclosure::{self, Inside};
use super::keeper::{self, refusal};
use super::socket::{Socket, pair};
use super::sys;
use super::{EMPTY, Entrance, INSIDE, KILL, OwnAccount};

/// How long one call of the site's program may take when it kills or removes.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// The statuses that gLExec has for itself.
const GLEXEC_CALLER: i32 = 201;
const GLEXEC_SITE: i32 = 202;
const GLEXEC_DENIED: i32 = 203;

/// A way in, for one payload.
#[derive(Debug)]
pub(super) enum Door {
    /// Namespaces, under the pilot's account.
    Namespaces,
    /// Another account, by a program of the site.
    Foreign(Foreign),
}

/// How a program of the site is called.
#[derive(Debug)]
pub(super) struct Foreign {
    /// It.
    helper: PathBuf,
    /// `sudo`: the account; gLExec finds it itself.
    account: Option<String>,
    /// The user's credential, a file of the pilot's account.
    credential: PathBuf,
    /// The pilot's own.
    pilot_proxy: Option<PathBuf>,
    /// This program, by a path that the other account can execute.
    program: PathBuf,
}

/// Where to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// The sandbox: made already for namespaces, to be made by another account.
    pub(super) sandbox: &'a Path,
    /// What becomes `/tmp` in namespaces.
    pub(super) tmp: Option<&'a Path>,
    /// Which payload.
    pub(super) payload: u32,
}

/// A keeper is on its way in.
pub(super) struct Started {
    /// Our end of its socket.
    pub(super) socket: Socket,
    /// What the site's program says.
    pub(super) complaints: Option<ChildStderr>,
    /// The child of ours that leads to it.
    pub(super) first: i32,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces => f.write_str("the keeper in namespaces"),
            Self::Foreign(foreign) => write!(f, "{}", foreign.helper.display()),
        }
    }
}

impl Door {
    /// A call of the site's program.
    pub(super) fn foreign(
        entrance: &Entrance,
        slot_account: Option<&str>,
        credential: PathBuf,
    ) -> Result<Self, Refusal> {
        let program = std::env::current_exe().map_err(|error| {
            let message = format!("the pilot's own program has no path: {error}");
            refusal("entrance.program", message, RefusalClass::SitePermanent)
        })?;
        let (helper, account, pilot_proxy) = match entrance {
            Entrance::Glexec {
                program,
                pilot_proxy,
            } => (program.clone(), None, pilot_proxy.clone()),
            Entrance::Sudo { program } => {
                let Some(account) = slot_account else {
                    let message =
                        "sudo needs the account of the slot, and it has none: set SLOT<n>_USER";
                    return Err(refusal(
                        "entrance.account",
                        message.to_owned(),
                        RefusalClass::SitePermanent,
                    ));
                };
                (program.clone(), Some(account.to_owned()), None)
            }
            Entrance::Open | Entrance::Namespaces { .. } => return Ok(Self::Namespaces),
        };
        Ok(Self::Foreign(Foreign {
            helper,
            account,
            credential,
            pilot_proxy,
            program,
        }))
    }

    /// The file with the user's credential, if there is one.
    pub(super) fn credential(&self) -> Option<&Path> {
        match self {
            Self::Namespaces => None,
            Self::Foreign(foreign) => Some(&foreign.credential),
        }
    }

    /// The descendants of the warden that are the way in, and the keeper at its end; all others are the payload's.
    pub(super) fn keepers(&self, table: &[Process], first: i32, is_inside: bool) -> BTreeSet<i32> {
        let is_there = |pid: i32| {
            table
                .iter()
                .any(|process| process.pid == pid && !process.is_zombie)
        };
        let mut keepers = BTreeSet::new();
        if !is_there(first) {
            return keepers;
        }
        keepers.insert(first);
        match self {
            // The first process of the namespace is the only child of the one that made it.
            Self::Namespaces => keepers.extend(
                table
                    .iter()
                    .filter(|process| process.parent == first)
                    .map(|process| process.pid),
            ),
            // The site's program may put processes of its own in between. No payload is above its keeper.
            Self::Foreign(_) if is_inside => {
                let mut row = vec![first];
                while !row.is_empty() && !row.iter().any(|pid| is_keeper(*pid)) {
                    row = table
                        .iter()
                        .filter(|process| row.contains(&process.parent))
                        .map(|process| process.pid)
                        .collect();
                    keepers.extend(&row);
                }
            }
            Self::Foreign(_) => {}
        }
        keepers
    }

    /// Why it did not lead in.
    pub(super) fn explain(&self, status: Option<i32>, said: &str) -> Refusal {
        let Self::Foreign(foreign) = self else {
            let message = format!("the keeper in namespaces ended at once {said}");
            return refusal("entrance.broken", message, RefusalClass::SiteTransient);
        };
        foreign.explain(status, said)
    }

    /// Kills processes of the payload.
    pub(super) fn kill(&self, pids: &[i32]) {
        match self {
            Self::Namespaces => pids.iter().for_each(|pid| sys::signal(*pid, libc::SIGKILL)),
            Self::Foreign(foreign) => {
                let pids = pids.iter().map(|pid| OsString::from(pid.to_string()));
                foreign.call([OsString::from(KILL)].into_iter().chain(pids));
            }
        }
    }

    /// Empties the sandbox as its owner.
    pub(super) fn empty(&self, sandbox: &Path) {
        if let Self::Foreign(foreign) = self {
            foreign.call([OsString::from(EMPTY), sandbox.into()]);
        }
    }
}

/// Whether a process is a keeper that was started by [`INSIDE`].
fn is_keeper(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(INSIDE.as_bytes()))
}

impl Foreign {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.helper);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdout(Stdio::null());
        if let Some(account) = &self.account {
            command.args(["-n", "-u", account, "--"]);
        } else {
            // What the job needs of it goes into its sandbox; a copy would only lie about.
            command
                .env("GLEXEC_CLIENT_CERT", &self.credential)
                .env("GLEXEC_TARGET_PROXY", "/dev/null");
            if let Some(proxy) = &self.pilot_proxy {
                command.env("X509_USER_PROXY", proxy);
            }
        }
        command.arg(&self.program);
        command
    }

    /// Runs this program under the other account, to its end.
    fn call(&self, words: impl IntoIterator<Item = OsString>) {
        let mut command = self.command();
        command
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else {
            return;
        };
        let limit = Instant::now() + CALL_LIMIT;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= limit {
                super::router::complain(&format!("{} does not end", self.helper.display()));
                return;
            }
            let _ = nix::poll::poll(&mut [], 20_u8);
        }
    }

    fn explain(&self, status: Option<i32>, said: &str) -> Refusal {
        let helper = self.helper.display();
        let words = |what: &str| match said {
            "" => format!("{helper} {what}, without a word"),
            said => format!("{helper} {what}: {said}"),
        };
        let code = status
            .filter(|status| status & 0x7f == 0)
            .map(|status| (status >> 8) & 0xff);
        let (code, message, class, who) = match code {
            Some(GLEXEC_CALLER) if self.account.is_none() => (
                "glexec.caller",
                words("does not take the credential"),
                RefusalClass::Job,
                RefusedBy::Credential,
            ),
            Some(GLEXEC_DENIED) if self.account.is_none() => (
                "glexec.denied",
                words("gives no account for the credential"),
                RefusalClass::Job,
                RefusedBy::Mapping,
            ),
            Some(GLEXEC_SITE) if self.account.is_none() => (
                "glexec.site",
                words("does not work here"),
                RefusalClass::SitePermanent,
                RefusedBy::Helper,
            ),
            Some(code) if self.account.is_some() && code != 0 => (
                "sudo.refused",
                words("does not run the keeper"),
                RefusalClass::SitePermanent,
                RefusedBy::Helper,
            ),
            _ => (
                "entrance.broken",
                words("ended before the keeper had started"),
                RefusalClass::SiteTransient,
                RefusedBy::Helper,
            ),
        };
        // Ours says more than a number.
        let (own_code, is_passing) = own_words(said);
        let class = if is_passing {
            RefusalClass::SiteTransient
        } else {
            class
        };
        Refusal {
            class,
            code: own_code.unwrap_or(code).to_owned(),
            message,
            may_succeed_later: class == RefusalClass::SiteTransient,
            who,
        }
    }
}

/// The code and the flag that our own drop-in for gLExec ends its sentence with: `[proxy.expired, may succeed later]`.
fn own_words(said: &str) -> (Option<&str>, bool) {
    let words = said
        .rsplit_once('[')
        .and_then(|(_, tail)| tail.split_once(']'))
        .and_then(|(words, _)| words.split_once(", "));
    match words {
        Some((code, flag)) if is_code(code) => (Some(code), flag == "may succeed later"),
        _ => (None, false),
    }
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_CODE
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn broken(what: &str, error: impl fmt::Display) -> Refusal {
    let message = format!("cannot {what}: {error}");
    refusal("entrance.broken", message, RefusalClass::SiteTransient)
}

/// Sends a keeper in. Its first word says whether it arrived.
pub(super) fn start(own: &OwnAccount, door: &Door, way: Way<'_>) -> Result<Started, Refusal> {
    let (ours, theirs) = pair().map_err(|errno| broken("make a socket", errno))?;
    match door {
        Door::Namespaces => enclose(own, way, ours, theirs),
        Door::Foreign(foreign) => {
            let mut command = foreign.command();
            command
                .arg(INSIDE)
                .arg(&own.agent)
                .arg(way.sandbox)
                .arg(way.payload.to_string())
                .stdin(theirs)
                .stderr(Stdio::piped());
            let spawned = command.spawn();
            // The command holds the other end of the socket until here.
            drop(command);
            let mut child = spawned
                .map_err(|error| broken(&format!("start {}", foreign.helper.display()), error))?;
            let complaints = child
                .stderr
                .take()
                .filter(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
            Ok(Started {
                socket: Socket::new(ours),
                complaints,
                first: child.id().cast_signed(),
            })
        }
    }
}

/// Forks a keeper into namespaces of its own.
fn enclose(
    own: &OwnAccount,
    way: Way<'_>,
    ours: OwnedFd,
    theirs: OwnedFd,
) -> Result<Started, Refusal> {
    let hide: &[PathBuf] = match &own.entrance {
        Entrance::Namespaces { hide } => hide,
        _ => &[],
    };
    // Its own directory may be hidden inside.
    let agent = open(&own.agent, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| broken(&format!("open {}", own.agent.display()), errno.desc()))?;
    let mut ours = Some(ours);
    let forked = sys::child(|| {
        drop(ours.take());
        let socket = Socket::new(theirs);
        let inside = Inside {
            sandbox: Some(way.sandbox),
            tmp: way.tmp,
            hide,
        };
        enclosed(&socket, inside, |socket| {
            let agent = PathBuf::from(format!("/proc/self/fd/{}", agent.as_raw_fd()));
            keeper::keep_enclosed(agent, way.sandbox, way.payload, socket)
        })
    });
    match (forked, ours) {
        (Ok(pid), Some(ours)) => Ok(Started {
            socket: Socket::new(ours),
            complaints: None,
            first: pid.as_raw(),
        }),
        (Err(errno), _) => Err(broken("start a keeper", errno.desc())),
        (Ok(_), None) => Err(broken("start a keeper", "the socket is gone")),
    }
}

/// Makes the namespaces, and does `work` in them as their first process. The result is this process's exit status.
fn enclosed(socket: &Socket, inside: Inside<'_>, work: impl FnOnce(&Socket) -> u8) -> u8 {
    let refuse = |failed: enclosure::Failed| {
        let refusal = refusal(
            NO_NAMESPACES,
            failed.to_string(),
            RefusalClass::SitePermanent,
        );
        socket.answer(0, Answer::Refused(refusal), None);
        1
    };
    if let Err(failed) = enclosure::leave() {
        return refuse(failed);
    }
    let forked = sys::child(|| {
        // With the first process of a namespace all others go.
        if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
            return 1;
        }
        match enclosure::furnish(inside) {
            Ok(()) => work(socket),
            Err(failed) => refuse(failed),
        }
    });
    if forked.is_err() {
        return 1;
    }
    sys::wait_for_all()
}

/// Code of the refusal when there can be no namespaces.
pub(super) const NO_NAMESPACES: &str = "isolation.none";

/// Whether this account can make namespaces on this node; if not, why. To be asked before any payload comes.
pub(super) fn try_namespaces(hide: &[PathBuf]) -> Result<(), Refusal> {
    if geteuid().is_root() {
        let message = "root keeps its rights in them".to_owned();
        return Err(refusal(NO_NAMESPACES, message, RefusalClass::SitePermanent));
    }
    let (ours, theirs) = pair().map_err(|errno| broken("make a socket", errno))?;
    let mut ours = Some(ours);
    let forked = sys::child(|| {
        drop(ours.take());
        let inside = Inside {
            sandbox: None,
            tmp: None,
            hide,
        };
        enclosed(&Socket::new(theirs), inside, |socket| {
            socket.answer(0, Answer::Done, None);
            0
        })
    });
    forked.map_err(|errno| broken("start a process", errno.desc()))?;
    let said = ours.map(|ours| Socket::new(ours).receive());
    let _ = sys::wait_for_all();
    let answer = match said {
        Some(Ok(Some(packet))) => Reply::decode(&packet.bytes).map(|reply| reply.answer).ok(),
        _ => None,
    };
    match answer {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Refused(refusal)) => Err(refusal),
        _ => Err(broken("try namespaces", "the process died")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(account: Option<&str>) -> Foreign {
        Foreign {
            helper: PathBuf::from("/x/helper"),
            account: account.map(str::to_owned),
            credential: PathBuf::from("/c"),
            pilot_proxy: None,
            program: PathBuf::from("/p"),
        }
    }

    #[test]
    fn the_statuses_of_glexec_are_typed_refusals() {
        use RefusalClass::{Job, SitePermanent, SiteTransient};
        let glexec = foreign(None);
        for (status, class, who) in [
            (Some(201 << 8), Job, RefusedBy::Credential),
            (Some(202 << 8), SitePermanent, RefusedBy::Helper),
            (Some(203 << 8), Job, RefusedBy::Mapping),
            // The keeper itself never ends so.
            (Some(204 << 8), SiteTransient, RefusedBy::Helper),
            (Some(0), SiteTransient, RefusedBy::Helper),
            (Some(9), SiteTransient, RefusedBy::Helper),
            (None, SiteTransient, RefusedBy::Helper),
        ] {
            let refusal = glexec.explain(status, "why");
            assert_eq!((refusal.class, refusal.who), (class, who), "{status:?}");
            assert!(refusal.message.contains("why"), "{}", refusal.message);
            assert_eq!(refusal.may_succeed_later, class == SiteTransient);
        }
    }

    #[test]
    fn g9_what_may_succeed_later_never_holds() {
        let said = "glexec: The service does not answer [map.unreachable, may succeed later]";
        let refusal = foreign(None).explain(Some(203 << 8), said);
        assert_eq!(refusal.class, RefusalClass::SiteTransient);
        assert_eq!(refusal.code, "map.unreachable");
        let said = "glexec: Banned [ban.dn, will not succeed unless something changes]";
        let refusal = foreign(None).explain(Some(203 << 8), said);
        assert_eq!(refusal.class, RefusalClass::Job);
        assert_eq!(refusal.code, "ban.dn");
        for odd in [
            "[]",
            "[A, b]",
            "x]",
            "[",
            "LCMAPS [1, may succeed later] x [",
        ] {
            assert_eq!(own_words(odd), (None, false), "{odd}");
        }
    }

    #[test]
    fn sudo_that_refuses_is_the_sites_doing() {
        let refusal = foreign(Some("pool1")).explain(Some(1 << 8), "a password is required");
        assert_eq!(refusal.class, RefusalClass::SitePermanent);
        assert!(refusal.message.contains("a password is required"));
    }
}
