//! Where the credential comes from.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;

use credential::MAX_BUNDLE_BYTES;
use launch_protocol::MAX_PACKET;
use launch_protocol::verdict::{MAX_VERIFY_REQUEST, words_of};

use crate::{Failure, sys};

/// Waits for a packet of the broker and takes the descriptor beside it. `None` when it closed
/// without sending any.
///
/// # Errors
/// A packet longer than any the broker sends, or without exactly one descriptor.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Option<(Vec<u8>, OwnedFd)>, Failure> {
    let mut packet = vec![0u8; MAX_VERIFY_REQUEST];
    let (length, descriptor) = sys::receive(socket, &mut packet)?;
    packet.truncate(length);
    match descriptor {
        None if length == 0 => Ok(None),
        Some(descriptor) => Ok(Some((packet, descriptor))),
        None => Err(Failure::HandOver),
    }
}

/// Waits for the words that this program was started without. `None`: the socket was closed instead.
///
/// # Errors
/// It cannot be read, or the packet is not that.
pub(crate) fn receive_words(socket: &OwnedFd) -> Result<Option<Vec<String>>, Failure> {
    let mut packet = vec![0u8; MAX_PACKET];
    match sys::receive(socket, &mut packet)? {
        (0, None) => Ok(None),
        (length, None) => {
            packet.truncate(length);
            words_of(&packet).map(Some).map_err(|_| Failure::HandOver)
        }
        (_, Some(_)) => Err(Failure::HandOver),
    }
}

/// Reads from the beginning, where there is one: whoever filled a memory file may have left the
/// position at its end.
///
/// # Errors
/// The descriptor cannot be read.
pub(crate) fn read_all(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    match file.rewind() {
        // A pipe has no beginning to go back to.
        Err(error) if error.raw_os_error() != Some(libc::ESPIPE) => Err(error),
        _ => read(file.into()),
    }
}

/// Reads to the end, or to one byte more than a credential may have: then the verdict will say so.
///
/// # Errors
/// The descriptor cannot be read.
pub(crate) fn read(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let limit = MAX_BUNDLE_BYTES + 1;
    // Reserved at once: a buffer that grows leaves copies of the key behind.
    let mut bytes = Vec::with_capacity(limit);
    File::from(descriptor)
        .take(limit as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
