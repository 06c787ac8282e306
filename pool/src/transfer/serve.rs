//! Connections of pilots, from the key to the report.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar::command;
use cedar::net::Incoming;
use tokio::sync::Semaphore;

use super::ack::Ack;
use super::download::{self, Download, Downloaded};
use super::plan;
use super::proxy::Signer;
use super::registry::{Registration, Shared, Transfers};
use super::spool::SpoolFolder;
use super::texts::{Sides, with_causes};
use super::ticket::{Direction, Failure, Outcome, Report, TransferEvent};
use super::turn::Place;
use super::upload::{self, Upload, Uploaded, spooled_names};
use super::wire::Link;

/// How long a pilot may take to name its key.
const KEY_PATIENCE: Duration = Duration::from_secs(20);

/// How long a wrong key keeps its connection; HTCondor's shadow waits as long.
const PENALTY: Duration = Duration::from_secs(5);

/// How long we wait for the pilot to close after the end.
const CLOSING: Duration = Duration::from_secs(20);

/// Sandboxes up to this size do not wait for a place (`BYTES_REQUIRED_TO_QUEUE_FOR_TRANSFER`, HTCondor's default).
const SMALL: u64 = 100 << 20;

impl Transfers {
    /// Serves one `FILETRANS_UPLOAD` or `FILETRANS_DOWNLOAD`, to its end. Errors are logged and told to the ticket.
    pub async fn serve(&self, mut incoming: Incoming) {
        let peer = incoming.stream.peer_addr();
        incoming.stream.set_read_timeout(Some(KEY_PATIENCE));
        incoming.stream.set_max_message(4096);
        let key = match incoming.stream.recv().await {
            Ok(key) => key,
            Err(error) => {
                tracing::info!(%peer, %error, "a pilot connected for a file transfer and named no key");
                return;
            }
        };
        let session = incoming.session_id.clone().unwrap_or_default();
        let key = key
            .reader()
            .str_bytes()
            .ok()
            .and_then(|key| self.find(&session, key));
        let Some(registration) = key else {
            return self.refuse(incoming).await;
        };
        let direction = if incoming.command == command::FILETRANS_UPLOAD {
            Direction::Input
        } else {
            Direction::Output
        };
        // A pilot that lost its connection may be back before we have noticed: its new attempt is the one that counts.
        let superseded = registration.supersede();
        let ended = registration.ended.clone();
        tokio::select! {
            () = ended.cancelled() => {
                tracing::info!(%peer, job = %registration.job.id, "the job's run ended while its files were transferred");
            }
            () = superseded.cancelled() => {
                tracing::info!(%peer, job = %registration.job.id, "the pilot began the file transfer once more");
            }
            () = self.transfer(&registration, incoming, direction) => {}
        }
    }

    /// Answers a wrong key, slowly.
    async fn refuse(&self, mut incoming: Incoming) {
        let peer = incoming.stream.peer_addr();
        tracing::warn!(%peer, "a pilot named an unknown transfer key; its job's run may have ended");
        let mut answer = incoming.stream.message();
        answer.int(0);
        if incoming.stream.send(answer).await.is_err() {
            return;
        }
        // Whoever guesses waits; whoever guesses on many connections at a time is not waited for.
        if let Ok(_place) = self.shared.penalties.try_acquire() {
            tokio::time::sleep(PENALTY).await;
        }
    }

    async fn transfer(
        &self,
        registration: &Registration,
        incoming: Incoming,
        direction: Direction,
    ) {
        let _turn = registration.turn.lock().await;
        let shared = &self.shared;
        let stream = incoming.stream;
        let sides = Sides {
            ours: stream.local_addr(),
            theirs: stream.peer_addr(),
            host: shared.config.host_name.clone(),
            slot: registration.job.slot.clone(),
        };
        let link = Link::new(stream, shared.config.patience);
        let queued = unix_now();
        registration.tell(TransferEvent::Queued(direction));
        let log = Log {
            registration,
            direction,
            host: sides.theirs.to_string(),
            queued,
            started: AtomicI64::new(0),
        };
        let mut tally = Tally::default();
        let outcome = match direction {
            Direction::Input => input(shared, &log, link, &sides, &mut tally).await,
            Direction::Output => output(shared, &log, link, &sides, &mut tally).await,
        };
        match &outcome {
            Outcome::Done => {
                tracing::debug!(job = %registration.job.id, ?direction, bytes = tally.bytes, files = tally.files, "transferred files");
            }
            Outcome::Hold(failure) => {
                tracing::warn!(job = %registration.job.id, ?direction, code = failure.code, reason = %failure.reason, "a file transfer failed");
            }
            Outcome::TryAgain(reason) => {
                tracing::info!(job = %registration.job.id, ?direction, %reason, "a file transfer failed for now");
            }
        }
        let started = log.started.load(Ordering::Relaxed);
        registration.tell(TransferEvent::Finished(Report {
            direction,
            outcome,
            bytes: tally.bytes,
            files: tally.files,
            queued,
            started: if started == 0 { queued } else { started },
            finished: unix_now(),
            is_spooled: tally.is_spooled,
            host: log.host.clone(),
        }));
    }
}

/// What has been moved.
#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    files: u64,
    is_spooled: bool,
}

/// Tells the ticket that it begins.
struct Log<'a> {
    registration: &'a Registration,
    direction: Direction,
    host: String,
    queued: i64,
    started: AtomicI64,
}

impl Log<'_> {
    fn began(&self) {
        let now = unix_now();
        self.started.store(now, Ordering::Relaxed);
        self.registration.tell(TransferEvent::Started {
            direction: self.direction,
            waited: now.saturating_sub(self.queued),
            host: self.host.clone(),
        });
    }
}

