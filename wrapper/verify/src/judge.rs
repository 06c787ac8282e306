//! From the bytes of a credential to the verdict the broker understands.

use credential::{Blame, TrustStore, VomsOptions, looks_like_token, verify_proxy, verify_token};
use launch_protocol::MAX_IDENTITY;
use launch_protocol::verdict::{CredentialKind, RefusalClass, Verdict, VerifyRequest};

use crate::options::Options;

/// Whose files decide about trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// Root's alone: the verdict decides about accounts.
    OfRoot,
    /// Whatever the person who asks has named.
    OfAnybody,
}

/// Verifies a credential at a time in Unix seconds: a token if it looks like one, otherwise a proxy.
pub(crate) fn judge(
    credential: &[u8],
    options: &Options,
    files: Files,
    request: VerifyRequest,
    now: i64,
) -> Verdict {
    let verdict = if looks_like_token(credential) {
        judge_token(credential, options, files, request, now)
    } else {
        judge_proxy(credential, options, files, request, now)
    };
    if verdict.encode().is_ok() {
        return verdict;
    }
    // The limits of a packet are the last word, not the end without one.
    Verdict::Rejected {
        id: request.id,
        code: String::from("credential.too-long"),
        message: String::from(
            "the names and attributes of the credential are together longer than any site maps; ask for fewer attributes",
        ),
        class: RefusalClass::Job,
    }
}

fn judge_proxy(
    bundle: &[u8],
    options: &Options,
    files: Files,
    request: VerifyRequest,
    now: i64,
) -> Verdict {
    let id = request.id;
    let directory = &options.certdir;
    let trust = match files {
        Files::OfRoot => TrustStore::load_root_only(directory),
        Files::OfAnybody => TrustStore::load(directory),
    };
    let mut rules = options.rules.clone();
    rules.at = now;
    rules.require_key = !request.may_lack_key;
    rules.voms = options.vomsdir.as_deref().map(|directory| {
        let mut voms = match files {
            Files::OfRoot => VomsOptions::load_root_only(directory),
            Files::OfAnybody => VomsOptions::load(directory),
        };
        voms.host.clone_from(&options.host);
        voms.maximum_lifetime = options.maximum_ac_lifetime;
        voms
    });
    match verify_proxy(bundle, &trust, &rules) {
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
        Ok(credential) => {
            let text = |text: &str| text.to_owned();
            Verdict::Accepted {
                id,
                kind: CredentialKind::Proxy,
                identity: text(credential.identity().as_str()),
                fqans: credential
                    .fqans()
                    .iter()
                    .map(|f| text(f.as_str()))
                    .collect(),
                issuers: credential
                    .issuers()
                    .iter()
                    .map(|ca| text(ca.as_str()))
                    .collect(),
                not_after: credential.not_after().unix(),
                limited: credential.limited(),
            }
        }
        Err(error) => refused(id, error.code(), &error, error.blame(), error.retryable()),
    }
}

fn judge_token(
    token: &[u8],
    options: &Options,
    files: Files,
    request: VerifyRequest,
    now: i64,
) -> Verdict {
    let id = request.id;
    let mut rules = options.tokens.clone();
    rules.root_only = files == Files::OfRoot;
    match verify_token(token, &rules, now) {
        Ok(token) => Verdict::Accepted {
            id,
            kind: CredentialKind::Token,
            identity: token.identity().to_string(),
            fqans: token.groups().to_vec(),
            issuers: vec![token.identity().issuer().to_owned()],
            not_after: token.not_after().unix(),
            limited: false,
        },
        Err(error) => refused(id, error.code(), &error, error.blame(), error.retryable()),
    }
}

fn refused(
    id: u32,
    code: &str,
    error: &dyn std::error::Error,
    blame: Blame,
    may_succeed_later: bool,
) -> Verdict {
    Verdict::Rejected {
        id,
        code: code.to_owned(),
        message: sentence(error),
        class: match (blame, may_succeed_later) {
            (Blame::Job, _) => RefusalClass::Job,
            (Blame::Site, true) => RefusalClass::SiteTransient,
            (Blame::Site, false) => RefusalClass::SitePermanent,
        },
    }
}

/// The error and its causes in one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
