//! From the bytes of a credential to the verdict the broker understands.

use credential::{Blame, TrustStore, VerifyError, VerifyOptions, verify_proxy};
use launch_protocol::MAX_IDENTITY;
use launch_protocol::verdict::{RefusalClass, Verdict};

/// Verifies a credential against a set of CAs at a time in Unix seconds.
pub(crate) fn judge(bundle: &[u8], trust: &TrustStore, now: i64) -> Verdict {
    match verify_proxy(bundle, trust, &VerifyOptions::at(now)) {
        Ok(credential) if credential.identity().as_str().len() > MAX_IDENTITY => {
            Verdict::Rejected {
                code: String::from("name.too-long"),
                message: format!(
                    "the name of the user certificate is longer than {MAX_IDENTITY} characters, which no map file holds"
                ),
                class: RefusalClass::Job,
            }
        }
        Ok(credential) => Verdict::Accepted {
            identity: credential.identity().as_str().to_owned(),
            not_after: credential.not_after().unix(),
            limited: credential.limited(),
        },
        Err(error) => Verdict::Rejected {
            code: error.code().to_owned(),
            message: sentence(&error),
            class: match (error.blame(), error.retryable()) {
                (Blame::Job, _) => RefusalClass::Job,
                (Blame::Site, true) => RefusalClass::SiteTransient,
                (Blame::Site, false) => RefusalClass::SitePermanent,
            },
        },
    }
}

/// The error and its causes in one line.
fn sentence(error: &VerifyError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
