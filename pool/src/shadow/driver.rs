//! Carries out what the machine of a run says: the syscall socket, the queue, the job's log, the startd.

use std::time::Duration;

use cedar::ClaimId;
use cedar::net::{Message, Stream};
use classad::ClassAd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::file_call::FileCall;
use super::job_ad;
use super::machine::{Due, Lost, Machine, Reaction};
use super::open_files::{Done, OpenFiles, put};
use super::proxy::ProxyWatch;
use super::syscall::Call;
use crate::JobId;
use crate::queue::{AfterRun, InterruptKind, RunOutcome, RunRecord};
use crate::schedd::claim::{Deactivate, ShadowFacts};
use crate::schedd::startd::Startd;
use crate::schedd::{Parts, SchedConfig};
use crate::transfer::{Direction, Outcome, TransferEvent, TransferTicket};
use crate::user_log::{Event, TransferStep};

/// How long a starter has for its last word after the startd took the claim back.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long a transfer that the starter thinks is over may take to reach our disk.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(60);
/// A long time, for waits that do not end.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// How a run ended, for the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The job ended by itself; the claim may serve another.
    Exited,
    /// The claim is to be given back.
    Over,
    /// The startd has taken the claim back, or does not know it.
    ClaimGone,
    /// The pool is being stopped: the job goes on, and a later pool reconnects to it.
    Stopped,
}

/// How the conversation begins.
#[derive(Debug)]
pub enum Start {
    /// The claim was activated.
    Activated(Box<Stream>),
    /// The pool was restarted: find the starter.
    Reconnect,
}

/// One run of one job.
#[derive(Debug)]
pub struct Shadow<'a> {
    /// Everything around.
    pub parts: &'a Parts,
    /// Names and limits.
    pub config: &'a SchedConfig,
    /// Where it runs.
    pub startd: Startd,
    /// The same, as the queue keeps it.
    pub record: RunRecord,
    /// The job.
    pub job: JobId,
    /// What of its ad was filled in for the slot.
    pub filled_in: ClassAd,
    /// What is known of the run.
    pub machine: Machine,
    /// The right to transfer files.
    pub ticket: TransferTicket,
    /// Wishes of the queue.
    pub orders: UnboundedReceiver<InterruptKind>,
    /// Cancelled when the startd takes the claim back.
    pub released: CancellationToken,
    /// Cancelled when the pool stops.
    pub cancel: CancellationToken,
    /// Files open for the job.
    pub files: Option<OpenFiles>,
    /// The job's proxy.
    pub proxy: ProxyWatch,
}

/// Why a conversation stopped.
pub(super) enum Stop {
    /// The run is over.
    Over(RunEnd),
    /// The connection broke.
    Lost(String),
}

/// Unix time, seconds.
pub(crate) fn unix_now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

