//! One end of a packet socket, read and written with a deadline: whole messages, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use launch_protocol::MAX_PACKET;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};

use super::sys;

/// Most descriptors that any message carries, and a few to spare, so that none is lost unseen.
const MAX_DESCRIPTORS: usize = 8;

/// A received message.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// Two connected ends, both close-on-exec.
pub(super) fn pair() -> io::Result<(Socket, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok((Socket(ours), theirs))
}

impl Socket {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends one message.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        until: Instant,
    ) -> io::Result<()> {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        loop {
            wait(&self.0, PollFlags::POLLOUT, until)?;
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match sendmsg::<UnixAddr>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                flags,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next message; `None` when the other end is closed.
    pub(super) fn receive(&self, until: Instant) -> io::Result<Option<Packet>> {
        loop {
            wait(&self.0, PollFlags::POLLIN, until)?;
            match self.receive_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_disconnect(&error) => return Ok(None),
                other => return other,
            }
        }
    }

    fn receive_now(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; MAX_PACKET];
        let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                descriptors.extend(sys::own(&numbers));
            }
        }
        let (length, is_cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
        if is_cut {
            let what = "a packet is longer than the limit";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        bytes.truncate(length);
        Ok((length > 0).then_some(Packet { bytes, descriptors }))
    }
}

/// Whether the error only says that the other end is gone.
pub(super) fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// Waits until a descriptor is ready, or has been hung up; past the time it is [`io::ErrorKind::TimedOut`].
pub(super) fn wait(descriptor: &impl AsFd, what: PollFlags, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: a wait of no time at all would spin.
        let millis = u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
        let mut one = [PollFd::new(descriptor.as_fd(), what)];
        match poll(&mut one, PollTimeout::from(millis)) {
            Ok(0) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
