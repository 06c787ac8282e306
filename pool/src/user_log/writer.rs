//! Appends events to users' files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use classad::ClassAd;
use condorconf::{Config, Error};
use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ad;
use super::entry::{Entry, Log, Receipt};
use super::event::{Event, EventSink};
use super::form::DateForm;
use super::format::format;
use super::replay::look;
use crate::JobId;
use crate::files::{FileError, OpenWrite, OwnerFiles, UserFiles};

/// A log that nothing was written to for so long is closed.
const IDLE: Duration = Duration::from_secs(5);
/// Text that may wait for one slow file, bytes. What comes then is lost, and said to be.
const MOST_WAITING: usize = 16 << 20;
/// Text that is written at once, bytes.
const BATCH: usize = 256 << 10;
/// An event that has stayed half written for so long has no writer any more.
const HALF_WRITTEN: Duration = Duration::from_secs(1);

/// Writes event logs. Clones share everything.
#[derive(Debug, Clone)]
pub struct UserLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: UserFiles,
    form: DateForm,
    /// Whether each event is on the disk before the next (`ENABLE_USERLOG_FSYNC`).
    sync: bool,
    runtime: Handle,
    /// One writer for each log of each owner.
    writers: Mutex<HashMap<Log, Writer>>,
}

#[derive(Debug)]
struct Writer {
    work: mpsc::UnboundedSender<Work>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Work {
    Text(String, Receipt),
    /// What an earlier process may have appended or not.
    Replay(Vec<(String, Receipt)>),
    Flush(oneshot::Sender<()>),
}

impl Work {
    /// Text in it, bytes.
    fn size(&self) -> usize {
        match self {
            Self::Text(text, _) => text.len(),
            Self::Replay(texts) => texts.iter().map(|(text, _)| text.len()).sum(),
            Self::Flush(_) => 0,
        }
    }
}

impl UserLog {
    /// Reads `DEFAULT_USERLOG_FORMAT_OPTIONS` and `ENABLE_USERLOG_FSYNC`. Must be called within a runtime, on which the
    /// writers run.
    ///
    /// # Errors
    /// A knob has no usable value.
    pub fn from_config(config: &Config, files: UserFiles) -> Result<Self, Error> {
        let form = DateForm::from_config(config)?;
        let sync = config.bool("ENABLE_USERLOG_FSYNC", true)?;
        Ok(Self::new(files, form, sync))
    }

    /// Events go to the jobs' own logs through `files`, dates in `form`. Must be called within a runtime.
    #[must_use]
    pub fn new(files: UserFiles, form: DateForm, sync: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                files,
                form,
                sync,
                runtime: Handle::current(),
                writers: Mutex::default(),
            }),
        }
    }

    /// Whether the job's log can be written: it is made if it is not there. A job without a log passes. For use at
    /// submission; a job whose log cannot be written is to be held with code 22
    /// (`htcondor:src/condor_utils/condor_holdcodes.h`, `UnableToInitUserLog`).
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, job: &ClassAd) -> Result<(), FileError> {
        let Some(log) = log_of(job) else {
            return Ok(());
        };
        let files = self.shared.files.as_owner(&log.owner);
        open(&files, &log.path, false).await.map(drop)
    }

    /// Waits until everything reported so far is in its file, or could not be written.
    pub async fn flush(&self) {
        let flushes: Vec<_> = {
            let writers = self.writers();
            writers
                .values()
                .filter_map(|writer| {
                    let (done, wait) = oneshot::channel();
                    writer.work.send(Work::Flush(done)).ok().map(|()| wait)
                })
                .collect()
        };
        for wait in flushes {
            // A writer that ended has nothing left to write.
            let _ = wait.await;
        }
    }

    fn writers(&self) -> std::sync::MutexGuard<'_, HashMap<Log, Writer>> {
        self.shared
            .writers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands work to the log's writer, which is started if there is none.
    fn send(&self, log: Log, mut work: Work) {
        let mut writers = self.writers();
        let size = work.size();
        if let Some(writer) = writers.get(&log) {
            let waiting = writer.waiting.load(Ordering::Relaxed);
            work = match work {
                Work::Text(_, receipt) if waiting + size > MOST_WAITING => {
                    warn!(
                        "the event log {} of {} does not keep up: an event is lost",
                        log.path.display(),
                        log.owner
                    );
                    receipt.settle();
                    return;
                }
                work => work,
            };
            writer.waiting.fetch_add(size, Ordering::Relaxed);
            match writer.work.send(work) {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => work = back,
            }
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(size));
        // The receiver is at hand, so it takes it.
        let _ = sender.send(work);
        writers.insert(
            log.clone(),
            Writer {
                work: sender,
                waiting: Arc::clone(&waiting),
            },
        );
        drop(writers);
        let task = Task {
            log: self.clone(),
            key: log,
            receiver,
            waiting,
            reported: false,
        };
        self.shared.runtime.spawn(task.run());
    }
}

