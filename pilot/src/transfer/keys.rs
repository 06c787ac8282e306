//! Keys for delegated proxies, made ahead of need: a 2048-bit RSA key takes a good part of a tenth of a second.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use credential::{DelegationError, DelegationRequest};
use thiserror::Error;

/// How many keys wait. Each job uses one and a new one is begun at once.
const READY: usize = 2;

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
    ready: Arc<Mutex<VecDeque<DelegationRequest>>>,
}

impl DelegationKeys {
    /// An empty store that begins to fill itself in the background. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let keys = Self {
            ready: Arc::default(),
        };
        keys.refill();
        keys
    }

    /// Takes a request out of the store, or makes one if it is empty.
    ///
    /// # Errors
    /// [`KeyError`]
    pub async fn take(&self) -> Result<DelegationRequest, KeyError> {
        let ready = self.lock().pop_front();
        let request = match ready {
            Some(request) => request,
            None => tokio::task::spawn_blocking(DelegationRequest::generate)
                .await
                .map_err(|_| KeyError::Ending)?
                .map_err(KeyError::Generate)?,
        };
        self.refill();
        Ok(request)
    }

    fn refill(&self) {
        let keys = self.clone();
        // Nobody waits for it; when it fails, the next `take` will say so.
        drop(tokio::task::spawn_blocking(move || {
            while keys.lock().len() < READY {
                match DelegationRequest::generate() {
                    Ok(request) => keys.lock().push_back(request),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot make a delegation key"
                        );
                        return;
                    }
                }
            }
        }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<DelegationRequest>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
