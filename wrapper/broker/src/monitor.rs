//! The monitor: asks it for what only root can do, and hears from it which children have ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Account, Ask, Errand, Linked, MAX_LISTED, Reply};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::unistd::read;

use crate::line::Line;
use crate::refuse::trouble;
use crate::sys;

/// Most descriptors beside an answer: the configuration and the policy files.
const MAX_BESIDE: usize = 64;

/// Everything is gone, or done.
pub(crate) const DONE: u8 = 0;
/// Nothing was done, because other processes of the account live.
pub(crate) const IN_USE: u8 = 2;
/// Exit status of a child that could not become the program it should.
pub(crate) const CANNOT_START: u8 = 126;

/// Our end of the socket, and the eventfd.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: OwnedFd,
    bell: OwnedFd,
    buffers: RefCell<Buffers>,
    /// Children that have ended and that nobody has asked for yet, with their wait statuses.
    ended: RefCell<VecDeque<(i32, i32)>>,
    terminate: Cell<bool>,
    gone: Cell<bool>,
}

#[derive(Debug)]
struct Buffers {
    packet: Vec<u8>,
    control: Vec<u8>,
}

impl Monitor {
    pub(crate) fn new(socket: OwnedFd, bell: OwnedFd) -> Self {
        // A program of the site that is started from here needs neither; and whether the bell has rung is
        // known before it is read, or does not matter.
        let _ = fcntl(&bell, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        let _ = fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        let _ = fcntl(&bell, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Self {
            socket,
            bell,
            buffers: RefCell::new(Buffers {
                packet: vec![0; MAX_PACKET],
                control: nix::cmsg_space!([libc::c_int; MAX_BESIDE]),
            }),
            ended: RefCell::default(),
            terminate: Cell::new(false),
            gone: Cell::new(false),
        }
    }

    /// Nobody answers any more: there is nothing left to be done.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Was it asked to end since the last time that it was looked?
    pub(crate) fn wants_end(&self) -> bool {
        self.terminate.replace(false)
    }

    /// Has anything been heard that nobody has looked at yet?
    pub(crate) fn has_news(&self) -> bool {
        self.terminate.get() || !self.ended.borrow().is_empty()
    }

    /// To be polled for its hanging up.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Readable when children have ended.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// It has hung up.
    pub(crate) fn hung_up(&self) {
        self.gone.set(true);
    }

    fn lost(&self, why: &str) -> Refusal {
        self.gone.set(true);
        trouble("monitor.gone", format!("the helper's monitor {why}"))
    }

    fn tell(&self, ask: &Ask, beside: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        let packet = ask.encode().map_err(|error| {
            trouble(
                "monitor.ask",
                format!("asking the helper's monitor: {error}"),
            )
        })?;
        if self.is_gone() {
            return Err(self.lost("is gone"));
        }
        let raw: Vec<_> = beside.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(&packet)];
        loop {
            let socket = self.socket.as_raw_fd();
            match sendmsg::<UnixAddr>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(self.lost("does not listen")),
            }
        }
    }

