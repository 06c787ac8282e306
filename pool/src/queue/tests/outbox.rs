//! What the logs tell when the process ends between the change and the log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::files::testing::{Files, home, owner, user_files};
use crate::user_log::{DateForm, UserLog};

/// The log of a process that is killed: what comes after the first entries is lost, or is written without a word.
struct Dying {
    log: UserLog,
    appends: AtomicUsize,
    settles: bool,
}

impl EventSink for Dying {
    fn compose(&self, job: &ClassAd, event: &Event) -> Option<Entry> {
        self.log.compose(job, event)
    }

    fn append(&self, entry: Entry, receipt: Receipt) {
        let left = |left: usize| left.checked_sub(1);
        let alive = self
            .appends
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok();
        if alive {
            let receipt = if self.settles {
                receipt
            } else {
                Receipt::none()
            };
            self.log.append(entry, receipt);
        }
    }

    fn replay(&self, entries: Vec<(Entry, Receipt)>) {
        self.log.replay(entries);
    }
}

/// A queue's folder, and one of an account in which its jobs' log is.
struct Place {
    queue: tempfile::TempDir,
    home: tempfile::TempDir,
    files: Files,
}

impl Place {
    fn new() -> Self {
        Self {
            queue: tempfile::tempdir().unwrap(),
            home: home(&owner()),
            files: user_files(Duration::from_secs(60)),
        }
    }

    fn user_log(&self) -> UserLog {
        UserLog::new(self.files.files.clone(), DateForm::default(), false)
    }

    /// A process that lives on.
    fn open(&self) -> (Queue, UserLog) {
        let log = self.user_log();
        (self.queue(Arc::new(log.clone())), log)
    }

    /// A process that ends after so many appended entries.
    fn open_dying(&self, appends: usize, settles: bool) -> (Queue, UserLog) {
        let log = self.user_log();
        let dying = Dying {
            log: log.clone(),
            appends: appends.into(),
            settles,
        };
        (self.queue(Arc::new(dying)), log)
    }

