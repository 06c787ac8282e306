//! What the name service has told the broker, seen by the monitor itself: whatever the broker says, an account
//! has the numbers that it has. The service (`sailplane-names`, running as nobody) sends a copy of each
//! question and then of its answer before the broker gets it.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use launch_protocol::MAX_PACKET;
use launch_protocol::policy::{Answer, Ask, Entry, Query, Reply, Request};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// More is not kept.
const MOST: usize = 4096;

/// The copies, and what they say.
#[derive(Debug)]
pub(crate) struct Names {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The question whose answer comes next.
    asked: Option<(u32, Vec<Query>)>,
    known: HashMap<Query, Option<Entry>>,
    ended: bool,
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Names {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: vec![0; MAX_PACKET],
            asked: None,
            known: HashMap::new(),
            ended: false,
        }
    }

    /// Nothing more will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes in what is there.
    pub(crate) fn listen(&mut self) {
        while !self.ended {
            let raw = self.socket.as_raw_fd();
            match recv(raw, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Ok(length) if length > 0 => self.ended = self.hear(length).is_none(),
                _ => self.ended = true,
            }
        }
    }

    fn hear(&mut self, length: usize) -> Option<()> {
        let packet = self.buffer.get(..length)?;
        let Some((id, queries)) = self.asked.take() else {
            let Request { id, ask } = Request::decode(packet).ok()?;
            let Ask::Names(queries) = ask else {
                return None;
            };
            self.asked = Some((id, queries));
            return Some(());
        };
        let answer = Answer::decode(packet).ok().filter(|it| it.id == id)?;
        match answer.reply {
            Reply::Names(entries) if entries.len() == queries.len() => {
                if self.known.len() > MOST {
                    self.known.clear();
                }
                self.known.extend(queries.into_iter().zip(entries));
                Some(())
            }
            Reply::Refused(_) => Some(()),
            _ => None,
        }
    }

    /// The latest answer: `None`: it was not asked.
    pub(crate) fn get(&mut self, query: &Query) -> Option<Option<&Entry>> {
        self.listen();
        self.known.get(query).map(Option::as_ref)
    }
}
