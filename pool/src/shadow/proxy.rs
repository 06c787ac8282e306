//! Keeps the proxy of a running job as new as its file on the submit side.

use std::path::PathBuf;
use std::time::Duration;

use cedar::Sinful;
use classad::ClassAd;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::driver::unix_now;
use crate::JobId;
use crate::files::OwnerFiles;
use crate::schedd::Parts;
use crate::schedd::startd::Startd;
use crate::transfer::{ProxyRenewal, RenewalError};

/// Limit of one renewal.
const LIMIT: Duration = Duration::from_secs(60);
/// A delegated proxy lives this long unless the job says otherwise (`DELEGATE_JOB_GSI_CREDENTIALS_LIFETIME`).
const LIFETIME: i64 = 86_400;

/// What became of one look at the file.
#[derive(Debug)]
enum Look {
    /// Nothing was to be done.
    Unchanged,
    /// The file of this age was sent; the new proxy ends then, if that is known.
    Sent(i64, Option<i64>),
    /// The pilot takes none: do not ask again.
    Declined,
    /// It may go better next time.
    Failed,
}

/// The proxy of one running job.
#[derive(Debug)]
pub struct ProxyWatch {
    file: Option<(OwnerFiles, PathBuf)>,
    interval: Duration,
    next: Instant,
    /// Age of the file that the pilot has, nanoseconds since 1970.
    sent: i64,
    /// When what the pilot has is to be replaced though the file is the same, unix time.
    refresh: i64,
    under_way: Option<JoinHandle<Look>>,
}

impl ProxyWatch {
    /// Watches nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            file: None,
            interval: Duration::from_secs(600),
            next: Instant::now(),
            sent: 0,
            refresh: i64::MAX,
            under_way: None,
        }
    }

    /// Watches the proxy of `job`, if it has one; what is there now is what the pilot gets with the job's input.
    #[must_use]
    pub fn new(parts: &Parts, job: &ClassAd, interval: Duration) -> Self {
        let path = job.string("x509userproxy").filter(|path| !path.is_empty());
        let file = path.map(|path| {
            let owner = job.string("Owner").unwrap_or_default();
            let iwd = job.string("Iwd").unwrap_or_default();
            (parts.files.as_owner(&owner), PathBuf::from(iwd).join(path))
        });
        let lifetime = job
            .int("DelegateJobGSICredentialsLifetime")
            .filter(|seconds| *seconds > 0)
            .unwrap_or(LIFETIME);
        let now = unix_now();
        Self {
            file,
            interval,
            next: Instant::now() + interval,
            sent: now.saturating_mul(1_000_000_000),
            refresh: refresh(now, now.saturating_add(lifetime)),
            under_way: None,
        }
    }

    /// Completes when it is time to look at the file. Nothing is lost when the future is dropped.
    pub async fn due(&mut self, is_executing: bool) {
        if self.file.is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(task) = &mut self.under_way {
                let look = task.await.unwrap_or(Look::Failed);
                self.under_way = None;
                self.looked(look);
                continue;
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + self.interval;
            if is_executing {
                return;
            }
        }
    }

    fn looked(&mut self, look: Look) {
        match look {
            Look::Unchanged | Look::Failed => {}
            Look::Sent(age, end) => {
                self.sent = age;
                let now = unix_now();
                self.refresh = refresh(now, end.unwrap_or_else(|| now.saturating_add(LIFETIME)));
            }
            Look::Declined => self.file = None,
        }
    }

    /// Looks at the file, and sends it to the starter if it is new or the old proxy nears its end.
    pub fn renew(&mut self, parts: &Parts, startd: &Startd, job: JobId, starter: Option<&str>) {
        let Some(((files, path), starter)) = self
            .file
            .clone()
            .zip(starter.and_then(|address| Sinful::parse(address).ok()))
        else {
            return;
        };
        let (sent, is_old) = (self.sent, self.refresh <= unix_now());
        let (parts, startd) = (parts.clone(), startd.clone());
        self.under_way = Some(tokio::spawn(async move {
            let age = match files.stat(&path).await {
                Ok(facts) => facts.modified,
                Err(error) => {
                    tracing::warn!(%job, "the job's proxy cannot be looked at: {error}");
                    return Look::Failed;
                }
            };
            if age <= sent && !is_old {
                return Look::Unchanged;
            }
            let sending = timeout(LIMIT, send(&parts, &startd, job, &starter));
            match sending.await.unwrap_or(Ok(ProxyRenewal::Failed)) {
                Ok(ProxyRenewal::Accepted(end)) => {
                    tracing::info!(%job, ?end, "the job has its new proxy");
                    Look::Sent(age, end)
                }
                Ok(ProxyRenewal::Declined) => Look::Declined,
                Ok(ProxyRenewal::Failed) => {
                    tracing::info!(%job, "the execute side could not take the job's new proxy");
                    Look::Failed
                }
                Err(error) => {
                    tracing::warn!(%job, "the job's new proxy could not be sent: {error}");
                    Look::Failed
                }
            }
        }));
    }
}

async fn send(
    parts: &Parts,
    startd: &Startd,
    job: JobId,
    starter: &Sinful,
) -> Result<ProxyRenewal, RenewalError> {
    let ad = parts.queue.job(job).ok_or(RenewalError::NoProxy)?;
    let command = parts.transfers.renewal_command();
    let mut stream = startd.command(starter, command).await?;
    let renewal = parts.transfers.renew_proxy(&ad, &mut stream).await?;
    if let ProxyRenewal::Accepted(Some(end)) = renewal {
        let mut changes = ClassAd::new();
        changes.insert("DelegatedProxyExpiration", end);
        parts.queue.update(job, changes).await;
    }
    Ok(renewal)
}

/// When a proxy that ends then is to be replaced: when a quarter of its time is left
/// (`DELEGATE_JOB_GSI_CREDENTIALS_REFRESH`).
fn refresh(now: i64, end: i64) -> i64 {
    now.saturating_add((end.saturating_sub(now)).max(0) / 4 * 3)
}
