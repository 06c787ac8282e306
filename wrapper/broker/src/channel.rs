//! The socket to the pilot. Never waits: what cannot be sent now is queued, to a bound.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::{Answer, Reply, Request};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recv, recvmsg, sendmsg, socketpair,
};

use crate::sys;

/// A pilot that leaves this many packets unread is not working any more.
const MAX_QUEUE: usize = 4096;

/// What came out of the socket.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// One request and exactly the descriptors it needs.
    Request(Request, Vec<OwnedFd>),
    /// Nothing for now.
    Nothing,
    /// The pilot has closed its end, or is gone.
    End,
    /// Something that is no request, or with the wrong number of descriptors.
    Malformed,
}

/// The broker's end of the socket.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
    control: Vec<u8>,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    broken: bool,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: vec![0; MAX_PACKET],
            // As many as the kernel passes at once, so that none is lost and left open unseen.
            control: nix::cmsg_space!([libc::c_int; 253]),
            queue: VecDeque::new(),
            broken: false,
        }
    }

    /// The next request, if there is one.
    pub(crate) fn receive(&mut self) -> Incoming {
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let raw = self.socket.as_raw_fd();
        let received = recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut self.control), flags);
        let mut descriptors = Vec::new();
        let (length, flags) = match received {
            Ok(message) => {
                for item in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(raw) = item {
                        descriptors.extend(raw.into_iter().map(sys::own));
                    }
                }
                (message.bytes, message.flags)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Incoming::Nothing,
            Err(Errno::ECONNRESET) => return Incoming::End,
            Err(_) => return Incoming::Malformed,
        };
        if length == 0 {
            return Incoming::End;
        }
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Incoming::Malformed;
        }
        match self.buffer.get(..length).map(Request::decode) {
            Some(Ok(request))
                if request.id != 0 && request.command.descriptors() == descriptors.len() =>
            {
                Incoming::Request(request, descriptors)
            }
            _ => Incoming::Malformed,
        }
    }

    /// Sends, or queues, one packet.
    pub(crate) fn send(&mut self, id: u32, answer: Answer, beside: Option<OwnedFd>) {
        // Everything in a reply is checked or cut before, so this cannot fail; if it does, the
        // pilot must not wait for an answer for ever.
        match (Reply { id, answer }).encode() {
            Ok(packet) => self.queue.push_back((packet, beside)),
            Err(_) => self.broken = true,
        }
        self.flush();
    }

    /// Sends what is queued, as far as it goes.
    pub(crate) fn flush(&mut self) {
        while let Some((packet, beside)) = self.queue.front() {
            let beside = beside.as_ref().map(AsFd::as_fd);
            match transmit(self.socket.as_fd(), packet, beside.as_slice()) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    self.broken = true;
                    self.queue.clear();
                }
            }
        }
        if self.queue.len() > MAX_QUEUE {
            self.broken = true;
        }
    }

    /// Is something waiting to be sent?
    pub(crate) fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Nothing can be sent any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}

/// Sends one packet and descriptors beside it, at once or not at all.
pub(crate) fn transmit(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    beside: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let raw: Vec<_> = beside.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        let parts = [IoSlice::new(packet)];
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What a helper has said, in `buffer`: one packet, nothing yet (`None`), or the end (`Some(Err)`). Too
/// long a packet fills the buffer, so that must be one byte longer than allowed.
pub(crate) fn hear<'a>(
    helper: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> Option<Result<&'a [u8], Errno>> {
    match recv(helper.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Some(Err(Errno::EPIPE)),
        Ok(length) => Some(buffer.get(..length).ok_or(Errno::EMSGSIZE)),
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(errno) => Some(Err(errno)),
    }
}

/// A pair of packet sockets.
pub(crate) fn packet_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}
