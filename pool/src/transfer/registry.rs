//! Which jobs may transfer files now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cedar::ClaimId;
use cedar::command;
use cedar::entropy::{Entropy as _, EntropyError, Purpose, SystemEntropy};
use cedar::security::Level;
use cedar::security::server::CommandRule;
use classad::ClassAd;
use openssl::memcmp;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::config::TransfersConfig;
use super::job::{TransferJob, TransferJobError};
use super::ticket::{Direction, Report, TransferEvent, TransferTicket};
use crate::files::UserFiles;

/// Characters of a transfer key: 32 random bytes as hexadecimal digits.
const KEY_BYTES: usize = 32;

/// File transfer of all running jobs. Clones share everything.
#[derive(Debug, Clone)]
pub struct Transfers {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: TransfersConfig,
    pub(super) files: UserFiles,
    pub(super) uploads: Semaphore,
    pub(super) downloads: Semaphore,
    /// Connections that wait out the penalty for a wrong key.
    pub(super) penalties: Semaphore,
    /// By the session of the claim's file transfers.
    registered: Mutex<HashMap<String, Arc<Registration>>>,
}

/// One running job.
#[derive(Debug)]
pub(super) struct Registration {
    key: Zeroizing<String>,
    session_id: String,
    pub(super) job: TransferJob,
    pub(super) events: mpsc::UnboundedSender<TransferEvent>,
    pub(super) input: watch::Sender<Option<Report>>,
    pub(super) output: watch::Sender<Option<Report>>,
    /// Cancelled with the ticket.
    pub(super) ended: CancellationToken,
    /// One transfer of a job at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Cancelled when the pilot begins another transfer.
    running: Mutex<CancellationToken>,
    registry: std::sync::Weak<Shared>,
}

/// Why a job cannot transfer files.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The job ad lacks something.
    #[error(transparent)]
    Job(#[from] TransferJobError),
    /// No random key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl Transfers {
    /// Nothing is registered yet.
    #[must_use]
    pub fn new(config: TransfersConfig, files: UserFiles) -> Self {
        let places = |limit: usize| {
            Semaphore::new(if limit == 0 {
                Semaphore::MAX_PERMITS
            } else {
                limit
            })
        };
        Self {
            shared: Arc::new(Shared {
                uploads: places(config.max_uploads),
                downloads: places(config.max_downloads),
                penalties: Semaphore::new(64),
                config,
                files,
                registered: Mutex::default(),
            }),
        }
    }

    /// The commands [`serve`](Self::serve) takes. Their level is the lowest there is because what counts is the session
    /// of the claim's file transfers, which the schedd registers with the claim
    /// ([`SessionCache::register_claim`](cedar::net::SessionCache::register_claim)); any other session is turned away.
    #[must_use]
    pub fn commands() -> Vec<(i32, CommandRule)> {
        let rule = CommandRule {
            level: Level::Allow,
            alternates: Vec::new(),
        };
        vec![
            (command::FILETRANS_UPLOAD, rule.clone()),
            (command::FILETRANS_DOWNLOAD, rule),
        ]
    }

    /// Lets the job's run on `claim` transfer files, until the ticket is dropped. `job` is the ad as the pilot gets it;
    /// `slot` is the slot's name, for messages. A second run on the same claim takes the place of the first.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn register(
        &self,
        job: &ClassAd,
        claim: &ClaimId,
        slot: &str,
    ) -> Result<TransferTicket, RegisterError> {
        let job = TransferJob::from_ad(job, slot)?;
        let (events, heard) = mpsc::unbounded_channel();
        let (input, input_seen) = watch::channel(None);
        let (output, output_seen) = watch::channel(None);
        let registration = Arc::new(Registration {
            key: new_key()?,
            session_id: claim.file_transfer_session_id(),
            job,
            events,
            input,
            output,
            ended: CancellationToken::new(),
            turn: tokio::sync::Mutex::default(),
            running: Mutex::default(),
            registry: Arc::downgrade(&self.shared),
        });
        let before = self
            .shared
            .lock()
            .insert(registration.session_id.clone(), Arc::clone(&registration));
        if let Some(before) = before {
            before.ended.cancel();
        }
        Ok(TransferTicket {
            registration,
            events: heard,
            input: input_seen,
            output: output_seen,
        })
    }

    /// The job whose run holds this key in this session.
    pub(super) fn find(&self, session_id: &str, key: &[u8]) -> Option<Arc<Registration>> {
        let found = self.shared.lock().get(session_id).cloned()?;
        let is_same = key.len() == found.key.len() && memcmp::eq(key, found.key.as_bytes());
        is_same.then_some(found)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Registration>>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Ends the transfer that is going on and gives out a sign for the new one.
    pub(super) fn supersede(&self) -> CancellationToken {
        let new = CancellationToken::new();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *running, new.clone()).cancel();
        new
    }

    pub(super) fn is_busy(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// The ticket is gone.
    pub(super) fn end(&self) {
        self.ended.cancel();
        if let Some(shared) = self.registry.upgrade() {
            let mut registered = shared.lock();
            if registered
                .get(&self.session_id)
                .is_some_and(|now| std::ptr::eq(&raw const **now, self))
            {
                registered.remove(&self.session_id);
            }
        }
    }

    /// Tells the ticket.
    pub(super) fn tell(&self, event: TransferEvent) {
        if let TransferEvent::Finished(report) = &event {
            let side = match report.direction {
                Direction::Input => &self.input,
                Direction::Output => &self.output,
            };
            side.send_replace(Some(report.clone()));
        }
        // The shadow may not listen any more.
        let _ = self.events.send(event);
    }
}

fn new_key() -> Result<Zeroizing<String>, EntropyError> {
    let mut random = Zeroizing::new([0; KEY_BYTES]);
    SystemEntropy.fill(Purpose::ClaimSecret, random.as_mut_slice())?;
    let mut key = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
    for byte in random.iter() {
        for digit in [byte >> 4, byte & 15] {
            key.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(key)
}
