//! What the name service has told the broker, seen by the monitor itself: whatever the broker says, an account
//! has the numbers that it has. The service (`sailplane-names`, running as nobody) sends a copy of each
//! question and then of its answer before the broker gets it. Until somebody has been admitted the broker, which has
//! heard nothing from a stranger yet, may do that by itself.

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
    /// The broker itself tells.
    is_brokers: bool,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

impl Names {
    /// Of a broker that has not heard anything from a stranger.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let (buffer, witness) = (vec![0; MAX_PACKET], Witness::default());
        Self { socket, buffer, witness, is_brokers: true, ended: false }
    }

    /// From now on the service tells, here; what is known stays known.
    pub(crate) fn move_to(&mut self, socket: OwnedFd) {
        self.listen();
        (self.socket, self.is_brokers, self.ended) = (socket, false, false);
    }

    /// The broker will hear strangers: what it tells by itself from now on does not count.
    pub(crate) fn distrust_broker(&mut self) {
        self.listen();
        self.ended |= self.is_brokers;
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
