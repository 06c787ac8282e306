//! The thread that writes: requests in order, as many as there are in one transaction.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cedar::ClaimId;
use classad::ClassAd;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::JobId;
use crate::queue::run::RunRecord;
use crate::user_log::{Entry, Settled};

/// Most requests in one transaction.
const GROUP: usize = 1000;

/// How long to wait before writing again what a full disk did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// History entries above the limit are deleted when there are this many of them.
const PRUNE_STEP: i64 = 500;

/// One change of the file. Applying it twice does no harm, except for [`Op::History`].
#[derive(Debug, Clone)]
pub(in crate::queue) enum Op {
    NextCluster(i32),
    Cluster(i32, ClassAd),
    DropCluster(i32),
    Job(JobId, ClassAd),
    DropJob(JobId),
    Run(JobId, RunRecord),
    /// The claim is kept.
    DropRun(JobId),
    /// The claim has been given back.
    DropClaim(ClaimId),
    History(JobId, String, ClassAd),
    Note(String, ClassAd),
    /// What a log is to tell.
    Event(i64, Entry),
}

/// Told when a request is on the disk, or why not.
pub(in crate::queue) type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Changes that belong together.
pub(in crate::queue) struct Request {
    pub(in crate::queue) ops: Vec<Op>,
    /// True: tried until it succeeds. False: fails at once if the disk does.
    pub(in crate::queue) keep: bool,
    pub(in crate::queue) done: Option<Done>,
}

/// The writing end.
#[derive(Debug)]
pub(in crate::queue) struct Writer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Events that are `settled` are deleted with the next requests.
    pub(in crate::queue) fn start(
        connection: Connection,
        max_history: usize,
        settled: Settled,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || {
                let limit = i64::try_from(max_history).unwrap_or(i64::MAX);
                Thread {
                    connection,
                    max_history: limit,
                    unpruned: PRUNE_STEP,
                    settled,
                    waiting: VecDeque::new(),
                    failing: None,
                }
                .run(&inbox);
            })?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Hands over a request. Requests are written in the order of these calls.
    pub(in crate::queue) fn send(&self, request: Request) {
        let back = match &self.requests {
            Some(requests) => requests.send(request).map_err(|failed| failed.0),
            None => Err(request),
        };
        if let Err(Request {
            done: Some(done), ..
        }) = back
        {
            // Not on this thread: it has the model locked, which the answer needs. If there is none, nobody answers, which
            // those who wait take for the same.
            let answer = move || done(Err("the job queue is closed".to_owned()));
            let _ = std::thread::Builder::new().spawn(answer);
        }
    }

    /// No more requests; what was handed over will be written.
    pub(in crate::queue) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.requests = None;
        self.thread.take()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The last holder of the queue may be an answer given on the thread itself.
        if let Some(thread) = self.finish()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the thread has been reported already.
            let _ = thread.join();
        }
    }
}

struct Thread {
    connection: Connection,
    max_history: i64,
    unpruned: i64,
    settled: Settled,
    waiting: VecDeque<Request>,
    /// What the disk said last, while it does not work.
    failing: Option<String>,
}

impl Thread {
    fn run(&mut self, inbox: &Receiver<Request>) {
        loop {
            let first = if self.waiting.is_empty() {
                match inbox.recv() {
                    Ok(request) => Some(request),
                    Err(_) => return,
                }
            } else {
                match inbox.recv_timeout(AGAIN) {
                    Ok(request) => Some(request),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => {
                        self.last_try();
                        return;
                    }
                }
            };
            self.waiting.extend(first);
            while self.waiting.len() < GROUP
                && let Ok(request) = inbox.try_recv()
            {
                self.waiting.push_back(request);
            }
            self.write();
        }
    }

    /// Writes what waits. Afterwards only requests to be kept wait, and only if the disk does not work.
    fn write(&mut self) {
        // Not worth a transaction, that is a wait for the disk, of their own.
        let settled = self.settled.take();
        match commit(&mut self.connection, self.waiting.iter(), &settled) {
            Ok(()) => {
                if self.failing.take().is_some() {
                    tracing::info!("the job queue can be written again");
                }
                self.answer_all();
            }
            Err(error) => {
                self.settled.put_back(settled);
                self.write_apart(&error);
            }
        }
    }

