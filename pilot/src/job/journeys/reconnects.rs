//! Jobs that outlive their shadow, and what the next one is told.

use std::time::Duration;

use super::super::{JobEnd, LineState};
use super::shadow::{Journey, Record, Setup, begin};
use super::stories::{STUBBORN, hard, hold_codes, in_seconds, setup, soft};

const JOB_EXIT: i64 = -65;
const BEGIN: i64 = -78;
const UPDATE: i64 = -81;
const ULOG: i64 = 284;

/// Runs until the test lets it end.
const WAITING: &str =
    ": > ready\nwhile [ ! -e go ]; do /bin/sleep 0.02; done\necho done > result.txt; exit 3";

fn leased(script: &str, seconds: u32) -> Setup {
    Setup {
        ad: format!("JobLeaseDuration = {seconds}"),
        ..setup(script)
    }
}

/// A running job whose shadow is gone.
async fn adrift(script: &str) -> Journey {
    let journey = begin(leased(script, 60)).await;
    journey.made("ready").await;
    journey.heard(BEGIN).await;
    journey.shadow_task.abort();
    journey.adrift().await;
    journey
}

fn reports(record: &Record, state: &str) -> usize {
    let states = record.updates.iter().filter_map(|ad| ad.string("JobState"));
    states.filter(|found| found == state).count()
}

fn assert_complete(end: &JobEnd, record: &Record) {
    assert_eq!(*end, JobEnd::Finished);
    assert_eq!(record.exit, Some((3 << 8, 100)));
    let (is_final, files) = record.output.as_ref().expect("output");
    assert!(is_final);
    assert_eq!(files["result.txt"], b"done\n");
}

#[tokio::test]
async fn reports_go_on_with_a_shadow_that_comes_back() {
    let mut journey = adrift(WAITING).await;
    journey.record.lock().unwrap().updates.clear();
    journey.comes_back("1#new", "1#new").await;
    let reported = async {
        while reports(&journey.record.lock().unwrap(), "Running") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reported)
        .await
        .expect("reports");
    journey.make("go");
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
    assert_eq!(record.refused, [""; 0]);
    assert_eq!(
        record.lines,
        [LineState::Disconnected, LineState::Connected]
    );
}

#[tokio::test]
async fn a_result_waits_for_a_shadow() {
    let mut journey = adrift(WAITING).await;
    journey.make("go");
    journey.until_payload_is_gone().await;
    journey.comes_back("1#new", "1#new").await;
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
    assert_eq!(reports(&record, "Exited"), 1);
}

#[tokio::test]
async fn a_shadow_whose_loss_was_not_noticed_takes_over() {
    let mut journey = begin(leased(WAITING, 60)).await;
    journey.made("ready").await;
    journey.heard(BEGIN).await;
    // The old one is still connected, and silent.
    let old = std::mem::replace(&mut journey.shadow_task, tokio::spawn(async {}));
    journey.comes_back("1#new", "1#new").await;
    journey.make("go");
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
    old.abort();
}

#[tokio::test]
async fn a_job_exit_without_an_answer_is_repeated_and_the_output_is_not() {
    let mut setup = leased("echo done > result.txt; exit 3", 60);
    setup.dies_at = Some(JOB_EXIT);
    let mut journey = begin(setup).await;
    journey.adrift().await;
    journey.comes_back("1#new", "1#new").await;
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
    assert_eq!(record.outputs, 1);
    let exits = record.calls.iter().filter(|call| **call == JOB_EXIT);
    assert_eq!(exits.count(), 2);
}

#[tokio::test]
async fn a_last_report_without_an_answer_is_repeated() {
    let mut journey = adrift(WAITING).await;
    journey.record.lock().unwrap().dies_at = Some(UPDATE);
    journey.make("go");
    journey.until_payload_is_gone().await;
    journey.comes_back("1#new", "1#new").await;
    journey.adrift().await;
    journey.comes_back("1#newer", "1#newer").await;
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
}

#[tokio::test]
async fn output_that_is_refused_is_sent_to_the_next_shadow() {
    let mut journey = adrift(WAITING).await;
    journey.make("go");
    // As a shadow that lost its connection but lives: it does not know its own key any more.
    for round in 1..3 {
        journey.comes_back("1#key", "1#other").await;
        journey.refused(round).await;
        journey.adrift().await;
    }
    journey.comes_back("1#new", "1#new").await;
    let (end, record) = journey.end().await;
    assert_complete(&end, &record);
    assert_eq!(record.refused, ["1#key", "1#key"]);
}

#[tokio::test]
async fn output_that_is_always_refused_sends_the_job_back_to_the_queue() {
    let mut journey = adrift(WAITING).await;
    journey.make("go");
    for round in 1..=6 {
        journey.comes_back("1#key", "1#other").await;
        journey.refused(round).await;
    }
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Requeued);
    assert_eq!(hold_codes(&record), (None, None));
    assert_eq!(record.refused.len(), 6);
}

#[tokio::test]
async fn when_the_lease_ends_the_job_is_killed() {
    let journey = begin(leased(STUBBORN, 1)).await;
    journey.made("ready").await;
    journey.shadow_task.abort();
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::LeaseOver);
    assert_eq!(record.exit, None);
}

#[tokio::test]
async fn an_order_to_stop_ends_the_waiting() {
    for order in [soft(), hard()] {
        // It runs still.
        let journey = adrift(WAITING).await;
        journey.orders.send(order.clone()).await.unwrap();
        assert_eq!(journey.end().await.0, JobEnd::ShadowLost);
        // It has ended, and its result waits.
        let journey = adrift(WAITING).await;
        journey.make("go");
        journey.until_payload_is_gone().await;
        journey.orders.send(order).await.unwrap();
        assert_eq!(journey.end().await.0, JobEnd::ShadowLost);
    }
}

#[tokio::test]
async fn a_credential_that_ends_while_nobody_is_there_is_told_to_who_comes_back() {
    let mut setup = leased(STUBBORN, 60);
    setup.not_after = in_seconds(4);
    let mut journey = begin(setup).await;
    journey.made("ready").await;
    journey.heard(BEGIN).await;
    journey.shadow_task.abort();
    journey.adrift().await;
    journey.until_payload_is_gone().await;
    journey.comes_back("1#new", "1#new").await;
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record).0, Some(4));
    assert_eq!(record.calls.last(), Some(&ULOG));
}

#[tokio::test]
async fn before_it_runs_a_job_does_not_outlive_its_shadow() {
    let mut setup = leased(WAITING, 60);
    setup.is_stalling = true;
    let journey = begin(setup).await;
    journey.heard(UPDATE).await;
    journey.shadow_task.abort();
    assert_eq!(journey.end().await.0, JobEnd::ShadowLost);
}
