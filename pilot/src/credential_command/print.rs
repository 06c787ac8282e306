//! A report as text for people and as JSON for programs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::verdict::{Report, Step};

/// One JSON object on one line; times are Unix seconds.
pub(super) fn json(report: &Report) -> String {
    let path: Vec<Value> = report
        .path
        .iter()
        .map(|step| {
            json!({
                "role": step.role,
                "subject": step.subject,
                "not_before": step.not_before,
                "not_after": step.not_after,
            })
        })
        .collect();
    let object = json!({
        "verdict": word(report),
        "code": report.refusal.as_ref().map(|refusal| refusal.code),
        "message": report.refusal.as_ref().map(|refusal| &refusal.message),
        "kind": report.kind,
        "identity": Some(&report.identity).filter(|identity| !identity.is_empty()),
        "subject": report.subject,
        "fqans": report.fqans,
        "limited": report.limited,
        "not_after": report.not_after,
        "path": path,
    });
    format!("{object}\n")
}

fn word(report: &Report) -> &'static str {
    match (report.verified, &report.refusal) {
        (_, Some(_)) => "refused",
        (Some(_), None) => "accepted",
        (None, None) => "not judged",
    }
}

/// The verdict first, then what to do, then the facts.
pub(super) fn text(report: &Report, now: i64) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(format!("{name:<12}{value}").trim_end());
        out.push('\n');
    };
    match &report.refusal {
        Some(refusal) => {
            line("refused", refusal.code);
            line("reason", &refusal.message);
        }
        None if report.verified.is_some() => line("accepted", &report.identity),
        None => line("not judged", "only looked at; `credential verify` judges"),
    }
    line("kind", report.kind);
    if !report.subject.is_empty() {
        line("subject", &report.subject);
    }
    if report.limited {
        line("limited", "yes");
    }
    for (index, fqan) in report.fqans.iter().enumerate() {
        line(if index == 0 { "attributes" } else { "" }, fqan);
    }
    if let Some(end) = report.not_after {
        line("ends", &until(end, now));
    }
    for remark in &report.remarks {
        line("note", remark);
    }
    let width = report.path.iter().map(|step| step.role.len()).max();
    for (index, step) in report.path.iter().enumerate() {
        let Step {
            role,
            subject,
            not_after,
            ..
        } = step;
        let width = width.unwrap_or(0);
        let name = if index == 0 { "path" } else { "" };
        line(name, &format!("{role:<width$}  {subject}"));
        line(
            "",
            &format!("{:<width$}  until {}", "", until(*not_after, now)),
        );
    }
    out
}

/// `2026-11-26T09:52:21Z (in 10 h 53 min)`.
fn until(end: i64, now: i64) -> String {
    let when = Timestamp::from_second(end).map_or_else(|_| end.to_string(), |t| t.to_string());
    let left = end.saturating_sub(now);
    let span = left.unsigned_abs();
    let (days, hours, minutes) = (span / 86_400, span / 3_600 % 24, span / 60 % 60);
    let span = match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
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
            verified: Some(true),
            kind: "proxy",
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
            }],
            ..Report::default()
        }
    }

    #[test]
    fn text_has_the_verdict_first() {
        let text = text(&report(), 1_798_761_600);
        let expected = "accepted    /O=Lab/CN=Jane\n\
                        kind        proxy\n\
                        subject     /O=Lab/CN=Jane/CN=1\n\
                        limited     yes\n\
                        attributes  /vo.lab/Role=pilot\n            /vo.lab\n\
                        ends        2027-01-01T12:00:00Z (in 12 h 0 min)\n\
                        path        proxy certificate  /O=Lab/CN=Jane/CN=1\n";
        assert!(text.starts_with(expected), "{text}");
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
        });
        report.identity.clear();
        let value: Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["verdict"], "refused");
        assert_eq!(value["code"], "proxy.expired");
        assert_eq!(value["identity"], Value::Null);
        assert!(
            text(&report, 0).starts_with("refused     proxy.expired\nreason      it expired\n")
        );
    }
}
