//! What users, sites and faults make of a job.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use launch_protocol::broker::RefusalClass;

use super::super::hold::{Hold, HoldCode};
use super::super::{JobEnd, Renewal, StopHow, StopOrder, Wish};
use super::shadow::{Journey, Record, Setup, begin};
use crate::identity::{CredentialWish, IdentityPolicy, SiteNeeds, reconcile};

const GET_JOB_INFO: i64 = -63;
const JOB_EXIT: i64 = -65;
const STARTER_INFO: i64 = -77;
const BEGIN: i64 = -78;
const UPDATE: i64 = -81;
const ULOG: i64 = 284;
const EXECUTION_EXIT: i64 = 304;

pub(super) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i64::try_from(now).unwrap() + seconds
}

pub(super) fn setup(script: &str) -> Setup {
    Setup {
        ad: String::new(),
        script: script.to_owned(),
        not_after: in_seconds(3600),
        refuse: None,
        oom_kills: None,
        is_stalling: false,
        dies_at: None,
        renews_at: Vec::new(),
        services: None,
        identity: IdentityPolicy::proxy(),
    }
}

pub(super) fn soft() -> StopOrder {
    StopOrder::Soft {
        by: "<1.2.3.4:5>".to_owned(),
        how: StopHow::Deactivate,
    }
}

pub(super) fn hard() -> StopOrder {
    StopOrder::Hard {
        by: "<1.2.3.4:5>".to_owned(),
        how: StopHow::DeactivateForcibly,
    }
}

pub(super) fn hold_codes(record: &Record) -> (Option<i64>, Option<i64>) {
    let event = record.event.as_ref().expect("an event");
    assert!(
        !record.calls.contains(&JOB_EXIT),
        "nothing is said after a critical event"
    );
    assert_eq!(record.calls.last(), Some(&ULOG));
    (event.int("HoldReasonCode"), event.int("HoldReasonSubCode"))
}

fn reason(record: &Record) -> String {
    record.event.as_ref().unwrap().string("ErrorMsg").unwrap()
}

const TRAP: &str =
    "trap 'echo stopped > state.txt; exit 5' TERM\n: > ready\nwhile :; do /bin/sleep 0.02; done\n";
pub(super) const STUBBORN: &str = "trap '' TERM\n: > ready\nwhile :; do /bin/sleep 0.02; done\n";

