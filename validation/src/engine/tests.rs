//! The engine with checks that are made up, against the clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::check::{Check, Severity};
use crate::custom::Brought;
use crate::findings::{Class, Verdict};
use crate::knob::Knobs;
use crate::outcome::{Failure, Outcome, Status};
use crate::probe::{Context, Probe, Running};
use crate::process::How;
use crate::setup::Setup;

type Body = Box<dyn for<'a> Fn(&'a Context) -> Running<'a> + Send + Sync>;

struct Made {
    check: Check,
    body: Body,
}

impl Probe for Made {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        (self.body)(context)
    }
}

fn made(
    check: Check,
    body: impl for<'a> Fn(&'a Context) -> Running<'a> + Send + Sync + 'static,
) -> Arc<dyn Probe> {
    Arc::new(Made {
        check,
        body: Box::new(body),
    })
}

fn says(check: Check, outcome: Outcome) -> Arc<dyn Probe> {
    made(check, move |_| {
        Box::pin(std::future::ready(outcome.clone()))
    })
}

fn engine(probes: Vec<Arc<dyn Probe>>, knobs: Knobs) -> Engine {
    Engine::new(probes, Arc::new(Setup::default()), Arc::new(knobs), None).unwrap()
}

fn words(engine: &Engine) -> Vec<String> {
    engine
        .outcomes()
        .map(|(check, outcome)| match &outcome.status {
            Status::Passed => format!("{} passed", check.name),
            Status::Skipped { why } => format!("{} skipped: {why}", check.name),
            Status::Failed(failure) => format!("{} failed: {}", check.name, failure.why),
        })
        .collect()
}

const BAD: &str = "it is broken";

fn bad() -> Outcome {
    Outcome::failed(Failure::site(BAD, "mend it"))
}

#[tokio::test]
async fn a_hanging_check_is_ended_at_its_limit_and_holds_up_nobody() {
    let mut engine = engine(
        vec![
            made(
                Check::new("hangs", "the universe").limit(Duration::from_millis(300)),
                |context| {
                    Box::pin(async move {
                        let ended = context
                            .command("/bin/sh")
                            .args(["-c", "trap '' TERM; while :; do sleep 100; done"])
                            .run()
                            .await
                            .unwrap();
                        assert_eq!(ended.how, How::TimedOut);
                        bad()
                    })
                },
            ),
            made(
                Check::new("sleeps", "a server").limit(Duration::from_millis(200)),
                |_| Box::pin(std::future::pending()),
            ),
            made(
                Check::new("blocks", "a dead file system").limit(Duration::from_millis(200)),
                |context| {
                    Box::pin(async move {
                        context
                            .blocking(|| std::thread::park_timeout(Duration::from_secs(5)))
                            .await;
                        Outcome::passed()
                    })
                },
            ),
            says(Check::new("quick", ""), Outcome::passed()),
        ],
        Knobs::defaults(),
    );
    let begin = Instant::now();
    let mut order = Vec::new();
    engine
        .first(nothing(), |done| {
            order.push(done.check.name.as_str().to_owned());
        })
        .await;
    assert_eq!(
        order.first().map(String::as_str),
        Some("quick"),
        "{order:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!(
        words(&engine),
        [
            "hangs failed: it is broken",
            "sleeps failed: the check did not end within its limit of 0.2 s",
            "blocks failed: the check did not end within its limit of 0.2 s",
            "quick passed"
        ]
    );
}

#[tokio::test]
async fn a_check_that_breaks_is_a_mistake_of_ours_and_no_more() {
    let mut engine = engine(
        vec![
            made(Check::new("broken", ""), |_| {
                Box::pin(async { panic!("a mistake") })
            }),
            says(Check::new("next", "").needs("broken"), Outcome::passed()),
            says(Check::new("other", "").after("broken"), Outcome::passed()),
        ],
        Knobs::defaults(),
    );
    engine.first(nothing(), |_| ()).await;
    assert_eq!(
        engine.verdict(),
        Verdict::Unfit {
            class: Class::Pilot
        }
    );
    assert_eq!(
        words(&engine)[1..],
        ["next skipped: broken has not passed", "other passed"]
    );
}

