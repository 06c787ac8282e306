//! Many payloads at the same time, of several pilots.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, Opened, Purpose};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use validation::switching::client::{Client, ClientError};
use validation::{Failure, Outcome};

use super::credentials::Secret;
use super::mappings::{Fate, Runnable};
use super::options::Options;
use super::results::{self, Found, Results, check};
use super::session::{self, Session};
use super::shell::{self, Running};

/// Helpers that work at the same time, as if of so many pilots.
const PILOTS: u32 = 4;

/// The storm.
pub(super) fn examine(
    results: &mut Results,
    session: &mut Session<'_>,
    accounts: &[Runnable],
    options: &Options,
) {
    results.run(
        check(
            "storm",
            "many payloads start, live at the same time, and are gone",
        )
        .needs("helper-starts"),
        || storm(session, accounts, options.storm),
    );
}

/// A payload that runs.
struct Launched {
    opened: Opened,
    took: Duration,
    /// What it says it is.
    uid: String,
    running: Option<Running>,
}

fn storm(session: &mut Session<'_>, accounts: &[Runnable], wanted: u32) -> Found {
    if wanted == 0 {
        return Ok(Outcome::skipped("--storm 0"));
    }
    let runnable: Vec<&Runnable> = accounts
        .iter()
        .filter(|one| one.fate != Fate::Pool(None))
        .collect();
    if runnable.is_empty() {
        return Ok(Outcome::skipped(
            "no credential is accepted with which payloads could be started",
        ));
    }
    let (count, note) = affordable(session, &runnable, wanted);
    more_descriptors();
    let pilots = PILOTS.min(count);
    let mut helpers = Vec::new();
    for _ in 0..pilots {
        helpers.push(session.another().map_err(|error| results::client(&error))?);
    }
    let order = session.order(Purpose::Run);
    let limit = session.limit.max(Duration::from_secs(10)) + Duration::from_millis(100) * count;
    let (report, reports) = mpsc::channel();
    let began = Instant::now();
    let mut launched = Vec::new();
    let mut trouble = None;
    std::thread::scope(|scope| {
        let (mut starters, mut ends) = (Vec::new(), Vec::new());
        for (index, helper) in (0_u32..).zip(helpers) {
            let credentials: Vec<&Secret> = (0..count)
                .filter(|number| number % pilots == index)
                .filter_map(|number| runnable.get(number as usize % runnable.len()))
                .map(|one| &one.credential)
                .collect();
            let (report, order) = (report.clone(), order.clone());
            let (go, wait) = mpsc::channel::<()>();
            starters.push(go);
            ends.push(
                scope.spawn(move || pilot(helper, &credentials, &order, &report, &wait, limit)),
            );
        }
        drop(report);
        for _ in 0..pilots {
            match reports.recv() {
                Ok(Ok(some)) => launched.extend(some),
                Ok(Err(failure)) => trouble = Some(failure),
                Err(_) => break,
            }
        }
        // All are alive now. Nobody waits for who has failed.
        drop(starters);
        for end in ends {
            match end.join() {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => trouble = trouble.take().or(Some(failure)),
                Err(_) => {
                    trouble = Some(Failure::site(
                        "a thread of this program has ended in panic",
                        "report this",
                    ))
                }
            }
        }
    });
    let total = began.elapsed();
    for (opened, ..) in &launched {
        session.note(opened);
    }
    if let Some(failure) = trouble {
        return Err(failure);
    }
    judge(&launched, count, total, note)
}

type Facts = (Opened, Duration, String);

/// One pilot: asks for all its accounts at once, starts all payloads, waits until it may end them.
fn pilot(
    mut helper: Client,
    credentials: &[&Secret],
    order: &Command,
    report: &mpsc::Sender<Result<Vec<Facts>, Failure>>,
    go: &mpsc::Receiver<()>,
    limit: Duration,
) -> Result<(), Failure> {
    let launched = match launch(&mut helper, credentials, order, limit) {
        Ok(launched) => launched,
        Err(failure) => {
            let _ = report.send(Err(failure));
            return Ok(());
        }
    };
    let facts = launched
        .iter()
        .map(|one| (one.opened.clone(), one.took, one.uid.clone()))
        .collect();
    let _ = report.send(Ok(facts));
    // Ends with an error as soon as the sender is dropped: that is the sign.
    let _ = go.recv();
    finish(&mut helper, launched, limit).map_err(|error| results::client(&error))?;
    if helper.end(limit) {
        Ok(())
    } else {
        Err(Failure::site(
            "a helper still runs after its pilot has gone",
            "end it by hand, and look into its log",
        ))
    }
}

