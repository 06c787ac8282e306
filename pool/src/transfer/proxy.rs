//! The user's proxy on its way to the execute side: copied, or a new one signed for a key that was made there.

use std::path::Path;

use cedar::net::Stream;
use classad::ClassAd;
use thiserror::Error;

use super::job::TransferJobError;
use super::registry::Transfers;
use crate::files::FileError;

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyRenewal {
    /// The pilot has the new proxy; it ends at this time, Unix seconds, if that is known.
    Accepted(Option<i64>),
    /// The pilot takes none.
    Declined,
    /// The pilot could not use it.
    Failed,
}

/// Why a proxy could not be renewed or delegated.
#[derive(Debug, Error)]
pub enum RenewalError {
    /// The job ad lacks something.
    #[error(transparent)]
    Job(#[from] TransferJobError),
    /// The job has no proxy.
    #[error("the job has no proxy")]
    NoProxy,
    /// The proxy file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The proxy cannot sign.
    #[error("the proxy {path} cannot be delegated")]
    Issue {
        /// Its file.
        path: String,
        /// Why.
        #[source]
        source: credential::issue::IssueError,
    },
    /// The connection broke, or the pilot broke the protocol.
    #[error(transparent)]
    Wire(#[from] cedar::net::Error),
    /// A message of the wrong form.
    #[error("the pilot sent a malformed message")]
    Malformed(#[from] cedar::WireError),
}

impl Transfers {
    /// The command with which a renewed proxy is sent: `DELEGATE_GSI_CRED_STARTER` or `UPDATE_GSI_CRED`.
    #[must_use]
    pub fn renewal_command(&self) -> i32 {
        if self.shared.config.delegation.is_enabled {
            500
        } else {
            487
        }
    }

    /// Sends the job's proxy as it is now over `stream`, on which [`renewal_command`](Self::renewal_command) has been
    /// started in the claim's session at the pilot's address (protocol page 03, section 9).
    ///
    /// # Errors
    /// [`RenewalError`]
    pub async fn renew_proxy(
        &self,
        job: &ClassAd,
        stream: &mut Stream,
    ) -> Result<ProxyRenewal, RenewalError> {
        let _ = (job, stream);
        todo!()
    }

    /// Answers the syscall `get_delegated_proxy` (303): the exchange of protocol page 04, section 6, on the syscall
    /// socket. `path` must be the job's own proxy. Returns when the new proxy ends, Unix seconds.
    ///
    /// # Errors
    /// [`RenewalError`]; the pilot has been told of the failure by an empty answer then.
    pub async fn delegate_on(
        &self,
        job: &ClassAd,
        path: &Path,
        wanted_end: i64,
        stream: &mut Stream,
    ) -> Result<i64, RenewalError> {
        let _ = (job, path, wanted_end, stream);
        todo!()
    }
}