#[tokio::test]
async fn what_is_brought_later_is_run_with_the_rest() {
    let mut engine = engine(
        vec![says(Check::new("space", ""), Outcome::passed())],
        Knobs::defaults(),
    );
    let later = Box::pin(async {
        tokio::task::yield_now().await;
        Brought {
            findings: vec![(Check::new("manifest", ""), Outcome::passed())],
            probes: vec![says(Check::new("script", "").needs("space"), bad())],
            ending: None,
        }
    });
    engine.first(later, |_| ()).await;
    assert_eq!(
        words(&engine),
        [
            "manifest passed",
            "space passed",
            "script failed: it is broken"
        ]
    );
    let report = engine.report();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::Report>(&json).unwrap(),
        report
    );
    let mut engine = self::engine(
        vec![says(Check::new("space", ""), Outcome::passed())],
        Knobs::defaults(),
    );
    let wrong = Box::pin(async {
        Brought {
            probes: vec![says(Check::new("space", ""), Outcome::passed())],
            ..Brought::default()
        }
    });
    engine.first(wrong, |_| ()).await;
    assert_eq!(
        engine.verdict(),
        Verdict::Unfit {
            class: Class::Factory
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_periodic_failure_closes_and_recovery_opens() {
    let healthy = Arc::new(AtomicBool::new(true));
    let runs = Arc::new(AtomicU32::new(0));
    let (seen, count) = (Arc::clone(&healthy), Arc::clone(&runs));
    let mut engine = engine(
        vec![
            made(
                Check::new("disk", "").every(Duration::from_secs(60)),
                move |context| {
                    let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                    assert_ne!(context.is_again(), first);
                    let good = seen.load(Ordering::Relaxed);
                    Box::pin(async move { if good { Outcome::passed() } else { bad() } })
                },
            ),
            says(Check::new("once", "").severity(Severity::Warn), bad()),
        ],
        Knobs::defaults(),
    );
    engine.first(nothing(), |_| ()).await;
    assert_eq!(engine.standing(), Standing::Open);
    assert_eq!(engine.verdict(), Verdict::Degraded);
    healthy.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    engine.next(|done| assert!(done.again)).await;
    assert!(begin.elapsed() > Duration::from_secs(59) && begin.elapsed() < Duration::from_secs(61));
    assert_eq!(
        engine.standing(),
        Standing::Closed(format!("check disk failed: {BAD}"))
    );
    healthy.store(true, Ordering::Relaxed);
    engine.next(|_| ()).await;
    assert_eq!(engine.standing(), Standing::Open);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert!(engine.comes_again());
}

#[tokio::test]
async fn the_knobs_change_checks_by_name() {
    let knobs = Knobs::defaults()
        .with("SAILPLANE_CHECKS_OFF", "cvmfs*")
        .unwrap()
        .with("SAILPLANE_CHECKS_SEVERITY", "gpu=warn")
        .unwrap();
    let mut engine = engine(
        vec![
            says(Check::new("cvmfs-mounted", "").needs("gpu"), bad()),
            says(Check::new("gpu", ""), bad()),
            says(Check::new("trial", "").needs("cvmfs-mounted"), bad()),
        ],
        knobs,
    );
    engine.first(nothing(), |_| ()).await;
    assert_eq!(
        words(&engine),
        [
            "cvmfs-mounted skipped: SAILPLANE_CHECKS_OFF names it",
            "gpu failed: it is broken",
            "trial skipped: cvmfs-mounted has not passed"
        ]
    );
    assert_eq!(engine.verdict(), Verdict::Degraded);
}

#[tokio::test]
async fn ending_the_engine_ends_what_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("pid");
    let script = format!(
        "echo $$ > {}; trap '' TERM; sleep 1000; sleep 1000",
        note.display()
    );
    let mut engine = engine(
        vec![made(Check::new("long", ""), move |context| {
            let command = context.command(Path::new("/bin/sh")).arg("-c").arg(&script);
            Box::pin(async move {
                let _ = command.run().await;
                Outcome::passed()
            })
        })],
        Knobs::defaults(),
    );
    let read = || {
        std::fs::read_to_string(&note)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    };
    tokio::select! {
        () = engine.first(nothing(), |_| ()) => panic!("it ended"),
        () = async { while read().is_none() { tokio::time::sleep(Duration::from_millis(2)).await } } => {}
    }
    engine.end().await;
    let pid = read().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Path::new(&format!("/proc/{}", pid.trim())).exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
