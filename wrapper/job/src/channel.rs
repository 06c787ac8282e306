//! The socket to the pilot: one packet, one message, descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use launch_protocol::agent::{Reply, Request};
use launch_protocol::{CONTROL_FD, MAX_PACKET};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::sockopt::SockType;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg,
};

use crate::sys;

/// What came out of the socket.
pub(crate) enum Incoming {
    /// One request and exactly the descriptors it needs.
    Request(Request, Vec<OwnedFd>),
    /// The pilot has closed its end.
    End,
    /// Something that is no request, or with the wrong number of descriptors.
    Malformed,
}

/// The agent's end of the socket.
pub(crate) struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Channel {
    /// Takes over descriptor 3, if it is a packet socket. To be called once, first of all.
    pub(crate) fn take() -> Option<Self> {
        let socket = sys::own(CONTROL_FD);
        let packets = getsockopt(&socket, SockType)
            .is_ok_and(|kind| kind == nix::sys::socket::SockType::SeqPacket);
        if !packets {
            // Whatever it is, it is not ours to close.
            std::mem::forget(socket);
            return None;
        }
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        Some(Self {
            socket,
            buffer: vec![0; MAX_PACKET],
        })
    }

    /// Waits for the next request.
    pub(crate) fn receive(&mut self) -> Incoming {
        // As many as the kernel passes at once, so that none is lost and left open unseen.
        let mut control = nix::cmsg_space!([libc::c_int; 253]);
        let (length, flags, descriptors) = loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let raw = self.socket.as_raw_fd();
            match recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut control), flags) {
                Ok(message) => {
                    let mut descriptors = Vec::new();
                    for item in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(raw) = item {
                            descriptors.extend(raw.into_iter().map(sys::own));
                        }
                    }
                    break (message.bytes, message.flags, descriptors);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Incoming::End,
                Err(_) => return Incoming::Malformed,
            }
        };
        if length == 0 {
            return Incoming::End;
        }
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Incoming::Malformed;
        }
        match self.buffer.get(..length).map(Request::decode) {
            Some(Ok(request)) if request.descriptors() == descriptors.len() => {
                Incoming::Request(request, descriptors)
            }
            _ => Incoming::Malformed,
        }
    }

    /// Sends a reply, with a descriptor if it carries one.
    pub(crate) fn send(&self, reply: &Reply, beside: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let packet = reply.encode().map_err(|_| Errno::EMSGSIZE)?;
        let raw = beside.map(|file| [file.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
        let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
        loop {
            let parts = [IoSlice::new(&packet)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &parts, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}
