//! Launches programs under other accounts and times it: by our resident helper, as the pilot asks it, or by a command
//! line. Run by `cargo xtask bench`, once as root and once as the pilot's account, so that all ways can take turns.
//!
//! `launch-driver PLAN` reads the plan, JSON, then requests from standard input, one a line, and answers each with one
//! line:
//!
//! - the name of one of the plan's ways: microseconds to the payload's first instruction (0 when it does not tell) and
//!   to its end;
//! - `storm N`: opens N payloads, lets each sleep, cancels all at once: microseconds until the last is gone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use launch_protocol::exec::ExecRequest;
use nix::time::{ClockId, clock_gettime};
use sailplane::broker::{Broker, Payload, PayloadEvent, PayloadEvents, Wanted, memfd};
use serde::Deserialize;

/// What can be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    /// The helper to keep running, and where its sandboxes go.
    helper: Option<Helper>,
    ways: HashMap<String, Way>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Helper {
    switch: PathBuf,
    execute: PathBuf,
    /// Of the account that stays open.
    proxy: PathBuf,
}

/// One way to launch one program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Way {
    /// In the account that is open already.
    Opened { program: PathBuf },
    /// With everything a new job costs.
    Verified { program: PathBuf, proxy: PathBuf },
    /// By a command, with nothing but these environment variables.
    Command {
        words: Vec<String>,
        environment: HashMap<String, String>,
    },
}

/// Microseconds.
struct Times {
    first: u64,
    end: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("usage: launch-driver PLAN")?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(path)?).context("read the plan")?;
    let resident = match plan.helper {
        Some(helper) => Some(Resident::start(helper).await?),
        None => None,
    };
    let mut answers = std::io::stdout().lock();
    // Nothing else is to be done while we wait for a request, so it may block the only thread.
    for request in std::io::stdin().lock().lines() {
        let request = request?;
        if let Some(count) = request.strip_prefix("storm ") {
            let resident = resident.as_ref().context("the plan has no helper")?;
            let took = resident
                .storm(count.parse().context("storm COUNT")?)
                .await?;
            writeln!(answers, "{}", took.as_micros())?;
            continue;
        }
        let way = plan.ways.get(&request).context("no such way")?;
        let times = match (way, &resident) {
            (Way::Command { words, environment }, _) => by_command(words, environment)?,
            (Way::Opened { program }, Some(resident)) => resident.opened(program).await?,
            (Way::Verified { program, proxy }, Some(resident)) => {
                resident.verified(program, proxy).await?
            }
            _ => bail!("the plan has no helper"),
        };
        writeln!(answers, "{} {}", times.first, times.end)?;
    }
    Ok(())
}

fn by_command(words: &[String], environment: &HashMap<String, String>) -> Result<Times> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let clock = Clock::start()?;
    let mut child = command
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let mut output = child.stdout.take().context("no pipe")?;
    let status = child.wait()?;
    let end = clock.elapsed();
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    let mut stamp = Vec::new();
    output.read_to_end(&mut stamp)?;
    Ok(Times {
        first: clock.first(&stamp)?,
        end,
    })
}

/// Two clocks started together: ours, and the one that the payload reads.
struct Clock {
    began: Instant,
    monotonic: Duration,
}

impl Clock {
    fn start() -> Result<Self> {
        Ok(Self {
            monotonic: clock_gettime(ClockId::CLOCK_MONOTONIC)?.into(),
            began: Instant::now(),
        })
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// From what the payload has written: seconds and nanoseconds, or nothing.
    fn first(&self, stamp: &[u8]) -> Result<u64> {
        if stamp.is_empty() {
            return Ok(0);
        }
        let number = |range| -> Result<u64> {
            let bytes: &[u8] = stamp.get(range).context("half a time stamp")?;
            Ok(u64::from_ne_bytes(bytes.try_into()?))
        };
        let at = Duration::from_secs(number(0..8)?) + Duration::from_nanos(number(8..16)?);
        let took = at
            .checked_sub(self.monotonic)
            .context("a payload that ran before it was launched")?;
        Ok(u64::try_from(took.as_micros())?)
    }
}

/// Our helper, running, with one account open.
struct Resident {
    broker: Broker,
    execute: PathBuf,
    proxy: PathBuf,
    open: tokio::sync::Mutex<(Payload, PayloadEvents)>,
}

impl Resident {
    async fn start(helper: Helper) -> Result<Self> {
        let Helper {
            switch,
            execute,
            proxy,
        } = helper;
        let (broker, _) = Broker::start(&switch).await?;
        let open = open(&broker, &execute, &proxy).await?;
        Ok(Self {
            broker,
            execute,
            proxy,
            open: open.into(),
        })
    }

