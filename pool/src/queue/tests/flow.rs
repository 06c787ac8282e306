//! A job's way through the queue.

use super::*;
use crate::negotiator::JobSource;

const JOB: &str =
    "Cmd = \"/bin/true\"\nRequestMemory = 100\nRequirements = TARGET.Memory >= RequestMemory";

#[tokio::test]
async fn a_job_runs_ends_and_is_in_the_history() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, log) = open(directory.path());
    let cluster = queue
        .submit(&who("alice"), ad(JOB), procs(2))
        .await
        .unwrap();
    let job = JobId::new(cluster, 0);
    queue.start(job, run("slot1@node")).await.unwrap();
    let ad = queue.job(job).unwrap();
    assert_eq!(ad.string("RemoteHost").as_deref(), Some("slot1@node"));
    assert_eq!(
        (ad.int("JobStatus"), ad.int("NumShadowStarts")),
        (Some(2), Some(1))
    );
    assert_eq!(
        ad.string("GlobalJobId").unwrap(),
        format!("submit.site.example#{job}#{}", ad.int("QDate").unwrap())
    );
    assert!(!ad.to_old().contains("secret"));
    assert_eq!(queue.finish(job, exited(0)).await, Ok(AfterRun::Completed));
    assert_eq!(queue.status(job), None);
    assert_eq!(queue.status(JobId::new(cluster, 1)), Some(Status::Idle));
    assert_eq!(
        queue.finish(job, exited(0)).await,
        Err(QueueError::Gone(job))
    );
    assert_eq!(log.of(job), [0, 5]);
    queue.close().await;
    drop(queue);

    let (queue, _) = open(directory.path());
    assert_eq!(queue.status(job), None);
    let connection = store::reader(&queue.inner.file).unwrap();
    let mut found = Vec::new();
    store::HistoryQuery::default()
        .run(&connection, |ad| {
            found.push(ad);
            true
        })
        .unwrap();
    assert_eq!(found.len(), 1);
    let ad = &found[0];
    assert_eq!(
        (ad.int("JobStatus"), ad.int("ExitCode")),
        (Some(4), Some(0))
    );
    assert_eq!(ad.string("LastRemoteHost").as_deref(), Some("slot1@node"));
    assert_eq!(ad.real("CumulativeRemoteUserCpu"), Some(1.5));
    assert_eq!(ad.real("BytesSent"), Some(10.0));
    assert!(!ad.contains("RemoteHost") && !ad.contains("ShadowBday"));
}

#[tokio::test]
async fn a_running_job_is_still_running_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, _) = open(directory.path());
    let cluster = queue
        .submit(&who("alice"), ad(JOB), procs(1))
        .await
        .unwrap();
    let job = JobId::new(cluster, 0);
    queue.start(job, run("slot1@node")).await.unwrap();
    queue.close().await;
    drop(queue);

    let (queue, _) = open(directory.path());
    let running = queue.running();
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].0, job);
    assert!(running[0].1.claim_id.as_str().ends_with("slot1@nodesecret"));
    assert!(queue.idle().iter().all(|jobs| jobs.requests.is_empty()));
    let outcome = RunOutcome::ReconnectFailed {
        reason: "gone".to_owned(),
    };
    assert_eq!(queue.finish(job, outcome).await, Ok(AfterRun::Idle));
    assert_eq!(queue.status(job), Some(Status::Idle));
    assert_ne!(
        queue
            .submit(&who("alice"), ad(JOB), procs(1))
            .await
            .unwrap(),
        cluster
    );
}

#[tokio::test]
async fn the_second_opener_learns_who_has_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let (_queue, log) = open(directory.path());
    let error = Queue::open(config(directory.path()), log).unwrap_err();
    let OpenError::InUse { pid, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, std::process::id());
    assert!(error.to_string().contains("since 2"), "{error}");
}

