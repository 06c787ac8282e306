//! What a credential says, when it decides about time only: there is no account to give for it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use credential::{Blame, TrustStore, VerifyError, VerifyOptions, earliest_end, verify_proxy};
use launch_protocol::broker::{Refusal, RefusalClass, RefusedBy};
use launch_protocol::{MAX_CREDENTIAL, MAX_IDENTITY};
use zeroize::Zeroizing;

/// [`Opened::not_after`](launch_protocol::broker::Opened) of a payload without a credential.
pub(crate) const NO_END: i64 = i64::MAX;

/// Stands where the identity would: nothing was verified.
const UNVERIFIED: &str = "(not verified)";
/// Stands where the identity would: there is no credential.
const NONE: &str = "(no credential)";

/// Who a payload speaks for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) identity: String,
    pub(super) not_after: i64,
    pub(super) limited: bool,
}

impl Bearer {
    /// Whether a renewed credential may take the place of the one that this came from: it must be the same person's. Where
    /// nothing is verified there are no persons, and whoever holds the claim has the say.
    ///
    /// # Errors
    /// A refusal that names both.
    pub(super) fn agrees_with(&self, renewed: &Self) -> Result<(), Refusal> {
        if renewed.identity == self.identity {
            return Ok(());
        }
        let message = format!(
            "the renewed proxy is of {}, and the job runs for {}",
            renewed.identity, self.identity
        );
        Err(refusal("renew.identity", message, RefusalClass::Job))
    }
}

/// Reads a credential out of a descriptor.
///
/// # Errors
/// A refusal in the job's name when it cannot be read, or is too long.
pub(super) fn read(credential: OwnedFd) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut bundle = Zeroizing::new(Vec::new());
    let limit = u64::try_from(MAX_CREDENTIAL).unwrap_or(u64::MAX);
    let read = File::from(credential)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bundle);
    if read.is_err() || bundle.len() > MAX_CREDENTIAL {
        return Err(refusal(
            "proxy.unreadable",
            format!("the proxy cannot be read, or is longer than {MAX_CREDENTIAL} bytes"),
            RefusalClass::Job,
        ));
    }
    Ok(bundle)
}

/// Judges a credential; an empty one is none.
///
/// # Errors
/// A refusal in the job's name when it does not verify, or is over.
pub(super) fn judge(bundle: &[u8], authorities: Option<&Path>) -> Result<Bearer, Refusal> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    weigh(bundle, authorities, now)
}

/// [`judge`] at a time in Unix seconds.
fn weigh(bundle: &[u8], authorities: Option<&Path>, now: i64) -> Result<Bearer, Refusal> {
    if bundle.is_empty() {
        return Ok(Bearer {
            identity: NONE.to_owned(),
            not_after: NO_END,
            limited: false,
        });
    }
    let Some(directory) = authorities else {
        let not_after = earliest_end(bundle).map_err(|error| refused(&error))?;
        if not_after <= now {
            return Err(refusal(
                "proxy.expired",
                "the proxy is over; renew it and release the job".to_owned(),
                RefusalClass::Job,
            ));
        }
        return Ok(Bearer {
            identity: UNVERIFIED.to_owned(),
            not_after,
            limited: false,
        });
    };
    let trust = TrustStore::load(directory);
    let verified =
        verify_proxy(bundle, &trust, &VerifyOptions::at(now)).map_err(|error| refused(&error))?;
    let identity = verified.identity().as_str();
    if identity.len() > MAX_IDENTITY {
        return Err(refusal(
            "name.too-long",
            format!("the name of the user certificate is longer than {MAX_IDENTITY} characters"),
            RefusalClass::Job,
        ));
    }
    Ok(Bearer {
        identity: identity.to_owned(),
        not_after: verified.not_after().unix(),
        limited: verified.limited(),
    })
}

fn refused(error: &VerifyError) -> Refusal {
    let class = match (error.blame(), error.retryable()) {
        (Blame::Job, _) => RefusalClass::Job,
        (Blame::Site, true) => RefusalClass::SiteTransient,
        (Blame::Site, false) => RefusalClass::SitePermanent,
    };
    refusal(error.code(), crate::blame::chain(error), class)
}

fn refusal(code: &str, message: String, class: RefusalClass) -> Refusal {
    Refusal {
        class,
        code: code.to_owned(),
        message,
        may_succeed_later: class == RefusalClass::SiteTransient,
        who: RefusedBy::Credential,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_has_no_end() {
        let bearer = weigh(b"", Some(Path::new("/nonexistent")), 5).unwrap();
        assert_eq!(bearer.not_after, NO_END);
    }

    #[test]
    fn nonsense_is_the_jobs_fault() {
        for authorities in [None, Some(Path::new("/nonexistent"))] {
            let refusal = weigh(b"not a proxy", authorities, 5).unwrap_err();
            assert_eq!(refusal.class, RefusalClass::Job, "{refusal:?}");
            assert_eq!(refusal.who, RefusedBy::Credential);
        }
    }
}
