//! Waiting for one of the places for transfers.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A place in the queue of transfers.
pub(super) trait Turn: Send {
    /// Waits for our turn, for this time at most; `true` if it has come, and ever after.
    fn come(&mut self, patience: Duration) -> impl Future<Output = bool> + Send;
}

/// One of a number of places, held until it is dropped. `began` is called when it has been got.
pub(super) struct Place<'a, F> {
    places: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
    began: F,
}

impl<'a, F: FnMut() + Send> Place<'a, F> {
    pub(super) fn new(places: &'a Semaphore, began: F) -> Self {
        Self {
            places,
            permit: None,
            began,
        }
    }
}

impl<F: FnMut() + Send> Turn for Place<'_, F> {
    async fn come(&mut self, patience: Duration) -> bool {
        if self.permit.is_none()
            && let Ok(Ok(permit)) = tokio::time::timeout(patience, self.places.acquire()).await
        {
            self.permit = Some(permit);
            (self.began)();
        }
        self.permit.is_some()
    }
}