impl EventSink for UserLog {
    fn compose(&self, job: &ClassAd, event: &Event) -> Option<Entry> {
        let (log, id) = (log_of(job)?, id_of(job)?);
        let now = jiff::Zoned::now();
        let form = self.shared.form;
        let mut text = format(event, id, &now, form);
        if let Some(wanted) = job.string("JobAdInformationAttrs")
            && !wanted.is_empty()
        {
            let more = ad::information(event, job, &wanted, id, &now, form);
            text.push_str(&format(&more, id, &now, form));
        }
        Some(Entry { log, text })
    }

    fn append(&self, entry: Entry, receipt: Receipt) {
        self.send(entry.log, Work::Text(entry.text, receipt));
    }

    fn replay(&self, entries: Vec<(Entry, Receipt)>) {
        let mut logs: HashMap<Log, Vec<(String, Receipt)>> = HashMap::new();
        for (entry, receipt) in entries {
            let texts = logs.entry(entry.log).or_default();
            texts.push((entry.text, receipt));
        }
        for (log, texts) in logs {
            self.send(log, Work::Replay(texts));
        }
    }
}

/// The log a job wants.
fn log_of(job: &ClassAd) -> Option<Log> {
    let path = job.string("UserLog").filter(|path| !path.is_empty())?;
    let owner = job.string("Owner")?;
    let path = if path.starts_with('/') {
        PathBuf::from(path)
    } else {
        Path::new(&job.string("Iwd")?).join(path)
    };
    (path != Path::new("/dev/null")).then_some(Log { owner, path })
}

fn id_of(job: &ClassAd) -> Option<JobId> {
    let number = |name| job.int(name).and_then(|number| i32::try_from(number).ok());
    Some(JobId::new(number("ClusterId")?, number("ProcId")?))
}

async fn open(files: &OwnerFiles, path: &Path, read: bool) -> Result<File, FileError> {
    let how = OpenWrite {
        mode: 0o644,
        create: true,
        append: true,
        read,
        ..OpenWrite::default()
    };
    let (file, _) = files.open_write(path, how).await?;
    Ok(File::from(file))
}

/// Work on a file, which may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// The writer of one log.
struct Task {
    log: UserLog,
    key: Log,
    receiver: mpsc::UnboundedReceiver<Work>,
    waiting: Arc<AtomicUsize>,
    /// A failure has been reported, and nothing was written since.
    reported: bool,
}