    fn hear(&self) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        let mut buffers = self.buffers.borrow_mut();
        let Buffers { packet, control } = &mut *buffers;
        let mut beside = Vec::new();
        let (length, flags) = loop {
            let mut parts = [IoSliceMut::new(packet)];
            let socket = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<UnixAddr>(socket, &mut parts, Some(control), flags) {
                Ok(message) => {
                    for item in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(raw) = item {
                            beside.extend(raw.into_iter().map(sys::own));
                        }
                    }
                    break (message.bytes, message.flags);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return Err(self.lost("does not answer")),
            }
        };
        if length == 0 {
            return Err(self.lost("has ended"));
        }
        let cut = flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        match packet.get(..length).map(Reply::decode) {
            Some(Ok(reply)) if !cut => Ok((reply, beside)),
            _ => Err(self.lost("cannot be understood")),
        }
    }

    /// Asks, and waits for the answer, which comes at once.
    pub(crate) fn ask_with(
        &self,
        ask: &Ask,
        beside: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        self.tell(ask, beside)?;
        match self.hear()? {
            (Reply::Refused(refusal), _) => Err(refusal),
            answer => Ok(answer),
        }
    }

    /// The same for what is answered without descriptors.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<Reply, Refusal> {
        self.ask_with(ask, &[]).map(|(reply, _)| reply)
    }

    /// It has answered something else.
    pub(crate) fn confused(&self) -> Refusal {
        self.lost("has not answered what it was asked")
    }

    /// For what is answered by [`Reply::Done`].
    pub(crate) fn order(&self, ask: &Ask) -> Result<(), Refusal> {
        match self.ask(ask)? {
            Reply::Done => Ok(()),
            _ => Err(self.confused()),
        }
    }

    /// For what starts a child and gives a descriptor back.
    pub(crate) fn start(&self, ask: &Ask) -> Result<(i32, OwnedFd), Refusal> {
        match self.ask_with(ask, &[])? {
            (Reply::Started { child }, beside) if beside.len() == 1 => {
                let socket = beside.into_iter().next().ok_or_else(|| self.confused())?;
                Ok((child, socket))
            }
            _ => Err(self.confused()),
        }
    }

    /// For what is answered by an account.
    pub(crate) fn account(&self, ask: &Ask) -> Result<Account, Refusal> {
        match self.ask(ask)? {
            Reply::Account(account) => Ok(account),
            _ => Err(self.confused()),
        }
    }

    /// For what is answered by what became of a lease in the gridmapdir.
    pub(crate) fn linked(&self, ask: &Ask) -> Result<Linked, Refusal> {
        match self.ask(ask)? {
            Reply::Linked(linked) => Ok(linked),
            _ => Err(self.confused()),
        }
    }

    /// Has something done as an account; the child that does it.
    pub(crate) fn errand(&self, payload: u32, errand: Errand) -> Result<i32, Refusal> {
        match self.ask(&Ask::Errand { payload, errand })? {
            Reply::Started { child } => Ok(child),
            _ => Err(self.confused()),
        }
    }

    /// The same, and waits for its end: what it returned.
    pub(crate) fn run_errand(
        &self,
        payload: u32,
        errand: Errand,
        patience: Duration,
    ) -> Result<Option<u8>, Refusal> {
        let child = self.errand(payload, errand)?;
        Ok(self.wait_for(child, patience).and_then(exit_status))
    }

    /// Writes a line into the log. Failing to log is no reason to fail.
    pub(crate) fn record(&self, line: Line) {
        let line = line.into_text();
        let _ = self.tell(&Ask::Audit { line }, &[]);
    }

    /// It cannot go on; the monitor tells whom it concerns.
    pub(crate) fn decline(&self, refusal: Refusal) {
        let _ = self.tell(&Ask::Decline(refusal), &[]);
    }

    /// Signals a child's process group.
    pub(crate) fn signal(&self, child: i32, signal: i32) {
        let _ = self.order(&Ask::Signal { child, signal });
    }

    // --- Ends of children ---

    /// Takes in what the bell has rung for.
    pub(crate) fn fetch_endings(&self) {
        // Before the question: what ends afterwards rings again.
        let _ = read(&self.bell, &mut [0; 8]);
        while let Ok(Reply::Endings { ended, terminate }) = self.ask(&Ask::Endings) {
            self.terminate.set(self.terminate.get() || terminate);
            let count = ended.len();
            self.ended.borrow_mut().extend(ended);
            if count < MAX_LISTED {
                break;
            }
        }
    }

    /// One child that has ended, and its wait status.
    pub(crate) fn next_ended(&self) -> Option<(i32, i32)> {
        self.ended.borrow_mut().pop_front()
    }

    /// Has this child ended? Then its status is nobody else's to take.
    pub(crate) fn take_ended(&self, child: i32) -> Option<i32> {
        let mut ended = self.ended.borrow_mut();
        let place = ended.iter().position(|(its, _)| *its == child)?;
        ended.remove(place).map(|(_, status)| status)
    }

    /// Waits for one child; its status, or nothing if it had to be killed.
    pub(crate) fn wait_for(&self, child: i32, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.take_ended(child) {
                return Some(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_gone() {
                return None;
            }
            if left.is_zero() {
                self.signal(child, libc::SIGKILL);
                return None;
            }
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut sources = [
                PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::empty()),
            ];
            let _ = poll(&mut sources, timeout);
            let [bell, socket] = sources.map(|it| it.any().unwrap_or(false));
            if bell {
                self.fetch_endings();
            } else if socket {
                self.hung_up();
            }
        }
    }
}

/// What a child returned, if it was not killed.
pub(crate) fn exit_status(status: i32) -> Option<u8> {
    (status & 0x7f == 0)
        .then(|| u8::try_from(status >> 8 & 0xff).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn who_waits_for_one_child_misses_no_other() {
        let (fake, monitor) = Fake::start();
        fake.end(7, 9);
        fake.end(8, 0);
        assert_eq!(monitor.wait_for(8, SOON), Some(0));
        assert!(monitor.has_news());
        assert_eq!(monitor.next_ended(), Some((7, 9)));
        assert!(!monitor.has_news());
        let errand = Errand::Alone { home: false };
        assert_eq!(monitor.run_errand(1, errand, SOON), Ok(Some(DONE)));
        // One that does not end is killed.
        assert_eq!(monitor.wait_for(9, Duration::from_millis(1)), None);
        assert_eq!(
            fake.books().asked.last().map(String::as_str),
            Some("Signal")
        );
        drop(monitor);
        fake.join();
    }

    #[test]
    fn a_monitor_that_is_gone_is_an_end_not_a_hang() {
        let (ours, theirs) = crate::channel::packet_sockets().expect("sockets");
        let (bell, _) = nix::unistd::pipe().expect("a pipe");
        let monitor = Monitor::new(ours, bell);
        drop(theirs);
        assert_eq!(monitor.wait_for(1, SOON), None);
        let refusal = monitor.ask(&Ask::Endings).expect_err("nobody answers");
        assert_eq!(refusal.code, "monitor.gone");
        assert!(monitor.is_gone());
    }

    #[test]
    fn exit_statuses() {
        assert_eq!(exit_status(2 << 8), Some(IN_USE));
        assert_eq!(exit_status(9), None);
    }
}