#[tokio::test]
async fn a_job_runs_and_its_output_comes_back() {
    let mut setup = setup("echo \"$1 $NAME $X509_USER_PROXY\"; echo new > new.txt; exit 3");
    setup.ad = "Arguments = \"'two words'\"\nEnvironment = \"NAME=value\"".to_owned();
    let journey = begin(setup).await;
    let helper = Arc::clone(&journey.helper.script);
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Finished);
    assert_eq!(helper.credential(), b"a proxy");
    assert_eq!(record.exit, Some((3 << 8, 100)));
    let calls: Vec<_> = record
        .calls
        .iter()
        .copied()
        .filter(|call| *call != UPDATE)
        .collect();
    assert_eq!(
        calls,
        [GET_JOB_INFO, STARTER_INFO, BEGIN, EXECUTION_EXIT, JOB_EXIT]
    );
    assert!(!record.updates[0].contains("JobState"));
    let last = record.updates.last().unwrap();
    assert_eq!(last.string("JobState").as_deref(), Some("Exited"));
    assert_eq!(last.int("ExitCode"), Some(3));
    assert_eq!(last.real("RemoteUserCpu"), Some(1.5));
    assert_eq!(last.int("ImageSize"), Some(5120));
    let (is_final, files) = record.output.unwrap();
    assert!(is_final);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["_condor_stderr", "_condor_stdout", "new.txt"]);
    let stdout = String::from_utf8(files["_condor_stdout"].clone()).unwrap();
    assert!(
        stdout.starts_with("two words value /") && stdout.ends_with("/proxy.pem\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn a_running_job_is_reported_and_shown() {
    let journey = begin(setup(TRAP)).await;
    journey.made("ready").await;
    let reports = || {
        let record = journey.record.lock().unwrap();
        let states = record.updates.iter().filter_map(|ad| ad.string("JobState"));
        states.filter(|state| state == "Running").count()
    };
    let running = async {
        while reports() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("updates come");
    let shown = journey.progress.borrow().clone();
    assert_eq!(
        (shown.job_id.as_str(), shown.image_size_kib, shown.pids),
        ("1.0", 5120, 1)
    );
    assert!(shown.started.is_some());
    journey.orders.send(hard()).await.unwrap();
    assert_eq!(journey.end().await.0, JobEnd::Evicted);
}

#[tokio::test]
async fn a_job_that_the_policy_wants_held_is_held_with_the_policys_words() {
    for script in [TRAP, STUBBORN] {
        let journey = begin(setup(script)).await;
        journey.made("ready").await;
        let hold = Hold::new(HoldCode::StartdHeldJob, 102, "too much memory");
        let how = StopHow::Preempt(Some(hold));
        let by = "<1.2.3.4:5>".to_owned();
        let soft = StopOrder::Soft {
            by: by.clone(),
            how: how.clone(),
        };
        journey.orders.send(soft).await.unwrap();
        if script == STUBBORN {
            let hard = StopOrder::Hard { by, how };
            journey.orders.send(hard).await.unwrap();
        }
        let (end, record) = journey.end().await;
        assert_eq!(end, JobEnd::Held);
        assert_eq!(hold_codes(&record), (Some(21), Some(102)));
        assert_eq!(reason(&record), "too much memory");
    }
    // Without a hold it goes back to the queue.
    let journey = begin(setup(TRAP)).await;
    journey.made("ready").await;
    let soft = StopOrder::Soft {
        by: "<1.2.3.4:5>".to_owned(),
        how: StopHow::Preempt(None),
    };
    journey.orders.send(soft).await.unwrap();
    assert_eq!(journey.end().await.0, JobEnd::Evicted);
}

#[tokio::test]
async fn a_payload_that_cannot_start_is_held_with_the_file_and_the_cause() {
    let mut setup = setup("");
    setup.ad = "Cmd = \"/no/such/program\"\nTransferExecutable = false".to_owned();
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(6), Some(2)));
    assert!(
        reason(&record).contains("/no/such/program"),
        "{}",
        reason(&record)
    );
    assert!(record.output.is_none());
}

#[tokio::test]
async fn a_refused_credential_holds_and_a_busy_site_does_not() {
    let mut refused = setup("");
    refused.refuse = Some(RefusalClass::Job);
    let (end, record) = begin(refused).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(4), Some(0)));
    assert!(reason(&record).contains("This test refuses."));

    let mut busy = setup("");
    busy.refuse = Some(RefusalClass::SiteTransient);
    let (end, record) = begin(busy).await.end().await;
    assert!(
        matches!(
            end,
            JobEnd::Site {
                permanent: false,
                ..
            }
        ),
        "{end:?}"
    );
    assert_eq!(hold_codes(&record), (None, None));
}

#[tokio::test]
async fn a_job_without_a_credential_is_held_before_anything_is_transferred() {
    let mut setup = setup("");
    setup.ad = "x509userproxy = undefined".to_owned();
    setup.is_stalling = true;
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(23), Some(0)));
}

#[tokio::test]
async fn a_missing_output_file_holds_the_job() {
    let mut setup = setup("exit 0");
    setup.ad = "TransferOutput = \"missing.txt\"".to_owned();
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(12), Some(2)));
    assert!(reason(&record).contains("missing.txt"));
}

#[tokio::test]
async fn a_soft_stop_lets_the_job_end_and_sends_nothing_back() {
    let journey = begin(setup(TRAP)).await;
    journey.made("ready").await;
    journey.orders.send(soft()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Evicted);
    assert_eq!(record.exit, Some((5 << 8, 107)));
    assert!(record.output.is_none());
    assert!(
        record
            .updates
            .last()
            .unwrap()
            .to_old()
            .contains("DEACTIVATE_CLAIM")
    );
}

