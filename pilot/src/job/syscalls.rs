//! The dialogue with the shadow, as messages: numbers, arguments, replies (protocol page 03, sections 1 to 5). No I/O.
//!
//! The pilot asks and the shadow answers, one request at a time, without request ids; only [`Call::Ulog`] has no
//! answer. Numbers are those of `htcondor:src/condor_includes/condor_sys_calls.h` and friends.

use cedar::{Coding, MessageReader, MessageWriter, WireError};
use classad::ClassAd;
use thiserror::Error;

use super::service_credentials::{self, Sent};

const GET_JOB_INFO: i64 = -63;
const JOB_EXIT: i64 = -65;
const REGISTER_STARTER_INFO: i64 = -77;
const BEGIN_EXECUTION: i64 = -78;
const REGISTER_JOB_INFO: i64 = -81;
const ULOG: i64 = 284;
const GETCREDS: i64 = 302;
const EVENT_NOTIFICATION: i64 = 304;

/// `EventType` of the notice that the payload has ended.
const EXECUTION_EXIT: &str = "ActivationExecutionExit";

/// One request to the shadow.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// The complete job ad, please. First call.
    GetJobInfo,
    /// Who this starter is. Second call; its `CondorVersion` selects the dialect of file transfer.
    RegisterStarterInfo(&'a ClassAd),
    /// Progress or results of the job.
    RegisterJobInfo(&'a ClassAd),
    /// The credentials of the services that the job names, please.
    GetCreds,
    /// The job's process runs.
    BeginExecution,
    /// The payload has ended: what follows is taking leave. From it the shadow reckons how long that took; without it
    /// the job's `ActivationTeardownDuration` is a random number. Known to shadows since 9.4.1, which is older than any
    /// that speak AES.
    ExecutionExit,
    /// Last call: the shadow decides about the job now.
    JobExit {
        /// Raw `wait` status: exit code in bits 8 to 15, or the signal in bits 0 to 6 and the core flag in bit 7.
        wait_status: i32,
        /// Why the job no longer runs.
        reason: ExitReason,
        /// Last figures.
        ad: &'a ClassAd,
    },
    /// An event for the job's log. No answer comes; after a critical one the shadow is gone.
    Ulog(&'a ClassAd),
}

/// Why a job no longer runs (`htcondor:src/condor_includes/exit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It ended by itself and its output was sent.
    Exited = 100,
    /// It ended by itself and left a core file.
    CoreDumped = 103,
    /// It was stopped; it is to run again.
    ShouldRequeue = 107,
    /// It could not be started; it is to be tried again.
    NotStarted = 108,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyscallError {
    /// The shadow carried the call out and it failed there.
    #[error("the shadow refused {call} with errno {errno}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// HTCondor's number for the error; equal to Linux's for the common ones.
        errno: i64,
    },
    /// The answer is not what this call is answered with.
    #[error("the shadow's answer to {call} is malformed")]
    Malformed {
        /// Which call.
        call: &'static str,
        /// How.
        #[source]
        source: WireError,
    },
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The job ad, to [`Call::GetJobInfo`].
    JobInfo(Box<ClassAd>),
    /// To [`Call::GetCreds`].
    Credentials(Sent),
}

impl Call<'_> {
    /// Its name in HTCondor's logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::GetJobInfo => "get_job_info",
            Self::RegisterStarterInfo(_) => "register_starter_info",
            Self::RegisterJobInfo(_) => "register_job_info",
            Self::GetCreds => "getcreds",
            Self::BeginExecution => "begin_execution",
            Self::ExecutionExit => "event_notification",
            Self::JobExit { .. } => "job_exit",
            Self::Ulog(_) => "ulog",
        }
    }

    /// Whether the shadow answers it.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        !matches!(self, Self::Ulog(_))
    }

    /// The request.
    #[must_use]
    pub fn message(&self, coding: Coding) -> MessageWriter {
        let mut message = MessageWriter::new(coding);
        match self {
            Self::GetJobInfo => message.int(GET_JOB_INFO),
            Self::RegisterStarterInfo(ad) => message.int(REGISTER_STARTER_INFO).ad(ad),
            Self::RegisterJobInfo(ad) => message.int(REGISTER_JOB_INFO).ad(ad),
            // The text is there for the future, and nobody reads it.
            Self::GetCreds => message.int(GETCREDS).str(""),
            Self::BeginExecution => message.int(BEGIN_EXECUTION),
            Self::ExecutionExit => {
                let mut ad = ClassAd::new();
                ad.insert("EventType", EXECUTION_EXIT);
                message.int(EVENT_NOTIFICATION).ad(&ad)
            }
            Self::JobExit {
                wait_status,
                reason,
                ad,
            } => message
                .int(JOB_EXIT)
                .int(i64::from(*wait_status))
                .int(*reason as i64)
                .ad(ad),
            Self::Ulog(ad) => message.int(ULOG).ad(ad),
        };
        message
    }

    /// Reads the answer to this call.
    ///
    /// # Errors
    /// [`SyscallError`]
    pub fn answer(&self, coding: Coding, body: &[u8]) -> Result<Answer, SyscallError> {
        let call = self.name();
        let malformed = |source| SyscallError::Malformed { call, source };
        let mut reader = MessageReader::new(coding, body);
        if matches!(self, Self::GetCreds) {
            let sent = service_credentials::read(reader).map_err(malformed)?;
            return Ok(Answer::Credentials(sent));
        }
        if reader.int().map_err(malformed)? < 0 {
            let errno = reader.int().map_err(malformed)?;
            reader.expect_end().map_err(malformed)?;
            return Err(SyscallError::Refused { call, errno });
        }
        let answer = match self {
            Self::GetJobInfo => Answer::JobInfo(Box::new(reader.ad().map_err(malformed)?)),
            _ => Answer::Done,
        };
        reader.expect_end().map_err(malformed)?;
        Ok(answer)
    }
}
