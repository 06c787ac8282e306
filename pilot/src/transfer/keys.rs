//! Keys for delegated proxies, made ahead of need: a 2048-bit RSA key takes a good part of a tenth of a second.
//!
//! Each proxy gets a key of its own (RFC 3820 section 3), so that a key one job gives away opens no other job's proxy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use credential::{DelegationError, DelegationRequest};
use thiserror::Error;

/// How many keys wait: a burst of short jobs on a few slots finds one each.
const READY: usize = 4;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The cryptographic library failed.
    #[error("no key could be made for the delegated proxy")]
    Generate(#[source] DelegationError),
    /// The pilot is ending.
    #[error("the pilot is ending")]
    Ending,
}

/// A small store of certificate requests, each with a key of its own that is used for one job only. Clones share it.
#[derive(Debug, Clone)]
pub struct DelegationKeys {
    store: Arc<Mutex<Store>>,
}

#[derive(Debug, Default)]
struct Store {
    ready: VecDeque<DelegationRequest>,
    /// A thread is making keys.
    is_filling: bool,
}

impl DelegationKeys {
    /// An empty store that begins to fill itself in the background. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let keys = Self {
            store: Arc::default(),
        };
        keys.refill();
        keys
    }

    /// An empty store that makes nothing ahead of need.
    #[cfg(test)]
    pub(crate) fn lazy() -> Self {
        Self {
            store: Arc::default(),
        }
    }

    /// Takes a request out of the store, or makes one if it is empty.
    ///
    /// # Errors
    /// [`KeyError`]
    pub async fn take(&self) -> Result<DelegationRequest, KeyError> {
        let ready = self.lock().ready.pop_front();
        self.refill();
        match ready {
            Some(request) => Ok(request),
            None => tokio::task::spawn_blocking(DelegationRequest::generate)
                .await
                .map_err(|_| KeyError::Ending)?
                .map_err(KeyError::Generate),
        }
    }

    /// Sees to it that one thread makes keys while some are missing.
    fn refill(&self) {
        {
            let mut store = self.lock();
            if store.is_filling || store.ready.len() >= READY {
                return;
            }
            store.is_filling = true;
        }
        let keys = self.clone();
        // Nobody waits for it; when it fails, the next `take` will say so.
        drop(tokio::task::spawn_blocking(move || {
            loop {
                let made = DelegationRequest::generate();
                let mut store = keys.lock();
                match made {
                    Ok(request) => store.ready.push_back(request),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "cannot make a delegation key");
                        store.is_filling = false;
                        return;
                    }
                }
                if store.ready.len() >= READY {
                    store.is_filling = false;
                    return;
                }
            }
        }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
