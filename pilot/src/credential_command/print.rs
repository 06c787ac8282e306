//! A report as text for people and as JSON for programs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::verdict::{Report, Step};

/// One JSON object on one line; times are Unix seconds.
pub(super) fn json(report: &Report) -> String {
    let path: Vec<Value> = report.path.iter().map(step_json).collect();
    let refusal = report.refusal.as_ref();
    let object = json!({
        "verdict": word(report),
        "code": refusal.map(|refusal| refusal.code),
        "message": refusal.map(|refusal| &refusal.message),
        "whose": refusal.map(|refusal| refusal.whose),
        "kind": report.kind,
        "identity": Some(&report.identity).filter(|identity| !identity.is_empty()),
        "subject": report.subject,
        "fqans": report.fqans,
        "limited": report.limited,
        "not_after": report.not_after,
        "at": report.at,
        "path": path,
    });
    format!("{object}\n")
}

fn step_json(step: &Step) -> Value {
    json!({
        "role": step.role,
        "subject": step.subject,
        "issuer": Some(&step.issuer).filter(|issuer| !issuer.is_empty()),
        "not_before": step.not_before,
        "not_after": step.not_after,
    })
}

fn word(report: &Report) -> &'static str {
    if report.refusal.is_some() {
        "refused"
    } else {
        "accepted"
    }
}

/// The verdict first, then what to do, then the facts; all of them if asked for.
pub(super) fn text(report: &Report, shows_all: bool) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(format!("{name:<12}{value}").trim_end());
            out.push('\n');
        }
    };
    match &report.refusal {
        Some(refusal) => {
            line("REFUSED", refusal.code);
            line("reason", &refusal.message);
            line("up to", refusal.whose);
        }
        None => line("accepted", &report.identity),
    }
    if report.is_chosen_time {
        line("judged at", &instant(report.at));
    }
    let limited = report.limited && !report.details.iter().any(|word| word.contains("limited"));
    let mut kind = vec![report.kind.to_owned()];
    if limited {
        kind.push("limited".to_owned());
    }
    kind.extend(
        report
            .details
            .iter()
            .filter(|word| *word != report.kind)
            .cloned(),
    );
    line("kind", &kind.join(", "));
    line("subject", &report.subject);
    if let Some(end) = report.not_after {
        line("ends", &until(end, report.at));
    }
    for (index, fqan) in report.fqans.iter().enumerate() {
        line(if index == 0 { "attributes" } else { "" }, fqan);
    }
    for (name, remark) in &report.remarks {
        line(name, remark);
    }
    if shows_all {
        for (name, fact) in &report.facts {
            line(name, fact);
        }
    }
    out.push_str(&path(report, shows_all));
    out
}

/// The certificates from the first up, each with its end.
fn path(report: &Report, shows_all: bool) -> String {
    let mut out = String::new();
    let width = report.path.iter().map(|step| step.role.len()).max();
    let width = width.unwrap_or(0);
    if !report.path.is_empty() {
        out.push_str(if report.refusal.is_some() {
            "\nIn the file, in its order:\n"
        } else {
            "\nThe path, from the credential to the trust anchor:\n"
        });
    }
    for (index, step) in report.path.iter().enumerate() {
        let (number, role) = (index + 1, &step.role);
        let indent = " ".repeat(width + 6);
        out.push_str(&format!("{number:>3} {role:<width$}  {}\n", step.subject));
        if report.at < step.not_before {
            out.push_str(&format!(
                "{indent}NOT VALID before {}\n",
                until(step.not_before, report.at)
            ));
        }
        let end = if report.at >= step.not_after {
            "EXPIRED"
        } else {
            "until"
        };
        out.push_str(&format!(
            "{indent}{end} {}\n",
            until(step.not_after, report.at)
        ));
        if shows_all {
            if !step.issuer.is_empty() {
                out.push_str(&format!("{indent}issued by {}\n", step.issuer));
            }
            out.push_str(&format!("{indent}{}\n", step.facts));
        }
    }
    out
}

/// `2026-11-26T09:52:21Z`
pub(super) fn instant(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

/// `2026-11-26T09:52:21Z (in 10 h 53 min)`.
fn until(end: i64, at: i64) -> String {
    let when = instant(end);
    let left = end.saturating_sub(at);
    let span = left.unsigned_abs();
    let (days, hours, minutes) = (span / 86_400, span / 3_600 % 24, span / 60 % 60);
    let span = match (days, hours, minutes) {
        (0, 0, 0) => format!("{span} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    };
    if left > 0 {
        format!("{when} (in {span})")
    } else {
        format!("{when} ({span} ago)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Refusal;
    use super::*;

    fn report() -> Report {
        Report {
            kind: "proxy",
            details: vec!["limited proxy".into(), "2 proxies deep".into()],
            identity: "/O=Lab/CN=Jane".into(),
            subject: "/O=Lab/CN=Jane/CN=1".into(),
            fqans: vec!["/vo.lab/Role=pilot".into(), "/vo.lab".into()],
            limited: true,
            not_after: Some(1_798_804_800),
            path: vec![Step {
                role: "proxy certificate".into(),
                subject: "/O=Lab/CN=Jane/CN=1".into(),
                not_before: 1_798_761_300,
                not_after: 1_798_804_800,
                facts: "serial 07, key EC P-256, signed with SHA-256 with ECDSA".into(),
                ..Step::default()
            }],
            at: 1_798_761_600,
            ..Report::default()
        }
    }

    #[test]
    fn text_has_the_verdict_first() {
        let expected = "accepted    /O=Lab/CN=Jane\n\
                        kind        proxy, limited proxy, 2 proxies deep\n\
                        subject     /O=Lab/CN=Jane/CN=1\n\
                        ends        2027-01-01T12:00:00Z (in 12 h 0 min)\n\
                        attributes  /vo.lab/Role=pilot\n            /vo.lab\n\n\
                        The path, from the credential to the trust anchor:\n  \
                        1 proxy certificate  /O=Lab/CN=Jane/CN=1\n                       \
                        until 2027-01-01T12:00:00Z (in 12 h 0 min)\n";
        assert_eq!(text(&report(), false), expected);
        assert!(text(&report(), true).contains("key EC P-256"));
    }

    #[test]
    fn what_is_over_is_said_loudly() {
        let mut report = report();
        report.at = 1_798_804_800;
        report.refusal = Some(Refusal {
            code: "proxy.expired",
            message: "it expired".into(),
            whose: "the owner of the credential",
        });
        let text = text(&report, false);
        assert!(
            text.starts_with(
                "REFUSED     proxy.expired\nreason      it expired\nup to       the owner"
            ),
            "{text}"
        );
        assert!(
            text.contains("EXPIRED 2027-01-01T12:00:00Z (0 s ago)"),
            "{text}"
        );
    }

    #[test]
    fn json_has_all_fields_and_a_code_when_refused() {
        let mut report = report();
        let value: Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["verdict"], "accepted");
        assert_eq!(value["code"], Value::Null);
        assert_eq!(value["not_after"], 1_798_804_800);
        assert_eq!(value["path"][0]["role"], "proxy certificate");
        report.refusal = Some(Refusal {
            code: "proxy.expired",
            message: "it expired".into(),
            whose: "the owner of the credential",
        });
        report.identity.clear();
        let value: Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["verdict"], "refused");
        assert_eq!(value["code"], "proxy.expired");
        assert_eq!(value["identity"], Value::Null);
    }
}
