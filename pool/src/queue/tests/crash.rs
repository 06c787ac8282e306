//! `kill -9` at any moment: no submission that was acknowledged is lost, no job whose end was acknowledged runs again, and
//! the log tells of each submission and each end once.
//!
//! The test runs itself again as a child that works on the queue and writes down, in a file opened for appending, what it
//! was promised; the parent kills it and compares the queue with the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::outbox::told;
use super::*;
use crate::files::testing::{home, owner, user_files, with_program};
use crate::user_log::{DateForm, UserLog};

/// Set for the child: the folder of the queue, the jobs' log, the program that opens it.
const CHILD: &str = "SAILPLANE_TEST_QUEUE";
const LOG: &str = "SAILPLANE_TEST_LOG";
const PROGRAM: &str = "SAILPLANE_TEST_PROGRAM";

/// How long nobody needs the log's opener.
const IDLE: Duration = Duration::from_secs(60);

/// How often the child is killed.
const ROUNDS: u32 = 12;

/// What the child does until it is killed: four submitters, and a schedd that runs what is there.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
        let files = with_program(path(PROGRAM), IDLE);
        let events = UserLog::new(files, DateForm::default(), true);
        let queue = Queue::open(config(&directory), Arc::new(events)).unwrap();
        let cluster = format!("Cmd = \"/bin/true\"\nUserLog = \"{}\"", path(LOG).display());
        let cluster = ad(&cluster);
        for (job, _) in queue.running() {
            end(&queue, &directory, job).await;
        }
        let submitters = (0..4).map(|_| {
            let (queue, directory) = (queue.clone(), directory.clone());
            let cluster = cluster.clone();
            tokio::spawn(async move {
                let submitter = who(&owner());
                loop {
                    let submitted = queue.submit(&submitter, cluster.clone(), procs(3));
                    let cluster = submitted.await.unwrap();
                    promise(&directory, &format!("submitted {cluster}"));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        let submitters: Vec<_> = submitters.collect();
        let user = format!("{}@site.example", owner());
        loop {
            let slot = run("s").slot_ad;
            if let Some(next) = queue.next_for(&user, &slot) {
                let job = next.job();
                // Written down before: a start may be durable without its answer.
                promise(&directory, &format!("starting {job}"));
                queue.start(job, run("s")).await.unwrap();
                end(&queue, &directory, job).await;
            }
            tokio::task::yield_now().await;
            assert!(submitters.iter().all(|task| !task.is_finished()));
        }
    });
}

async fn end(queue: &Queue, directory: &Path, job: JobId) {
    match queue.finish(job, exited(0)).await.unwrap() {
        AfterRun::Completed => promise(directory, &format!("ended {job}")),
        other => panic!("{other:?}"),
    }
}

/// One line, in one write: there whole or not at all.
fn promise(directory: &Path, line: &str) {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(directory.join("promises"))
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn spawn(directory: &Path, log: &Path, program: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::tests::crash::child", "--nocapture"])
        .env(CHILD, directory)
        .env(LOG, log)
        .env(PROGRAM, program)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[derive(Default)]
struct Promises {
    submitted: BTreeSet<i32>,
    ended: BTreeSet<JobId>,
    starts: BTreeMap<JobId, u32>,
}

fn promises(directory: &Path) -> Promises {
    let text = std::fs::read_to_string(directory.join("promises")).unwrap_or_default();
    let mut promises = Promises::default();
    for line in text.lines() {
        match line.split_once(' ').unwrap() {
            ("submitted", cluster) => {
                promises.submitted.insert(cluster.parse().unwrap());
            }
            ("ended", job) => {
                promises.ended.insert(job.parse().unwrap());
            }
            ("starting", job) => {
                let job: JobId = job.parse().unwrap();
                assert!(
                    !promises.ended.contains(&job),
                    "{job} ran again after its end"
                );
                *promises.starts.entry(job).or_default() += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    promises
}

#[tokio::test]
async fn a_killed_process_breaks_no_promise() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&owner());
    let log = home.path().join("job.log");
    let files = user_files(IDLE);
    let events = UserLog::new(files.files.clone(), DateForm::default(), false);
    let mut before = 0;
    for round in 0..ROUNDS {
        let mut child = spawn(directory.path(), &log, &files.program());
        // Killed in the middle of work: there are promises of this round, and more would come.
        let enough = before + 20 + (round as usize * 7) % 50;
        let made = |promises: &Promises| promises.submitted.len() + promises.ended.len();
        loop {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child ended by itself"
            );
            if made(&promises(directory.path())) >= enough {
                break;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let promises = promises(directory.path());
        before = made(&promises);
        let queue = Queue::open(config(directory.path()), Arc::new(events.clone())).unwrap();
        events.flush().await;
        let log = std::fs::read_to_string(&log).unwrap();
        check(&queue, &promises, &log);
    }
}

fn check(queue: &Queue, promises: &Promises, log: &str) {
    let mut history = BTreeMap::<JobId, u32>::new();
    store::HistoryQuery::default()
        .run(&store::reader(&queue.inner.file).unwrap(), |ad| {
            let number = |name: &str| i32::try_from(ad.int(name).unwrap()).unwrap();
            let job = JobId::new(number("ClusterId"), number("ProcId"));
            assert_eq!(ad.int("JobStatus"), Some(4));
            *history.entry(job).or_default() += 1;
            true
        })
        .unwrap();
    assert!(
        history.values().all(|times| *times == 1),
        "a job is in the history twice"
    );
    for cluster in &promises.submitted {
        for proc in 0..3 {
            let job = JobId::new(*cluster, proc);
            let places =
                u32::from(queue.status(job).is_some()) + u32::from(history.contains_key(&job));
            assert_eq!(places, 1, "{job} is in {places} places");
        }
    }
    for job in &promises.ended {
        assert!(history.contains_key(job), "the end of {job} is forgotten");
        assert_eq!(queue.status(*job), None);
    }
    let mut told: Vec<_> = told(log)
        .into_iter()
        .filter(|(number, _)| [0, 5].contains(number))
        .collect();
    told.sort_unstable();
    let submitted = queue.model().jobs.keys().copied().collect::<Vec<_>>();
    let submitted: BTreeSet<JobId> = submitted
        .into_iter()
        .chain(history.keys().copied())
        .collect();
    let submitted = submitted.into_iter().map(|job| (0, job));
    let ended = history.keys().map(|job| (5, *job));
    let expected: Vec<(u16, JobId)> = submitted.chain(ended).collect();
    assert_eq!(told, expected, "the log does not tell everything once");
    // What runs has been started by somebody; nothing else says so.
    for (job, _) in queue.running() {
        assert!(promises.starts.contains_key(&job), "{job}");
    }
    assert!(
        queue
            .model()
            .jobs
            .values()
            .all(|job| { job.run.is_some() == job.status.is_active() })
    );
}