    /// The group failed: one by one and in order, until one that must be kept fails as well.
    fn write_apart(&mut self, error: &rusqlite::Error) {
        let why = explain(error);
        if self.failing.as_ref() != Some(&why) {
            tracing::error!(%why, "the job queue cannot be written; new jobs are refused, changes wait in memory");
        }
        self.failing = Some(why);
        let mut stuck = None;
        for request in std::mem::take(&mut self.waiting) {
            let result = match &stuck {
                None => commit(&mut self.connection, std::iter::once(&request), &[])
                    .map_err(|error| explain(&error)),
                Some(why) => Err(String::clone(why)),
            };
            match result {
                Err(why) if request.keep => {
                    stuck.get_or_insert(why);
                    self.waiting.push_back(request);
                }
                result => answer(request, result),
            }
        }
    }

    fn answer_all(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            let history = request.ops.iter();
            let history = history.filter(|op| matches!(op, Op::History(..))).count();
            self.unpruned += i64::try_from(history).unwrap_or(0);
            answer(request, Ok(()));
        }
        if self.unpruned >= PRUNE_STEP {
            self.unpruned = 0;
            // Not worth more than another try next time.
            let _ = self.connection.execute(
                "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?1",
                [self.max_history],
            );
        }
    }

    /// The queue is being closed while the disk does not work.
    fn last_try(&mut self) {
        let result = commit(&mut self.connection, self.waiting.iter(), &[]);
        let result = result.map_err(|error| explain(&error));
        if let Err(why) = &result {
            tracing::error!(%why, changes = self.waiting.len(), "closing the job queue with changes that are not on disk");
        }
        for request in std::mem::take(&mut self.waiting) {
            answer(request, result.clone());
        }
    }
}

fn answer(request: Request, result: Result<(), String>) {
    if let Some(done) = request.done {
        done(result);
    }
}

/// One sentence for the administrator.
fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk of the job queue is full".to_owned(),
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk of the job queue does not take data ({error})")
        }
        _ => format!("the job queue's data base reports: {error}"),
    }
}

fn commit<'a>(
    connection: &mut Connection,
    requests: impl Iterator<Item = &'a Request>,
    settled: &[i64],
) -> rusqlite::Result<()> {
    // Dropped without commit, the transaction is rolled back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for op in requests.flat_map(|request| &request.ops) {
        apply(&transaction, op)?;
    }
    if !settled.is_empty() {
        let mut delete = transaction.prepare_cached("DELETE FROM events WHERE number = ?1")?;
        for number in settled {
            delete.execute([number])?;
        }
    }
    transaction.commit()
}

fn apply(transaction: &Transaction<'_>, op: &Op) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(drop)
    };
    let drop_claim = |claim: &ClaimId| {
        run(
            "DELETE FROM claims WHERE claim = ?1",
            params![claim.as_str()],
        )
    };
    match op {
        Op::NextCluster(next) => run(
            "INSERT INTO meta VALUES ('next_cluster', ?1) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
            params![next],
        ),
        Op::Note(name, ad) => run(
            "INSERT OR REPLACE INTO notes VALUES (?1, ?2)",
            params![name, ad.to_new()],
        ),
        Op::Event(number, Entry { log, text }) => run(
            "INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4)",
            // It comes from an ad, so it is text.
            params![number, log.owner, log.path.to_string_lossy(), text],
        ),
        Op::Cluster(cluster, ad) => run(
            "INSERT OR REPLACE INTO clusters VALUES (?1, ?2)",
            params![cluster, ad.to_new()],
        ),
        Op::DropCluster(cluster) => {
            run("DELETE FROM clusters WHERE cluster = ?1", params![cluster])
        }
        Op::Job(job, ad) => run(
            "INSERT OR REPLACE INTO jobs VALUES (?1, ?2, ?3)",
            params![job.cluster, job.proc, ad.to_new()],
        ),
        Op::DropJob(job) => run(
            "DELETE FROM jobs WHERE cluster = ?1 AND proc = ?2",
            params![job.cluster, job.proc],
        ),
        Op::Run(job, record) => {
            run(
                "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    job.cluster,
                    job.proc,
                    record.claim_id.as_str(),
                    record.slot,
                    record.startd,
                    record.slot_ad.to_new()
                ],
            )?;
            drop_claim(&record.claim_id)
        }
        Op::DropRun(job) => {
            run(
                "INSERT OR REPLACE INTO claims SELECT claim, slot, startd FROM runs WHERE cluster = ?1 AND proc = ?2",
                params![job.cluster, job.proc],
            )?;
            run(
                "DELETE FROM runs WHERE cluster = ?1 AND proc = ?2",
                params![job.cluster, job.proc],
            )
        }
        Op::DropClaim(claim) => drop_claim(claim),
        Op::History(job, owner, ad) => run(
            "INSERT INTO history (cluster, proc, owner, ad) VALUES (?1, ?2, ?3, ?4)",
            params![job.cluster, job.proc, owner, ad.to_new()],
        ),
    }
}
