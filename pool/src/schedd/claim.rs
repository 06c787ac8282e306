//! What is said on a claim from the schedd's side, as messages: asking for it, starting a job on it, ending the job,
//! giving it back, and finding the job again (protocol of `htcondor:src/condor_daemon_client/dc_startd.cpp` and
//! `dc_starter.cpp`). No I/O.

use cedar::{ClaimId, MessageReader, MessageWriter, Sinful, WireError};
use classad::ClassAd;
use thiserror::Error;

/// Number of the ordinary starter in an activation.
const STARTER_NUMBER: i64 = 2;

/// Codes of the answer to REQUEST_CLAIM (`htcondor:src/condor_includes/condor_commands.h`).
const NOT_OK: i64 = 0;
const OK: i64 = 1;
const TRY_AGAIN: i64 = 2;
const LEFTOVERS: i64 = 3;
const LEFTOVERS_2: i64 = 5;
const SLOT_AD: i64 = 7;

/// Asks for a claim; `job` is the ad of the job it is wanted for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The slot's claim id.
    pub claim: &'a ClaimId,
    /// The job.
    pub job: &'a ClassAd,
    /// Our name, as slots show it in `RemoteScheddName`.
    pub schedd_name: &'a str,
    /// Where the startd finds us.
    pub address: &'a Sinful,
    /// Seconds between its signs of life; six of them missing end the claim.
    pub alive_interval: i64,
}

impl Request<'_> {
    /// Writes the request.
    pub fn write(&self, message: &mut MessageWriter) {
        let mut ad = self.job.clone();
        ad.insert("ScheddName", self.schedd_name);
        for (name, value) in [
            ("StartdSendsAlives", true),
            ("_condor_SEND_LEFTOVERS", true),
            ("_condor_SECURE_CLAIM_ID", true),
            ("_condor_SEND_CLAIMED_AD", true),
            ("_condor_StartdHandlesAlives", true),
            ("_condor_CLAIM_PARTITIONABLE_SLOT", false),
        ] {
            ad.insert(name, value);
        }
        ad.insert("_condor_NUM_DYNAMIC_SLOTS", 1);
        message
            .str(self.claim.as_str())
            .ad(&ad)
            .str(&self.address.to_string())
            .int(self.alive_interval)
            .int(0);
    }
}

/// A slot that can be claimed or is claimed.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The id by which.
    pub claim: ClaimId,
    /// The slot.
    pub slot: ClassAd,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Claimed {
    /// The slot is not to be had (any more).
    Refused,
    /// It is ours.
    Yes {
        /// The slot as it is now, and its claim id; `None`: unchanged.
        slot: Option<Box<Offer>>,
        /// What is left of a partitionable slot, and the id by which it can be claimed at once.
        leftovers: Option<Box<Offer>>,
    },
}

/// An answer of a startd that is none.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BadReply {
    /// It is cut or damaged.
    #[error("the startd's answer cannot be read")]
    Wire(#[from] WireError),
    /// It has a code that was not asked for.
    #[error("the startd answered with the code {0}, which was not asked for")]
    Code(i64),
    /// It has a claim id that is none.
    #[error("the startd sent a claim id that is none")]
    Claim(#[from] cedar::claim::ClaimIdError),
}

impl Claimed {
    /// Reads the answer to [`Request`]. A startd with a static slot sends the slot twice, the second time as what is left of itself;
    /// that is no leftover.
    ///
    /// # Errors
    /// [`BadReply`]: the startd's fault.
    pub fn read(mut message: MessageReader<'_>, asked: &ClaimId) -> Result<Self, BadReply> {
        let mut slot = None;
        loop {
            match message.int()? {
                NOT_OK => return Ok(Self::Refused),
                OK => {
                    return Ok(Self::Yes {
                        slot,
                        leftovers: None,
                    });
                }
                SLOT_AD if slot.is_none() => slot = Some(Box::new(offer(&mut message)?)),
                // A second slot for one job is not asked for; the claim on it ends with its lease.
                SLOT_AD => {
                    offer(&mut message)?;
                }
                LEFTOVERS | LEFTOVERS_2 => {
                    let left = offer(&mut message)?;
                    let ours = slot.as_deref().map_or(asked, |offer| &offer.claim);
                    let leftovers = (left.claim != *ours).then(|| Box::new(left));
                    return Ok(Self::Yes { slot, leftovers });
                }
                code => return Err(BadReply::Code(code)),
            }
        }
    }
}

fn offer(message: &mut MessageReader<'_>) -> Result<Offer, BadReply> {
    let claim = ClaimId::parse(&message.str()?)?;
    let slot = message.ad()?;
    Ok(Offer { claim, slot })
}

/// Writes ACTIVATE_CLAIM for the job `ad`.
pub fn activate(message: &mut MessageWriter, claim: &ClaimId, ad: &ClassAd) {
    message.str(claim.as_str()).int(STARTER_NUMBER).ad(ad);
}

/// The answer to ACTIVATE_CLAIM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activated {
    /// From here on the connection is the syscall socket.
    Yes,
    /// The slot refuses.
    Refused,
    /// The job before is still being cleared away.
    TryAgain,
}

