//! From the sandbox of a payload that is gone back to the shadow.

use std::path::Path;
use std::time::Duration;

use super::JobServices;
use super::hold::{Hold, HoldCode, one_line};
use super::input::connect;
use super::plan::{Executable, JobPlan, Selection, Stdout, TransferPlan};
use super::trouble::Trouble;
use super::usage::Figures;
use crate::blame::chain;
use crate::broker::{Agent, Payload};
use crate::transfer::select::{Catalogue, Choice, Selected, select};
use crate::transfer::send::SendError;
use crate::transfer::upload::{Request, Unsent, UploadError, Uploaded, upload};
use crate::transfer::{Link, SandboxPath};

/// How often a transfer that broke is tried (the real starter's figure).
const ATTEMPTS: u32 = 5;
/// Pause after the first broken attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How long the shadow's transfer process may take to end after the last acknowledgement.
const PROCESS_END: Duration = Duration::from_millis(250);

/// What is sent, of which job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) services: &'a JobServices,
    pub(super) session: &'a str,
    pub(super) plan: &'a JobPlan,
    /// Where to.
    pub(super) transfer: &'a TransferPlan,
    pub(super) payload: &'a Payload,
    pub(super) before: &'a Catalogue,
    pub(super) selection: Selection,
    /// To the user's directory; otherwise to the spool.
    pub(super) is_final: bool,
    /// The payload left a core file.
    pub(super) has_core: bool,
}

impl Output<'_> {
    /// Chooses, sends, and gives the names for `SpooledOutputFiles`.
    pub(super) async fn send(
        self,
        agent: &mut Agent,
        figures: &mut Figures,
    ) -> Result<Vec<String>, Trouble> {
        let selected = self.choose(agent, figures).await?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let error = match self.attempt(agent, &selected).await {
                Ok(uploaded) => return self.judge(uploaded, selected.names),
                Err(UploadError::Agent(error)) => return Err(error.into()),
                Err(UploadError::Protocol(SendError::Refused {
                    try_again: false,
                    subcode,
                    reason,
                    ..
                })) => {
                    let reason = format!("The shadow will not take the output files: {reason}");
                    let subcode = i32::try_from(subcode).unwrap_or(0);
                    return Err(Hold::new(HoldCode::TransferOutputError, subcode, reason).into());
                }
                // A shadow that has been away does not know its own key any more (03, section 8).
                Err(error @ UploadError::Protocol(SendError::KeyRefused)) => {
                    return Err(Trouble::OutputLost {
                        reason: format!("The output could not be sent: {}", chain(&error)),
                    });
                }
                Err(error) => error,
            };
            tracing::warn!(
                attempt,
                error = &error as &dyn std::error::Error,
                "the output could not be sent"
            );
            if attempt == ATTEMPTS {
                let reason = format!(
                    "Repeated attempts to transfer output failed: {}",
                    chain(&error)
                );
                return Err(Trouble::passing(reason));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Trouble::passing(
            "Repeated attempts to transfer output failed",
        ))
    }

    async fn choose(&self, agent: &mut Agent, figures: &mut Figures) -> Result<Selected, Trouble> {
        let now = agent.list(Path::new("")).await?;
        let bytes = now
            .iter()
            .fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        figures.disk_kib = figures.disk_kib.max(bytes.div_ceil(1024));
        figures.file_count = now.len() as u64;
        let streams = self.streams();
        let executable = match &self.plan.executable {
            Executable::Transferred(name) => name.as_path(),
            // Nothing of that name can be in the listing.
            Executable::InPlace(_) => Path::new(""),
        };
        let core_name = format!("core.{}.{}", self.plan.id.cluster, self.plan.id.proc);
        let choice = Choice {
            list: match self.selection {
                Selection::Everything => self.plan.output.list.as_deref(),
                Selection::StandardStreams => Some(&[]),
            },
            preserve_relative_paths: self.plan.output.preserve_relative_paths,
            not_output: &[
                executable,
                self.plan
                    .proxy
                    .as_ref()
                    .map_or_else(|| Path::new(""), SandboxPath::as_path),
            ],
            streams: &streams,
            before: self.before,
            sandbox: self.payload.sandbox(),
            core_name: self.has_core.then_some(core_name.as_str()),
        };
        select(agent, choice, &now)
            .await
            .map_err(|error| match error {
                crate::transfer::StoreError::Agent(error) => error.into(),
                error @ crate::transfer::StoreError::File { errno, .. } => {
                    Hold::new(HoldCode::TransferOutputError, errno, chain(&error)).into()
                }
            })
    }

    fn streams(&self) -> Vec<&SandboxPath> {
        let mut streams = Vec::new();
        for stream in [&self.plan.stdout, &self.plan.stderr] {
            if let Stdout::Sandbox(path) = stream
                && !streams.contains(&path)
            {
                streams.push(path);
            }
        }
        streams
    }

    async fn attempt(
        &self,
        agent: &mut Agent,
        selected: &Selected,
    ) -> Result<Uploaded, UploadError> {
        let config = &self.services.config;
        let transfer = self.transfer;
        let command = cedar::command::FILETRANS_DOWNLOAD;
        let stream = connect(self.services, self.session, transfer, command).await?;
        let from = stream.local_addr().ip().to_string();
        let mut link = Link::new(stream, config.transfer_timeout);
        let request = Request {
            items: &selected.items,
            bytes: selected.bytes,
            is_final: self.is_final,
            patience: config.transfer_timeout,
            from: &from,
            to: &transfer.address.to_string(),
        };
        let uploaded = upload(&mut link, agent, request).await?;
        // The connection belongs to a process that the shadow made for this transfer. The shadow must have seen its end
        // before it takes `job_exit`, or else it does nothing for a whole second.
        link.until_closed(PROCESS_END).await;
        Ok(uploaded)
    }

    /// Both sides have reported: what becomes of the job?
    fn judge(&self, uploaded: Uploaded, names: Vec<String>) -> Result<Vec<String>, Trouble> {
        let Uploaded {
            unsent,
            ours,
            theirs,
        } = uploaded;
        if unsent.is_none() && theirs.is_success() {
            return Ok(names);
        }
        let their_words = theirs.hold.as_ref().map_or("", |hold| hold.reason.as_str());
        if let Some(Unsent {
            errno,
            is_over_limit,
            ..
        }) = unsent
        {
            let code = if is_over_limit {
                HoldCode::MaxTransferOutputSizeExceeded
            } else {
                HoldCode::TransferOutputError
            };
            let our_words = ours.hold.map(|hold| hold.reason).unwrap_or_default();
            let text = if their_words.is_empty() {
                our_words
            } else {
                format!("{our_words}; {their_words}")
            };
            return Err(Hold::new(code, errno, text).into());
        }
        if theirs.result > 0 {
            let reason = format!(
                "The shadow could not take the output files: {}",
                one_line(their_words)
            );
            return Err(Trouble::passing(reason));
        }
        let subcode = theirs.hold.as_ref().map_or(0, |hold| hold.subcode);
        let reason = format!("The shadow could not take the output files: {their_words}");
        Err(Hold::new(
            HoldCode::TransferOutputError,
            i32::try_from(subcode).unwrap_or(0),
            reason,
        )
        .into())
    }
}
