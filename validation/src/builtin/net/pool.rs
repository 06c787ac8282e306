//! `collector-reachable`, `collector-ping`, `ccb-reachable`, `ccb-ping`: whom the pilot will speak to.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::super::simple::{float, probe};
use super::tcp::{self, Came};
use crate::check::{Check, Owner, Severity};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, PingError, Pong, Probe, Running};
use crate::setup::Endpoint;

/// Time for a check of several endpoints beside what one may take.
const SPARE: Duration = Duration::from_secs(5);

/// The checks.
pub(in super::super) fn checks(within: Duration) -> [Arc<dyn Probe>; 4] {
    let check = |name, about| {
        Check::new(name, about)
            .owner(Owner::Frontend)
            .limit(within.saturating_add(SPARE))
            .every(Duration::from_secs(600))
    };
    [
        probe(
            check("collector-reachable", "TCP to the pool's collectors"),
            |context| reachable(context, "collector", context.setup().collectors.clone()),
        ),
        probe(
            check(
                "collector-ping",
                "an authenticated ping of the pool's collectors",
            )
            .needs("collector-reachable"),
            |context| ping(context, "collector", context.setup().collectors.clone()),
        ),
        probe(
            check(
                "ccb-reachable",
                "TCP to the brokers for connections from outside",
            ),
            |context| reachable(context, "CCB server", ccb(context)),
        ),
        probe(
            check(
                "ccb-ping",
                "an authenticated ping of the brokers for connections from outside",
            )
            .needs("ccb-reachable"),
            |context| ping(context, "CCB server", ccb(context)),
        ),
    ]
}

/// The brokers for connections from outside.
fn ccb(context: &Context) -> Vec<Endpoint> {
    let words = context.knobs().list("SAILPLANE_CHECK_CCB");
    let said = words.iter().filter_map(|word| contact(word));
    context.setup().ccb.iter().cloned().chain(said).collect()
}

/// `HOST`, `HOST:PORT`, `<ADDRESS:PORT?more>`, `HOST:PORT#NUMBER`: what is needed to connect.
fn contact(word: &str) -> Option<Endpoint> {
    let bare = word.trim_matches(['<', '>']).split(['?', '#']).next()?;
    tcp::endpoint(bare).or_else(|| tcp::endpoint(&format!("{bare}:9618")))
}

/// What came of each, in the same order; all are asked at the same time.
async fn each<'a, T>(
    endpoints: &'a [Endpoint],
    mut waiting: Vec<Running<'a, T>>,
) -> Vec<(&'a Endpoint, T)> {
    let mut all: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, slot) in waiting.iter_mut().zip(&mut all) {
            if slot.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(came) => *slot = Some(came),
                    Poll::Pending => done = false,
                }
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    endpoints
        .iter()
        .zip(all)
        .filter_map(|(endpoint, came)| Some((endpoint, came?)))
        .collect()
}

fn reachable<'a>(
    context: &'a Context,
    role: &'static str,
    endpoints: Vec<Endpoint>,
) -> Running<'a> {
    Box::pin(async move {
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        let waiting: Vec<Running<'_, Came>> = endpoints
            .iter()
            .map(|endpoint| -> Running<'_, Came> {
                Box::pin(async move { tcp::connect(endpoint, within).await.0 })
            })
            .collect();
        let came = each(&endpoints, waiting).await;
        judge_reachable(role, &came)
    })
}

fn judge_reachable(role: &str, came: &[(&Endpoint, Came)]) -> Outcome {
    if came.is_empty() {
        return Outcome::skipped(format!("the configuration names no {role}"));
    }
    let failures: Vec<Failure> = came
        .iter()
        .filter_map(|(endpoint, came)| {
            came.failure(
                &format!("the {role} {}", endpoint.text),
                &endpoint.host,
                Whose::Pool,
            )
        })
        .collect();
    let outcome = of_failures(&failures, came.len());
    let fastest = came
        .iter()
        .filter_map(|(_, came)| match came {
            Came::Connected(_, took) => Some(took.as_secs_f64() * 1000.0),
            _ => None,
        })
        .min_by(f64::total_cmp);
    match fastest {
        Some(millis) => outcome.number("connect_time", (millis * 10.0).round() / 10.0, "ms", None),
        None => outcome,
    }
}

/// One that works is enough; the others are told of.
fn of_failures(failures: &[Failure], all: usize) -> Outcome {
    let working = all.saturating_sub(failures.len());
    let outcome = match failures.first() {
        Some(failure) if working == 0 => Outcome::failed(failure.clone()),
        _ => Outcome::passed(),
    };
    let count = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    let outcome = outcome.number("working", count(working), "", None).number(
        "configured",
        count(all),
        "",
        None,
    );
    if failures.is_empty() {
        return outcome;
    }
    let lines: Vec<&str> = failures
        .iter()
        .map(|failure| failure.why.as_str())
        .collect();
    outcome.detail(lines.join("\n"))
}