#[tokio::test]
async fn an_evicted_job_that_wants_it_keeps_its_files_for_the_next_run() {
    let mut setup = setup(TRAP);
    setup.ad = "WhenToTransferOutput = \"ON_EXIT_OR_EVICT\"".to_owned();
    let journey = begin(setup).await;
    journey.made("ready").await;
    journey.orders.send(soft()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Evicted);
    assert_eq!(record.exit, Some((5 << 8, 107)));
    let (is_final, files) = record.output.unwrap();
    assert!(!is_final);
    assert_eq!(files["state.txt"], b"stopped\n");
}

#[tokio::test]
async fn a_job_that_will_not_stop_is_killed_after_its_vacate_time() {
    let mut setup = setup(STUBBORN);
    setup.ad = "JobMaxVacateTime = 1\nWhenToTransferOutput = \"ON_EXIT_OR_EVICT\"".to_owned();
    let journey = begin(setup).await;
    journey.made("ready").await;
    journey.orders.send(soft()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!((end, record.exit), (JobEnd::Evicted, Some((9, 107))));
    assert!(record.output.is_none(), "nothing of a killed job is kept");
}

/// Waits until the last report says so.
async fn reported(journey: &Journey, state: &str) {
    let told = async {
        let last = || {
            let record = journey.record.lock().unwrap();
            record.updates.last().and_then(|ad| ad.string("JobState"))
        };
        while last().as_deref() != Some(state) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .unwrap_or_else(|_| panic!("the job is never reported as {state}"));
}

const COUNTING: &str =
    "trap 'exit 5' TERM\n: > ready\nwhile :; do echo >> ticks; /bin/sleep 0.02; done\n";

#[tokio::test]
async fn k8_a_suspended_job_rests_until_it_is_continued() {
    let journey = begin(setup(COUNTING)).await;
    journey.made("ready").await;
    journey.wishes.send(Wish::Suspend);
    reported(&journey, "Suspended").await;
    let rests = journey.size_of("ticks");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        journey.size_of("ticks"),
        rests,
        "a suspended job does nothing"
    );
    journey.wishes.send(Wish::Continue);
    reported(&journey, "Running").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(journey.size_of("ticks") > rests, "it goes on");
    journey.orders.send(hard()).await.unwrap();
    assert_eq!(journey.end().await.0, JobEnd::Evicted);
}

#[tokio::test]
async fn k8_a_suspended_job_hears_a_soft_stop_and_dies_of_a_kill() {
    let journey = begin(setup(COUNTING)).await;
    journey.made("ready").await;
    journey.wishes.send(Wish::Suspend);
    reported(&journey, "Suspended").await;
    journey.orders.send(soft()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!((end, record.exit), (JobEnd::Evicted, Some((5 << 8, 107))));

    let journey = begin(setup(COUNTING)).await;
    journey.made("ready").await;
    journey.wishes.send(Wish::Suspend);
    reported(&journey, "Suspended").await;
    journey.orders.send(hard()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!((end, record.exit), (JobEnd::Evicted, Some((9, 107))));
}

#[tokio::test]
async fn a_harder_order_does_not_wait_for_a_softer_one() {
    let journey = begin(setup(STUBBORN)).await;
    journey.made("ready").await;
    journey.orders.send(soft()).await.unwrap();
    journey.orders.send(hard()).await.unwrap();
    let (end, record) = journey.end().await;
    assert_eq!((end, record.exit), (JobEnd::Evicted, Some((9, 107))));
    assert!(
        record
            .updates
            .last()
            .unwrap()
            .to_old()
            .contains("DEACTIVATE_CLAIM_FORCIBLY")
    );
}

#[tokio::test]
async fn a_stop_during_the_input_transfer_ends_it() {
    let mut setup = setup("");
    setup.is_stalling = true;
    let journey = begin(setup).await;
    journey.heard(UPDATE).await;
    journey.orders.send(soft()).await.unwrap();
    let (end, record) = journey.end().await;
    assert!(matches!(end, JobEnd::NotStarted { .. }), "{end:?}");
    assert!(!record.calls.contains(&BEGIN) && !record.calls.contains(&JOB_EXIT));
}

#[tokio::test]
async fn a_job_is_stopped_before_its_proxy_ends_and_held() {
    let mut setup = setup(TRAP);
    // Stopped two seconds before its end.
    setup.not_after = in_seconds(4);
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(4), Some(0)));
    assert!(
        reason(&record).contains("/DC=test/CN=Alice would end at"),
        "{}",
        reason(&record)
    );
    assert!(record.output.is_none());
    assert!(record.calls.contains(&BEGIN));
    // Told before, and once.
    let [notice] = record.notices.as_slice() else {
        panic!("{:?}", record.notices)
    };
    assert!(
        notice.contains("The credential of /DC=test/CN=Alice ends at")
            && notice.contains("unless a renewed credential"),
        "{notice}"
    );
}

#[tokio::test]
async fn a_job_that_wants_too_much_memory_is_held() {
    let mut setup = setup("kill -9 $$");
    setup.oom_kills = Some(1);
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(34), Some(0)));
    assert!(reason(&record).contains("memory limit of 100 megabytes"));
    assert!(record.output.is_none());

    // One that killed itself did not.
    let mut setup = self::setup("kill -9 $$");
    setup.oom_kills = Some(0);
    let (end, record) = begin(setup).await.end().await;
    assert_eq!((end, record.exit), (JobEnd::Finished, Some((9, 100))));
}

