//! The session cache, without a clock and without locks.

use std::collections::HashMap;

use super::session::{Session, SessionSource};

/// Seconds a server keeps a session beyond its announced end (protocol 01 section 3.6).
const SERVER_SLOP: i64 = 20;

/// Most negotiated sessions kept; those idle longest make room. About 1 KiB each.
const MAX_NEGOTIATED: usize = 8192;

/// How many make room at once, so that a flood of new ones does not search the store each time.
const EVICTED: usize = 512;

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

    /// Adds a session, replacing one with the same id. Negotiated sessions are limited in number;
    /// sessions of claims live as long as their claims.
    pub fn insert(&mut self, session: Session) {
        let more = session.source.is_negotiated() && !self.by_id.contains_key(&session.id);
        if more && self.by_id.len() >= MAX_NEGOTIATED && self.negotiated() >= MAX_NEGOTIATED {
            self.purge(session.last_used);
            self.evict(self.negotiated().saturating_sub(MAX_NEGOTIATED - EVICTED));
        }
        self.by_id.insert(session.id.clone(), session);
    }

    fn negotiated(&self) -> usize {
        let sessions = self.by_id.values();
        sessions
            .filter(|known| known.source.is_negotiated())
            .count()
    }

    /// Drops the negotiated sessions that have been idle longest: the peers negotiate again.
    fn evict(&mut self, count: usize) {
        let mut idle: Vec<_> = self
            .by_id
            .values()
            .filter(|known| known.source.is_negotiated())
            .map(|known| (known.last_used, known.id.clone()))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(count) {
            self.by_id.remove(&id);
        }
        self.forget_targets();
    }

    /// Drops the ways to sessions that are gone.
    fn forget_targets(&mut self) {
        let by_id = &self.by_id;
        self.by_target.retain(|_, id| by_id.contains_key(id));
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

    /// Forgets the sessions that we negotiated with the server dialled as `address`.
    pub fn forget_target(&mut self, address: &str) {
        let by_id = &mut self.by_id;
        self.by_target.retain(|(target, _), id| {
            let is_it = target == address;
            if is_it
                && by_id
                    .get(id)
                    .is_some_and(|known| known.source == SessionSource::Negotiated)
            {
                by_id.remove(id);
            }
            !is_it
        });
        self.forget_targets();
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
        self.forget_targets();
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
    fn the_sessions_of_one_server_are_forgotten_and_no_others() {
        let mut store = SessionStore::new();
        for (id, source) in [
            ("a", SessionSource::Negotiated),
            ("b", SessionSource::Negotiated),
            ("claim", SessionSource::Claim),
        ] {
            store.insert(session(id, source));
        }
        store.bind("<h:1>", &[0, 5], "a");
        store.bind("<h:2>", &[0], "b");
        store.bind("<h:1>", &[7], "claim");
        store.forget_target("<h:1>");
        assert!(store.for_target("<h:1>", 0, 1).is_none());
        assert!(store.for_target("<h:2>", 0, 1).is_some());
        assert!(store.by_id("a", 1).is_none());
        assert!(store.by_id("claim", 1).is_some());
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
        let mut claim = session("claim", SessionSource::Claim);
        (claim.expires, claim.lease) = (None, None);
        store.insert(claim);
        for index in 0..3 * MAX_NEGOTIATED {
            let mut new = session(&format!("s{index}"), SessionSource::Accepted);
            new.last_used = i64::try_from(index).unwrap();
            new.expires = None;
            new.lease = None;
            store.insert(new);
            assert!(store.len() <= MAX_NEGOTIATED + 1);
        }
        assert!(store.by_id("claim", 0).is_some(), "a claim's session went");
        assert!(store.by_id("s0", 0).is_none(), "the oldest stayed");
        let newest = format!("s{}", 3 * MAX_NEGOTIATED - 1);
        assert!(store.by_id(&newest, 0).is_some(), "the newest went");
    }

    #[test]
    fn what_has_expired_makes_room_before_anything_live() {
        let mut store = SessionStore::new();
        store.insert(session("live", SessionSource::Accepted));
        if let Some(live) = store.by_id.get_mut("live") {
            (live.expires, live.lease) = (None, None);
        }
        for index in 0..MAX_NEGOTIATED - 1 {
            let mut dead = session(&format!("d{index}"), SessionSource::Accepted);
            dead.last_used = 500;
            store.insert(dead);
        }
        let mut new = session("new", SessionSource::Accepted);
        new.last_used = 5000;
        new.expires = Some(6000);
        store.insert(new);
        assert!(store.by_id("live", 5000).is_some());
        assert_eq!(store.len(), 2);
    }
}
