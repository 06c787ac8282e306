//! What a starter can ask its shadow, read from the wire. No I/O.
//!
//! Numbers and the order of arguments: `htcondor:src/condor_includes/condor_sys_nr.h` and
//! `htcondor:src/condor_shadow.V6.1/NTreceivers.cpp`. One request is one message, except for `putfile`, whose bytes
//! follow in a message of their own after the first answer.

use cedar::{MessageReader, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::file_call::FileCall;

/// Largest block a starter may read or write in one call (`htcondor:src/condor_shadow.V6.1/NTreceivers.cpp`,
/// `MAX_REMOTE_BUF_SIZE`, is ten times larger; a chirp client moves 64 KiB at a time).
pub const MAX_BLOCK: usize = 16 * 1024 * 1024;

const GET_JOB_INFO: i64 = -63;
const JOB_EXIT: i64 = -65;
const GET_USER_INFO: i64 = -76;
const REGISTER_STARTER_INFO: i64 = -77;
const BEGIN_EXECUTION: i64 = -78;
const REGISTER_JOB_INFO: i64 = -81;
const JOB_TERMINATION: i64 = -82;
const DPRINTF_STATS: i64 = -84;
const ULOG: i64 = 284;
const GET_JOB_ATTR: i64 = 285;
const SET_JOB_ATTR: i64 = 286;
const CONSTRAIN: i64 = 287;
const GET_SEC_SESSION_INFO: i64 = 288;
const GETCREDS: i64 = 302;
const GET_DELEGATED_PROXY: i64 = 303;
const EVENT_NOTIFICATION: i64 = 304;

/// One request of the starter.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// -63: the complete job ad. First call of a run.
    GetJobInfo,
    /// -77: who the starter is and what it can do.
    RegisterStarterInfo(ClassAd),
    /// -81: how the job does; before it runs, what it was given.
    RegisterJobInfo(ClassAd),
    /// -78: the job's process runs.
    BeginExecution,
    /// -65: last call of a run.
    JobExit {
        /// As `wait(2)` gives it.
        status: i32,
        /// Why the job no longer runs ([`super::exit::ExitReason`]).
        reason: i32,
        /// Last figures.
        ad: ClassAd,
    },
    /// -82: the job's process ended; its output is still to come.
    JobTermination(ClassAd),
    /// 304: something happened that takes time to be counted.
    EventNotification(ClassAd),
    /// -84: a line for our log.
    DprintfStats(String),
    /// 284: an event for the job's log. The only call without an answer.
    Ulog(ClassAd),
    /// 285: an attribute of the job ad, as an expression.
    GetJobAttr(String),
    /// 286: sets an attribute of the job ad.
    SetJobAttr {
        /// Its name.
        name: String,
        /// The expression's text.
        expr: String,
    },
    /// 287: a further condition for the machine.
    Constrain(String),
    /// 288: ids and keys of the sessions for file transfer and for reconnecting.
    GetSecSessionInfo,
    /// -76: uid and gid of the job's owner on our side.
    GetUserInfo,
    /// 302: OAuth credentials.
    GetCreds,
    /// 303: a proxy, delegated in the middle of the conversation.
    GetDelegatedProxy {
        /// Unix time at which it shall end at the latest.
        expiration: i64,
    },
    /// Access to the owner's files: streamed standard files and chirp.
    File(FileCall),
    /// A number this side does not serve. The real shadow does not answer such a call either.
    Unknown(i64),
}

/// A message of the starter that is no request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the starter's request {call} cannot be read")]
pub struct BadCall {
    /// Name or number.
    call: String,
    /// What is wrong with it.
    #[source]
    source: WireError,
}

impl Call {
    /// Reads one request.
    ///
    /// # Errors
    /// The message is too short, or an ad or string inside is damaged: the starter's fault.
    pub fn read(mut message: MessageReader<'_>) -> Result<Self, BadCall> {
        let number = message.int().map_err(|source| BadCall {
            call: "without a number".to_owned(),
            source,
        })?;
        Self::arguments(number, &mut message).map_err(|source| BadCall {
            call: name(number).map_or_else(|| number.to_string(), str::to_owned),
            source,
        })
    }

    fn arguments(number: i64, message: &mut MessageReader<'_>) -> Result<Self, WireError> {
        Ok(match number {
            GET_JOB_INFO => Self::GetJobInfo,
            JOB_EXIT => Self::JobExit {
                status: message.int32()?,
                reason: message.int32()?,
                ad: message.ad()?,
            },
            GET_USER_INFO => Self::GetUserInfo,
            REGISTER_STARTER_INFO => Self::RegisterStarterInfo(message.ad()?),
            BEGIN_EXECUTION => Self::BeginExecution,
            REGISTER_JOB_INFO => Self::RegisterJobInfo(message.ad()?),
            JOB_TERMINATION => Self::JobTermination(message.ad()?),
            DPRINTF_STATS => Self::DprintfStats(message.str()?),
            ULOG => Self::Ulog(message.ad()?),
            GET_JOB_ATTR => Self::GetJobAttr(message.str()?),
            SET_JOB_ATTR => {
                let expr = message.str()?;
                let name = message.str()?;
                Self::SetJobAttr { name, expr }
            }
            CONSTRAIN => Self::Constrain(message.str()?),
            GET_SEC_SESSION_INFO => Self::GetSecSessionInfo,
            GETCREDS => Self::GetCreds,
            GET_DELEGATED_PROXY => {
                // Both paths are ignored: the job ad says which proxy it is.
                message.str_bytes()?;
                message.str_bytes()?;
                Self::GetDelegatedProxy {
                    expiration: message.int()?,
                }
            }
            EVENT_NOTIFICATION => Self::EventNotification(message.ad()?),
            _ => match FileCall::read(number, message)? {
                Some(call) => Self::File(call),
                None => Self::Unknown(number),
            },
        })
    }

    /// Whether the starter waits for an answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Ulog(_) | Self::Unknown(_))
    }
}

/// HTCondor's name of a call.
#[must_use]
pub fn name(number: i64) -> Option<&'static str> {
    Some(match number {
        GET_JOB_INFO => "get_job_info",
        JOB_EXIT => "job_exit",
        GET_USER_INFO => "get_user_info",
        REGISTER_STARTER_INFO => "register_starter_info",
        BEGIN_EXECUTION => "begin_execution",
        REGISTER_JOB_INFO => "register_job_info",
        JOB_TERMINATION => "job_termination",
        DPRINTF_STATS => "dprintf_stats",
        ULOG => "ulog",
        GET_JOB_ATTR => "get_job_attr",
        SET_JOB_ATTR => "set_job_attr",
        CONSTRAIN => "constrain",
        GET_SEC_SESSION_INFO => "get_sec_session_info",
        GETCREDS => "getcreds",
        GET_DELEGATED_PROXY => "get_delegated_proxy",
        EVENT_NOTIFICATION => "event_notification",
        _ => return super::file_call::name(number),
    })
}
