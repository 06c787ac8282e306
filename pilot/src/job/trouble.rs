//! What keeps a job from running to its end, and what the shadow is told about it.

use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use thiserror::Error;

use super::hold::{Hold, HoldCode};
use super::shadow::ShadowError;
use crate::blame::chain;
use crate::broker::{AgentError, BrokerError};

/// Why a job does not go on. Says by itself what is to be reported.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// The job is at fault: it goes on hold.
    #[error("held: {}", .0.reason)]
    Hold(Hold),
    /// The site is at fault: the job goes back to the queue, not on hold.
    #[error("{reason}")]
    Site {
        /// It will not get better by itself.
        permanent: bool,
        /// One sentence.
        reason: String,
    },
    /// The submit side could not do its part now: the job goes back to the queue, and the node is not at fault.
    #[error("{reason}")]
    Submit {
        /// One sentence.
        reason: String,
    },
    /// The output did not arrive, and may do so with a shadow that comes back.
    #[error("{reason}")]
    OutputLost {
        /// One sentence.
        reason: String,
    },
    /// Nobody is left to be told.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// Somebody ordered the job to stop before it started.
    #[error("{why}")]
    NotStarted {
        /// One sentence.
        why: String,
    },
}

impl From<Hold> for Trouble {
    fn from(hold: Hold) -> Self {
        Self::Hold(hold)
    }
}

impl Trouble {
    /// The site's fault, for the moment.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Site {
            permanent: false,
            reason: reason.into(),
        }
    }
}

impl From<BrokerError> for Trouble {
    fn from(error: BrokerError) -> Self {
        if let BrokerError::Refused(refusal) = &error
            && refusal.class == RefusalClass::Job
        {
            return refused_job(refusal).into();
        }
        // A helper that is gone may be started again; whether that helps is the pilot's to find out.
        let permanent = matches!(
            error.class(),
            RefusalClass::SitePermanent | RefusalClass::Caller
        );
        Self::Site {
            permanent,
            reason: chain(&error),
        }
    }
}

/// A refusal that is the job's own fault. The helper's sentence says what to do; its code tells the site what it was.
fn refused_job(refusal: &Refusal) -> Hold {
    let code = match refusal.who {
        RefusedBy::Credential => HoldCode::CorruptedCredential,
        RefusedBy::Mapping => HoldCode::FailedToAccessUserAccount,
        RefusedBy::Helper if refusal.code.starts_with("sandbox.") => HoldCode::SandboxHandOver,
        RefusedBy::Helper => HoldCode::FailedToAccessUserAccount,
    };
    Hold::new(code, 0, format!("{} ({})", refusal.message, refusal.code))
}

impl From<AgentError> for Trouble {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Broker(error) => error.into(),
            AgentError::Failed { errno, .. } => {
                Hold::new(HoldCode::SandboxHandOver, errno, chain(&error)).into()
            }
            AgentError::TooManyEntries { .. } => {
                Hold::new(HoldCode::TransferOutputError, libc::E2BIG, chain(&error)).into()
            }
            // The sandbox was made, but a directory above it cannot be searched: no job can run here.
            AgentError::Trouble { .. } => Self::Site {
                permanent: true,
                reason: chain(&error),
            },
            _ => Self::passing(chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(class: RefusalClass, who: RefusedBy, code: &str) -> Trouble {
        BrokerError::Refused(Refusal {
            class,
            code: code.to_owned(),
            message: "Renew it.".to_owned(),
            may_succeed_later: false,
            who,
        })
        .into()
    }

    #[test]
    fn a_refusal_holds_only_when_the_job_is_at_fault() {
        for (who, code, wanted) in [
            (
                RefusedBy::Credential,
                "proxy.expired",
                HoldCode::CorruptedCredential,
            ),
            (
                RefusedBy::Mapping,
                "map.none",
                HoldCode::FailedToAccessUserAccount,
            ),
            (
                RefusedBy::Helper,
                "sandbox.quota",
                HoldCode::SandboxHandOver,
            ),
        ] {
            let Trouble::Hold(hold) = refusal(RefusalClass::Job, who, code) else {
                panic!("{code} is not a hold");
            };
            assert_eq!(hold.code, wanted, "{code}");
            assert!(hold.reason.contains("Renew it.") && hold.reason.contains(code));
        }
        let transient = refusal(RefusalClass::SiteTransient, RefusedBy::Helper, "lease.none");
        assert!(matches!(
            transient,
            Trouble::Site {
                permanent: false,
                ..
            }
        ));
        let permanent = refusal(RefusalClass::SitePermanent, RefusedBy::Helper, "config.bad");
        assert!(matches!(
            permanent,
            Trouble::Site {
                permanent: true,
                ..
            }
        ));
        assert!(matches!(
            Trouble::from(BrokerError::Gone),
            Trouble::Site {
                permanent: false,
                ..
            }
        ));
    }
}
