//! From the bytes of a credential to the verdict the broker understands.

use std::ffi::OsString;
use std::path::PathBuf;

use credential::{Blame, TrustStore, VerifyError, VerifyOptions, verify_proxy};
use launch_protocol::MAX_IDENTITY;
use launch_protocol::verdict::{CredentialKind, RefusalClass, Verdict, VerifyRequest};

/// What is trusted and what is accepted, from the words of the command line.
#[derive(Debug)]
pub(crate) struct Options {
    certdir: PathBuf,
}

/// The words of the command line make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No CA directory, or more words than are known.
    #[error("usage: sailplane-verify CERTDIR, with the credential on standard input")]
    Usage,
}

impl Options {
    /// Reads the words behind the name of the program.
    ///
    /// # Errors
    /// The first word that cannot be used.
    pub(crate) fn from_words(words: &[OsString]) -> Result<Self, OptionsError> {
        match words {
            [certdir] if !certdir.is_empty() => Ok(Self {
                certdir: certdir.into(),
            }),
            _ => Err(OptionsError::Usage),
        }
    }

    /// What is trusted when the verdict decides about accounts: files that only root can change.
    pub(crate) fn root_only(&self) -> TrustStore {
        TrustStore::load_root_only(&self.certdir)
    }

    /// What is trusted when a person asks: whatever the person named.
    pub(crate) fn any_owner(&self) -> TrustStore {
        TrustStore::load(&self.certdir)
    }
}

/// Verifies a credential against a set of CAs at a time in Unix seconds.
pub(crate) fn judge(
    bundle: &[u8],
    trust: &TrustStore,
    request: VerifyRequest,
    now: i64,
) -> Verdict {
    let VerifyRequest {
        id, may_lack_key, ..
    } = request;
    let mut options = VerifyOptions::at(now);
    options.require_key = !may_lack_key;
    match verify_proxy(bundle, trust, &options) {
        Ok(credential) if credential.identity().as_str().len() > MAX_IDENTITY => {
            Verdict::Rejected {
                id,
                code: String::from("name.too-long"),
                message: format!(
                    "the name of the user certificate is longer than {MAX_IDENTITY} characters, which no map file holds"
                ),
                class: RefusalClass::Job,
            }
        }
        Ok(credential) => Verdict::Accepted {
            id,
            kind: CredentialKind::Proxy,
            identity: credential.identity().as_str().to_owned(),
            fqans: Vec::new(),
            issuers: Vec::new(),
            not_after: credential.not_after().unix(),
            limited: credential.limited(),
        },
        Err(error) => Verdict::Rejected {
            id,
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