impl Activated {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`BadReply::Wire`].
    pub fn read(mut message: MessageReader<'_>) -> Result<Self, BadReply> {
        Ok(match message.int()? {
            OK => Self::Yes,
            TRY_AGAIN => Self::TryAgain,
            _ => Self::Refused,
        })
    }
}

/// The commands that end a job on a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deactivate {
    /// 403: the job may take its vacate time.
    Gracefully,
    /// 404: at once; also the farewell after a job has ended.
    Forcibly,
}

impl Deactivate {
    /// The command's number.
    #[must_use]
    pub fn command(self) -> i32 {
        match self {
            Self::Gracefully => cedar::command::DEACTIVATE_CLAIM,
            Self::Forcibly => cedar::command::DEACTIVATE_CLAIM_FORCIBLY,
        }
    }
}

/// Whether another job may be started on the claim, from the answer to 403 and 404 (the startd's `Start`). An answer
/// without it is from a startd of a time when every claim went on.
///
/// # Errors
/// [`BadReply::Wire`].
pub fn may_go_on(mut message: MessageReader<'_>) -> Result<bool, BadReply> {
    Ok(message.ad()?.bool("Start").unwrap_or(true))
}

/// The ad of CA_LOCATE_STARTER: asks the startd where the job's starter is now, and tells it where we are now.
#[must_use]
pub fn locate_starter(claim: &ClaimId, global_job_id: &str, schedd: &Sinful) -> ClassAd {
    let mut ad = ca_command("CA_LOCATE_STARTER");
    ad.insert("ClaimId", claim.as_str());
    ad.insert("GlobalJobId", global_job_id);
    ad.insert("ScheddIpAddr", schedd.to_string());
    ad
}

/// Who and where a job's shadow is, as starters are told it.
#[derive(Debug, Clone, Copy)]
pub struct ShadowFacts<'a> {
    /// Our address; also where sandboxes are transferred.
    pub address: &'a Sinful,
    /// Our version banner.
    pub version: &'a str,
    /// The domain of our accounts.
    pub uid_domain: &'a str,
    /// The key by which the starter gets and sends the job's files; `None` without file transfer.
    pub transfer_key: Option<&'a str>,
}

impl ShadowFacts<'_> {
    /// Adds the attributes to an ad.
    pub fn add_to(&self, ad: &mut ClassAd) {
        ad.insert("ShadowIpAddr", self.address.to_string());
        ad.insert("ShadowVersion", self.version);
        ad.insert("UidDomain", self.uid_domain);
        if let Some(key) = self.transfer_key {
            ad.insert("TransferKey", key);
            ad.insert("TransferSocket", self.address.to_string());
        }
    }
}

/// The ad of CA_RECONNECT_JOB: asks the starter to take this connection as its syscall socket.
#[must_use]
pub fn reconnect_job(shadow: ShadowFacts<'_>) -> ClassAd {
    let mut ad = ca_command("CA_RECONNECT_JOB");
    shadow.add_to(&mut ad);
    ad
}

fn ca_command(command: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Command");
    ad.insert("TargetType", "Reply");
    ad.insert("Command", command);
    ad
}

/// Why a ClassAd command came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CaFailure {
    /// The other side understood and knows no such job: it is gone.
    #[error("job not found at the execution machine: {0}")]
    NoSuchJob(String),
    /// The other side does not take us for who we are.
    #[error("claim not found at the execution machine: {0}")]
    NotOurs(String),
    /// Anything else.
    #[error("the execution machine answered: {0}")]
    Other(String),
}

/// Takes the answer to a ClassAd command (`htcondor:src/condor_utils/command_strings.cpp`, `getCAResultString`).
///
/// # Errors
/// [`CaFailure`]; none of them is mended by trying again.
pub fn ca_reply(ad: ClassAd) -> Result<ClassAd, CaFailure> {
    let result = ad.string("Result").unwrap_or_default();
    if result.eq_ignore_ascii_case("Success") {
        return Ok(ad);
    }
    let said = match ad.string("ErrorString") {
        Some(text) => format!("{text} ({result})"),
        None => result.clone(),
    };
    Err(match result.to_ascii_lowercase().as_str() {
        "failure" => CaFailure::NoSuchJob(said),
        "notauthenticated" | "notauthorized" => CaFailure::NotOurs(said),
        _ => CaFailure::Other(said),
    })
}
