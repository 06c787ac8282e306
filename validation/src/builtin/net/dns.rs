//! `dns`: the names that the pilot needs can be looked up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::simple::probe;
use super::tcp::plain;
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check(within: Duration) -> Arc<dyn Probe> {
    let limit = within.saturating_add(Duration::from_secs(2));
    probe(
        Check::new("dns", "looking up names")
            .limit(limit)
            .every(Duration::from_secs(600)),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let setup = context.setup();
        let hosts = setup
            .collectors
            .iter()
            .chain(&setup.ccb)
            .map(|endpoint| &endpoint.host);
        let mut names: Vec<String> = hosts
            .chain(context.knobs().list("SAILPLANE_CHECK_NAMES"))
            .filter(|name| name.parse::<IpAddr>().is_err())
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        let mut tasks = tokio::task::JoinSet::new();
        for name in names {
            tasks.spawn(look_up(name, within));
        }
        let looked_up = tasks.join_all().await;
        let resolver = std::fs::read_to_string("/etc/resolv.conf").ok();
        judge(&looked_up, resolver.as_deref())
    })
}

/// A name, and what came of looking it up.
#[derive(Debug, Clone)]
struct LookedUp {
    name: String,
    came: Result<usize, Trouble>,
    took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// There is no such name, or it has no address.
    Unknown(String),
    /// Nobody could say.
    NoAnswer(String),
}

async fn look_up(name: String, within: Duration) -> LookedUp {
    let began = Instant::now();
    let came = match timeout(within, lookup_host((name.as_str(), 0))).await {
        Ok(Ok(addresses)) => Ok(addresses.count()),
        Ok(Err(error)) => Err(trouble(plain(&error))),
        Err(_) => Err(Trouble::NoAnswer(format!(
            "nothing within {} s",
            within.as_secs()
        ))),
    };
    LookedUp {
        name,
        came,
        took: began.elapsed(),
    }
}

/// The resolver's words are all that the standard library passes on; both of glibc and of musl.
fn trouble(said: String) -> Trouble {
    const UNKNOWN: [&str; 4] = [
        "Name or service not known",
        "Name does not resolve",
        "No address associated with hostname",
        "Name has no usable address",
    ];
    if UNKNOWN.iter().any(|words| said.contains(words)) {
        Trouble::Unknown(said)
    } else {
        Trouble::NoAnswer(said)
    }
}

fn judge(looked_up: &[LookedUp], resolver: Option<&str>) -> Outcome {
    if looked_up.is_empty() {
        return Outcome::skipped(
            "no name has to be looked up: everything is configured by address",
        );
    }
    let servers: Vec<&str> = resolver
        .unwrap_or("")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    let asked = match (resolver, servers.is_empty()) {
        (None, _) => "there is no /etc/resolv.conf".to_owned(),
        (Some(_), true) => "/etc/resolv.conf names no server".to_owned(),
        _ => format!("name servers: {}", servers.join(", ")),
    };
    let failed: Vec<(&LookedUp, &Trouble)> = looked_up
        .iter()
        .filter_map(|one| one.came.as_ref().err().map(|trouble| (one, trouble)))
        .collect();
    let no_answer = failed
        .iter()
        .find(|(_, trouble)| matches!(trouble, Trouble::NoAnswer(_)));
    let slowest = looked_up
        .iter()
        .map(|one| one.took)
        .max()
        .unwrap_or_default();
    let outcome = match (no_answer, failed.first()) {
        (Some((one, Trouble::NoAnswer(said))), _) => {
            let why = format!(
                "the name {} cannot be looked up: {said} ({asked})",
                one.name
            );
            Outcome::failed(
                Failure::site(why, "see whether the name servers answer this node (`getent hosts NAME`, `resolvectl query NAME`), and correct /etc/resolv.conf")
                    .transient()
                    .kind("Network"),
            )
        }
        (_, Some((one, Trouble::Unknown(said)))) => {
            let why = format!("the name {} is unknown: {said} ({asked})", one.name);
            // If some other name is known, the servers work.
            let whose = if failed.len() < looked_up.len() {
                Whose::Factory
            } else {
                Whose::Site
            };
            Outcome::failed(
                Failure::new(whose, why, "correct the name in the configuration; if it is right, the name servers of the node are wrong")
                    .kind("Network"),
            )
        }
        _ => Outcome::passed(),
    };
    outcome.number(
        "slowest",
        (slowest.as_secs_f64() * 1000.0).round(),
        "ms",
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, said: Option<&str>) -> LookedUp {
        LookedUp {
            name: name.to_owned(),
            came: said.map_or(Ok(1), |said| Err(trouble(said.to_owned()))),
            took: Duration::from_millis(4),
        }
    }

    #[test]
    fn servers_that_do_not_answer_are_the_sites() {
        let all = [of("a", Some("Temporary failure in name resolution"))];
        let outcome = judge(&all, Some("search x\nnameserver 192.0.2.53\n"));
        let failure = outcome.failure().unwrap();
        assert!(
            failure.transient && failure.why.ends_with("(name servers: 192.0.2.53)"),
            "{failure:?}"
        );
        assert!(
            judge(&all, Some(""))
                .failure()
                .unwrap()
                .why
                .contains("names no server")
        );
    }

    #[test]
    fn a_wrong_name_among_right_ones_is_the_configurations() {
        let all = [of("a", None), of("b", Some("Name or service not known"))];
        let outcome = judge(&all, Some("nameserver ::1\n"));
        assert_eq!(outcome.failure().unwrap().whose, Whose::Factory);
        assert!(judge(&all[..1], None).is_passed());
        assert!(matches!(
            judge(&[], None).status,
            crate::outcome::Status::Skipped { .. }
        ));
    }
}
