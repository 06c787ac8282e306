//! The session cache, without a clock and without locks.

use std::collections::HashMap;

use super::session::{Session, SessionSource};

/// Seconds a server keeps a session beyond its announced end (protocol 01 section 3.6).
const SERVER_SLOP: i64 = 20;

/// Most negotiated sessions kept; the one idle longest makes room.
const MAX_NEGOTIATED: usize = 4096;

/// Sessions by id, and which of them a client uses for an address and command.
#[derive(Debug, Default)]
pub struct SessionStore {
    by_id: HashMap<String, Session>,
    by_target: HashMap<(String, i32), String>,
}

impl SessionStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a session, replacing one with the same id.
    pub fn insert(&mut self, session: Session) {
        let negotiated = |session: &Session| session.source.is_negotiated();
        if negotiated(&session) && !self.by_id.contains_key(&session.id) {
            let count = self
                .by_id
                .values()
                .filter(|known| negotiated(known))
                .count();
            if count >= MAX_NEGOTIATED {
                let oldest = self
                    .by_id
                    .values()
                    .filter(|known| negotiated(known))
                    .min_by_key(|known| known.last_used)
                    .map(|known| known.id.clone());
                if let Some(id) = oldest {
                    self.remove(&id);
                }
            }
        }
        self.by_id.insert(session.id.clone(), session);
    }

    /// Remembers that `session_id` serves `commands` at the server dialled as `address`.
    pub fn bind(&mut self, address: &str, commands: &[i32], session_id: &str) {
        for command in commands {
            self.by_target
                .insert((address.to_owned(), *command), session_id.to_owned());
        }
    }

    /// The session a client should resume for a command, if one is live at unix time `now`.
    pub fn for_target(&mut self, address: &str, command: i32, now: i64) -> Option<Session> {
        let id = self.by_target.get(&(address.to_owned(), command))?.clone();
        match self.use_session(&id, now, 0) {
            Some(session) => Some(session),
            None => {
                self.by_target.remove(&(address.to_owned(), command));
                None
            }
        }
    }

    /// The session a client names itself, such as a claim's.
    pub fn by_id(&mut self, id: &str, now: i64) -> Option<Session> {
        self.use_session(id, now, 0)
    }

    /// The session a peer asks to resume, with the slop a server grants. Sessions that we made as a
    /// client are not open to the other side.
    pub fn for_peer(&mut self, id: &str, now: i64) -> Option<Session> {
        if self.by_id.get(id)?.source == SessionSource::Negotiated {
            return None;
        }
        self.use_session(id, now, SERVER_SLOP)
    }

    fn use_session(&mut self, id: &str, now: i64, slop: i64) -> Option<Session> {
        let session = self.by_id.get_mut(id)?;
        if !session.is_live(now, slop) {
            self.remove(id);
            return None;
        }
        session.last_used = now;
        Some(session.clone())
    }

    /// Forgets a session of any kind.
    pub fn remove(&mut self, id: &str) -> bool {
        self.by_target.retain(|_, target| target != id);
        self.by_id.remove(id).is_some()
    }

    /// Forgets a session on the word of a peer (`DC_INVALIDATE_KEY`): only negotiated ones.
    pub fn invalidate(&mut self, id: &str) -> bool {
        match self.by_id.get(id) {
            Some(session) if session.source.is_negotiated() => self.remove(id),
            _ => false,
        }
    }

    /// Drops what has expired.
    pub fn purge(&mut self, now: i64) {
        self.by_id
            .retain(|_, session| session.is_live(now, SERVER_SLOP));
        let by_id = &self.by_id;
        self.by_target.retain(|_, id| by_id.contains_key(id));
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SessionKey;
    use crate::security::PeerIdentity;

    fn session(id: &str, source: SessionSource) -> Session {
        Session {
            id: id.to_owned(),
            key: SessionKey::new([0; 32]),
            source,
            peer: PeerIdentity::unauthenticated(),
            peer_version: None,
            our_user: None,
            expires: Some(1000),
            lease: Some(100),
            last_used: 0,
        }
    }

    #[test]
    fn a_stranger_can_end_negotiated_sessions_only() {
        let mut store = SessionStore::new();
        store.insert(session("a", SessionSource::Negotiated));
        store.insert(session("b", SessionSource::Claim));
        assert!(store.invalidate("a"));
        assert!(!store.invalidate("b"));
        assert!(!store.invalidate("c"));
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_session_we_made_as_a_client_is_not_open_to_the_server() {
        let mut store = SessionStore::new();
        store.insert(session("a", SessionSource::Negotiated));
        store.insert(session("b", SessionSource::Accepted));
        assert!(store.for_peer("a", 1).is_none());
        assert!(store.by_id("a", 1).is_some());
        assert!(store.for_peer("b", 1).is_some());
    }

    #[test]
    fn use_extends_the_lease_but_not_the_end() {
        let mut store = SessionStore::new();
        store.insert(session("a", SessionSource::Negotiated));
        store.bind("<h:1>", &[0, 5], "a");
        for now in (50..1000).step_by(90) {
            assert!(store.for_target("<h:1>", 5, now).is_some(), "at {now}");
        }
        assert!(store.for_target("<h:1>", 5, 1000).is_none());
        assert!(store.is_empty());
        store.insert(session("a", SessionSource::Negotiated));
        store.bind("<h:1>", &[5], "a");
        assert!(store.for_target("<h:1>", 5, 100).is_none(), "idle too long");
    }

    #[test]
    fn the_store_does_not_grow_without_bound() {
        let mut store = SessionStore::new();
        store.insert(session("claim", SessionSource::Claim));
        for index in 0..MAX_NEGOTIATED + 10 {
            let mut new = session(&format!("s{index}"), SessionSource::Accepted);
            new.last_used = i64::try_from(index).unwrap();
            store.insert(new);
        }
        assert_eq!(store.len(), MAX_NEGOTIATED + 1);
        assert!(store.by_id("claim", 0).is_some());
        store.purge(1_000_000);
        assert!(store.is_empty());
    }
}
