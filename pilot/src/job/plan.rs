//! From the job ad to a plan: what to run, with what, and what to send back. Pure.
//!
//! The ad is the one `get_job_info` returned; only that one names the file transfer's address and key (protocol page
//! 03, section 3). Whatever this pilot cannot do is found here, before anything is transferred or started, and becomes
//! a hold whose reason says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar::Sinful;
use classad::{ClassAd, Value};
use zeroize::Zeroizing;

use super::arguments::{self, SyntaxError};
use super::hold::{Hold, HoldCode};
use super::service_credentials::{self, Service};
use super::signals;
use crate::identity::{Brought, IdentityPolicy, Proof};
use crate::transfer::SandboxPath;

/// Name under which standard output travels; the shadow renames it.
pub const STDOUT_NAME: &str = "_condor_stdout";
/// Name under which standard error travels.
pub const STDERR_NAME: &str = "_condor_stderr";

const VANILLA: i64 = 5;
const NULL_FILE: &str = "/dev/null";
const EINVAL: i32 = libc::EINVAL;

/// Everything about a job that follows from its ad alone.
#[derive(Debug, Clone)]
pub struct JobPlan {
    /// Who it is.
    pub id: JobId,
    /// What is run.
    pub executable: Executable,
    /// Its arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The variables the job asked for, in its order; a later one of the same name wins.
    pub environment: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output.
    pub stdout: Stdout,
    /// Standard error.
    pub stderr: Stdout,
    /// Where the sandbox comes from and goes to.
    pub transfer: TransferPlan,
    /// What is sent back.
    pub output: OutputPlan,
    /// Base name of the proxy in the sandbox; `None` only where jobs may come without one.
    pub proxy: Option<SandboxPath>,
    /// Services whose credentials it needs.
    pub services: Vec<Service>,
    /// What decides whose the job is.
    pub proof: Proof,
    /// Limits and priorities.
    pub process: ProcessPlan,
    /// How it is stopped.
    pub stop: StopPlan,
    /// `JobLeaseDuration`: how long it goes on without its shadow.
    pub lease: Option<Duration>,
}

/// Who a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobId {
    /// `ClusterId`.
    pub cluster: i64,
    /// `ProcId`.
    pub proc: i64,
    /// `GlobalJobId`.
    pub global: String,
    /// `User`.
    pub user: String,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executable {
    /// A file of the input sandbox, made executable.
    Transferred(SandboxPath),
    /// A path of the node, or relative to the sandbox.
    InPlace(PathBuf),
}

/// Where standard input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    /// The null device.
    Null,
    /// A file of the sandbox.
    Sandbox(SandboxPath),
}

/// Where standard output or error goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdout {
    /// The null device.
    Null,
    /// A file of the sandbox, sent back under the same name.
    Sandbox(SandboxPath),
}

/// The other end of the file transfer.
#[derive(Clone)]
pub struct TransferPlan {
    /// `TransferSocket`.
    pub address: Sinful,
    /// `TransferKey`: whoever knows it can read the job's input.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for TransferPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferPlan")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// When output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When the job ended by itself.
    OnExit,
    /// Also when it was evicted softly.
    OnExitOrEvict,
    /// When it ended by itself and well; else only its standard output and error.
    OnSuccess(Success),
}

/// What a job's owner calls a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// This exit code.
    Code(i64),
    /// Death by this signal.
    Signal(i64),
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// When.
    pub when: When,
    /// `TransferOutput`, if the ad has it; else whatever is new or changed at the top level.
    pub list: Option<Vec<String>>,
    /// `PreserveRelativePaths`.
    pub preserve_relative_paths: bool,
}

/// Limits and priorities of the payload's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessPlan {
    /// Core file limit, bytes; `None` is unlimited.
    pub core_limit: Option<u64>,
    /// Stack limit, bytes; `None` leaves it.
    pub stack_limit: Option<u64>,
}

/// How the job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPlan {
    /// First signal of a soft stop.
    pub signal: i32,
    /// How long the job may take after it, if the job says so; the machine's limit applies besides.
    pub vacate_time: Option<Duration>,
}

/// Facts of the execute side that decide about a job.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// `FILESYSTEM_DOMAIN`: equal to the job's means that `IF_NEEDED` needs no transfer.
    pub filesystem_domain: &'a str,
    /// What decides whose a job is.
    pub identity: &'a IdentityPolicy,
}

