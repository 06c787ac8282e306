//! The socket to the broker, and packet sockets in general.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::{self, Refusal};
use launch_protocol::monitor::{Ask, Reply};
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, UnixAddr, recv, recvmsg, sendmsg, shutdown,
};

use crate::monitor::Answer;
use crate::sys;

/// The monitor's end.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: OwnedFd,
    buffer: Vec<u8>,
}

/// There is no broker any more, or one that does not keep to the protocol.
#[derive(Debug)]
pub(crate) struct Gone;

impl Wire {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let buffer = vec![0; MAX_PACKET];
        Self { socket, buffer }
    }

    /// The next question and exactly the descriptors it needs; `None`: nothing for now.
    pub(crate) fn receive(&mut self) -> Result<Option<(Ask, Vec<OwnedFd>)>, Gone> {
        let mut control = nix::cmsg_space!([libc::c_int; 4]);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let raw = self.socket.as_raw_fd();
        let mut beside = Vec::new();
        let (length, flags) = match recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                for item in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(raw) = item {
                        beside.extend(raw.into_iter().map(sys::own));
                    }
                }
                (message.bytes, message.flags)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(_) => return Err(Gone),
        };
        let packet = self.buffer.get(..length).filter(|packet| !packet.is_empty());
        let ask = packet.and_then(|packet| Ask::decode(packet).ok()).ok_or(Gone)?;
        let cut = flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        (!cut && ask.descriptors() == beside.len()).then_some(Some((ask, beside))).ok_or(Gone)
    }

    /// Answers. The broker waits for it, so there is room.
    pub(crate) fn answer(&self, answer: Answer) -> Result<(), Gone> {
        let (reply, beside) = answer.unwrap_or_else(|it| (Reply::Refused(it), Vec::new()));
        let packet = reply.encode().map_err(|_| Gone)?;
        let beside: Vec<_> = beside.iter().map(|file| file.as_fd()).collect();
        transmit(self.socket.as_fd(), &packet, &beside).map_err(|_| Gone)
    }
}

/// Sends one packet and descriptors beside it, at once or not at all.
pub(crate) fn transmit(socket: BorrowedFd<'_>, packet: &[u8], beside: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let raw: Vec<_> = beside.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let parts = [IoSlice::new(packet)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, flags, None).map(drop)
}

/// Tells a pilot why nobody serves it, if it listens. What it has sent already is thrown away first: an unread
/// packet would reset the connection and take the answer with it.
pub(crate) fn send_last_word(socket: BorrowedFd<'_>, refusal: Refusal) {
    let raw = socket.as_raw_fd();
    let _ = shutdown(raw, Shutdown::Read);
    while matches!(recv(raw, &mut [0; 16], MsgFlags::MSG_DONTWAIT), Ok(length) if length > 0) {}
    let answer = broker::Answer::Refused(refusal);
    if let Ok(packet) = (broker::Reply { id: 0, answer }).encode() {
        let _ = transmit(socket, &packet, &[]);
    }
}
