//! The wire side: one connection at a time, its commands one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cedar::net::{Error, Incoming, Message, Stream};
use cedar::security::Level;
use cedar::{WireError, command};
use classad::ClassAd;
use thiserror::Error;

use super::Collector;
use super::kind::{Action, Kind, action};
use super::query::{BadQuery, Pass, Query};
use super::record::Record;
use super::store::{Refused, Sender, Stored};

/// Longest message taken: an ad of a large node has some hundred kilobytes.
const MAX_MESSAGE: usize = 4 << 20;

/// Answers are sent in pieces of about this many bytes.
const PIECE: usize = 128 << 10;

/// After this many ads looked at, other tasks have their turn.
const TURN: usize = 256;

/// How long a tool may take to read one piece of an answer (`QUERY_TIMEOUT` is 60 in HTCondor).
const SLOW_READER: Duration = Duration::from_secs(60);

/// Why a connection ends other than in peace.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Connection(#[from] Error),
    #[error("its message cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("its query cannot be answered: {0}")]
    Query(#[from] BadQuery),
    #[error("its ad was not taken: {0}")]
    Refused(#[from] Refused),
    #[error("command {} needs more than this connection has", command::Named(*.0))]
    NotAllowed(i32),
    #[error("command {} is not one of the collector's", command::Named(*.0))]
    Unknown(i32),
}

impl Collector {
    /// Serves one connection to its end: a query, or any number of updates.
    pub async fn serve(&self, incoming: Incoming) {
        let peer = incoming.stream.peer_addr();
        let user = incoming.peer.user.clone();
        match self.connection(incoming).await {
            Ok(()) => {}
            Err(Trouble::Connection(error)) if error.is_closed() => {}
            Err(trouble) => {
                tracing::warn!(%peer, user, "a connection to the collector ends: {trouble}")
            }
        }
    }

    async fn connection(&self, incoming: Incoming) -> Result<(), Trouble> {
        let sender = Sender {
            user: incoming
                .session_id
                .is_some()
                .then(|| incoming.peer.user.clone()),
            method: incoming.peer.method.map(|method| method.name()),
        };
        let mut stream = incoming.stream;
        stream.set_max_message(MAX_MESSAGE);
        stream.set_write_timeout(Some(SLOW_READER));
        let mut number = incoming.command;
        let mut message = stream.recv().await?;
        let Some((_, granted)) = action(number) else {
            return Err(Trouble::Unknown(number));
        };
        let mut bare = false;
        loop {
            let (action, level) = action(number).ok_or(Trouble::Unknown(number))?;
            if !may_follow(granted, level) {
                return Err(Trouble::NotAllowed(number));
            }
            self.run(&mut stream, &message, bare, &action, &sender)
                .await?;
            // Whoever sends no news for longer than ads live has nothing here that a new connection could not do.
            stream.set_read_timeout(Some(self.longest_silence()));
            (number, message) = match next(&mut stream).await? {
                Some(next) => next,
                None => return Ok(()),
            };
            bare = true;
        }
    }

    async fn run(
        &self,
        stream: &mut Stream,
        message: &Message,
        bare: bool,
        action: &Action,
        sender: &Sender,
    ) -> Result<(), Trouble> {
        match action {
            Action::Update(kind) => {
                let taken = self.take_update(message, bare, kind.as_ref(), sender);
                report(taken)
            }
            Action::UpdateWithAck => {
                report(self.take_update(message, bare, Some(&Kind::Machine), sender))?;
                let mut reply = stream.message();
                reply.int(1);
                Ok(stream.send(reply).await?)
            }
            Action::Merge => {
                let changes = self.read_ad(message, bare)?;
                report(self.merge(changes).map_err(Trouble::from))
            }
            Action::Invalidate(kind) => {
                let query = self.read_ad(message, bare)?;
                let target = query.string("TargetType");
                let by_target = || target.as_deref().map(Kind::from_type);
                let kind = match kind {
                    Some(Kind::Machine) if by_target() == Some(Kind::StartDaemon) => {
                        Kind::StartDaemon
                    }
                    Some(kind) => kind.clone(),
                    None => by_target().ok_or(BadQuery::NoTarget)?,
                };
                let count = self.invalidate(&kind, &query);
                tracing::info!(peer = %stream.peer_addr(), %kind, count, name = query.string("Name"), "ads taken back");
                Ok(())
            }
            Action::Query(_) | Action::QueryPrivate | Action::QueryMultiple(_) => {
                let query = Query::read(action, self.read_ad(message, bare)?)?;
                self.answer(stream, &query).await
            }
        }
    }

    fn read_ad(&self, message: &Message, bare: bool) -> Result<ClassAd, WireError> {
        let mut reader = message.reader();
        if bare {
            reader.int()?;
        }
        self.lines().ad(&mut reader)
    }

    fn take_update(
        &self,
        message: &Message,
        bare: bool,
        kind: Option<&Kind>,
        sender: &Sender,
    ) -> Result<(), Trouble> {
        let mut reader = message.reader();
        if bare {
            reader.int()?;
        }
        let (public, private) = {
            let mut lines = self.lines();
            let public = lines.ad(&mut reader)?;
            let private = if reader.at_end() || kind != Some(&Kind::Machine) {
                None
            } else {
                Some(lines.ad(&mut reader)?)
            };
            (public, private)
        };
        let my_type = public.string("MyType").filter(|text| !text.is_empty());
        let kind = match (kind, my_type) {
            // Slots and the startd itself come by the same command.
            (Some(Kind::Machine), Some(name)) if Kind::from_type(&name) == Kind::StartDaemon => {
                Kind::StartDaemon
            }
            (Some(kind), _) => kind.clone(),
            (None, Some(name)) => Kind::Generic(name.to_ascii_lowercase().into()),
            (None, None) => return Err(Refused::Typeless.into()),
        };
        self.store_update(&kind, public, private, sender)?;
        Ok(())
    }

    pub(super) fn store_update(
        &self,
        kind: &Kind,
        public: ClassAd,
        private: Option<ClassAd>,
        sender: &Sender,
    ) -> Result<Stored, Refused> {
        let name = public.string("Name");
        let stored =
            self.with_store(|store, now| store.update(kind, public, private, sender, now))?;
        if stored.new {
            tracing::info!(%kind, name, user = sender.user, "new ad");
        }
        if stored.offers_more {
            self.announce_change();
        }
        Ok(stored)
    }

    /// Sends the answer as one message, in pieces: the memory it takes does not depend on the number of ads.
    async fn answer(&self, stream: &mut Stream, query: &Query) -> Result<(), Trouble> {
        let now = super::unix_now();
        let mut left = query.limit;
        let mut sent = 0_usize;
        let mut piece = stream.message();
        for pass in &query.passes {
            let mut records = VecDeque::from(self.records_for(&pass.kind));
            let mut allowed = pass.limit().min(left);
            let mut looked_at = 0_usize;
            while let Some(record) = records.pop_front() {
                looked_at += 1;
                if allowed == 0 {
                    break;
                }
                if let Some(ad) = found(pass, query, &record, now) {
                    piece.int(1).ad(&ad);
                    allowed -= 1;
                    left -= 1;
                    sent += 1;
                }
                if piece.len() >= PIECE {
                    let full = std::mem::replace(&mut piece, stream.message());
                    stream.send_part(full).await?;
                } else if looked_at.is_multiple_of(TURN) {
                    tokio::task::yield_now().await;
                }
            }
        }
        piece.int(0);
        stream.send(piece).await?;
        tracing::debug!(peer = %stream.peer_addr(), sent, "query answered");
        Ok(())
    }
}

fn found(pass: &Pass, query: &Query, record: &Record, now: i64) -> Option<Arc<ClassAd>> {
    pass.answer(query, record, now)
}

/// An ad that is not taken is the sender's own fault and costs it nothing but this ad, as in HTCondor.
fn report(taken: Result<(), Trouble>) -> Result<(), Trouble> {
    match taken {
        Err(trouble @ Trouble::Refused(_)) => {
            tracing::warn!("{trouble}");
            Ok(())
        }
        other => other,
    }
}

/// Whether a connection that was opened for a command of one level may go on with one of another.
fn may_follow(granted: Level, wanted: Level) -> bool {
    granted.implies(wanted)
}

/// The next command on the connection, its number still in front of the message. `None` at the end.
async fn next(stream: &mut Stream) -> Result<Option<(i32, Message)>, Trouble> {
    loop {
        let message = match stream.recv().await {
            Ok(message) => message,
            Err(error) if error.is_closed() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let number = message.reader().int32()?;
        if number != command::DC_NOP {
            return Ok(Some((number, message)));
        }
    }
}
