//! A packet socket without an event loop: whole messages, with at most one descriptor beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::{Answer, Reply};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};

use super::super::sys;

/// One end of a `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// A message and the descriptor beside it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptor: Option<OwnedFd>,
}

/// Two connected ends, both close-on-exec.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

impl Socket {
    pub(super) const fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Another handle on it.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The next message; `None` at the end. Waits for it.
    pub(super) fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; MAX_PACKET];
        // As many as the kernel passes at once, so that none is lost and left open unseen.
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 253]);
        let (length, truncated, descriptors) = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
                Ok(message) => {
                    let mut descriptors = Vec::new();
                    for part in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(numbers) = part {
                            descriptors.extend(sys::own(&numbers));
                        }
                    }
                    break (
                        message.bytes,
                        message.flags.contains(MsgFlags::MSG_TRUNC),
                        descriptors,
                    );
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        if truncated {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if length == 0 {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(Packet {
            bytes,
            descriptor: descriptors.into_iter().next(),
        }))
    }

    /// Sends one message.
    pub(super) fn send(&self, bytes: &[u8], beside: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let numbers: Vec<_> = beside.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        loop {
            match sendmsg::<UnixAddr>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Err(Errno::EINTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Answers the pilot. One that is gone needs no answer, and its end is noticed elsewhere.
    pub(super) fn answer(&self, id: u32, answer: Answer, beside: Option<BorrowedFd<'_>>) {
        if let Ok(packet) = (Reply { id, answer }).encode() {
            let _ = self.send(&packet, beside);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
