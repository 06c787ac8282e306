//! From a filled sandbox to a running payload.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use classad::ClassAd;
use launch_protocol::exec::{ExecFailure, ExecRequest, ExecStep, Limit, UNLIMITED};
use nix::errno::Errno;

use super::environment::{self, Ingredients, JOB_AD_FILE, MACHINE_AD_FILE};
use super::hold::{Hold, HoldCode};
use super::plan::{JobPlan, Stdin, Stdout};
use super::service_credentials::{Sent, ServiceFiles};
use super::trouble::Trouble;
use super::{JobConfig, SlotFacts};
use crate::broker::{Agent, AgentError, ExecError};
use crate::transfer::SandboxPath;
use crate::transfer::select::Catalogue;

const UMASK: u32 = 0o022;
const READABLE_BY_ALL: u32 = 0o644;
const NULL_DEVICE: &str = "/dev/null";

/// What a launch needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch<'a> {
    pub(super) config: &'a JobConfig,
    pub(super) slot: &'a SlotFacts,
    pub(super) ad: &'a ClassAd,
    pub(super) plan: &'a JobPlan,
    pub(super) sandbox: &'a Path,
}

/// What the shadow has sent for the services that the job names; `None` if it names none.
pub(super) type Fetched = Option<Sent>;

/// What the sandbox looked like when the payload began.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) catalogue: Catalogue,
    pub(super) files: u64,
    /// Credentials that are renewed while it runs.
    pub(super) services: Option<ServiceFiles>,
}

