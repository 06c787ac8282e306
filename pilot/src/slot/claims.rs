//! The claim ids of this pilot: made, registered as sessions, found again, and forgotten a little after their end.

use std::collections::HashMap;
use std::time::Duration;

use cedar::net::SessionCache;
use cedar::security::SUBMIT_SIDE;
use cedar::{ClaimId, Sinful};
use classad::ClassAd;

use super::event::{ClaimNumber, Time};
use crate::advertise::published::Published;

/// How long the session of an ended claim stays known: the submit side may be on its way with a last word, and
/// deserves an answer instead of a broken handshake.
const LINGER: Duration = Duration::from_secs(10);

/// A claim id could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// No random numbers.
    #[error("cannot make a claim id")]
    Entropy(#[from] cedar::entropy::EntropyError),
    /// The session key cannot be derived.
    #[error("cannot derive the key of a claim")]
    Key(#[from] cedar::crypto::CryptoError),
}

/// What is known of one claim.
#[derive(Debug)]
pub struct Record {
    /// The slot it belongs to.
    pub slot: usize,
    /// The id with its secret.
    pub id: ClaimId,
    /// Who holds it; `None` while it is only offered.
    pub holder: Option<Holder>,
}

/// What REQUEST_CLAIM told.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The request ad.
    pub request: ClassAd,
    /// Where ALIVE and RELEASE_CLAIM go.
    pub schedd: Option<Sinful>,
    /// Address the request came from.
    pub client_machine: String,
}

/// What a peer presents: the session it speaks in, and the claim id of the message. Both must name the same claim.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Id of the session.
    pub session: String,
    /// The id in the message; parsing it keeps its secret out of any Debug output.
    pub claim: ClaimId,
}

/// All claims that can still be spoken of.
#[derive(Debug)]
pub struct ClaimBook {
    address: Published,
    birth: i64,
    next: u64,
    sessions: SessionCache,
    records: HashMap<ClaimNumber, Record>,
    by_session: HashMap<String, ClaimNumber>,
    lingering: Vec<(Time, ClaimNumber)>,
}

impl ClaimBook {
    /// An empty book; ids will name what `address` is when they are made, and `birth`, the unix time of the start.
    #[must_use]
    pub fn new(address: Published, birth: i64, sessions: SessionCache) -> Self {
        Self {
            address,
            birth,
            next: 1,
            sessions,
            records: HashMap::new(),
            by_session: HashMap::new(),
            lingering: Vec::new(),
        }
    }

    /// Makes a new claim for a slot. Its session is known from now on, before anybody can hear of it.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn mint(&mut self, slot: usize) -> Result<ClaimNumber, ClaimError> {
        let number = ClaimNumber(self.next);
        let id = ClaimId::mint(&self.address.get(), self.birth, self.next)?;
        self.next += 1;
        self.sessions.register_claim(&id, SUBMIT_SIDE)?;
        self.by_session.insert(id.session_id().to_owned(), number);
        self.records.insert(
            number,
            Record {
                slot,
                id,
                holder: None,
            },
        );
        Ok(number)
    }

    /// The claim a peer speaks of, if it may.
    #[must_use]
    pub fn resolve(&self, proof: &Proof) -> Option<(ClaimNumber, &Record)> {
        let number = *self.by_session.get(&proof.session)?;
        let record = self.records.get(&number)?;
        (record.id == proof.claim).then_some((number, record))
    }

    /// The claim whose session this is.
    #[must_use]
    pub fn of_session(&self, session: &str) -> Option<(ClaimNumber, &Record)> {
        let number = *self.by_session.get(session)?;
        Some((number, self.records.get(&number)?))
    }

    /// A claim by number.
    #[must_use]
    pub fn get(&self, number: ClaimNumber) -> Option<&Record> {
        self.records.get(&number)
    }

    /// Writes down who holds a claim.
    pub fn hold(&mut self, number: ClaimNumber, holder: Holder) {
        if let Some(record) = self.records.get_mut(&number) {
            record.holder = Some(holder);
        }
    }

    /// The schedd of a claim listens somewhere else now.
    pub fn moved(&mut self, number: ClaimNumber, schedd: Sinful) {
        if let Some(holder) = self
            .records
            .get_mut(&number)
            .and_then(|record| record.holder.as_mut())
        {
            holder.schedd = Some(schedd);
        }
    }

    /// The claim is over: its session goes a little later.
    pub fn end(&mut self, now: Time, number: ClaimNumber) {
        self.lingering.push((now.saturating_add(LINGER), number));
    }

    /// Forgets what has lingered long enough.
    pub fn sweep(&mut self, now: Time) {
        let due: Vec<ClaimNumber> = self
            .lingering
            .iter()
            .filter(|(until, _)| *until <= now)
            .map(|(_, number)| *number)
            .collect();
        self.lingering.retain(|(until, _)| *until > now);
        for number in due {
            if let Some(record) = self.records.remove(&number) {
                self.by_session.remove(record.id.session_id());
                self.sessions.remove_claim(&record.id);
            }
        }
    }

    /// When [`sweep`](Self::sweep) is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.lingering.iter().map(|(until, _)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn book() -> ClaimBook {
        ClaimBook::new(
            Sinful::new(Ipv4Addr::LOCALHOST.into(), 4711).into(),
            1_700_000_000,
            SessionCache::new(),
        )
    }

    fn proof(book: &ClaimBook, session: ClaimNumber, claim: ClaimNumber) -> Proof {
        Proof {
            session: book.get(session).unwrap().id.session_id().to_owned(),
            claim: book.get(claim).unwrap().id.clone(),
        }
    }

    #[test]
    fn a_session_opens_its_own_claim_only() {
        let mut book = book();
        let (a, b) = (book.mint(0).unwrap(), book.mint(1).unwrap());
        assert_eq!(
            book.resolve(&proof(&book, a, a)).map(|found| found.0),
            Some(a)
        );
        assert!(book.resolve(&proof(&book, a, b)).is_none());
        assert!(book.resolve(&proof(&book, b, a)).is_none());
    }

    #[test]
    fn an_ended_claim_is_answered_for_a_while_and_then_unknown() {
        let mut book = book();
        let a = book.mint(0).unwrap();
        let shown = proof(&book, a, a);
        book.end(Time::from_secs(100), a);
        book.sweep(Time::from_secs(105));
        assert!(book.resolve(&shown).is_some());
        assert_eq!(book.deadline(), Some(Time::from_secs(110)));
        book.sweep(Time::from_secs(110));
        assert!(book.resolve(&shown).is_none());
        assert!(book.sessions.is_empty());
    }

    #[test]
    fn no_id_comes_twice() {
        let mut book = book();
        let mut ids = std::collections::HashSet::new();
        for slot in 0..50 {
            let number = book.mint(slot).unwrap();
            assert!(ids.insert(book.get(number).unwrap().id.public()));
        }
    }
}