    fn queue(&self, events: Arc<dyn EventSink>) -> Queue {
        loop {
            match Queue::open(config(self.queue.path()), Arc::clone(&events)) {
                // The writer of the one before is giving its last answer.
                Err(OpenError::InUse { .. }) => std::thread::yield_now(),
                other => return other.unwrap(),
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("job.log")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Number and job of each event, in order.
    fn told(&self) -> Vec<(u16, JobId)> {
        told(&self.text())
    }

    fn job(&self) -> ClassAd {
        ad(&format!(
            "Cmd = \"/bin/true\"\nIwd = \"{}\"\nUserLog = \"job.log\"",
            self.home.path().display()
        ))
    }

    /// Events that are still kept.
    fn kept(&self) -> usize {
        let connection = Connection::open(self.queue.path().join(store::FILE)).unwrap();
        let count = connection.query_row("SELECT count(*) FROM events", [], |row| {
            row.get::<_, i64>(0)
        });
        count.unwrap().try_into().unwrap()
    }
}

/// Number and job of each event of a log; every event must be whole.
pub(super) fn told(log: &str) -> Vec<(u16, JobId)> {
    let mut events: Vec<&str> = log.split("...\n").collect();
    assert_eq!(events.pop(), Some(""), "{log}");
    let head = |event: &&str| {
        let (number, rest) = event.split_once(" (").unwrap();
        let mut parts = rest.split('.').map(|part| part.parse().unwrap_or(-1));
        let job = JobId::new(parts.next().unwrap(), parts.next().unwrap());
        (number.parse().unwrap(), job)
    };
    events.iter().map(head).collect()
}

/// A life: two jobs, of which one runs to its end and one is held, released and removed.
async fn live(queue: &Queue, job: ClassAd) -> Vec<(u16, JobId)> {
    let cluster = queue.submit(&who(&owner()), job, procs(2)).await.unwrap();
    let (first, second) = (JobId::new(cluster, 0), JobId::new(cluster, 1));
    queue.start(first, run("slot1@node")).await.unwrap();
    for action in [Action::Hold, Action::Release, Action::Remove] {
        let jobs = Selection::Ids(vec![(cluster, Some(1))]);
        queue
            .act(&who(&owner()), None, action, &jobs, "", 0)
            .await
            .unwrap();
    }
    queue.finish(first, exited(0)).await.unwrap();
    vec![
        (0, first),
        (0, second),
        (12, second),
        (13, second),
        (9, second),
        (5, first),
    ]
}

/// As if killed: nothing is stored any more.
async fn killed((queue, log): (Queue, UserLog)) {
    log.flush().await;
    drop(queue);
}

#[tokio::test]
async fn what_was_not_written_is_written_by_the_next_process_once() {
    for appends in 0..=5 {
        let place = Place::new();
        let process = place.open_dying(appends, true);
        let expected = live(&process.0, place.job()).await;
        killed(process).await;
        assert!(place.told().len() <= expected.len());
        for _ in 0..2 {
            let (queue, log) = place.open();
            log.flush().await;
            assert_eq!(place.told(), expected, "after {appends}: {}", place.text());
            // Killed again before anything else is stored.
            drop(queue);
        }
        let (queue, log) = place.open();
        log.flush().await;
        queue.tick().await;
        assert_eq!(place.kept(), 0);
        assert_eq!(place.told(), expected);
    }
}

#[tokio::test]
async fn what_was_written_without_a_word_is_not_written_again() {
    let place = Place::new();
    let process = place.open_dying(usize::MAX, false);
    let expected = live(&process.0, place.job()).await;
    killed(process).await;
    assert!(place.kept() > 0);
    let text = place.text();
    assert_eq!(told(&text), expected);
    let (queue, log) = place.open();
    // What happens now comes behind it.
    let second = live(&queue, place.job()).await;
    log.flush().await;
    assert_eq!(place.told(), [expected, second].concat());
    assert!(place.text().starts_with(&text));
}

#[tokio::test]
async fn half_an_event_becomes_a_whole_one() {
    let place = Place::new();
    let process = place.open_dying(usize::MAX, false);
    live(&process.0, place.job()).await;
    killed(process).await;
    let text = place.text();
    for end in [text.len() - 2, text.len() - 300, text.len() / 3, 3] {
        std::fs::write(place.log(), &text[..end]).unwrap();
        let (queue, log) = place.open();
        log.flush().await;
        assert_eq!(place.text(), text);
        drop(queue);
    }
}

#[tokio::test]
async fn a_thousand_jobs_are_told_to_be_submitted() {
    let place = Place::new();
    let process = place.open_dying(0, true);
    let submitter = who(&owner());
    let cluster = process.0.submit(&submitter, place.job(), procs(1000)).await;
    let cluster = cluster.unwrap();
    killed(process).await;
    // Not a row for each.
    assert!((1..10).contains(&place.kept()), "{}", place.kept());
    // Some of them had been written.
    let (queue, log) = place.open();
    log.flush().await;
    let text = place.text();
    drop(queue);
    std::fs::write(place.log(), &text[..text.len() / 2]).unwrap();
    let (_queue, log) = place.open();
    log.flush().await;
    let expected: Vec<_> = (0..1000)
        .map(|proc| (0, JobId::new(cluster, proc)))
        .collect();
    assert_eq!(place.told(), expected);
    assert_eq!(place.text(), text);
}

#[tokio::test]
async fn what_stands_in_the_log_is_forgotten_with_the_next_change() {
    let place = Place::new();
    let (queue, log) = place.open();
    let submitter = who(&owner());
    queue
        .submit(&submitter, place.job(), procs(1))
        .await
        .unwrap();
    assert_eq!(place.kept(), 1);
    log.flush().await;
    queue
        .submit(&submitter, place.job(), procs(1))
        .await
        .unwrap();
    assert_eq!(place.kept(), 1);
    log.flush().await;
    queue.close().await;
    assert_eq!(place.kept(), 0);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_given_up() {
    let place = Place::new();
    let mut job = place.job();
    job.insert("UserLog", "no/such/folder/job.log");
    let (queue, log) = place.open();
    let submitter = who(&owner());
    queue
        .submit(&submitter, job.clone(), procs(1))
        .await
        .unwrap();
    log.flush().await;
    queue.tick().await;
    assert_eq!(place.kept(), 0);
    drop((queue, log));
    // Also by the process after.
    let process = place.open_dying(0, true);
    process.0.submit(&submitter, job, procs(1)).await.unwrap();
    killed(process).await;
    let (queue, log) = place.open();
    log.flush().await;
    queue.tick().await;
    assert_eq!(place.kept(), 0);
}

#[tokio::test]
async fn a_job_without_a_log_leaves_nothing() {
    let place = Place::new();
    for log in ["", "/dev/null"] {
        let mut job = place.job();
        job.insert("UserLog", log);
        let process = place.open_dying(0, true);
        live(&process.0, job).await;
        assert_eq!(place.kept(), 0);
    }
}

#[tokio::test]
async fn a_queue_of_the_first_format_is_converted() {
    let place = Place::new();
    let file = place.queue.path().join(store::FILE);
    let connection = Connection::open(&file).unwrap();
    store::first_format(&connection).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO clusters VALUES (7, '[ ClusterId = 7; Owner = \"{0}\"; User = \"{0}@site.example\"; Cmd = \"/bin/true\" ]');
             INSERT INTO jobs VALUES (7, 0, '[ ProcId = 0; JobStatus = 1 ]');",
            owner()
        ))
        .unwrap();
    drop(connection);
    let process = place.open_dying(0, true);
    assert_eq!(process.0.status(JobId::new(7, 0)), Some(Status::Idle));
    let expected = live(&process.0, place.job()).await;
    assert_eq!(expected[0].1.cluster, 8);
    killed(process).await;
    let (queue, log) = place.open();
    log.flush().await;
    assert_eq!(place.told(), expected);
    assert_eq!(queue.status(JobId::new(7, 0)), Some(Status::Idle));
}

#[tokio::test]
async fn a_claim_is_left_until_it_is_given_back() {
    let place = Place::new();
    let (queue, log) = place.open();
    let submitted = queue.submit(&who(&owner()), place.job(), procs(2)).await;
    let cluster = submitted.unwrap();
    let left = |queue: &Queue| {
        let left = queue.left_claims().into_iter();
        left.map(|claim| claim.slot).collect::<Vec<_>>()
    };
    let claim = run("slot1@node").claim_id;
    let (first, second) = (JobId::new(cluster, 0), JobId::new(cluster, 1));
    queue.start(first, run("slot1@node")).await.unwrap();
    assert_eq!(
        queue.finish(first, exited(0)).await,
        Ok(AfterRun::Completed)
    );
    killed((queue, log)).await;
    // The starter may not have heard that its last word was taken.
    let (queue, log) = place.open();
    assert_eq!(left(&queue), ["slot1@node"]);
    queue.start(second, run("slot1@node")).await.unwrap();
    killed((queue, log)).await;
    // It serves another job.
    let (queue, log) = place.open();
    assert_eq!(left(&queue), [""; 0]);
    assert_eq!(queue.running().len(), 1);
    queue.finish(second, exited(0)).await.unwrap();
    queue.claim_over(&claim);
    queue.tick().await;
    killed((queue, log)).await;
    assert_eq!(left(&place.open().0), [""; 0]);
}

#[tokio::test]
async fn a_closed_queue_answers() {
    let place = Place::new();
    let (queue, _log) = place.open();
    queue.close().await;
    let submitter = who(&owner());
    let answer = tokio::time::timeout(
        Duration::from_secs(30),
        queue.submit(&submitter, place.job(), procs(1)),
    );
    assert!(matches!(answer.await, Ok(Err(SubmitError::Disk(_)))));
}
