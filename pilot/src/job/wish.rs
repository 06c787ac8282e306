//! What the submit side wishes of a job while it runs: to rest, to go on, or to use a renewed credential.

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

/// The job's end of its wishes.
#[derive(Debug)]
pub struct Wishes {
    receiver: mpsc::Receiver<Wish>,
}

impl Wishes {
    /// Where wishes go, and where they come out.
    #[must_use]
    pub fn channel() -> (mpsc::Sender<Wish>, Self) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (sender, Self { receiver })
    }

    /// The next wish; never completes when nobody has any. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Wish {
        match self.receiver.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}
