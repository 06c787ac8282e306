//! One end of a packet socket in the event loop: whole messages, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use launch_protocol::MAX_PACKET;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use tokio::io::unix::AsyncFd;

use super::sys;

/// Most descriptors that any message carries, and a few to spare, so that none is ever lost unseen.
const MAX_DESCRIPTORS: usize = 8;

/// A received message.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

/// Two connected ends, both close-on-exec.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Whether the error only says that the other end is gone.
pub(super) fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

impl Channel {
    /// Puts a socket into the event loop.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            socket: sys::register(socket)?,
        })
    }

    /// Ends both directions.
    #[cfg(test)]
    pub(super) fn hang_up(&self) {
        use nix::sys::socket::{Shutdown, shutdown};
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Sends one message. Nothing is sent when the future is dropped before it completes.
    pub(super) async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() {
            &[][..]
        } else {
            &rights[..]
        };
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| {
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<UnixAddr>(
                    socket.as_raw_fd(),
                    &[IoSlice::new(bytes)],
                    control,
                    flags,
                    None,
                )?)
            });
            match sent {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// The next message; `None` when the other end is closed. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&self) -> io::Result<Option<Packet>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive_now(socket.get_ref())) {
                Ok(Err(error)) if is_disconnect(&error) => return Ok(None),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

fn receive_now(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_DESCRIPTORS]);
    let (length, truncated, descriptors) = {
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                descriptors.extend(sys::own(&numbers));
            }
        }
        (
            message.bytes,
            message.flags.contains(MsgFlags::MSG_TRUNC),
            descriptors,
        )
    };
    if truncated {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet is longer than the limit",
        ));
    }
    if length == 0 {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(Packet { bytes, descriptors }))
}
