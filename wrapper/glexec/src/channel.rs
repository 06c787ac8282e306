//! The two sockets: to the broker and to the agent. One packet, one message, descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use launch_protocol::agent;
use launch_protocol::broker::{Answer, Command, Reply, Request};
use launch_protocol::exec::{ExecFailure, MAX_EXEC_FAILURE};
use launch_protocol::{CONTROL_FD, MAX_PACKET, VERSION};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockType, UnixAddr, getsockopt, recvmsg,
    sendmsg, sockopt,
};
use nix::unistd::read;

use crate::failure::Failure;
use crate::signals::Signals;
use crate::sys;

/// A packet socket.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) OwnedFd);

impl Socket {
    pub(crate) fn send(&self, packet: &[u8], beside: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let raw: Vec<_> = beside.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        loop {
            let parts = [IoSlice::new(packet)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<UnixAddr>(self.0.as_raw_fd(), &parts, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The next packet; empty at the end.
    pub(crate) fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
        let mut buffer = vec![0; MAX_PACKET];
        let mut control = nix::cmsg_space!([libc::c_int; 4]);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let raw = self.0.as_raw_fd();
            match recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut control), flags) {
                Ok(message) => {
                    let mut files = Vec::new();
                    for item in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(raw) = item {
                            files.extend(raw.into_iter().map(sys::own));
                        }
                    }
                    if message
                        .flags
                        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
                    {
                        return Err(Errno::EBADMSG);
                    }
                    let length = message.bytes;
                    buffer.truncate(length);
                    return Ok((buffer, files.pop()));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok((Vec::new(), None)),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Somebody on the other side is gone or talks nonsense.
fn broken(who: &str, errno: Errno) -> Failure {
    let text = format!("the connection to {who} failed: {}", errno.desc());
    Failure::administrator("helper.broken", text)
}

fn gone(who: &str) -> Failure {
    Failure::administrator("helper.gone", format!("{who} has ended unexpectedly"))
}

const BROKER: &str = "the helper (sailplane-switch)";
const AGENT: &str = "the agent (sailplane-job)";

/// The number of a request whose answer nobody waits for.
const ANNOUNCEMENT: u32 = u32::MAX;

/// The broker, as seen from here.
#[derive(Debug)]
pub(crate) struct Broker {
    socket: Socket,
    serial: u32,
    /// Events that came while an answer was awaited.
    pub(crate) events: Vec<Answer>,
}

impl Broker {
    /// Takes over descriptor 3, if it is a packet socket. To be called once.
    pub(crate) fn take() -> Option<Self> {
        if fcntl(sys::borrow(CONTROL_FD), FcntlArg::F_GETFD).is_err() {
            return None;
        }
        let socket = sys::own(CONTROL_FD);
        if getsockopt(&socket, sockopt::SockType) != Ok(SockType::SeqPacket) {
            return None;
        }
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        Some(Self {
            socket: Socket(socket),
            serial: 0,
            events: Vec::new(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    /// Asks and waits for the answer. A signal that ends the call while it waits is a failure too.
    pub(crate) fn ask(
        &mut self,
        command: Command,
        beside: Option<BorrowedFd<'_>>,
        signals: &Signals,
    ) -> Result<(Answer, Option<OwnedFd>), Failure> {
        // If it is gone, its last word may still be there to be read.
        let sent = self.send(command, beside)?;
        let answered = self.answer(signals)?;
        sent.map(|()| answered)
    }

    /// The outer error: it cannot be said at all.
    fn send(
        &mut self,
        command: Command,
        beside: Option<BorrowedFd<'_>>,
    ) -> Result<Result<(), Failure>, Failure> {
        self.serial += 1;
        let id = self.serial;
        let packet = Request { id, command }
            .encode()
            .map_err(|_| broken(BROKER, Errno::EMSGSIZE))?;
        let sent = self.socket.send(&packet, beside.as_slice());
        Ok(sent.map_err(|errno| broken(BROKER, errno)))
    }

    /// The answer to the last question.
    fn answer(&mut self, signals: &Signals) -> Result<(Answer, Option<OwnedFd>), Failure> {
        let id = self.serial;
        loop {
            signals.wait_for(self.as_fd())?;
            match self.receive()? {
                (0, Answer::Refused(refusal), _) => return Err(refusal.into()),
                (0, event, _) => self.events.push(event),
                (ANNOUNCEMENT, _, _) => {}
                (other, Answer::Refused(refusal), _) if other == id => return Err(refusal.into()),
                (other, answer, file) if other == id => return Ok((answer, file)),
                _ => return Err(broken(BROKER, Errno::EBADMSG)),
            }
        }
    }

    /// The next packet: id, answer, descriptor.
    pub(crate) fn receive(&self) -> Result<(u32, Answer, Option<OwnedFd>), Failure> {
        let (packet, file) = self
            .socket
            .receive()
            .map_err(|errno| broken(BROKER, errno))?;
        if packet.is_empty() {
            return Err(gone(BROKER));
        }
        let Reply { id, answer } =
            Reply::decode(&packet).map_err(|_| broken(BROKER, Errno::EBADMSG))?;
        if answer.descriptors() != usize::from(file.is_some()) {
            return Err(broken(BROKER, Errno::EBADMSG));
        }
        Ok((id, answer, file))
    }

    /// Says who we are, the first of all questions, and whether the payload will want a `sandbox`.
    pub(crate) fn greet(
        &mut self,
        sandbox: bool,
        signals: &Signals,
    ) -> Result<launch_protocol::broker::Hello, Failure> {
        let announcement = Request {
            id: ANNOUNCEMENT,
            command: Command::Prepare { sandbox },
        };
        let hello = Command::Hello { version: VERSION };
        let hello = self.send(hello, None)?;
        if let Ok(packet) = announcement.encode() {
            // Whether it was heard does not matter.
            let _ = self.socket.send(&packet, &[]);
        }
        match self.answer(signals).and_then(|it| hello.map(|()| it))? {
            (Answer::Hello(hello), _) => Ok(hello),
            _ => Err(broken(BROKER, Errno::EBADMSG)),
        }
    }
}

/// Any answer but the one that was due.
pub(crate) fn unexpected<T>(_: T) -> Failure {
    broken(BROKER, Errno::EBADMSG)
}

/// The agent, which will become the command.
#[derive(Debug)]
pub(crate) struct Agent(Socket);

impl Agent {
    /// Waits until it is ready.
    pub(crate) fn greet(socket: OwnedFd, signals: &Signals) -> Result<Self, Failure> {
        let agent = Self(Socket(socket));
        match agent.receive(Some(signals))? {
            (agent::Reply::Ready, _) => Ok(agent),
            (agent::Reply::Trouble { message, .. }, _) => {
                Err(Failure::administrator("agent.start", message))
            }
            _ => Err(broken(AGENT, Errno::EBADMSG)),
        }
    }

    fn receive(
        &self,
        signals: Option<&Signals>,
    ) -> Result<(agent::Reply, Option<OwnedFd>), Failure> {
        if let Some(signals) = signals {
            signals.wait_for(self.0.0.as_fd())?;
        }
        let (packet, file) = self.0.receive().map_err(|errno| broken(AGENT, errno))?;
        if packet.is_empty() {
            return Err(gone(AGENT));
        }
        let reply = agent::Reply::decode(&packet).map_err(|_| broken(AGENT, Errno::EBADMSG))?;
        Ok((reply, file))
    }

    /// Asks and waits for the answer; without `signals`, those that come meanwhile stay for later.
    pub(crate) fn ask(
        &self,
        request: &agent::Request,
        beside: &[BorrowedFd<'_>],
        signals: Option<&Signals>,
    ) -> Result<(agent::Reply, Option<OwnedFd>), Failure> {
        let packet = request
            .encode()
            .map_err(|_| broken(AGENT, Errno::EMSGSIZE))?;
        self.0
            .send(&packet, beside)
            .map_err(|errno| broken(AGENT, errno))?;
        self.receive(signals)
    }

    /// Waits until the pipe closes, which only the final `execve` does (requirement G14). Signals that
    /// come meanwhile are for the command.
    pub(crate) fn watch_start(pipe: &OwnedFd) -> Result<(), Failure> {
        let mut text = Vec::new();
        let mut piece = [0; MAX_EXEC_FAILURE];
        loop {
            match read(pipe, &mut piece) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(broken(AGENT, errno)),
            }
            if text.len() > MAX_EXEC_FAILURE {
                return Err(broken(AGENT, Errno::EMSGSIZE));
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        let failure = ExecFailure::decode(&text).map_err(|_| broken(AGENT, Errno::EBADMSG))?;
        Err(failure.into())
    }
}
