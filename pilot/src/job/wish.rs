//! What the submit side wishes of a job while it runs: to rest, to go on, or to use a renewed credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Wishes a job may have waiting.
const WAITING: usize = 8;

/// One wish.
#[derive(Debug)]
pub enum Wish {
    /// Every process of the payload stops for a while.
    Suspend,
    /// They go on.
    Continue,
    /// A renewed proxy (commands 487 and 500 of the shadow).
    Renew {
        /// Certificates and key, PEM.
        credential: Zeroizing<Vec<u8>>,
        /// What became of it. Dropped: the job does not run (yet, or any more).
        answer: oneshot::Sender<Renewal>,
    },
}

/// What became of a renewed proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The job uses it from now on.
    Taken,
    /// It was refused, and the old one stays.
    Refused,
    /// The job has none, so there is nothing to renew.
    Declined,
}

impl Renewal {
    /// The answer on the wire (protocol page 03, section 9).
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Refused => 0,
            Self::Taken => 1,
            Self::Declined => 2,
        }
    }
}

/// The submit side's end of the wishes.
#[derive(Debug, Clone)]
pub struct WishSender {
    sender: mpsc::Sender<Wish>,
    is_running: Arc<AtomicBool>,
}

impl WishSender {
    /// Passes a wish on. What a job cannot hear of is dropped.
    ///
    /// A renewed proxy is dropped, and so answered, at once unless the payload runs: before and after, the job waits
    /// for answers of the very shadow that would wait for this one.
    pub fn send(&self, wish: Wish) {
        let is_heard =
            self.is_running.load(Ordering::Acquire) || !matches!(wish, Wish::Renew { .. });
        if is_heard {
            // One that has too many waiting, or is over, hears of no more.
            let _ = self.sender.try_send(wish);
        }
    }
}

/// The job's end of its wishes.
#[derive(Debug)]
pub struct Wishes {
    receiver: mpsc::Receiver<Wish>,
    is_running: Arc<AtomicBool>,
}

impl Wishes {
    /// Where wishes go, and where they come out.
    #[must_use]
    pub fn channel() -> (WishSender, Self) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let is_running = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&is_running);
        (
            WishSender { sender, is_running },
            Self {
                receiver,
                is_running: other,
            },
        )
    }

    /// From now on every wish is heard: nothing waits for the shadow until the payload has ended.
    pub fn open(&self) {
        self.is_running.store(true, Ordering::Release);
    }

    /// The payload has ended: what still waits, and what comes, is dropped.
    pub(super) fn close(&mut self) {
        self.receiver.close();
        while self.receiver.try_recv().is_ok() {}
    }

    /// The next wish; never completes when nobody has any. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Wish {
        match self.receiver.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}