impl Launch<'_> {
    /// Makes the agent become the payload. When this returns the payload's program runs.
    pub(super) async fn run(self, mut agent: Agent, fetched: Fetched) -> Result<Launched, Trouble> {
        let name = |stream: &'_ Stdout| match stream {
            Stdout::Null => None,
            Stdout::Sandbox(path) => Some(path.as_path().to_owned()),
        };
        let (stdout_name, stderr_name) = (name(&self.plan.stdout), name(&self.plan.stderr));
        let job_ad = environment::job_ad_text(
            self.ad,
            self.sandbox,
            stdout_name.as_deref(),
            stderr_name.as_deref(),
        );
        write_file(&mut agent, JOB_AD_FILE, &job_ad).await?;
        let machine_ad = environment::machine_ad_text(&self.slot.machine_ad);
        write_file(&mut agent, MACHINE_AD_FILE, &machine_ad).await?;
        let services = match fetched {
            Some(sent) => Some(ServiceFiles::make(&mut agent, &self.plan.services, sent).await?),
            None => None,
        };
        let stdin = self.stdin(&mut agent).await?;
        let stdout = output(&mut agent, &self.plan.stdout).await?;
        let stderr = if self.plan.stderr == self.plan.stdout {
            stdout.try_clone().map_err(|error| no_descriptor(&error))?
        } else {
            output(&mut agent, &self.plan.stderr).await?
        };
        let entries = agent.list(Path::new("")).await?;
        let launched = Launched {
            catalogue: Catalogue::of(&entries),
            files: entries.len() as u64,
            services,
        };
        agent
            .exec(&self.request(), [stdin, stdout, stderr])
            .await
            .map_err(|error| match error {
                ExecError::Failed(failure) => failed(&failure),
                ExecError::Agent(AgentError::Encode(error)) => {
                    let reason = format!(
                        "The job's arguments and environment cannot be given to a program: {error}"
                    );
                    Hold::new(HoldCode::FailedToCreateProcess, libc::E2BIG, reason).into()
                }
                ExecError::Agent(error) => error.into(),
            })?;
        Ok(launched)
    }

    fn request(&self) -> ExecRequest {
        let path = self.plan.executable.path(self.sandbox);
        let variables = environment::build(Ingredients {
            site: &self.config.site_environment,
            job: &self.plan.environment,
            slot: self.slot,
            sandbox: self.sandbox,
            proxy: self.plan.proxy.as_ref().map(SandboxPath::as_path),
            services: !self.plan.services.is_empty(),
            ports: self.config.port_range,
        });
        let program = path.as_os_str().as_bytes().to_vec();
        let arguments = self
            .plan
            .arguments
            .iter()
            .map(|argument| argument.clone().into_bytes());
        ExecRequest {
            argv: std::iter::once(program).chain(arguments).collect(),
            path,
            env: variables
                .into_iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes())
                .collect(),
            cwd: self.sandbox.to_owned(),
            umask: UMASK,
            nice: self.config.renice.clamp(0, 19),
            core_limit: Some(self.plan.process.core_limit.unwrap_or(UNLIMITED)),
            rlimits: self
                .config
                .rlimit_as_mib
                .map(address_space)
                .into_iter()
                .chain(self.plan.process.stack_limit.map(stack))
                .collect(),
            ionice: self.config.io_priority,
            ..ExecRequest::default()
        }
    }

    async fn stdin(&self, agent: &mut Agent) -> Result<OwnedFd, Trouble> {
        let Stdin::Sandbox(path) = &self.plan.stdin else {
            return null(false);
        };
        match agent.open_read(path.as_path()).await {
            Ok((file, ..)) => Ok(file.into()),
            Err(AgentError::Failed { errno, message, .. }) => {
                let reason =
                    format!("Failed to open {path} as standard input: {message} (errno {errno})");
                Err(Hold::new(HoldCode::UnableToOpenInput, errno, reason).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn address_space(mib: u64) -> Limit {
    let bytes = mib.saturating_mul(1 << 20);
    Limit {
        resource: libc::RLIMIT_AS,
        soft: bytes,
        hard: bytes,
    }
}

fn stack(bytes: u64) -> Limit {
    Limit {
        resource: libc::RLIMIT_STACK,
        soft: bytes,
        hard: bytes,
    }
}

async fn output(agent: &mut Agent, stream: &Stdout) -> Result<OwnedFd, Trouble> {
    let Stdout::Sandbox(path) = stream else {
        return null(true);
    };
    match agent.create(path.as_path(), READABLE_BY_ALL).await {
        Ok(file) => Ok(file.into()),
        Err(AgentError::Failed { errno, message, .. }) => {
            let reason =
                format!("Failed to open {path} as standard output: {message} (errno {errno})");
            Err(Hold::new(HoldCode::UnableToOpenOutput, errno, reason).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn null(for_writing: bool) -> Result<OwnedFd, Trouble> {
    OpenOptions::new()
        .read(!for_writing)
        .write(for_writing)
        .open(NULL_DEVICE)
        .map(OwnedFd::from)
        .map_err(|error| no_descriptor(&error))
}

fn no_descriptor(error: &std::io::Error) -> Trouble {
    Trouble::passing(format!(
        "The pilot has no descriptors left for a job: {error}"
    ))
}

async fn write_file(agent: &mut Agent, name: &str, text: &str) -> Result<(), Trouble> {
    let mut file: File = agent.create(Path::new(name), READABLE_BY_ALL).await?;
    file.write_all(text.as_bytes()).map_err(|error| {
        let reason = format!("Cannot write {name} in the sandbox: {error}");
        Hold::new(
            HoldCode::SandboxHandOver,
            error.raw_os_error().unwrap_or(0),
            reason,
        )
        .into()
    })
}

fn failed(failure: &ExecFailure) -> Trouble {
    let step = match failure.step {
        ExecStep::Request => "read the order to start",
        ExecStep::WorkingDirectory => "enter the working directory",
        ExecStep::Limits => "set the limits for",
        ExecStep::Descriptors => "arrange the standard files of",
        ExecStep::Exec => "execute",
    };
    let path = failure.path.display().to_string();
    // The agent's sentence normally says all of it.
    let what = if failure.message.contains(&path) {
        failure.message.clone()
    } else {
        let why = match failure.message.as_str() {
            "" => Errno::from_raw(failure.errno).desc(),
            message => message,
        };
        format!("cannot {step} {path}: {why}")
    };
    let reason = format!(
        "The job could not be started: {what} (errno {})",
        failure.errno
    );
    Hold::new(HoldCode::FailedToCreateProcess, failure.errno, reason).into()
}