#[tokio::test]
async fn holding_a_running_job_stops_it_and_releasing_lets_it_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, log) = open(directory.path());
    let cluster = queue
        .submit(&who("alice"), ad(JOB), procs(1))
        .await
        .unwrap();
    let job = JobId::new(cluster, 0);
    queue.start(job, run("slot1@node")).await.unwrap();
    let mut interrupts = queue.watch();
    let all = Selection::Ids(vec![(cluster, None)]);
    let act = |user: &'static str, action| {
        let (queue, all) = (queue.clone(), all.clone());
        async move {
            let done = queue
                .act(&who(user), None, action, &all, "because", 0)
                .await
                .unwrap();
            done[0].result
        }
    };
    assert_eq!(act("bob", Action::Hold).await, ActResult::PermissionDenied);
    assert_eq!(act("alice", Action::Release).await, ActResult::BadStatus);
    assert_eq!(act("alice", Action::Hold).await, ActResult::Success);
    assert_eq!(act("alice", Action::Hold).await, ActResult::AlreadyDone);
    let interrupt = interrupts.recv().await.unwrap();
    assert_eq!(
        interrupt,
        Interrupt {
            job,
            kind: InterruptKind::Hold
        }
    );
    // A new listener is told again: the first may have died with its process.
    assert_eq!(queue.watch().recv().await, Some(interrupt));
    let evicted = RunOutcome::Evicted {
        reason: "held".to_owned(),
        code: 1004,
        ad: ClassAd::new(),
    };
    let after = queue.finish(job, evicted).await.unwrap();
    assert!(
        matches!(&after, AfterRun::Held { reason, code: 1, .. } if reason == "because (by user alice)"),
        "{after:?}"
    );
    assert_eq!(queue.job(job).unwrap().int("NumHolds"), Some(1));
    assert_eq!(act("root", Action::Release).await, ActResult::Success);
    let ad = queue.job(job).unwrap();
    assert_eq!(
        ad.string("LastHoldReason").as_deref(),
        Some("because (by user alice)")
    );
    assert!(!ad.contains("HoldReasonCode"));
    assert_eq!(log.of(job), [0, 4, 12, 13]);
    assert_eq!(act("alice", Action::Remove).await, ActResult::Success);
    assert_eq!(queue.status(job), None);
    let gone = Selection::Ids(vec![(cluster, Some(0))]);
    let done = queue
        .act(&who("alice"), None, Action::Remove, &gone, "", 0)
        .await
        .unwrap();
    assert_eq!(done[0].result, ActResult::NotFound);
}

#[tokio::test]
async fn a_removed_running_job_leaves_when_it_has_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, log) = open(directory.path());
    let cluster = queue
        .submit(&who("alice"), ad(JOB), procs(1))
        .await
        .unwrap();
    let job = JobId::new(cluster, 0);
    queue.start(job, run("slot1@node")).await.unwrap();
    let all = Selection::Constraint(classad::Expr::parse_old("Owner == \"alice\"").unwrap());
    queue
        .act(&who("alice"), None, Action::Remove, &all, "", 0)
        .await
        .unwrap();
    assert_eq!(queue.status(job), Some(Status::Removed));
    queue.close().await;
    drop(queue);
    let (queue, log_after) = open(directory.path());
    assert_eq!(
        queue.watch().recv().await,
        Some(Interrupt {
            job,
            kind: InterruptKind::Remove
        })
    );
    let evicted = RunOutcome::Evicted {
        reason: "removed".to_owned(),
        code: 1004,
        ad: ClassAd::new(),
    };
    assert_eq!(queue.finish(job, evicted).await, Ok(AfterRun::Removed));
    assert_eq!(queue.status(job), None);
    assert_eq!((log.of(job), log_after.of(job)), (vec![0], vec![4, 9]));
}

#[tokio::test]
async fn the_next_job_of_a_claim_is_the_best_that_fits() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, _) = open(directory.path());
    let big = JOB.replace("100", "100000");
    queue
        .submit(&who("alice"), ad(&format!("{big}\nJobPrio = 9")), procs(3))
        .await
        .unwrap();
    let low = queue
        .submit(&who("alice"), ad(JOB), procs(2))
        .await
        .unwrap();
    let high = queue
        .submit(&who("alice"), ad(&format!("{JOB}\nJobPrio = 5")), procs(1))
        .await
        .unwrap();
    queue
        .submit(&who("bob"), ad(&format!("{JOB}\nJobPrio = 99")), procs(1))
        .await
        .unwrap();
    let slot = run("s").slot_ad;
    let next = || queue.next_for("alice@site.example", &slot);
    let first = next().unwrap();
    assert_eq!(first.job(), JobId::new(high, 0));
    let second = next().unwrap();
    assert_eq!(second.job(), JobId::new(low, 0));
    let third = next().unwrap();
    assert_eq!(third.job(), JobId::new(low, 1));
    assert!(next().is_none());
    assert!(queue.reserve(third.job()).is_none());
    let offered: usize = queue.idle()[0]
        .requests
        .iter()
        .map(|request| request.jobs.len())
        .sum();
    assert_eq!(offered, 3);
    drop(third);
    assert_eq!(next().unwrap().job(), JobId::new(low, 1));
}

