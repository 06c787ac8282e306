use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::claim::SessionInfo;
use crate::crypto::{self, CryptoError};
use crate::security::{PeerIdentity, Session, SessionSource, SessionStore};
use crate::{ClaimId, Version};

/// The sessions of this process, shared by its clients and servers. Clones share one store.
#[derive(Debug, Clone, Default)]
pub struct SessionCache {
    store: Arc<Mutex<SessionStore>>,
}

impl SessionCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers both sessions of a claim, the claim's own and that of its file transfers, with
    /// `peer` as the identity of the other side, such as
    /// [`SUBMIT_SIDE`](crate::security::SUBMIT_SIDE). Does nothing if the id carries no session.
    ///
    /// Register when the id is made, before it is advertised: a schedd may be quicker than a log.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] if the key cannot be derived.
    pub fn register_claim(&self, claim: &ClaimId, peer: &str) -> Result<(), CryptoError> {
        let Some(info) = claim.session_info() else {
            return Ok(());
        };
        let key = claim.key()?;
        let session = |id: String, source| Session {
            id,
            key: key.clone(),
            source,
            peer: PeerIdentity::named(peer),
            peer_version: info.version,
            our_user: None,
            expires: info.expires,
            lease: None,
            last_used: unix_now(),
        };
        let mut store = self.lock();
        store.insert(session(claim.session_id().to_owned(), SessionSource::Claim));
        store.insert(session(
            claim.file_transfer_session_id(),
            SessionSource::FileTransfer,
        ));
        Ok(())
    }

    /// Forgets both sessions of a claim.
    pub fn remove_claim(&self, claim: &ClaimId) {
        let mut store = self.lock();
        store.remove(claim.session_id());
        store.remove(&claim.file_transfer_session_id());
    }

    /// Registers a session handed out in words, as by `get_sec_session_info` (protocol 01 section
    /// 6.5): its id, its info without brackets or with, its key text, and the peer's identity.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] if the key cannot be derived.
    pub fn register_session(
        &self,
        id: &str,
        info: &SessionInfo,
        key_text: &str,
        peer: &str,
    ) -> Result<(), CryptoError> {
        let session = Session {
            id: id.to_owned(),
            key: crypto::session_key(key_text.as_bytes())?,
            source: SessionSource::FileTransfer,
            peer: PeerIdentity::named(peer),
            peer_version: info.version,
            our_user: None,
            expires: info.expires,
            lease: None,
            last_used: unix_now(),
        };
        self.lock().insert(session);
        Ok(())
    }

    /// Forgets one session.
    pub fn remove(&self, session_id: &str) {
        self.lock().remove(session_id);
    }

    /// Number of sessions known.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version of the other side of a session, if known.
    pub fn peer_version(&self, session_id: &str) -> Option<Version> {
        self.lock().by_id(session_id, unix_now())?.peer_version
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SessionStore> {
        // The store is consistent between any two statements, so a panic elsewhere spoils nothing.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, in whole unix seconds.
pub(crate) fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}
