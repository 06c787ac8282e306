//! The user's proxy on its way to the execute side: copied, or a new one signed for a key that was made there.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar::net::Stream;
use cedar::{Coding, MessageReader};
use classad::ClassAd;
use credential::MAX_BUNDLE_BYTES;
use credential::issue::{IssueError, ProxyIssuer, ProxyKind, ProxyOptions};
use thiserror::Error;
use zeroize::Zeroizing;

use super::BLOCK;
use super::config::Delegation;
use super::job::{TransferJob, TransferJobError};
use super::registry::Transfers;
use super::sender::{SendError, blob, max_request, read_blob};
use super::texts;
use crate::files::{FileError, OwnerFiles};

/// `UPDATE_GSI_CRED` (protocol page 03, section 9): the proxy as a file.
const UPDATE_GSI_CRED: i32 = 487;
/// `DELEGATE_GSI_CRED_STARTER`: a delegation.
const DELEGATE_GSI_CRED_STARTER: i32 = 500;

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyRenewal {
    /// The pilot has the new proxy; it ends at this time, Unix seconds, if it was delegated.
    Accepted(Option<i64>),
    /// The pilot takes none.
    Declined,
    /// The pilot could not use it.
    Failed,
}

/// Why a proxy could not be renewed or delegated.
#[derive(Debug, Error)]
pub enum RenewalError {
    /// The job ad lacks something.
    #[error(transparent)]
    Job(#[from] TransferJobError),
    /// The job has no proxy.
    #[error("the job has no proxy")]
    NoProxy,
    /// The pilot asks for a file that is not the job's proxy.
    #[error("the pilot asked for {0}, which is not the job's proxy")]
    OtherFile(PathBuf),
    /// The proxy file cannot be read, or cannot sign.
    #[error("{0}")]
    Proxy(String),
    /// The connection broke.
    #[error(transparent)]
    Wire(#[from] cedar::net::Error),
    /// The pilot broke the protocol.
    #[error(transparent)]
    Protocol(#[from] SendError),
    /// A message of the wrong form.
    #[error("the pilot sent a malformed message")]
    Malformed(#[from] cedar::WireError),
}

/// Signs proxies for one job.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    is_enabled: bool,
    kind: ProxyKind,
    lifetime: Option<Duration>,
}

/// A signed proxy.
pub(super) struct Signed {
    /// DER certificates, the new proxy first.
    pub(super) chain: Vec<u8>,
    /// When it ends, Unix seconds.
    pub(super) end: i64,
}

impl Signer {
    pub(super) fn new(config: &Delegation, job: &TransferJob) -> Self {
        Self {
            is_enabled: config.is_enabled,
            kind: if config.is_full {
                ProxyKind::Inherit
            } else {
                ProxyKind::Limited
            },
            lifetime: job.delegation_lifetime.unwrap_or(config.lifetime),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Signs a proxy for the key of `request` with the one at `path`. An error is a sentence and an errno.
    pub(super) async fn sign(
        &self,
        files: &OwnerFiles,
        path: &Path,
        request: &[u8],
    ) -> Result<Signed, (String, i32)> {
        let opened = files.open_read(path).await;
        let (file, _) = opened.map_err(|error| (texts::why(&error), error.errno()))?;
        let now = unix_now();
        let options = ProxyOptions {
            now,
            lifetime: self
                .lifetime
                .map(|lifetime| i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)),
            kind: self.kind,
        };
        let request = request.to_vec();
        let work = move || {
            let text = read_bundle(file.into())
                .map_err(|error| (error.to_string(), error.raw_os_error().unwrap_or(0)))?;
            let signed: Result<Signed, IssueError> =
                ProxyIssuer::from_pem(&text).and_then(|issuer| {
                    Ok(Signed {
                        chain: issuer.sign_request(&request, &options)?,
                        end: issuer.end_of(&options),
                    })
                });
            signed.map_err(|error| (texts::with_causes(&error), 0))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(_) => Err(("the program failed".to_owned(), 0)),
        }
    }
}

fn read_bundle(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let limit = MAX_BUNDLE_BYTES + 1;
    // Reserved at once: a growing buffer would leave copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit));
    file.take(limit as u64).read_to_end(&mut text)?;
    Ok(text)
}

pub(super) fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

impl Transfers {
    /// The command with which a renewed proxy is sent: `DELEGATE_GSI_CRED_STARTER`, or `UPDATE_GSI_CRED` where
    /// delegation is turned off.
    #[must_use]
    pub fn renewal_command(&self) -> i32 {
        if self.shared.config.delegation.is_enabled {
            DELEGATE_GSI_CRED_STARTER
        } else {
            UPDATE_GSI_CRED
        }
    }

    /// Sends the job's proxy as it is now over `stream`, on which [`renewal_command`](Self::renewal_command) has been
    /// started in the claim's session at the pilot's address (protocol page 03, section 9).
    ///
    /// # Errors
    /// [`RenewalError`]
    pub async fn renew_proxy(
        &self,
        job: &ClassAd,
        stream: &mut Stream,
    ) -> Result<ProxyRenewal, RenewalError> {
        let job = TransferJob::from_ad(job, "")?;
        let path = job
            .iwd
            .join(job.proxy.as_ref().ok_or(RenewalError::NoProxy)?);
        let files = self.shared.files.as_owner(&job.owner);
        let signer = Signer::new(&self.shared.config.delegation, &job);
        let end = if signer.is_enabled() {
            Some(exchange(&signer, &files, &path, stream).await?)
        } else {
            copy(&files, &path, stream).await?;
            None
        };
        let answer = stream.recv().await?;
        Ok(match answer.reader().int()? {
            1 => ProxyRenewal::Accepted(end),
            2 => ProxyRenewal::Declined,
            _ => ProxyRenewal::Failed,
        })
    }

    /// Answers the syscall `get_delegated_proxy` (303): the exchange of protocol page 04, section 6, on the syscall
    /// socket. `path` must be the job's own proxy. `wanted_end`, Unix seconds, shortens its life if it is positive.
    /// Returns when the new proxy ends.
    ///
    /// # Errors
    /// [`RenewalError`]; if the connection still stands the pilot has been told of the failure by an empty answer.
    pub async fn delegate_on(
        &self,
        job: &ClassAd,
        path: &Path,
        wanted_end: i64,
        stream: &mut Stream,
    ) -> Result<i64, RenewalError> {
        let job = TransferJob::from_ad(job, "")?;
        let own = job.proxy.as_ref().map(|proxy| job.iwd.join(proxy));
        let files = self.shared.files.as_owner(&job.owner);
        let mut signer = Signer::new(&self.shared.config.delegation, &job);
        if let Some(left) = u64::try_from(wanted_end.saturating_sub(unix_now()))
            .ok()
            .filter(|_| wanted_end > 0)
        {
            let wanted = Duration::from_secs(left);
            signer.lifetime = Some(
                signer
                    .lifetime
                    .map_or(wanted, |lifetime| lifetime.min(wanted)),
            );
        }
        match own {
            Some(own) if own == job.iwd.join(path) => exchange(&signer, &files, &own, stream).await,
            _ => {
                stream.recv().await?;
                let nothing = blob(coding(stream), &[]);
                stream.send(nothing).await?;
                Err(RenewalError::OtherFile(path.to_owned()))
            }
        }
    }
}

fn coding(stream: &Stream) -> Coding {
    if stream.is_encrypted() {
        Coding::Encrypted
    } else {
        Coding::Plain
    }
}

/// Takes the pilot's request and answers with a proxy; returns when that ends.
async fn exchange(
    signer: &Signer,
    files: &OwnerFiles,
    path: &Path,
    stream: &mut Stream,
) -> Result<i64, RenewalError> {
    let coding = coding(stream);
    let message = stream.recv().await?;
    let request = read_blob(
        &mut MessageReader::new(coding, message.body()),
        max_request(),
    )?;
    if request.is_empty() {
        stream.send(blob(coding, &[])).await?;
        return Err(RenewalError::Proxy(
            "the pilot could not make a key for the delegated proxy".to_owned(),
        ));
    }
    match signer.sign(files, path, request).await {
        Ok(signed) => {
            stream.send(blob(coding, &signed.chain)).await?;
            Ok(signed.end)
        }
        Err((why, _)) => {
            stream.send(blob(coding, &[])).await?;
            Err(RenewalError::Proxy(format!(
                "cannot delegate the proxy {}: {why}",
                path.display()
            )))
        }
    }
}

/// The proxy as a file: sizes, then blocks (protocol page 01's `put_file` form).
async fn copy(files: &OwnerFiles, path: &Path, stream: &mut Stream) -> Result<(), RenewalError> {
    let (file, _) = files
        .open_read(path)
        .await
        .map_err(|error: FileError| RenewalError::Proxy(texts::with_causes(&error)))?;
    let read = tokio::task::spawn_blocking(move || read_bundle(file.into())).await;
    let text = match read {
        Ok(Ok(text)) if !text.is_empty() => text,
        Ok(Err(error)) => {
            return Err(RenewalError::Proxy(format!(
                "cannot read {}: {error}",
                path.display()
            )));
        }
        Ok(Ok(_)) | Err(_) => {
            return Err(RenewalError::Proxy(format!("{} is empty", path.display())));
        }
    };
    let mut sizes = stream.message();
    sizes
        .int(i64::try_from(text.len()).unwrap_or(0))
        .int(i64::try_from(BLOCK).unwrap_or(0));
    stream.send(sizes).await?;
    for block in text.chunks(BLOCK) {
        stream.send_bytes_message(block).await?;
    }
    Ok(())
}
