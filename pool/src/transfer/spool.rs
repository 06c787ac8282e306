//! Files that an evicted run has left for the next one.

use crate::JobId;

use super::registry::Transfers;

impl Transfers {
    /// Removes what the spool holds for a job; to be called when the job leaves the queue. Does nothing if there is
    /// nothing, and logs what it cannot remove.
    pub async fn remove_spool(&self, job: JobId, owner: &str) {
        let _ = (job, owner);
        todo!()
    }
}
