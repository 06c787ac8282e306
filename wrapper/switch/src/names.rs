//! Account look-ups, in a short-lived child without privilege (requirement S3): the name service
//! may load plug-ins and talk to servers, none of which belongs into a root process. The child
//! sees no hostile input, and what it answers is judged like any other input.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, User, getgrouplist, pipe2, read, write};

use crate::config::NOBODY;
use crate::spawn::{Identity, become_account};
use crate::sys;

/// How long a look-up may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

const MAX_ANSWER: usize = 256 * 1024;
const MAX_GROUPS: usize = 4096;

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// Who has this number? Groups are not looked up.
    Uid(u32),
    /// An account with its groups.
    Name(String),
}

/// An account as the name service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// One answer per query; `None`: there is no such account.
pub(crate) type Answers = Vec<Option<Entry>>;

/// The look-up could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) &'static str);

/// A look-up under way.
#[derive(Debug)]
pub(crate) struct Lookup {
    child: Option<Pid>,
    pipe: OwnedFd,
    answer: Vec<u8>,
    queries: usize,
    deadline: Instant,
}

impl Lookup {
    /// Starts the child.
    pub(crate) fn start(queries: &[Query], null: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (pipe, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let child = sys::child(None, || run(queries, theirs.as_fd(), null))?;
        let deadline = Instant::now() + DEADLINE;
        Ok(Self {
            child: Some(child),
            pipe,
            answer: Vec::new(),
            queries: queries.len(),
            deadline,
        })
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: Pid) -> bool {
        let ours = self.child == Some(child);
        if ours {
            self.child = None;
        }
        ours
    }

    /// When it must have answered.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads what there is; `None`: not complete yet.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Result<Answers, Failed>> {
        let mut chunk = [0; 4096];
        loop {
            match read(&self.pipe, &mut chunk) {
                Ok(0) => {
                    let whole = decode(&self.answer, self.queries);
                    return Some(whole.ok_or(Failed("the look-up broke off")));
                }
                Ok(length) => {
                    self.answer
                        .extend_from_slice(chunk.get(..length).unwrap_or_default());
                    if self.answer.len() > MAX_ANSWER {
                        return Some(Err(Failed("the answer is too long")));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if now < self.deadline => return None,
                Err(Errno::EAGAIN) => return Some(Err(Failed("the look-up took too long"))),
                Err(_) => return Some(Err(Failed("the look-up cannot be read"))),
            }
        }
    }

    /// Waits for the answer; for start-up only, when there is nothing else to do.
    pub(crate) fn wait(mut self) -> Result<Answers, Failed> {
        loop {
            if let Some(outcome) = self.advance(Instant::now()) {
                return outcome;
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            // Interrupted or timed out: `advance` finds out.
            let _ = poll(&mut polled, timeout);
        }
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Some(child) = self.child {
            // Not reaped yet, so the number is still the child's.
            let _ = sys::kill(child.as_raw(), Signal::SIGKILL as i32);
            let _ = sys::wait_for(child);
        }
    }
}

/// The child's whole life.
fn run(queries: &[Query], out: BorrowedFd<'_>, null: BorrowedFd<'_>) -> u8 {
    let arranged = sys::place(out, 1)
        .and_then(|()| sys::place(null, 0))
        .and_then(|()| sys::place(null, 2));
    if arranged.is_err() {
        return 1;
    }
    sys::close_from(3);
    let nobody = Identity {
        uid: NOBODY,
        gid: NOBODY,
        groups: &[],
    };
    if become_account(&nobody).is_err() {
        return 1;
    }
    sys::block_signals(false);
    let mut answer = Vec::new();
    for query in queries {
        match look_up(query) {
            Ok(entry) => encode(&mut answer, entry.as_ref()),
            // No answer at all rather than half of one.
            Err(_) => return 1,
        }
    }
    let stdout = std::io::stdout();
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        match write(&stdout, rest) {
            Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut polled, PollTimeout::NONE);
            }
            Err(_) => return 1,
        }
    }
    0
}

fn look_up(query: &Query) -> Result<Option<Entry>, Errno> {
    let found = match query {
        Query::Uid(uid) => User::from_uid(Uid::from_raw(*uid)),
        Query::Name(name) => User::from_name(name),
    };
    let user = match found {
        Ok(Some(user)) => user,
        // POSIX leaves open how "no such entry" looks; these are the known ways.
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno),
    };
    let groups = match query {
        Query::Uid(_) => Vec::new(),
        Query::Name(_) => {
            let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
            getgrouplist(&name, user.gid)?
                .into_iter()
                .map(Gid::as_raw)
                .collect()
        }
    };
    Ok(Some(Entry {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups,
    }))
}

fn encode(out: &mut Vec<u8>, entry: Option<&Entry>) {
    let Some(entry) = entry else {
        out.push(0);
        return;
    };
    out.push(1);
    let mut number = |value: u32| out.extend_from_slice(&value.to_le_bytes());
    number(entry.uid);
    number(entry.gid);
    number(u32::try_from(entry.groups.len()).unwrap_or(u32::MAX));
    entry.groups.iter().copied().for_each(&mut number);
    number(u32::try_from(entry.name.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(entry.name.as_bytes());
}

/// All answers, if the bytes are exactly that.
pub(crate) fn decode(mut bytes: &[u8], queries: usize) -> Option<Answers> {
    let mut answers = Vec::new();
    for _ in 0..queries {
        let (found, rest) = bytes.split_first()?;
        bytes = rest;
        answers.push(match found {
            0 => None,
            1 => {
                let uid = number(&mut bytes)?;
                let gid = number(&mut bytes)?;
                let count = usize::try_from(number(&mut bytes)?).ok()?;
                if count > MAX_GROUPS {
                    return None;
                }
                let groups = (0..count)
                    .map(|_| number(&mut bytes))
                    .collect::<Option<Vec<_>>>()?;
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let (name, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let name = std::str::from_utf8(name).ok()?;
                if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return None;
                }
                Some(Entry {
                    name: name.to_owned(),
                    uid,
                    gid,
                    groups,
                })
            }
            _ => return None,
        });
    }
    bytes.is_empty().then_some(answers)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_pipe_and_nothing_else_does() {
        let entry = Entry {
            name: "alice".into(),
            uid: 1,
            gid: 2,
            groups: vec![2, 3],
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, Some(&entry));
        encode(&mut bytes, None);
        assert_eq!(decode(&bytes, 2), Some(vec![Some(entry), None]));
        assert_eq!(decode(&bytes, 1), None);
        assert_eq!(decode(&bytes, 3), None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], 2), None);
        }
    }

    #[test]
    fn s3_the_look_up_really_asks_the_system() {
        let root = look_up(&Query::Name("root".into()))
            .expect("works")
            .expect("exists");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(look_up(&Query::Name("no-such-account".into())), Ok(None));
    }
}
