//! What a credential is, and whether it verifies.

use std::error::Error;

use credential::{
    Blame, InspectedCertificate, InspectedToken, VerifiedCredential, inspect_bundle, inspect_token,
    looks_like_token, verify_proxy, verify_token,
};

use super::Asked;
use crate::blame::chain;

/// Everything that is said about a credential.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) refusal: Option<Refusal>,
    /// `proxy`, `certificate` or `token`.
    pub(super) kind: &'static str,
    /// More about the kind, a few words.
    pub(super) details: Vec<String>,
    /// Empty unless it verified.
    pub(super) identity: String,
    pub(super) subject: String,
    /// Verified ones; of a token its groups.
    pub(super) fqans: Vec<String>,
    pub(super) limited: bool,
    pub(super) not_after: Option<i64>,
    /// The certificates: the verified path, or what the file holds in its order.
    pub(super) path: Vec<Step>,
    /// What else is worth a line; each a name and what it is.
    pub(super) remarks: Vec<(&'static str, String)>,
    /// More for those who want to know it all.
    pub(super) facts: Vec<(&'static str, String)>,
    /// The time that all is about, Unix seconds.
    pub(super) at: i64,
    /// Whether somebody chose that time.
    pub(super) is_chosen_time: bool,
}

/// Why it does not verify, or cannot be read.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Who can do something about it.
    pub(super) whose: &'static str,
}

/// One certificate.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) role: String,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// Its serial number, key and signature; empty for one that is not in the file.
    pub(super) facts: String,
}

/// Looks at a credential and judges it, at `now` (Unix seconds) unless another time was asked for.
pub(super) fn judge(credential: &[u8], asked: &Asked, now: i64) -> Report {
    let mut report = Report {
        at: asked.at.unwrap_or(now),
        is_chosen_time: asked.at.is_some(),
        ..Report::default()
    };
    report.refusal = if looks_like_token(credential) {
        judge_token(credential, asked, &mut report)
    } else {
        judge_bundle(credential, asked, &mut report)
    }
    .err();
    report
}

fn judge_bundle(credential: &[u8], asked: &Asked, report: &mut Report) -> Result<(), Refusal> {
    report.kind = "certificate";
    let bundle =
        inspect_bundle(credential).map_err(|error| refusal(error.code(), error.blame(), &error))?;
    let certificates = bundle.certificates;
    if let Some(first) = certificates.first() {
        report.subject.clone_from(&first.subject);
        report.limited = first.kind == "limited proxy";
        if first.kind.contains("proxy") {
            report.kind = "proxy";
        }
        report.details = vec![first.kind.to_owned()];
    }
    report.not_after = certificates.iter().map(|c| c.not_after).min();
    if !bundle.has_key {
        report
            .remarks
            .push(("note", "the file has no private key".to_owned()));
    }
    claimed_attributes(&certificates, asked, report);
    report.path = certificates.iter().map(step).collect();
    let verified = verify_proxy(credential, &asked.trust(), &asked.rules(report.at))
        .map_err(|error| refusal(error.code(), error.blame(), &error))?;
    take_verified(report, &verified, &certificates);
    Ok(())
}

/// What attribute certificates say of themselves: the whole for those who want all, a line where nobody judges them.
fn claimed_attributes(certificates: &[InspectedCertificate], asked: &Asked, report: &mut Report) {
    for claimed in certificates.iter().flat_map(|c| &c.attributes) {
        let (authority, fqans) = (&claimed.authority, claimed.fqans.join(" "));
        let until = claimed.not_after;
        report.facts.push((
            "claimed",
            format!(
                "{fqans} by {authority} until {}",
                super::print::instant(until)
            ),
        ));
    }
    if !report.facts.is_empty() && asked.voms_dir.is_none() {
        let remark =
            "it carries attributes of a VO, which are not judged: --voms-dir says whose to believe";
        report.remarks.push(("note", remark.to_owned()));
    }
}

fn take_verified(
    report: &mut Report,
    verified: &VerifiedCredential,
    certificates: &[InspectedCertificate],
) {
    report.identity = verified.identity().to_string();
    report.fqans = verified.fqans().iter().map(ToString::to_string).collect();
    report.limited = verified.limited();
    report.not_after = Some(verified.not_after().unix());
    match verified.proxy_depth() {
        0 | 1 => {}
        depth => report.details.push(format!("{depth} proxies deep")),
    }
    let first_end = verified.chain().iter().map(|link| link.not_after).min();
    if first_end > report.not_after {
        let remark = "its attributes end before its certificates do";
        report.remarks.push(("note", remark.to_owned()));
    }
    report.path = verified
        .chain()
        .iter()
        .map(|link| {
            let known = certificates
                .iter()
                .find(|c| c.subject == link.subject && c.not_after == link.not_after);
            Step {
                role: link.role.to_string(),
                ..known.map_or_else(
                    || Step {
                        subject: link.subject.clone(),
                        not_before: link.not_before,
                        not_after: link.not_after,
                        facts: "from the directory of trusted CAs".to_owned(),
                        ..Step::default()
                    },
                    step,
                )
            }
        })
        .collect();
}

fn step(certificate: &InspectedCertificate) -> Step {
    let InspectedCertificate {
        kind,
        subject,
        issuer,
        not_before,
        not_after,
        serial,
        key,
        signature,
        ..
    } = certificate;
    Step {
        role: (*kind).to_owned(),
        subject: subject.clone(),
        issuer: issuer.clone(),
        not_before: *not_before,
        not_after: *not_after,
        facts: format!("serial {serial}, key {key}, signed with {signature}"),
    }
}

fn judge_token(credential: &[u8], asked: &Asked, report: &mut Report) -> Result<(), Refusal> {
    report.kind = "token";
    let token: InspectedToken =
        inspect_token(credential).map_err(|error| refusal(error.code(), error.blame(), &error))?;
    report.subject = token.subject;
    report.not_after = token.not_after;
    report.remarks = vec![
        ("issuer", token.issuer),
        ("audience", token.audiences.join(" ")),
        ("scope", token.scope),
    ];
    report.facts = vec![
        ("groups", token.groups.join(" ")),
        ("key", format!("{} ({})", token.key_id, token.algorithm)),
        (
            "begins",
            token
                .not_before
                .map(super::print::instant)
                .unwrap_or_default(),
        ),
    ];
    if asked.jwks.is_none() {
        let remark =
            "no issuer of tokens is trusted: --jwks FILE --issuer URL --audience NAME say which";
        report.remarks.push(("note", remark.to_owned()));
    }
    let verified = verify_token(credential, &asked.token_rules(), report.at)
        .map_err(|error| refusal(error.code(), error.blame(), &error))?;
    report.identity = verified.identity().to_string();
    report.fqans = verified.groups().to_vec();
    report.not_after = Some(verified.not_after().unix());
    Ok(())
}

fn refusal(code: &'static str, blame: Blame, error: &dyn Error) -> Refusal {
    let message = chain(error);
    Refusal {
        code,
        message: message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
        whose: match blame {
            Blame::Job => "the owner of the credential",
            Blame::Site => "the administrator of this node",
        },
    }
}
