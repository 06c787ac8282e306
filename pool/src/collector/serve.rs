//! The wire side: one connection at a time, its commands one after the other.

use std::collections::VecDeque;
use std::time::Duration;

use cedar::net::{Error, Incoming, Message, Stream};
use cedar::{WireError, command};
use classad::ClassAd;
use thiserror::Error;

use super::Collector;
use super::kind::{Action, Kind, action};
use super::query::{BadQuery, Query};
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

    async fn connection(&self, mut incoming: Incoming) -> Result<(), Trouble> {
        let sender = Sender {
            user: incoming
                .session_id
                .is_some()
                .then(|| incoming.peer.user.clone()),
            method: incoming.peer.method.map(|method| method.name()),
        };
        incoming.stream.set_max_message(MAX_MESSAGE);
        incoming.stream.set_write_timeout(Some(SLOW_READER));
        let mut number = incoming.command;
        loop {
            let message = incoming.stream.recv().await?;
            // Tools take leave with a command that does nothing.
            if number != command::DC_NOP {
                let action = action(number).ok_or(Trouble::Unknown(number))?;
                self.run(&mut incoming.stream, &message, &action, &sender)
                    .await?;
            }
            // Whoever sends no news for longer than ads live has nothing here that a new connection could not do.
            let silence = self.longest_silence();
            incoming.stream.set_read_timeout(Some(silence));
            number = match incoming.next_command().await? {
                Some(number) => number,
                None => return Ok(()),
            };
        }
    }

    async fn run(
        &self,
        stream: &mut Stream,
        message: &Message,
        action: &Action,
        sender: &Sender,
    ) -> Result<(), Trouble> {
        match action {
            Action::Update(kind) => {
                let taken = self.take_update(message, kind.as_ref(), sender);
                report(taken)
            }
            Action::UpdateWithAck => {
                report(self.take_update(message, Some(&Kind::Machine), sender))?;
                let mut reply = stream.message();
                reply.int(1);
                Ok(stream.send(reply).await?)
            }
            Action::Merge => {
                let changes = self.read_ad(message)?;
                report(self.merge(changes).map_err(Trouble::from))
            }
            Action::Invalidate(kind) => {
                let query = self.read_ad(message)?;
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
                let query = Query::read(action, self.read_ad(message)?)?;
                self.answer(stream, &query).await
            }
        }
    }

    fn read_ad(&self, message: &Message) -> Result<ClassAd, WireError> {
        self.lines().ad(&mut message.reader())
    }

    fn take_update(
        &self,
        message: &Message,
        kind: Option<&Kind>,
        sender: &Sender,
    ) -> Result<(), Trouble> {
        let mut reader = message.reader();
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
                if let Some(ad) = pass.answer(query, &record, now) {
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