fn ping<'a>(context: &'a Context, role: &'static str, endpoints: Vec<Endpoint>) -> Running<'a> {
    Box::pin(async move {
        let Some(pool) = context.pool() else {
            return Outcome::skipped("there is no pilot here to speak to the pool");
        };
        let waiting = endpoints
            .iter()
            .map(|endpoint| pool.ping(endpoint))
            .collect();
        let came = each(&endpoints, waiting).await;
        judge_ping(role, &came)
    })
}

fn judge_ping(role: &str, came: &[(&Endpoint, Result<Pong, PingError>)]) -> Outcome {
    if came.is_empty() {
        return Outcome::skipped(format!("the configuration names no {role}"));
    }
    let waits = came.iter().find_map(|(_, came)| match came {
        Err(PingError::Waiting(said)) => Some(said),
        _ => None,
    });
    if let Some(said) = waits.filter(|_| came.iter().all(|(_, came)| came.is_err())) {
        // It may be given one.
        let failure = Failure::new(
            Whose::Frontend,
            format!("the pilot has no token for the {role}, and will ask for one: {said}"),
            "approve the pilot's request (`condor_token_request_list`, `condor_token_request_approve`), or send pilots with a token",
        );
        return Outcome::failed(failure.transient().kind("VO_Proxy")).at_most(Severity::Warn);
    }
    let failures: Vec<Failure> = came
        .iter()
        .filter_map(|(endpoint, came)| {
            let name = format!("the {role} {}", endpoint.text);
            Some(match came {
                Ok(_) | Err(PingError::Waiting(_)) => return None,
                Err(PingError::Unreachable(said)) => Failure::new(
                    Whose::Pool,
                    format!("{name} was connected to and then did not answer: {said}"),
                    "see in its log (CollectorLog) whether it is overloaded, or whether something in between breaks connections",
                )
                .transient()
                .kind("Network"),
                Err(PingError::Malformed(said)) => Failure::new(
                    Whose::Pool,
                    format!("{name} does not speak as a daemon of HTCondor does: {said}"),
                    "see what listens there: another service, or a proxy in between; if it is the daemon, look at its log",
                )
                .kind("Network"),
                Err(PingError::Refused(said)) => Failure::new(
                    Whose::Frontend,
                    format!("{name} does not take the pilot: {said}"),
                    "see whether the pilot's token or proxy is valid and for this pool, and what the daemon's log says \
                     (ALLOW_ADVERTISE_STARTD, the map file)",
                )
                .kind("VO_Proxy"),
            })
        })
        .collect();
    let outcome = of_failures(&failures, came.len());
    let identity = came
        .iter()
        .find_map(|(_, came)| came.as_ref().ok())
        .and_then(|pong| pong.identity.clone());
    match identity {
        Some(identity) => outcome.text("identity", identity),
        None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Endpoint {
        tcp::endpoint(text).unwrap()
    }

    #[test]
    fn one_collector_that_works_is_enough() {
        let (one, two) = (at("one.example:9618"), at("two.example:9618"));
        let works = Came::Connected("192.0.2.1:9618".parse().unwrap(), Duration::from_millis(3));
        let dead = Came::Silent("192.0.2.2:9618".parse().unwrap());
        let outcome = judge_reachable("collector", &[(&one, works), (&two, dead.clone())]);
        assert!(outcome.is_passed() && outcome.detail.unwrap().contains("two.example"));
        let outcome = judge_reachable("collector", &[(&two, dead)]);
        let failure = outcome.failure().unwrap();
        assert!(
            failure.transient && failure.why.contains("the collector two.example:9618"),
            "{failure:?}"
        );
        assert!(matches!(
            judge_reachable("collector", &[]).status,
            crate::outcome::Status::Skipped { .. }
        ));
    }

    #[test]
    fn contacts_of_brokers() {
        for (word, host, port) in [
            ("ccb.example", "ccb.example", 9618),
            ("ccb.example:9620?sock=x", "ccb.example", 9620),
            ("<192.0.2.1:9618?addrs=a>", "192.0.2.1", 9618),
            ("192.0.2.1:9618#77", "192.0.2.1", 9618),
        ] {
            let endpoint = contact(word).unwrap();
            assert_eq!(
                (endpoint.host.as_str(), endpoint.port),
                (host, port),
                "{word}"
            );
        }
        assert_eq!(contact(""), None);
    }

    #[test]
    fn a_pilot_that_still_asks_for_a_token_is_not_unfit() {
        let here = at("cm.example.org:9618");
        let waiting = Err(PingError::Waiting("no usable token".into()));
        let outcome = judge_ping("collector", &[(&here, waiting)]);
        assert_eq!(outcome.at_most, Some(Severity::Warn), "{outcome:?}");
        assert!(outcome.failure().unwrap().why.contains("no usable token"));
    }

    #[test]
    fn a_pool_that_refuses_is_the_frontends() {
        let one = at("one.example:9618");
        let refused = Err(PingError::Refused("the token is expired".into()));
        let outcome = judge_ping("collector", &[(&one, refused)]);
        assert_eq!(outcome.failure().unwrap().whose, Whose::Frontend);
        let pong = Pong {
            identity: Some("pilot@example".into()),
            ..Pong::default()
        };
        assert!(judge_ping("collector", &[(&one, Ok(pong))]).is_passed());
    }
}