async fn renew(journey: &Journey, credential: &str) -> Renewal {
    let (answer, outcome) = tokio::sync::oneshot::channel();
    let credential = credential.as_bytes().to_vec().into();
    let wish = Wish::Renew { credential, answer };
    journey.wishes.send(wish);
    outcome.await.unwrap()
}

#[tokio::test]
async fn k6_a_renewed_proxy_of_the_same_identity_prolongs_the_job() {
    let mut setup = setup(TRAP);
    // Stopped two seconds before its end.
    setup.not_after = in_seconds(4);
    let journey = begin(setup).await;
    journey.made("ready").await;
    let helper = Arc::clone(&journey.helper.script);
    assert_eq!(renew(&journey, "a proxy of Alice").await, Renewal::Taken);
    assert_eq!(helper.credential(), b"a proxy of Alice");
    tokio::time::sleep(Duration::from_secs(4)).await;
    journey.orders.send(soft()).await.unwrap();
    assert_eq!(journey.end().await.0, JobEnd::Evicted);
}

#[tokio::test]
async fn k6_a_renewed_proxy_of_another_changes_nothing() {
    let mut setup = setup(TRAP);
    setup.not_after = in_seconds(4);
    let journey = begin(setup).await;
    journey.made("ready").await;
    let helper = Arc::clone(&journey.helper.script);
    assert_eq!(renew(&journey, "a proxy of Bob").await, Renewal::Refused);
    assert_eq!(helper.credential(), b"a proxy");
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(4), Some(0)));
}

/// A real shadow does one thing at a time: while it waits for what became of a proxy it answers to no call.
#[tokio::test]
async fn k6_a_proxy_renewed_before_the_payload_runs_or_after_its_end_holds_nothing_up() {
    let mut setup = setup("exit 3");
    setup.renews_at = vec![GET_JOB_INFO, JOB_EXIT];
    let journey = begin(setup).await;
    let ending = tokio::time::timeout(Duration::from_secs(15), journey.end());
    let (end, record) = ending
        .await
        .expect("the shadow and the job wait for each other");
    assert_eq!((end, record.exit), (JobEnd::Finished, Some((3 << 8, 100))));
    assert_eq!(record.renewals, [(GET_JOB_INFO, None), (JOB_EXIT, None)]);
}

