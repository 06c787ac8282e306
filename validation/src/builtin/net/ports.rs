//! `outbound-ports`: services elsewhere that the jobs need can be reached.

use std::sync::Arc;
use std::time::Duration;

use super::super::simple::{float, probe};
use super::tcp::{self, Came};
use crate::check::{Check, Owner};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};
use crate::setup::Endpoint;

/// The check.
pub(in super::super) fn check(within: Duration) -> Arc<dyn Probe> {
    let limit = within.saturating_add(Duration::from_secs(5));
    let check = Check::new("outbound-ports", "TCP to services that jobs need")
        .owner(Owner::Frontend)
        .limit(limit);
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let wanted = context.knobs().list("SAILPLANE_CHECK_PORTS");
        if wanted.is_empty() {
            return Outcome::skipped("SAILPLANE_CHECK_PORTS is empty");
        }
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        let mut tasks = tokio::task::JoinSet::new();
        let mut unreadable = Vec::new();
        for text in wanted {
            match tcp::endpoint(text) {
                Some(endpoint) => {
                    tasks.spawn(async move {
                        let came = tcp::connect(&endpoint, within).await.0;
                        (endpoint, came)
                    });
                }
                None => unreadable.push(text.clone()),
            }
        }
        let mut came = tasks.join_all().await;
        came.sort_by(|(one, _), (other, _)| one.text.cmp(&other.text));
        judge(&came, &unreadable)
    })
}

fn judge(came: &[(Endpoint, Came)], unreadable: &[String]) -> Outcome {
    if let Some(text) = unreadable.first() {
        let why = format!("SAILPLANE_CHECK_PORTS has {text:?}, which is no HOST:PORT");
        return Outcome::failed(
            Failure::new(Whose::Frontend, why, "write HOST:PORT, [ADDRESS]:PORT").kind("Config"),
        );
    }
    let failures: Vec<(&Endpoint, Failure)> = came
        .iter()
        .filter_map(|(endpoint, came)| {
            Some((
                endpoint,
                came.failure(&endpoint.text, &endpoint.host, Whose::Frontend)?,
            ))
        })
        .collect();
    let outcome = match failures.as_slice() {
        [] => Outcome::passed(),
        [(_, only)] => Outcome::failed(only.clone()),
        [(_, first), ..] => {
            let mut failure = first.clone();
            let names: Vec<&str> = failures
                .iter()
                .map(|(endpoint, _)| endpoint.text.as_str())
                .collect();
            failure.why = format!(
                "{} of {} services cannot be reached: {}; {}",
                names.len(),
                came.len(),
                names.join(", "),
                first.why
            );
            Outcome::failed(failure)
        }
    };
    outcome.number(
        "blocked",
        float(u64::try_from(failures.len()).unwrap_or(u64::MAX)),
        "",
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_ports_are_listed() {
        let silent = |text: &str| {
            (
                tcp::endpoint(text).unwrap(),
                Came::Silent("192.0.2.1:1".parse().unwrap()),
            )
        };
        let outcome = judge(&[silent("a:1"), silent("b:2")], &[]);
        let failure = outcome.failure().unwrap();
        assert!(
            failure
                .why
                .starts_with("2 of 2 services cannot be reached: a:1, b:2"),
            "{failure:?}"
        );
        assert_eq!(failure.whose, Whose::Site);
        assert_eq!(
            judge(&[], &["x".to_owned()]).failure().unwrap().whose,
            Whose::Frontend
        );
    }
}