fn launch(
    helper: &mut Client,
    credentials: &[&Secret],
    order: &Command,
    limit: Duration,
) -> Result<Vec<Launched>, Failure> {
    let failed = |error: ClientError| results::client(&error);
    let began = Instant::now();
    for credential in credentials {
        let memory = session::memory(credential).map_err(failed)?;
        helper
            .submit(order.clone(), Some(memory.as_fd()))
            .map_err(failed)?;
    }
    let mut opened = Vec::new();
    for _ in credentials {
        match helper.receive(limit).map_err(failed)?.answer {
            Answer::Opened(one) => opened.push(one),
            Answer::Refused(refusal) => return Err(results::refused(&refusal)),
            _ => return Err(failed(ClientError::Unexpected("open"))),
        }
    }
    let mut launched = Vec::new();
    for one in opened {
        let running = shell::start(helper, one.payload, "id -u; read line")
            .map_err(|error| results::agent(&error))?;
        launched.push(Launched {
            opened: one,
            took: began.elapsed(),
            uid: String::new(),
            running: Some(running),
        });
    }
    for one in &mut launched {
        let said = one
            .running
            .as_mut()
            .and_then(|running| running.output.line(limit));
        one.uid = said.unwrap_or_default();
    }
    Ok(launched)
}

fn finish(
    helper: &mut Client,
    launched: Vec<Launched>,
    limit: Duration,
) -> Result<(), ClientError> {
    let mut left = BTreeSet::new();
    for one in launched {
        left.insert(one.opened.payload);
        // Its input ends, and with it the payload.
        drop(one.running);
    }
    let payloads = left.clone();
    let end = Instant::now() + limit;
    while !left.is_empty() {
        let within = end.saturating_duration_since(Instant::now());
        match helper.event(within)? {
            Some(Answer::Empty { payload }) => {
                left.remove(&payload);
            }
            Some(_) => {}
            None => return Err(ClientError::Timeout(limit)),
        }
    }
    for payload in &payloads {
        helper.submit(Command::Close { payload: *payload }, None)?;
    }
    for _ in &payloads {
        match helper.receive(limit)?.answer {
            Answer::Closed => {}
            Answer::Refused(refusal) => return Err(ClientError::Refused(refusal)),
            _ => return Err(ClientError::Unexpected("close")),
        }
    }
    Ok(())
}

fn judge(launched: &[Facts], count: u32, total: Duration, note: Option<String>) -> Found {
    let mut dynamic = BTreeSet::new();
    for (opened, _, said) in launched {
        if *said != opened.uid.to_string() {
            return Err(Failure::site(
                format!(
                    "a payload of {} runs as {said:?} instead of {}",
                    opened.account, opened.uid
                ),
                "report this with the helper's log",
            ));
        }
        if opened.lease == "dynamic" && !dynamic.insert(opened.uid) {
            return Err(Failure::site(
                format!(
                    "two payloads have the number {} at the same time",
                    opened.uid
                ),
                "do not let pilots run on this node, and report this: it must never happen",
            ));
        }
    }
    if launched.len() != count as usize {
        return Err(Failure::site(
            format!("{} of {count} payloads ran", launched.len()),
            "report this with the helper's log",
        ));
    }
    let mut times: Vec<f64> = launched
        .iter()
        .map(|(_, took, _)| took.as_secs_f64() * 1000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    let middle = times.get(times.len() / 2).copied().unwrap_or(0.0);
    let last = times.last().copied().unwrap_or(0.0);
    let outcome = Outcome::passed()
        .number("payloads", f64::from(count), "", None)
        .number("all_running_after", last, "ms", None)
        .number("half_running_after", middle, "ms", None)
        .number("total", total.as_secs_f64(), "s", None);
    Ok(match note {
        Some(note) => outcome.detail(note),
        None => outcome,
    })
}

/// No more than there are numbers, if each payload needs one.
fn affordable(session: &Session<'_>, runnable: &[&Runnable], wanted: u32) -> (u32, Option<String>) {
    let range = session
        .ground
        .config
        .as_ref()
        .ok()
        .and_then(|config| config.settings.targets.dynamic_uids);
    let all_dynamic = runnable.iter().all(|one| one.fate == Fate::Dynamic);
    match range {
        Some((first, last)) if all_dynamic && last - first < wanted.saturating_sub(1) => {
            let there = last - first + 1;
            (
                there,
                Some(format!(
                    "dynamic_uids has {there} numbers, so {there} payloads and not {wanted}"
                )),
            )
        }
        _ => (wanted, None),
    }
}

/// Three pipes a payload: as many descriptors as we may have.
fn more_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