#[tokio::test]
async fn a_token_says_whose_the_job_is_where_the_frontend_takes_tokens() {
    let script = "touch ready; until grep -q second $_CONDOR_CREDS/scitokens.use; do sleep 0.05; done; sleep 0.3";
    let mut setup = setup(script);
    setup.ad = "x509userproxy = undefined\nOAuthServicesNeeded = \"scitokens\"".to_owned();
    setup.services = Some(vec![("scitokens", "the first token\n")]);
    let (wish, site) = (CredentialWish::ProxyOrToken, SiteNeeds::ProxyOrToken);
    setup.identity = reconcile(wish, site, "scitokens").unwrap();
    let journey = begin(setup).await;
    journey.made("ready").await;
    let helper = Arc::clone(&journey.helper.script);
    assert_eq!(helper.credential(), b"the first token");
    // The renewed one is verified as well, and moves the end.
    journey.record.lock().unwrap().services = Some(vec![("scitokens", "second of Alice")]);
    let (end, _) = journey.end().await;
    assert_eq!(end, JobEnd::Finished);
    assert_eq!(helper.credential(), b"second of Alice");
}

#[tokio::test]
async fn credentials_of_services_are_fetched_and_renewed_in_the_sandbox() {
    let script = "stat -c %a $_CONDOR_CREDS/cms_read.use; cat $_CONDOR_CREDS/scitokens.use; echo; touch ready; \
                  until grep -q second $_CONDOR_CREDS/scitokens.use; do sleep 0.05; done; \
                  cat $_CONDOR_CREDS/scitokens.use";
    let mut setup = setup(script);
    setup.ad = "OAuthServicesNeeded = \"scitokens,cms*read\"".to_owned();
    setup.services = Some(vec![
        ("scitokens", "the first token"),
        ("cms*read", "other"),
    ]);
    let journey = begin(setup).await;
    journey.made("ready").await;
    // Gone on the submit side for a while: the job keeps what it has.
    journey.record.lock().unwrap().services = None;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(
        journey.text_of(".condor_creds/scitokens.use"),
        "the first token"
    );
    journey.record.lock().unwrap().services = Some(vec![("scitokens", "second"), ("x", "y")]);
    let (end, record) = journey.end().await;
    assert_eq!(end, JobEnd::Finished);
    let (_, output) = record.output.expect("an output");
    let text = String::from_utf8_lossy(&output["_condor_stdout"]).into_owned();
    assert_eq!(text, "600\nthe first token\nsecond");
    assert!(
        !output.keys().any(|name| name.contains("creds")),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_job_whose_credentials_are_not_there_is_held_before_it_starts() {
    for services in [None, Some(vec![("other", "x")])] {
        let mut setup = setup("true");
        setup.ad = "OAuthServicesNeeded = \"scitokens\"".to_owned();
        setup.services = services;
        let (end, record) = begin(setup).await.end().await;
        assert_eq!(end, JobEnd::Held);
        assert_eq!(hold_codes(&record).0, Some(4));
        assert!(!record.calls.contains(&BEGIN));
    }
}

#[tokio::test]
async fn a_proxy_that_ends_soon_starts_nothing() {
    let mut setup = setup(TRAP);
    setup.not_after = in_seconds(2);
    let (end, record) = begin(setup).await.end().await;
    assert_eq!(end, JobEnd::Held);
    assert_eq!(hold_codes(&record), (Some(4), Some(0)));
    assert!(!record.calls.contains(&BEGIN));
}

#[tokio::test]
async fn when_the_shadow_is_lost_the_job_is_killed() {
    let journey = begin(setup(STUBBORN)).await;
    journey.made("ready").await;
    journey.shadow_task.abort();
    assert_eq!(journey.end().await.0, JobEnd::ShadowLost);
}

#[tokio::test]
async fn when_the_helper_dies_the_job_goes_back_to_the_queue() {
    let mut journey = begin(setup(STUBBORN)).await;
    journey.heard(BEGIN).await;
    journey.helper.die().await;
    let (end, record) = journey.end().await;
    assert!(
        matches!(
            end,
            JobEnd::Site {
                permanent: false,
                ..
            }
        ),
        "{end:?}"
    );
    assert_eq!(hold_codes(&record), (None, None));
}