/// Makes the plan.
///
/// # Errors
/// A [`Hold`] with the attribute and what is wrong with it.
pub fn plan(ad: &ClassAd, site: Site<'_>) -> Result<JobPlan, Hold> {
    universe(ad)?;
    let services = service_credentials::needed(ad)?;
    let (proof, proxy) = credential(ad, site, &services)?;
    let stdout = output_file(ad, "Out", "StreamOut", "TransferOut", STDOUT_NAME)?;
    let stderr = if ad.string("Out").is_some() && ad.string("Out") == ad.string("Err") {
        stdout.clone()
    } else {
        output_file(ad, "Err", "StreamErr", "TransferErr", STDERR_NAME)?
    };
    Ok(JobPlan {
        id: job_id(ad),
        executable: executable(ad)?,
        arguments: arguments(ad)?,
        environment: environment(ad)?,
        stdin: stdin(ad)?,
        stdout,
        stderr,
        transfer: transfer(ad)?,
        output: output(ad)?,
        proxy,
        services,
        proof,
        process: ProcessPlan {
            core_limit: core_limit(ad),
            stack_limit: ad.int("StackSize").and_then(positive),
        },
        stop: stop(ad),
        lease: lease(ad),
    })
}

/// `JobLeaseDuration` in the ad; without it the job ends with the connection to its shadow.
#[must_use]
pub fn lease(ad: &ClassAd) -> Option<Duration> {
    ad.int("JobLeaseDuration")
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// Who the ad is about; also for ads that no plan can be made of.
#[must_use]
pub fn job_id(ad: &ClassAd) -> JobId {
    JobId {
        cluster: ad.int("ClusterId").unwrap_or(-1),
        proc: ad.int("ProcId").unwrap_or(-1),
        global: ad.string("GlobalJobId").unwrap_or_default(),
        user: ad.string("User").unwrap_or_default(),
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.cluster, self.proc)
    }
}

fn universe(ad: &ClassAd) -> Result<(), Hold> {
    let refuse = |what: &str| {
        let reason = format!("This pilot runs plain vanilla jobs only, and {what}");
        Err(Hold::new(HoldCode::FailedToCreateProcess, EINVAL, reason))
    };
    match ad.int("JobUniverse") {
        Some(VANILLA) => {}
        Some(other) => return refuse(&format!("the job is of universe {other}")),
        None => return refuse("the job's ad does not say its universe"),
    }
    for (attribute, what) in [
        ("WantDocker", "the job wants a Docker container"),
        ("WantContainer", "the job wants a container"),
        ("WantDockerImage", "the job wants a Docker container"),
    ] {
        if ad.bool(attribute) == Some(true) {
            return refuse(what);
        }
    }
    if ad.contains("DeferralTime") {
        return refuse("the job asks to start at a given time (DeferralTime)");
    }
    Ok(())
}

/// What decides whose the job is, and the proxy's name in the sandbox if it is one.
fn credential(
    ad: &ClassAd,
    site: Site<'_>,
    services: &[Service],
) -> Result<(Proof, Option<SandboxPath>), Hold> {
    let path = ad.string("x509userproxy").filter(|path| !path.is_empty());
    let names: Vec<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let brought = Brought {
        proxy: path.is_some(),
        services: &names,
    };
    let proof = site.identity.decide(brought).map_err(|missing| {
        Hold::new(HoldCode::FailedToAccessUserAccount, 0, missing.to_string())
    })?;
    match (proof, path) {
        (Proof::Proxy, Some(path)) => Ok((proof, Some(proxy_file(ad, site, &path)?))),
        _ => Ok((proof, no_shared_files(ad, site)?)),
    }
}

/// The proxy's name in the sandbox.
fn proxy_file(ad: &ClassAd, site: Site<'_>, path: &str) -> Result<SandboxPath, Hold> {
    if !wants_transfer(ad, site) {
        return Err(Hold::new(
            HoldCode::FailedToAccessUserAccount,
            0,
            "The job's proxy can only come with its input files, and the job forbids the transfer of files: use \
             'should_transfer_files = YES' in the submit file",
        ));
    }
    let name = base_name(path);
    SandboxPath::parse(name).map_err(|error| {
        let reason =
            format!("The proxy's file name {name:?} (from x509userproxy) cannot be used: {error}");
        Hold::new(HoldCode::CorruptedCredential, EINVAL, reason)
    })
}

/// A job without a proxy may run, but only with what it sends.
fn no_shared_files(ad: &ClassAd, site: Site<'_>) -> Result<Option<SandboxPath>, Hold> {
    if wants_transfer(ad, site) {
        return Ok(None);
    }
    Err(Hold::new(
        HoldCode::IwdError,
        0,
        "The job forbids the transfer of files, and this pilot shares none with the submit machine: use \
         'should_transfer_files = YES' in the submit file",
    ))
}

