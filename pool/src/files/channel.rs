//! A packet socket that also carries descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};

use super::protocol::MAX_PACKET;
use super::sys;

/// What came.
pub(super) enum Incoming {
    /// A packet of this many bytes, and the descriptors beside it.
    Packet(usize, Vec<OwnedFd>),
    /// The other side has closed.
    End,
}

/// Two connected ends; neither survives an `execve` by itself.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// A buffer that any packet fits in.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; MAX_PACKET]
}

/// Takes one packet. A packet that does not fit is `EMSGSIZE`.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> Result<Incoming, Errno> {
    // As many as the kernel passes at once, so that none is lost and left open unseen.
    let mut control = nix::cmsg_space!([libc::c_int; 253]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::ECONNRESET) => return Ok(Incoming::End),
            other => other?,
        };
    let mut descriptors = Vec::new();
    if let Ok(items) = message.cmsgs() {
        for item in items {
            if let ControlMessageOwned::ScmRights(raw) = item {
                descriptors.extend(raw.into_iter().map(sys::own));
            }
        }
    }
    if message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
    {
        return Err(Errno::EMSGSIZE);
    }
    if message.bytes == 0 {
        return Ok(Incoming::End);
    }
    Ok(Incoming::Packet(message.bytes, descriptors))
}

/// Sends one packet, with a descriptor if there is one.
pub(super) fn send(
    socket: &impl AsRawFd,
    packet: &[u8],
    beside: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let raw = beside.map(|file| [file.as_raw_fd()]);
    let rights = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
    let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    let parts = [IoSlice::new(packet)];
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &parts,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}