#[tokio::test]
async fn a_job_that_does_not_start_is_not_offered_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, _) = open(directory.path());
    let cluster = queue
        .submit(&who("alice"), ad(JOB), procs(1))
        .await
        .unwrap();
    let job = JobId::new(cluster, 0);
    queue.start(job, run("slot1@node")).await.unwrap();
    assert!(matches!(
        queue.start(job, run("slot2@node")).await,
        Err(NotStartable::NotIdle { .. })
    ));
    let outcome = RunOutcome::NotStarted {
        reason: "busy".to_owned(),
    };
    assert_eq!(queue.finish(job, outcome).await, Ok(AfterRun::Idle));
    assert!(queue.idle()[0].requests.is_empty());
    // Somebody who has a match for it may still have it.
    assert!(queue.reserve(job).is_some());
}

#[tokio::test]
async fn limits_are_kept_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.max_jobs_per_owner = 3;
    config.max_jobs_submitted = 5;
    config.max_jobs_per_submission = 4;
    let queue = Queue::open(config, Arc::new(Log::default())).unwrap();
    let submit = |user: &'static str, count| {
        let queue = queue.clone();
        async move {
            queue
                .submit(&who(user), ad(JOB), procs(count))
                .await
                .map_err(|error| error.to_string())
        }
    };
    assert!(
        submit("alice", 5)
            .await
            .unwrap_err()
            .contains("MAX_JOBS_PER_SUBMISSION")
    );
    assert!(
        submit("alice", 4)
            .await
            .unwrap_err()
            .contains("MAX_JOBS_PER_OWNER")
    );
    assert!(submit("alice", 3).await.is_ok());
    assert!(
        submit("bob", 3)
            .await
            .unwrap_err()
            .contains("MAX_JOBS_SUBMITTED")
    );
    assert!(submit("bob", 2).await.is_ok());
    assert_eq!(
        queue
            .submit(&PeerIdentity::unauthenticated(), ad(JOB), procs(1))
            .await,
        Err(SubmitError::NotAuthenticated)
    );
    let stranger = PeerIdentity::proven("alice@elsewhere".to_owned(), AuthMethod::Ssl);
    let error = queue
        .submit(&stranger, ad(JOB), procs(1))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("alice@elsewhere") && text.contains("site.example"),
        "{text}"
    );
    let all = Selection::Constraint(classad::Expr::from(true));
    let done = queue
        .act(&stranger, None, Action::Hold, &all, "", 0)
        .await
        .unwrap();
    assert!(
        done.iter()
            .all(|outcome| outcome.result == ActResult::PermissionDenied)
    );
}

#[tokio::test]
async fn policies_act_in_nobody_s_name() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, log) = open(directory.path());
    let hold = format!("{JOB}\nPeriodicHold = JobStatus == 1\nPeriodicHoldReason = \"no luck\"");
    let held = queue
        .submit(&who("alice"), ad(&hold), procs(1))
        .await
        .unwrap();
    let remove = format!("{JOB}\nPeriodicRemove = NumShadowStarts > 0");
    let removed = queue
        .submit(&who("alice"), ad(&remove), procs(1))
        .await
        .unwrap();
    let stays = format!("{JOB}\nLeaveJobInQueue = time() < {}", now() + 100);
    let stays = queue
        .submit(&who("alice"), ad(&stays), procs(1))
        .await
        .unwrap();
    let (held, removed, stays) = (
        JobId::new(held, 0),
        JobId::new(removed, 0),
        JobId::new(stays, 0),
    );
    queue.start(removed, run("slot1@node")).await.unwrap();
    queue.start(stays, run("slot2@node")).await.unwrap();
    assert_eq!(
        queue.finish(stays, exited(0)).await,
        Ok(AfterRun::Completed)
    );
    let mut interrupts = queue.watch();
    queue.policies(now());
    assert_eq!(queue.status(held), Some(Status::Held));
    assert_eq!(
        queue.job(held).unwrap().string("HoldReason").as_deref(),
        Some("no luck")
    );
    assert_eq!(
        interrupts.recv().await,
        Some(Interrupt {
            job: removed,
            kind: InterruptKind::Remove
        })
    );
    assert_eq!(queue.status(stays), Some(Status::Completed));
    queue.policies(now() + 200);
    assert_eq!(queue.status(stays), None);
    queue.close().await;
    assert_eq!(log.of(held), [0, 12]);
}