    async fn opened(&self, program: &Path) -> Result<Times> {
        let (payload, events) = &mut *self.open.lock().await;
        let clock = Clock::start()?;
        run(clock, payload, events, program).await
    }

    async fn verified(&self, program: &Path, proxy: &Path) -> Result<Times> {
        // The pilot has it in memory.
        let proxy = std::fs::read(proxy)?;
        let clock = Clock::start()?;
        let (payload, mut events) = open_with(&self.broker, &self.execute, &proxy).await?;
        let times = run(clock, &payload, &mut events, program).await?;
        payload.close().await?;
        Ok(times)
    }

    async fn storm(&self, count: usize) -> Result<Duration> {
        let mut payloads = Vec::new();
        // Not read, but kept: nobody may find that nobody listens.
        let mut events = Vec::new();
        for _ in 0..count {
            let (payload, heard) = open(&self.broker, &self.execute, &self.proxy).await?;
            let null = File::options().write(true).open("/dev/null")?;
            start(&payload, &["/bin/sleep", "600"], null.into()).await?;
            payloads.push(payload);
            events.push(heard);
        }
        let began = Instant::now();
        let ends: Vec<_> = payloads
            .into_iter()
            .map(|payload| tokio::spawn(payload.close()))
            .collect();
        for end in ends {
            end.await??;
        }
        Ok(began.elapsed())
    }
}

/// Has the credential verified and mapped, and a sandbox made.
async fn open(broker: &Broker, execute: &Path, proxy: &Path) -> Result<(Payload, PayloadEvents)> {
    open_with(broker, execute, &std::fs::read(proxy)?).await
}

async fn open_with(
    broker: &Broker,
    execute: &Path,
    proxy: &[u8],
) -> Result<(Payload, PayloadEvents)> {
    let credential = memfd::sealed("credential", proxy).context("make a memfd")?;
    let wanted = Wanted::new("launch-driver", execute);
    Ok(broker.open(wanted, &credential).await?)
}

async fn start(payload: &Payload, words: &[&str], stdout: OwnedFd) -> Result<()> {
    let (agent, _) = payload.spawn_agent().await?;
    let request = ExecRequest {
        path: words.first().context("no program")?.into(),
        argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        ..ExecRequest::default()
    };
    let null = || -> Result<OwnedFd> {
        let file = File::options().read(true).write(true).open("/dev/null")?;
        Ok(file.into())
    };
    agent.exec(&request, [null()?, stdout, null()?]).await?;
    Ok(())
}

/// From the order to the end of the payload, and of every process of it.
async fn run(
    clock: Clock,
    payload: &Payload,
    events: &mut PayloadEvents,
    program: &Path,
) -> Result<Times> {
    let (mut output, stdout) = std::io::pipe()?;
    let program = program.to_str().context("a program's name")?;
    start(payload, &[program], stdout.into()).await?;
    loop {
        match events.next().await {
            Some(PayloadEvent::Exited { wait_status }) if wait_status != 0 => {
                bail!("the payload ended with {wait_status}")
            }
            Some(PayloadEvent::Empty) => break,
            Some(_) => {}
            None => bail!("the helper is gone"),
        }
    }
    let end = clock.elapsed();
    let mut stamp = Vec::new();
    output.read_to_end(&mut stamp)?;
    Ok(Times {
        first: clock.first(&stamp)?,
        end,
    })
}