async fn input(
    shared: &Shared,
    log: &Log<'_>,
    mut link: Link,
    sides: &Sides,
    tally: &mut Tally,
) -> Outcome {
    let job = &log.registration.job;
    let files = shared.files.as_owner(&job.owner);
    let spool = SpoolFolder::new(&shared.config.spool, job.id);
    if let Err(error) = spool.settle(&files).await {
        tracing::warn!(job = %job.id, %error, "what an earlier run has left cannot be put in order");
    }
    let spooled = spooled_names(&files, spool.kept()).await;
    let sources = plan::sources(job, Some((spool.kept(), &spooled)));
    let (items, failure) = match upload::look(&files, sources).await {
        Ok(found) => (plan::items(job, &found), None),
        Err(error) if error.is_transient() => return Outcome::TryAgain(with_causes(&error)),
        Err(error) => {
            let failure = Failure {
                code: upload::TRANSFER_INPUT_ERROR,
                subcode: i64::from(error.errno()),
                reason: sides.failed_to_send(&with_causes(&error)),
            };
            (Vec::new(), Some(failure))
        }
    };
    let is_small = plan::total(&items) <= SMALL;
    let limit = bytes(job.max_input_mb.unwrap_or(shared.config.max_input_mb));
    let signer = Signer::new(&shared.config.delegation, job);
    let free = Semaphore::new(1);
    let upload = Upload {
        wire: &mut link,
        files: &files,
        items: &items,
        signer: &signer,
        sides,
        failure,
        limit,
        patience: shared.config.patience,
        turn: Place::new(if is_small { &free } else { &shared.uploads }, || {
            log.began()
        }),
        bytes: &mut tally.bytes,
        count: &mut tally.files,
    };
    match upload.run().await {
        Ok(done) => {
            link.close(CLOSING).await;
            input_outcome(done, sides)
        }
        Err(upload::Broken::Protocol(super::sender::SendError::Refused {
            try_again: false,
            code,
            subcode,
            reason,
        })) => Outcome::Hold(Failure {
            code: normalised(code, Direction::Input),
            subcode,
            reason: sides.at_execution_point(Direction::Input, &reason),
        }),
        Err(error) => Outcome::TryAgain(with_causes(&error)),
    }
}

fn input_outcome(done: Uploaded, sides: &Sides) -> Outcome {
    match (done.ours, done.theirs) {
        (Ack::Success, Ack::Success) => Outcome::Done,
        (Ack::Hold(failure), _) => Outcome::Hold(Failure {
            reason: sides.at_access_point(Direction::Input, &failure.reason),
            ..failure
        }),
        (_, Ack::Hold(failure)) => Outcome::Hold(Failure {
            code: normalised(failure.code, Direction::Input),
            subcode: failure.subcode,
            reason: sides.at_execution_point(Direction::Input, &failure.reason),
        }),
        (Ack::TryAgain(reason), _) | (_, Ack::TryAgain(reason)) => Outcome::TryAgain(reason),
    }
}

async fn output(
    shared: &Shared,
    log: &Log<'_>,
    mut link: Link,
    sides: &Sides,
    tally: &mut Tally,
) -> Outcome {
    let job = &log.registration.job;
    let files = shared.files.as_owner(&job.owner);
    let spool = SpoolFolder::new(&shared.config.spool, job.id);
    let download = Download {
        wire: &mut link,
        files: &files,
        job,
        spool: &spool,
        sides,
        limit: bytes(job.max_output_mb.unwrap_or(shared.config.max_output_mb)),
        patience: shared.config.patience,
        turn: Place::new(&shared.downloads, || log.began()),
        is_spooled: &mut tally.is_spooled,
        bytes: &mut tally.bytes,
        count: &mut tally.files,
    };
    match download.run().await {
        Ok(done) => {
            link.close(CLOSING).await;
            output_outcome(done, sides)
        }
        Err(download::Broken::Protocol(super::receiver::ReceiveError::Refused {
            try_again: false,
            code,
            subcode,
            reason,
        })) => Outcome::Hold(Failure {
            code: normalised(code, Direction::Output),
            subcode,
            reason: sides.at_execution_point(Direction::Output, &reason),
        }),
        Err(error) => Outcome::TryAgain(with_causes(&error)),
    }
}

fn output_outcome(done: Downloaded, sides: &Sides) -> Outcome {
    match (done.failure, done.theirs) {
        (None, Ack::Success) => Outcome::Done,
        // Theirs first: a file that never came is the cause of whatever we complain about.
        (_, Ack::Hold(failure)) => Outcome::Hold(Failure {
            code: normalised(failure.code, Direction::Output),
            subcode: failure.subcode,
            reason: sides.at_execution_point(Direction::Output, &failure.reason),
        }),
        (Some(failure), _) => Outcome::Hold(Failure {
            reason: sides.at_access_point(Direction::Output, &failure.reason),
            ..failure
        }),
        (None, Ack::TryAgain(reason)) => Outcome::TryAgain(reason),
    }
}

/// HTCondor's two codes say which side failed; users are told the direction instead.
fn normalised(code: i64, direction: Direction) -> i64 {
    match (code, direction) {
        (0 | download::TRANSFER_OUTPUT_ERROR | upload::TRANSFER_INPUT_ERROR, Direction::Output) => {
            download::TRANSFER_OUTPUT_ERROR
        }
        (0 | download::TRANSFER_OUTPUT_ERROR | upload::TRANSFER_INPUT_ERROR, Direction::Input) => {
            upload::TRANSFER_INPUT_ERROR
        }
        (other, _) => other,
    }
}

fn bytes(megabytes: Option<u64>) -> Option<u64> {
    megabytes.map(|megabytes| megabytes.saturating_mul(1 << 20))
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}
