//! What the name service has told the broker, seen by the monitor itself: whatever the broker says, an account
//! has the numbers that it has. The service (`sailplane-names`, running as nobody) sends a copy of each
//! question and then of its answer before the broker gets it.

use std::os::fd::{AsRawFd as _, OwnedFd};

use launch_protocol::MAX_PACKET;
use launch_protocol::policy::{Entry, Query, Witness};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// The copies, and what they say.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) socket: OwnedFd,
    buffer: Vec<u8>,
    witness: Witness,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

impl Names {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let (buffer, witness) = (vec![0; MAX_PACKET], Witness::default());
        Self { socket, buffer, witness, ended: false }
    }

    /// Takes in what is there.
    pub(crate) fn listen(&mut self) {
        while !self.ended {
            let raw = self.socket.as_raw_fd();
            let heard = match recv(raw, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Ok(length @ 1..) => self.buffer.get(..length).and_then(|it| self.witness.hear(it)),
                _ => None,
            };
            self.ended = heard.is_none();
        }
    }

    /// The latest answer: `None`: it was not asked.
    pub(crate) fn get(&mut self, query: &Query) -> Option<Option<&Entry>> {
        self.listen();
        self.witness.get(query)
    }
}
