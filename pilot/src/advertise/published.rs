//! The address under which the pool finds the pilot. It changes while the pilot lives: brokers of connections (CCB) that
//! were restarted may know us by another number.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use cedar::Sinful;

/// The address of the command port. Clones share it.
#[derive(Debug, Clone)]
pub struct Published {
    address: Arc<RwLock<Sinful>>,
}

impl Published {
    /// Begins with this address.
    #[must_use]
    pub fn new(address: Sinful) -> Self {
        Self {
            address: Arc::new(RwLock::new(address)),
        }
    }

    /// The address of this moment.
    #[must_use]
    pub fn get(&self) -> Sinful {
        // Setting it is one assignment, which no panic leaves half done.
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        address.clone()
    }

    /// From now on we are found there. False: as before.
    pub fn set(&self, new: Sinful) -> bool {
        let mut address = self.address.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *address != new;
        *address = new;
        changed
    }
}

impl From<Sinful> for Published {
    fn from(address: Sinful) -> Self {
        Self::new(address)
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