impl Task {
    async fn run(mut self) {
        let files = self.log.shared.files.as_owner(&self.key.owner);
        let mut file: Option<File> = None;
        loop {
            let Ok(work) = timeout(IDLE, self.receiver.recv()).await else {
                if self.leave() {
                    return;
                }
                continue;
            };
            let Some(work) = work else {
                return;
            };
            let mut batch = String::new();
            let mut receipts = Vec::new();
            let mut flushes = Vec::new();
            let mut replay = None;
            let mut next = Some(work);
            while let Some(work) = next {
                match work {
                    Work::Text(text, receipt) => {
                        batch.push_str(&text);
                        receipts.push(receipt);
                    }
                    Work::Replay(texts) => {
                        replay = Some(texts);
                        break;
                    }
                    Work::Flush(done) => flushes.push(done),
                }
                next = if batch.len() < BATCH {
                    self.receiver.try_recv().ok()
                } else {
                    None
                };
            }
            if !batch.is_empty() {
                let size = batch.len();
                let appended = self.append(file, &files, batch).await;
                file = self.heard(appended);
                self.settle(size, receipts);
            }
            if let Some(texts) = replay {
                let size = texts.iter().map(|(text, _)| text.len()).sum();
                let (texts, receipts) = texts.into_iter().unzip();
                let replayed = self.replay(&files, texts).await;
                file = self.heard(replayed);
                self.settle(size, receipts);
            }
            for done in flushes {
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
        }
    }

    /// Ends the writer if nothing has come meanwhile.
    fn leave(&self) -> bool {
        let mut writers = self.log.writers();
        if !self.receiver.is_empty() {
            return false;
        }
        writers.remove(&self.key);
        true
    }

    /// Text of that many bytes is written or given up.
    fn settle(&self, size: usize, receipts: Vec<Receipt>) {
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        for receipt in receipts {
            receipt.settle();
        }
    }

    /// Writes whole events with one call, so that a reader sees no half of one and other writers come before or after.
    async fn append(
        &self,
        file: Option<File>,
        files: &OwnerFiles,
        text: String,
    ) -> Result<File, String> {
        let file = match file {
            Some(file) => file,
            None => open(files, &self.key.path, false)
                .await
                .map_err(|error| error.to_string())?,
        };
        let sync = self.log.shared.sync;
        blocking(move || write(file, &text, sync)).await
    }

    /// Appends what does not stand in the log yet, after the last whole event there.
    async fn replay(&self, files: &OwnerFiles, texts: Vec<String>) -> Result<File, String> {
        let file = match open(files, &self.key.path, true).await {
            Ok(file) => file,
            // A log that its owner may write but not read: rather a second time than not at all.
            Err(FileError::Refused {
                errno: Errno::EACCES,
                ..
            }) => return self.append(None, files, texts.concat()).await,
            Err(error) => return Err(error.to_string()),
        };
        let texts = Arc::new(texts);
        let all = Arc::clone(&texts);
        let (mut file, mut found) = blocking(move || look(file, &all)).await?;
        if found.is_somebody_at_it() {
            // Another writer of the same log may be in the middle of an event; one that died there stays there.
            sleep(HALF_WRITTEN).await;
            let before = found;
            (file, found) = blocking(move || look(file, &texts)).await?;
            found.doubt(&before);
        }
        let sync = self.log.shared.sync;
        let missing = found.missing.len();
        if missing > 0 {
            info!(
                bytes = missing,
                "events that the pool had not written when it ended are appended to {} of {}",
                self.key.path.display(),
                self.key.owner
            );
        }
        blocking(move || {
            found.cut(&file)?;
            write(file, &found.text(), sync)
        })
        .await
    }

    /// The file to go on with; a failure is told once.
    fn heard(&mut self, outcome: Result<File, String>) -> Option<File> {
        match outcome {
            Ok(file) => {
                self.reported = false;
                Some(file)
            }
            Err(why) => {
                if !std::mem::replace(&mut self.reported, true) {
                    warn!(
                        "cannot write the event log {} of {}: {why}; its jobs go on, their events are lost until it can be written",
                        self.key.path.display(),
                        self.key.owner
                    );
                }
                None
            }
        }
    }
}

fn write(mut file: File, text: &str, sync: bool) -> io::Result<File> {
    let before = file.metadata()?.len();
    if let Err(error) = file.write_all(text.as_bytes()) {
        // A full disk takes half of an event, which no reader could use.
        let _ = file.set_len(before);
        return Err(error);
    }
    if sync {
        file.sync_data()?;
    }
    Ok(file)
}