impl Shadow<'_> {
    /// Serves the starter to the end of the run.
    pub async fn run(mut self, start: Start) -> RunEnd {
        let mut stream = match start {
            Start::Activated(stream) => stream,
            Start::Reconnect => {
                let why = "Local schedd and job shadow died, schedd now running again";
                match self.find_again(why).await {
                    Ok(stream) => stream,
                    Err(end) => return end,
                }
            }
        };
        loop {
            // Silence is normal: the starter reports when it has something to report.
            stream.set_read_timeout(None);
            let why = match self.converse(&mut stream).await {
                Stop::Over(end) => return end,
                Stop::Lost(why) => why,
            };
            drop(stream);
            tracing::info!(job = %self.job, slot = self.record.slot, "the connection to the starter is lost: {why}");
            let told = "Socket between submit and execute hosts closed unexpectedly";
            stream = match self.find_again(told).await {
                Ok(stream) => stream,
                Err(end) => return end,
            };
        }
    }

    /// The address and key under which the starter reaches us.
    pub fn facts(&self) -> ShadowFacts<'_> {
        ShadowFacts {
            address: &self.config.address,
            version: &self.config.version,
            uid_domain: &self.config.uid_domain,
            transfer_key: Some(self.ticket.key()),
        }
    }

    async fn converse(&mut self, stream: &mut Stream) -> Stop {
        let mut last_word: Option<Instant> = None;
        loop {
            let due = self.machine.deadline().map_or(NEVER, |at| {
                Duration::from_secs(u64::try_from(at - unix_now()).unwrap_or(0))
            });
            let due = last_word.unwrap_or_else(|| Instant::now() + due);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Stop::Over(RunEnd::Stopped),
                event = self.ticket.next_event() => match event {
                    Some(event) => self.transferred(event).await,
                    // The registry is gone only when the pool is.
                    None => return Stop::Over(RunEnd::Stopped),
                },
                message = stream.recv() => match message {
                    Ok(message) => if let Err(stop) = self.heard(stream, &message).await {
                        return stop;
                    },
                    Err(error) => return Stop::Lost(error.to_string()),
                },
                Some(kind) = self.orders.recv() => self.ordered(kind),
                () = self.released.cancelled(), if last_word.is_none() => {
                    last_word = Some(Instant::now() + LAST_WORD);
                }
                () = self.proxy.due(self.machine.is_executing()) => {
                    let address = self.machine.starter().address.clone();
                    self.proxy.renew(self.parts, &self.startd, self.job, address.as_deref());
                }
                () = sleep_until(due) => {
                    if last_word.is_some() {
                        let outcome = self.machine.released(unix_now());
                        self.finish(outcome).await;
                        return Stop::Over(RunEnd::ClaimGone);
                    }
                    match self.machine.pass(unix_now()) {
                        None => {}
                        Some(Due::Deactivate(how)) => self.deactivate(how),
                        Some(Due::Cut) => return Stop::Lost("the starter has sent no updates for too long".to_owned()),
                        Some(Due::GiveUp(outcome)) => {
                            self.finish(outcome).await;
                            return Stop::Over(RunEnd::Over);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn ordered(&mut self, kind: InterruptKind) {
        tracing::info!(job = %self.job, ?kind, "the running job is to stop");
        if let Some(how) = self.machine.interrupt(kind, unix_now()) {
            self.deactivate(how);
        }
    }

    /// Tells the startd beside the conversation, which goes on meanwhile.
    fn deactivate(&self, how: Deactivate) {
        let startd = self.startd.clone();
        tokio::spawn(async move { startd.stop(how).await });
    }

    /// Takes one request.
    async fn heard(&mut self, stream: &mut Stream, message: &Message) -> Result<(), Stop> {
        let call = Call::read(message.reader()).map_err(|error| {
            tracing::warn!(job = %self.job, "{error}");
            Stop::Lost(error.to_string())
        })?;
        if matches!(
            call,
            Call::BeginExecution | Call::JobExit { .. } | Call::Ulog(_)
        ) {
            // What the starter says now stands on a transfer that it thinks is over.
            self.settle_transfers().await;
        }
        let step = self.machine.call(call, unix_now());
        self.note(step.changes, step.events).await;
        let answer = match step.reaction {
            Reaction::Answer(answer) => answer,
            Reaction::JobAd => self.job_ad().await?,
            Reaction::Attribute(name) => {
                let job = self.parts.queue.job(self.job).unwrap_or_default();
                let expr = self.filled_in.get(&name).or_else(|| job.get(&name));
                Answer::Text(expr.map_or_else(|| "UNDEFINED".to_owned(), |expr| expr.to_old()))
            }
            Reaction::UserInfo => self.user_info().await,
            Reaction::Constrain(expr) => self.constrain(expr).await,
            Reaction::File(call) => match self.file(stream, call).await? {
                Some(answer) => answer,
                None => return Ok(()),
            },
            Reaction::Proxy { expiration } => return self.delegate(stream, expiration).await,
            Reaction::Finish(outcome) => return Err(self.end(stream, outcome).await),
            Reaction::Abort(outcome) => {
                let outcome = self.with_transfer_failure(outcome);
                self.finish(outcome).await;
                return Err(Stop::Over(RunEnd::Over));
            }
            Reaction::Silence => return Ok(()),
        };
        send(stream, &answer).await
    }

    /// The job's ad for the starter.
    async fn job_ad(&self) -> Result<Answer, Stop> {
        let Some(job) = self.parts.queue.job(self.job) else {
            return Err(Stop::Over(RunEnd::Over));
        };
        let facts = self.facts();
        let activation = job_ad::for_activation(&job, &self.filled_in, &self.record, facts);
        Ok(Answer::Ad(job_ad::for_starter(&activation, facts)))
    }

    async fn user_info(&self) -> Answer {
        let job = self.parts.queue.job(self.job).unwrap_or_default();
        let owner = job.string("Owner").unwrap_or_default();
        // The account may come from a directory server.
        let user = tokio::task::spawn_blocking(move || nix::unistd::User::from_name(&owner)).await;
        match user {
            Ok(Ok(Some(user))) => {
                let mut ad = ClassAd::new();
                ad.insert("Uid", i64::from(user.uid.as_raw()));
                ad.insert("Gid", i64::from(user.gid.as_raw()));
                Answer::Ad(ad)
            }
            _ => Answer::Failed(libc::ENOENT),
        }
    }

    async fn constrain(&self, condition: classad::Expr) -> Answer {
        let job = self.parts.queue.job(self.job).unwrap_or_default();
        let mut changes = ClassAd::new();
        changes.insert("AgentRequirements", condition);
        let before = job
            .get("Requirements")
            .map_or_else(|| "true".to_owned(), |expr| expr.to_old());
        if !before.contains("AgentRequirements") {
            let text = format!("({before}) && AgentRequirements");
            if changes.insert_expr("Requirements", &text).is_err() {
                return Answer::Failed(libc::EINVAL);
            }
        }
        self.parts.queue.update(self.job, changes).await;
        Answer::OK
    }

    /// The answer that is still to be sent: none after an empty `putfile`, whose first answer is its only one.
    async fn file(&mut self, stream: &mut Stream, call: FileCall) -> Result<Option<Answer>, Stop> {
        let files = match &mut self.files {
            Some(files) => files,
            none => {
                let mut job = self.parts.queue.job(self.job).unwrap_or_default();
                job.update(&self.filled_in);
                let owner = job.string("Owner").unwrap_or_default();
                none.insert(OpenFiles::new(self.parts.files.as_owner(&owner), &job))
            }
        };
        match files.perform(call).await {
            Done::Answer(answer) => Ok(Some(answer)),
            Done::Data { file, length } => {
                // The number of the open file; its value does not matter to the starter.
                send(stream, &Answer::OK).await?;
                if length == 0 {
                    return Ok(None);
                }
                let data = stream
                    .recv()
                    .await
                    .map_err(|error| Stop::Lost(error.to_string()))?;
                let mut reader = data.reader();
                match reader.bytes(length) {
                    Ok(bytes) => Ok(Some(put(file, bytes.to_vec()).await)),
                    Err(_) => Ok(Some(Answer::Failed(libc::EINVAL))),
                }
            }
        }
    }

    async fn delegate(&self, stream: &mut Stream, expiration: i64) -> Result<(), Stop> {
        let job = self.parts.queue.job(self.job).unwrap_or_default();
        let path = job.string("x509userproxy").unwrap_or_default();
        let path = std::path::Path::new(&path);
        match self
            .parts
            .transfers
            .delegate_on(&job, path, expiration, stream)
            .await
        {
            Ok(end) => {
                tracing::info!(job = %self.job, end, "delegated the job's proxy");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(job = %self.job, "the job's proxy could not be delegated: {error}");
                Ok(())
            }
        }
    }

    /// The last word of the starter: durable before it is answered.
    async fn end(&mut self, stream: &mut Stream, outcome: RunOutcome) -> Stop {
        let outcome = self.with_output(outcome);
        let end = match outcome {
            RunOutcome::Exited { .. } => RunEnd::Exited,
            _ => RunEnd::Over,
        };
        self.finish(outcome).await;
        // A starter that is gone already has nothing to do with the answer.
        if send(stream, &Answer::OK).await.is_err() {
            tracing::debug!(job = %self.job, "the starter did not wait for the last answer");
        }
        Stop::Over(end)
    }

    /// A job that ended has its output here; if it is not, that is what the run comes to.
    fn with_output(&self, outcome: RunOutcome) -> RunOutcome {
        let RunOutcome::Exited { ad, .. } = &outcome else {
            return outcome;
        };
        match self.ticket.last_output().map(|report| report.outcome) {
            None | Some(Outcome::Done) => outcome,
            Some(Outcome::Hold(failure)) => RunOutcome::Hold {
                code: i32::try_from(failure.code).unwrap_or(0),
                subcode: i32::try_from(failure.subcode).unwrap_or(0),
                reason: failure.reason,
                ad: ad.clone(),
            },
            Some(Outcome::TryAgain(why)) => RunOutcome::Evicted {
                reason: why,
                code: super::exit::vacate::JOB_SHOULD_REQUEUE,
                ad: ad.clone(),
            },
        }
    }

    /// What our own side knows of a transfer that the starter gave up is better than what came back from it.
    fn with_transfer_failure(&self, outcome: RunOutcome) -> RunOutcome {
        let reports = [self.ticket.last_output(), self.ticket.last_input()];
        let failure = reports
            .into_iter()
            .flatten()
            .find_map(|report| match report.outcome {
                Outcome::Hold(failure) => Some(failure),
                Outcome::Done | Outcome::TryAgain(_) => None,
            });
        match (outcome, failure) {
            (RunOutcome::Hold { code, ad, .. }, Some(failure))
                if i64::from(code) == failure.code =>
            {
                RunOutcome::Hold {
                    code,
                    subcode: i32::try_from(failure.subcode).unwrap_or(0),
                    reason: failure.reason,
                    ad,
                }
            }
            (outcome, _) => outcome,
        }
    }

    /// Waits for the end of a transfer that the starter has ended already.
    async fn settle_transfers(&mut self) {
        self.heard_transfers().await;
        let settled = timeout(TRANSFER_PATIENCE, async {
            while self.machine.is_transferring() {
                match self.ticket.next_event().await {
                    Some(event) => self.transferred(event).await,
                    None => return,
                }
            }
        });
        if settled.await.is_err() {
            tracing::warn!(job = %self.job, "the job's files are still being written");
        }
    }

    /// Takes what transfers have reported so far.
    async fn heard_transfers(&mut self) {
        loop {
            let event = tokio::select! {
                biased;
                event = self.ticket.next_event() => event,
                () = std::future::ready(()) => None,
            };
            match event {
                Some(event) => self.transferred(event).await,
                None => return,
            }
        }
    }

    /// A transfer got further.
    async fn transferred(&mut self, event: TransferEvent) {
        let (step, waited, host) = match event {
            TransferEvent::Queued(Direction::Input) => (TransferStep::InputQueued, 0, None),
            TransferEvent::Queued(Direction::Output) => (TransferStep::OutputQueued, 0, None),
            TransferEvent::Started {
                direction,
                waited,
                host,
            } => match direction {
                Direction::Input => (TransferStep::InputStarted, waited, Some(host)),
                Direction::Output => (TransferStep::OutputStarted, waited, Some(host)),
            },
            TransferEvent::Finished(report) => {
                #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                let bytes = report.bytes as f64;
                match report.direction {
                    Direction::Input => {
                        self.machine.moved(0.0, bytes);
                        (TransferStep::InputFinished, 0, None)
                    }
                    Direction::Output => {
                        self.machine.moved(bytes, 0.0);
                        (TransferStep::OutputFinished, 0, None)
                    }
                }
            }
        };
        let (changes, event) = self.machine.transfer(step, waited, host, unix_now());
        self.note(changes, event).await;
    }

    /// Passes changes to the queue and events to the log.
    pub(super) async fn note(&self, changes: ClassAd, events: impl IntoIterator<Item = Event>) {
        if !changes.is_empty() {
            self.parts.queue.update(self.job, changes).await;
        }
        let mut job = None;
        for event in events {
            if job.is_none() {
                job = self.parts.queue.job(self.job);
            }
            if let Some(job) = &job {
                self.parts.log.event(job, event);
            }
        }
    }

    /// Makes the end of the run durable.
    pub(super) async fn finish(&mut self, outcome: RunOutcome) {
        self.heard_transfers().await;
        match self.parts.queue.finish(self.job, outcome).await {
            Ok(after) => {
                tracing::info!(job = %self.job, ?after, "the run is over");
                // What an evicted run left is for the next one, and now there will be none.
                if matches!(after, AfterRun::Completed | AfterRun::Removed) {
                    let owner = self.ticket.owner();
                    self.parts.transfers.remove_spool(self.job, owner).await;
                }
            }
            Err(error) => {
                tracing::warn!(job = %self.job, "the end of a run was not taken: {error}")
            }
        }
    }

    /// What follows from a broken connection.
    pub(super) async fn lost(&mut self, why: &str) -> Option<i64> {
        let (lost, events) = self.machine.lost(why, unix_now());
        self.note(ClassAd::new(), events).await;
        match lost {
            Lost::Reconnect { until } => Some(until),
            Lost::Over(outcome) => {
                self.finish(outcome).await;
                None
            }
        }
    }

    /// The claim.
    pub(super) fn claim(&self) -> &ClaimId {
        &self.record.claim_id
    }
}

async fn send(stream: &mut Stream, answer: &Answer) -> Result<(), Stop> {
    let mut message = stream.message();
    answer.write(&mut message);
    stream
        .send(message)
        .await
        .map_err(|error| Stop::Lost(error.to_string()))
}