fn wants_transfer(ad: &ClassAd, site: Site<'_>) -> bool {
    let should = ad
        .string("ShouldTransferFiles")
        .unwrap_or_else(|| "YES".to_owned());
    if should.eq_ignore_ascii_case("NO") {
        return false;
    }
    let same_files = || {
        ad.string("FileSystemDomain").is_some_and(|domain| {
            !domain.is_empty() && domain.eq_ignore_ascii_case(site.filesystem_domain)
        })
    };
    !(should.eq_ignore_ascii_case("IF_NEEDED") && same_files())
}

fn executable(ad: &ClassAd) -> Result<Executable, Hold> {
    let command = ad
        .string("Cmd")
        .filter(|command| !command.is_empty())
        .ok_or_else(|| {
            Hold::new(
                HoldCode::FailedToCreateProcess,
                EINVAL,
                "The job's ad names no executable (Cmd)",
            )
        })?;
    if ad.bool("TransferExecutable") == Some(false) {
        return Ok(Executable::InPlace(PathBuf::from(command)));
    }
    let name = base_name(&command);
    SandboxPath::parse(name)
        .map(Executable::Transferred)
        .map_err(|error| {
            let reason =
                format!("The executable's file name {name:?} (from Cmd) cannot be used: {error}");
            Hold::new(HoldCode::FailedToCreateProcess, EINVAL, reason)
        })
}

fn arguments(ad: &ClassAd) -> Result<Vec<String>, Hold> {
    let bad = |attribute: &str, error: &SyntaxError| {
        let reason = format!("The job's arguments (attribute {attribute}) cannot be read: {error}");
        Hold::new(HoldCode::FailedToCreateProcess, EINVAL, reason)
    };
    if let Some(text) = ad.string("Arguments") {
        return arguments::split_v2(&text).map_err(|error| bad("Arguments", &error));
    }
    let text = ad.string("Args").unwrap_or_default();
    arguments::split_v1(&text).map_err(|error| bad("Args", &error))
}

fn environment(ad: &ClassAd) -> Result<Vec<(String, String)>, Hold> {
    let bad = |attribute: &str, error: &SyntaxError| {
        let reason =
            format!("The job's environment (attribute {attribute}) cannot be read: {error}");
        Hold::new(HoldCode::FailedToCreateProcess, EINVAL, reason)
    };
    if let Some(text) = ad.string("Environment") {
        return arguments::environment_v2(&text).map_err(|error| bad("Environment", &error));
    }
    let delimiter = ad
        .string("EnvDelim")
        .and_then(|text| text.chars().next())
        .unwrap_or(';');
    let text = ad.string("Env").unwrap_or_default();
    arguments::environment_v1(&text, delimiter).map_err(|error| bad("Env", &error))
}

fn is_null(name: &str) -> bool {
    name.is_empty() || name == NULL_FILE
}

fn stdin(ad: &ClassAd) -> Result<Stdin, Hold> {
    let hold = |reason: String| Hold::new(HoldCode::UnableToOpenInput, EINVAL, reason);
    let Some(name) = ad.string("In").filter(|name| !is_null(name)) else {
        return Ok(Stdin::Null);
    };
    if ad.bool("StreamIn") == Some(true) {
        return Err(hold(
            "This pilot does not stream standard input: remove 'stream_input' from the submit file"
                .into(),
        ));
    }
    // Not transferred: a name relative to the working directory is the only one that can mean anything here.
    let inside = if ad.bool("TransferIn") == Some(false) {
        name.as_str()
    } else {
        base_name(&name)
    };
    SandboxPath::parse(inside)
        .map(Stdin::Sandbox)
        .map_err(|error| {
            hold(format!(
                "The standard input {name:?} cannot be used: {error}"
            ))
        })
}

fn output_file(
    ad: &ClassAd,
    attribute: &str,
    stream: &str,
    transfer: &str,
    travels_as: &str,
) -> Result<Stdout, Hold> {
    let hold = |reason: String| Hold::new(HoldCode::UnableToOpenOutput, EINVAL, reason);
    let Some(name) = ad.string(attribute).filter(|name| !is_null(name)) else {
        return Ok(Stdout::Null);
    };
    if ad.bool(stream) == Some(true) {
        return Err(hold(format!(
            "This pilot does not stream output while the job runs ({stream}): remove 'stream_output' and \
             'stream_error' from the submit file"
        )));
    }
    let inside = if ad.bool(transfer) == Some(false) {
        name.as_str()
    } else {
        travels_as
    };
    SandboxPath::parse(inside)
        .map(Stdout::Sandbox)
        .map_err(|error| {
            hold(format!(
                "The output file {name:?} (attribute {attribute}) cannot be used: {error}"
            ))
        })
}

