//! What a credential is, and whether it verifies.

use std::error::Error;

use credential::{
    TokenIssuer, TokenOptions, TrustStore, VerifyError, VerifyOptions, VomsOptions, inspect_bundle,
    inspect_token, looks_like_token, verify_proxy, verify_token,
};

use super::Verify;
use crate::blame::chain;

/// Everything that is said about a credential.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// `None`: nobody asked.
    pub(super) verified: Option<bool>,
    pub(super) refusal: Option<Refusal>,
    /// `proxy`, `certificate` or `token`.
    pub(super) kind: &'static str,
    /// Empty unless it verified.
    pub(super) identity: String,
    pub(super) subject: String,
    pub(super) fqans: Vec<String>,
    pub(super) limited: bool,
    pub(super) not_after: Option<i64>,
    pub(super) path: Vec<Step>,
    /// What else is worth a line.
    pub(super) remarks: Vec<String>,
}

/// Why it does not verify, or cannot be read.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// One certificate.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) role: String,
    pub(super) subject: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Looks, and judges nothing.
pub(super) fn show(credential: &[u8]) -> Report {
    if looks_like_token(credential) {
        return show_token(credential);
    }
    let mut report = Report {
        kind: "certificate",
        ..Report::default()
    };
    match inspect_bundle(credential) {
        Ok(bundle) => {
            let first = bundle.certificates.first();
            report.subject = first.map_or_else(String::new, |first| first.subject.clone());
            if first.is_some_and(|first| first.kind.contains("proxy")) {
                report.kind = "proxy";
            }
            report.limited = first.is_some_and(|first| first.kind == "limited proxy");
            report.not_after = bundle.certificates.iter().map(|c| c.not_after).min();
            if !bundle.has_key {
                report.remarks.push("it has no private key".to_owned());
            }
            if bundle.certificates.iter().any(|c| c.has_attributes) {
                let remark = "it carries attributes of a VO; `verify --voms-dir` judges them";
                report.remarks.push(remark.to_owned());
            }
            report.path = bundle
                .certificates
                .into_iter()
                .map(|certificate| Step {
                    role: certificate.kind.to_owned(),
                    subject: certificate.subject,
                    not_before: certificate.not_before,
                    not_after: certificate.not_after,
                })
                .collect();
        }
        Err(error) => report.refusal = Some(refusal(error.code(), &error)),
    }
    report
}

fn show_token(credential: &[u8]) -> Report {
    let mut report = Report {
        kind: "token",
        ..Report::default()
    };
    match inspect_token(credential) {
        Ok(token) => {
            report.subject = token.subject;
            report.remarks = vec![
                format!("issuer: {}", token.issuer),
                format!("scope: {}", token.scope),
                format!("key: {} ({})", token.key_id, token.algorithm),
            ];
        }
        Err(error) => report.refusal = Some(refusal(error.code(), &error)),
    }
    report
}

/// Judges at a time in Unix seconds.
pub(super) fn verify(credential: &[u8], args: &Verify, at: i64) -> Report {
    let mut report = show(credential);
    if report.refusal.is_none() {
        report.remarks.clear();
        let verdict = if report.kind == "token" {
            verify_a_token(credential, args, at, &mut report)
        } else {
            verify_a_proxy(credential, args, at, &mut report)
        };
        report.refusal = verdict.err();
    }
    report.verified = Some(report.refusal.is_none());
    report
}

fn verify_a_proxy(
    credential: &[u8],
    args: &Verify,
    at: i64,
    report: &mut Report,
) -> Result<(), Refusal> {
    let mut options = VerifyOptions::at(at);
    options.voms = args.voms_dir.as_deref().map(VomsOptions::load);
    let trust = TrustStore::load(&args.ca_dir);
    let verified = verify_proxy(credential, &trust, &options)
        .map_err(|error: VerifyError| refusal(error.code(), &error))?;
    report.identity = verified.identity().to_string();
    report.fqans = verified.fqans().iter().map(ToString::to_string).collect();
    report.limited = verified.limited();
    report.not_after = Some(verified.not_after().unix());
    report.path = verified
        .chain()
        .iter()
        .map(|link| Step {
            role: link.role.to_string(),
            subject: link.subject.clone(),
            not_before: link.not_before,
            not_after: link.not_after,
        })
        .collect();
    Ok(())
}

fn verify_a_token(
    credential: &[u8],
    args: &Verify,
    at: i64,
    report: &mut Report,
) -> Result<(), Refusal> {
    let issuers = args
        .issuer
        .iter()
        .zip(&args.jwks)
        .map(|(url, jwks)| TokenIssuer {
            url: url.clone(),
            jwks: jwks.clone(),
        })
        .collect();
    let mut options = TokenOptions::new(issuers, args.audience.clone());
    if !args.scope.is_empty() {
        options.scopes.clone_from(&args.scope);
    }
    let verified =
        verify_token(credential, &options, at).map_err(|error| refusal(error.code(), &error))?;
    report.identity = verified.identity().to_string();
    report.fqans = verified.groups().to_vec();
    report.not_after = Some(verified.not_after().unix());
    Ok(())
}

fn refusal(code: &'static str, error: &dyn Error) -> Refusal {
    let message = chain(error);
    Refusal {
        code,
        message: message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    }
}
