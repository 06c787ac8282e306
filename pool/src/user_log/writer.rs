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
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::ad;
use super::event::{Event, EventSink};
use super::form::DateForm;
use super::format::format;
use crate::JobId;
use crate::files::{FileError, OpenWrite, OwnerFiles, UserFiles};

/// A log that nothing was written to for so long is closed.
const IDLE: Duration = Duration::from_secs(5);
/// Text that may wait for one slow file, bytes. What comes then is lost, and said to be.
const MOST_WAITING: usize = 16 << 20;
/// Text that is written at once, bytes.
const BATCH: usize = 256 << 10;

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

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Log {
    owner: String,
    path: PathBuf,
}

#[derive(Debug)]
struct Writer {
    work: mpsc::UnboundedSender<Work>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Work {
    Text(String),
    Flush(oneshot::Sender<()>),
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
        open(&files, &log.path).await.map(drop)
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

    /// Hands text to the log's writer, which is started if there is none.
    fn send(&self, log: Log, text: String) {
        let mut writers = self.writers();
        let size = text.len();
        let mut text = text;
        if let Some(writer) = writers.get(&log) {
            if writer.waiting.load(Ordering::Relaxed) + size > MOST_WAITING {
                warn!(
                    "the event log {} of {} does not keep up: an event is lost",
                    log.path.display(),
                    log.owner
                );
                return;
            }
            writer.waiting.fetch_add(size, Ordering::Relaxed);
            match writer.work.send(Work::Text(text)) {
                Ok(()) => return,
                Err(mpsc::error::SendError(Work::Text(back))) => text = back,
                Err(_) => return,
            }
        }
        let (work, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(size));
        // The receiver is at hand, so it takes it.
        let _ = work.send(Work::Text(text));
        writers.insert(
            log.clone(),
            Writer {
                work,
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
    fn event(&self, job: &ClassAd, event: Event) {
        let (Some(log), Some(id)) = (log_of(job), id_of(job)) else {
            return;
        };
        let now = jiff::Zoned::now();
        let form = self.shared.form;
        let mut text = format(&event, id, &now, form);
        if let Some(wanted) = job.string("JobAdInformationAttrs")
            && !wanted.is_empty()
        {
            let more = ad::information(&event, job, &wanted, id, &now, form);
            text.push_str(&format(&more, id, &now, form));
        }
        self.send(log, text);
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

async fn open(files: &OwnerFiles, path: &Path) -> Result<File, FileError> {
    let how = OpenWrite {
        mode: 0o644,
        create: true,
        append: true,
        ..OpenWrite::default()
    };
    let (file, _) = files.open_write(path, how).await?;
    Ok(File::from(file))
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
            let mut flushes = Vec::new();
            let mut next = Some(work);
            while let Some(work) = next {
                match work {
                    Work::Text(text) => batch.push_str(&text),
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
                file = self.append(file, &files, batch).await;
                self.waiting.fetch_sub(size, Ordering::Relaxed);
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

    /// Writes whole events with one call, so that a reader sees no half of one and other writers come before or after.
    async fn append(
        &mut self,
        file: Option<File>,
        files: &OwnerFiles,
        text: String,
    ) -> Option<File> {
        let outcome = match file {
            Some(file) => Ok(file),
            None => open(files, &self.key.path)
                .await
                .map_err(|error| error.to_string()),
        };
        let sync = self.log.shared.sync;
        let outcome = match outcome {
            Ok(file) => tokio::task::spawn_blocking(move || write(file, &text, sync))
                .await
                .map_err(|error| error.to_string())
                .and_then(|written| written.map_err(|error| error.to_string())),
            Err(why) => Err(why),
        };
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
