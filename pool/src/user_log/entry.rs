//! What is to stand in a log, and the word that it does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    /// The account whose file it is.
    pub owner: String,
    /// Where it is, absolute.
    pub path: PathBuf,
}

/// Whole events of one log, in order, as they are to stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The log.
    pub log: Log,
    /// One event or more, each with the line of dots that ends it.
    pub text: String,
}

/// Numbers of entries that nobody needs to keep any more. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    numbers: Arc<Mutex<Vec<i64>>>,
}

impl Settled {
    /// To be handed over with the entry of that number.
    pub fn receipt(&self, number: i64) -> Receipt {
        Receipt(Some((self.clone(), number)))
    }

    /// Takes the numbers away.
    #[must_use]
    pub fn take(&self) -> Vec<i64> {
        std::mem::take(&mut *self.lock())
    }

    /// Gives numbers back that nothing could be done about yet.
    pub fn put_back(&self, numbers: Vec<i64>) {
        self.lock().extend(numbers);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<i64>> {
        // Every statement leaves the list in order.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes with an entry to the log's writer. One that is dropped says nothing: the entry is kept, and handed over again by
/// the next process.
#[derive(Debug)]
#[must_use]
pub struct Receipt(Option<(Settled, i64)>);

impl Receipt {
    /// For an entry that nobody keeps.
    pub fn none() -> Self {
        Self(None)
    }

    /// The entry stands in its log, or was given up.
    pub fn settle(self) {
        if let Some((settled, number)) = self.0 {
            settled.lock().push(number);
        }
    }
}
