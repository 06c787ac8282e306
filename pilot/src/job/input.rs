//! From the shadow's files to a filled sandbox, by way of the credential.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cedar::net::Stream;
use launch_protocol::broker::OpenLimits;
use zeroize::Zeroizing;

use super::hold::{Hold, HoldCode, one_line};
use super::plan::{Executable, JobPlan, TransferPlan};
use super::trouble::Trouble;
use super::{JobConfig, JobServices, SlotFacts};
use crate::blame::chain;
use crate::broker::{Agent, AgentError, Broker, Payload, PayloadEvents, Wanted, memfd};
use crate::transfer::download::{self, DownloadError, Downloaded, Opened, StorageError, download};
use crate::transfer::receive::ReceiveError;
use crate::transfer::{Ack, Link, LinkError};

/// The bytes of a credential; none for a job without one.
pub(super) type Credential = Zeroizing<Vec<u8>>;

/// A sandbox of the job, with the agent in it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) payload: Payload,
    pub(super) events: PayloadEvents,
    pub(super) agent: Agent,
    /// Process number of the agent, later of the payload.
    pub(super) pid: u32,
}

impl Opened for Place {
    type Sandbox = Agent;

    fn sandbox(&mut self) -> &mut Agent {
        &mut self.agent
    }
}

/// Fetches the input; the helper opens the sandbox as soon as the credential is here: the proxy that comes with the
/// files, or this token.
pub(super) async fn fetch(
    services: &JobServices,
    session: &str,
    plan: &JobPlan,
    slot: &SlotFacts,
    token: Credential,
) -> Result<Downloaded<Place>, Trouble> {
    let config = &services.config;
    let stream = connect(
        services,
        session,
        &plan.transfer,
        cedar::command::FILETRANS_UPLOAD,
    )
    .await
    .map_err(|error| Trouble::passing(chain(&error)))?;
    let mut link = Link::new(stream, config.transfer_timeout);
    let request = download::Request {
        executable: match &plan.executable {
            Executable::Transferred(name) => Some(name),
            Executable::InPlace(_) => None,
        },
        proxy: plan.proxy.as_ref(),
        keys: &services.delegation_keys,
        staging_directory: &config.execute_dir,
        staging_memory: config.staging_memory,
        staging_disk: config.staging_disk,
        patience: config.transfer_timeout,
    };
    let order = Order {
        broker: services.broker.clone(),
        config: services.config.clone(),
        label: format!("{} {}", plan.id.global, plan.id.user),
        account: slot.account.clone(),
        limits: services.config.limits.of(slot),
    };
    // Where nothing comes with the files, the token is what there is.
    let open = move |sent: Credential| order.open(if sent.is_empty() { token } else { sent });
    download(&mut link, request, open).await.map_err(explain)
}

/// A new connection for one transfer, with the key already sent.
pub(super) async fn connect(
    services: &JobServices,
    session: &str,
    transfer: &TransferPlan,
    command: i32,
) -> Result<Stream, LinkError> {
    let mut stream = services
        .client
        .start_command_in_session(&transfer.address, command, session)
        .await?;
    let mut key = stream.message();
    key.str(&transfer.key);
    // Goes out together with the first message of an upload; a download has nothing else to send.
    if command == cedar::command::FILETRANS_UPLOAD {
        stream.send(key).await?;
    } else {
        stream.queue(key)?;
    }
    Ok(stream)
}

/// What is opened once the credential is here.
struct Order {
    broker: Broker,
    config: Arc<JobConfig>,
    label: String,
    account: Option<String>,
    limits: OpenLimits,
}

impl Order {
    async fn open(self, credential: Credential) -> Result<Place, AgentError> {
        let file: OwnedFd = memfd::sealed("credential", &credential).map_err(AgentError::Socket)?;
        drop(credential);
        let wanted = Wanted {
            label: &self.label,
            execute_dir: &self.config.execute_dir,
            slot_account: self.account.as_deref(),
            limits: self.limits,
        };
        if let Some(proxy) = &self.config.pilot_proxy {
            self.broker.show(proxy).await?;
        }
        let (payload, events) = self.broker.open(wanted, &file).await?;
        match payload.spawn_agent().await {
            Ok((agent, pid)) => Ok(Place {
                payload,
                events,
                agent,
                pid,
            }),
            Err(error) => {
                // Dropping the payload closes it.
                drop(payload);
                Err(error)
            }
        }
    }
}

fn explain(error: DownloadError<AgentError>) -> Trouble {
    let input = |subcode: i32, reason: String| {
        Hold::new(HoldCode::TransferInputError, subcode, reason).into()
    };
    match error {
        DownloadError::Open(error) => error.into(),
        DownloadError::Link(_) | DownloadError::Key(_) | DownloadError::Protocol(ReceiveError::KeyRefused) => {
            Trouble::passing(format!("The transfer of the input files failed: {}", chain(&error)))
        }
        DownloadError::Protocol(ReceiveError::Refused { try_again: false, code: _, subcode, reason }) => {
            input(i32::try_from(subcode).unwrap_or(0), format!("The shadow will not send the input files: {reason}"))
        }
        DownloadError::Protocol(_) => {
            Trouble::passing(format!("The transfer of the input files failed: {}", chain(&error)))
        }
        DownloadError::Storage(StorageError::Agent(error)) => error.into(),
        DownloadError::Storage(error @ StorageError::CredentialTooLarge { .. }) => {
            Hold::new(HoldCode::CorruptedCredential, error.errno(), chain(&error)).into()
        }
        DownloadError::Storage(error @ StorageError::TooMuchBeforeCredential { .. }) => {
            Hold::new(HoldCode::MaxTransferInputSizeExceeded, error.errno(), chain(&error)).into()
        }
        DownloadError::Storage(error) => Hold::new(
            HoldCode::TransferInputError,
            error.errno(),
            format!("Transfer of input files failed at the execution point: {}", chain(&error)),
        )
        .of_disk()
        .into(),
        DownloadError::Shadow(ack) => shadow_failed(&ack),
        DownloadError::NoCredential(_) => Hold::new(
            HoldCode::FailedToAccessUserAccount,
            0,
            format!(
                "The job's proxy did not come with its input files ({error}), and without it there is no account for \
                 the job here: check that the proxy file exists and submit the job again"
            ),
        )
        .into(),
        DownloadError::Delegation(_) => Hold::new(
            HoldCode::CorruptedCredential,
            0,
            format!("The delegation of the job's proxy failed: {}", chain(&error)),
        )
        .into(),
    }
}

/// The shadow could not send everything and said so: a hold with its own words, unless it may pass.
fn shadow_failed(ack: &Ack) -> Trouble {
    let Some(hold) = &ack.hold else {
        return Trouble::Submit {
            reason: "The shadow could not send the input files".to_owned(),
        };
    };
    if ack.result > 0 {
        return Trouble::Submit {
            reason: format!(
                "The shadow could not send the input files: {}",
                one_line(&hold.reason)
            ),
        };
    }
    Hold::new(
        HoldCode::TransferInputError,
        i32::try_from(hold.subcode).unwrap_or(0),
        &hold.reason,
    )
    .into()
}