fn transfer(ad: &ClassAd) -> Result<TransferPlan, Hold> {
    let missing = |attribute: &str| {
        let reason = format!(
            "The shadow's job ad has no usable {attribute}, so no files can be transferred"
        );
        Hold::new(HoldCode::TransferInputError, EINVAL, reason)
    };
    let address = ad
        .string("TransferSocket")
        .and_then(|text| Sinful::parse(&text).ok())
        .ok_or_else(|| missing("TransferSocket"))?;
    let key = ad
        .string("TransferKey")
        .filter(|key| !key.is_empty())
        .ok_or_else(|| missing("TransferKey"))?;
    Ok(TransferPlan {
        address,
        key: Zeroizing::new(key),
    })
}

fn output(ad: &ClassAd) -> Result<OutputPlan, Hold> {
    let url = |attribute: &str| {
        let reason = format!(
            "This pilot sends output to the submit machine only, and {attribute} of the job names a URL"
        );
        Hold::new(HoldCode::TransferOutputError, EINVAL, reason)
    };
    if ad
        .string("OutputDestination")
        .is_some_and(|destination| !destination.is_empty())
    {
        return Err(url("OutputDestination"));
    }
    if ad
        .string("TransferOutputRemaps")
        .is_some_and(|remaps| remaps.contains("://"))
    {
        return Err(url("TransferOutputRemaps"));
    }
    let when = ad.string("WhenToTransferOutput").unwrap_or_default();
    let when = if when.eq_ignore_ascii_case("ON_EXIT_OR_EVICT") {
        When::OnExitOrEvict
    } else if when.eq_ignore_ascii_case("ON_SUCCESS") {
        When::OnSuccess(success(ad))
    } else {
        When::OnExit
    };
    Ok(OutputPlan {
        when,
        list: ad.string("TransferOutput").map(|text| name_list(&text)),
        preserve_relative_paths: ad.bool("PreserveRelativePaths") == Some(true),
    })
}

fn success(ad: &ClassAd) -> Success {
    match (
        ad.bool("JobSuccessExitBySignal"),
        ad.int("JobSuccessExitSignal"),
    ) {
        (Some(true), Some(signal)) => Success::Signal(signal),
        _ => Success::Code(ad.int("JobSuccessExitCode").unwrap_or(0)),
    }
}

/// Splits a comma separated list of names; blanks around a name do not belong to it.
#[must_use]
pub fn name_list(text: &str) -> Vec<String> {
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn core_limit(ad: &ClassAd) -> Option<u64> {
    // Negative asks for no limit.
    ad.int("CoreSize")
        .map_or(Some(0), |bytes| u64::try_from(bytes).ok())
}

fn stop(ad: &ClassAd) -> StopPlan {
    let signal = |attribute: &str| match ad.eval(attribute) {
        Value::Integer(number) => i32::try_from(number)
            .ok()
            .filter(|number| (1..=64).contains(number)),
        Value::String(name) => signals::number(&name),
        _ => None,
    };
    let seconds = |attribute: &str| {
        ad.int(attribute)
            .and_then(|value| u64::try_from(value).ok())
    };
    StopPlan {
        // Any stop that comes as 403 is a removal for the real starter: htcondor:src/condor_starter.V6.1/user_proc.cpp.
        signal: signal("RemoveKillSig")
            .or_else(|| signal("KillSig"))
            .unwrap_or(libc::SIGTERM),
        vacate_time: seconds("JobMaxVacateTime")
            .or_else(|| seconds("KillSigTimeout"))
            .map(Duration::from_secs),
    }
}

/// What follows the last slash.
#[must_use]
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Executable {
    /// The path that is executed, given the sandbox.
    #[must_use]
    pub fn path(&self, sandbox: &Path) -> PathBuf {
        match self {
            Self::Transferred(name) => sandbox.join(name.as_path()),
            // `join` keeps an absolute path as it is.
            Self::InPlace(path) => sandbox.join(path),
        }
    }
}

impl StopPlan {
    /// How long the job may take after the soft signal.
    #[must_use]
    pub fn vacate(&self, machine_limit: Duration) -> Duration {
        self.vacate_time
            .map_or(machine_limit, |wished| wished.min(machine_limit))
    }
}

impl OutputPlan {
    /// What is sent of a job that ended by itself with this wait status.
    #[must_use]
    pub fn after_exit(&self, wait_status: i32) -> Selection {
        let ended_well = match self.when {
            When::OnExit | When::OnExitOrEvict => true,
            When::OnSuccess(Success::Code(code)) => {
                wait_status & 0x7f == 0 && i64::from((wait_status >> 8) & 0xff) == code
            }
            When::OnSuccess(Success::Signal(signal)) => i64::from(wait_status & 0x7f) == signal,
        };
        if ended_well {
            Selection::Everything
        } else {
            Selection::StandardStreams
        }
    }
}

/// How much of the output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The list, or what is new, and the standard streams.
    Everything,
    /// Standard output and error only.
    StandardStreams,
}
