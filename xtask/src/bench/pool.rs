//! The embedded pool beside a real central manager and schedd: the same jobs, the same number of the same pilots.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{PILOT_ACCOUNT, POOL_ACCOUNT, Pool, PoolOptions, process, wait};

use super::memory;
use super::report::Comparison;
use super::stats::Sample;
use crate::console;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) jobs: usize,
    pub(crate) pilots: usize,
    /// How long ends of jobs are counted.
    pub(crate) watch: Duration,
}

/// Different requests for memory among the jobs, so that the negotiator cannot treat all of them as one.
const KINDS: usize = 50;
/// Longest wait for the pilots to be in the pool.
const GATHER: Duration = Duration::from_secs(180);

/// What was measured of one pool.
struct Figures {
    submit: f64,
    queued: f64,
    cycle: f64,
    rate: f64,
    running: f64,
}

pub(crate) fn compare(site: &Site, scale: Scale) -> Result<Vec<Comparison>> {
    console::line(&format!(
        "{} jobs and {} pilots: the embedded pool",
        scale.jobs, scale.pilots
    ));
    let ours = figures(&Embedded::start(site)?, site, scale)?;
    console::line(&format!(
        "{} jobs and {} pilots: HTCondor",
        scale.jobs, scale.pilots
    ));
    let theirs = figures(&Condor::start()?, site, scale)?;
    let row = |what, more_is_better, value: fn(&Figures) -> f64| Comparison {
        what,
        peer: "collector, negotiator, schedd, shadows",
        ours: Sample::new(vec![value(&ours)]),
        theirs: Sample::new(vec![value(&theirs)]),
        more_is_better,
    };
    Ok(vec![
        row(
            "pool: seconds to submit 10,000 jobs in one file",
            false,
            |f| f.submit,
        ),
        row("pool: PSS with 10,000 queued jobs, MiB", false, |f| {
            f.queued
        }),
        row(
            "pool: negotiation cycle with 200 slots, seconds",
            false,
            |f| f.cycle,
        ),
        row("pool: short jobs per second on 200 pilots", true, |f| {
            f.rate
        }),
        row("pool: PSS while they run, MiB", false, |f| f.running),
    ])
}

/// A pool under load.
trait Manager {
    /// `COLLECTOR_HOST`.
    fn collector(&self) -> String;
    /// The file with the pilots' token.
    fn token(&self) -> PathBuf;
    /// Sends a submit file from its folder.
    fn submit(&self, folder: &Path) -> Result<()>;
    /// Who owns the submit folder.
    fn account(&self) -> &'static str;
    /// Names of slots in the collector.
    fn slots(&self) -> Result<usize>;
    /// Its processes.
    fn processes(&self) -> Vec<i32>;
    /// Length of the longest negotiation cycle so far, in seconds.
    fn longest_cycle(&self) -> Result<f64>;
}

fn figures(pool: &dyn Manager, site: &Site, scale: Scale) -> Result<Figures> {
    let folder = tempfile::Builder::new()
        .prefix("sailplane-bench")
        .tempdir_in("/var/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    process::give(folder.path(), process::ensure_account(pool.account())?)?;
    let kinds: Vec<String> = (0..KINDS).map(|kind| (16 + kind).to_string()).collect();
    let submit = format!(
        "executable = /bin/true\ntransfer_executable = false\nshould_transfer_files = YES\n\
         when_to_transfer_output = ON_EXIT\nlog = job.log\nrequest_memory = $(memory)\nrequest_disk = 1MB\n\
         queue {} memory in ({})\n",
        scale.jobs / KINDS,
        kinds.join(" ")
    );
    fs::write(folder.path().join("job.sub"), submit)?;
    let began = Instant::now();
    pool.submit(folder.path())?;
    let submit = began.elapsed().as_secs_f64();
    wait::pause(Duration::from_secs(10));
    let queued = memory_of(&pool.processes());

    let pilots = Pilots::start(pool, site, scale.pilots)?;
    pilots.wait_joined(pool)?;
    let log = folder.path().join("job.log");
    let began = Instant::now();
    while ended(&log) == 0 && began.elapsed() < GATHER {
        wait::pause(Duration::from_millis(200));
    }
    let mut last = (Instant::now(), ended(&log));
    let first = last;
    let mut running: f64 = 0.0;
    while first.0.elapsed() < scale.watch && last.1 < scale.jobs {
        wait::pause(Duration::from_secs(5));
        running = running.max(memory_of(&pool.processes()));
        last = (Instant::now(), ended(&log));
    }
    #[expect(clippy::cast_precision_loss, reason = "some thousands of jobs")]
    let jobs = (last.1 - first.1) as f64;
    if jobs < 1.0 {
        bail!("no job ended; a pilot's log:\n{}", pilots.log());
    }
    Ok(Figures {
        submit,
        queued,
        cycle: pool.longest_cycle()?,
        rate: jobs / (last.0 - first.0).as_secs_f64(),
        running,
    })
}

fn memory_of(processes: &[i32]) -> f64 {
    processes
        .iter()
        .map(|pid| memory::proportional(*pid))
        .sum::<f64>()
        / 1024.0
}

/// Jobs that have ended, by their log.
fn ended(log: &Path) -> usize {
    let text = fs::read(log).unwrap_or_default();
    text.split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"005 ("))
        .count()
}

/// Many pilots without a helper, one slot each.
struct Pilots {
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Pilots {
    fn start(pool: &dyn Manager, site: &Site, count: usize) -> Result<Self> {
        let owner = process::ensure_account(PILOT_ACCOUNT)?;
        let folder = tempfile::Builder::new()
            .prefix("sailplane-pilots")
            .tempdir_in("/var/tmp")?;
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens)?;
        let token = tokens.join("pool");
        fs::copy(pool.token(), &token).context("copy the pilots' token")?;
        for (path, mode) in [(folder.path(), 0o755), (&tokens, 0o700), (&token, 0o600)] {
            process::give(path, owner)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        let mut pilots = Self {
            folder,
            children: Vec::with_capacity(count),
        };
        let agent = site.pilot.with_file_name("sailplane-job");
        let agent = if agent.exists() {
            agent
        } else {
            site.switch.with_file_name("sailplane-job")
        };
        for number in 0..count {
            let log = File::create(pilots.folder.path().join(format!("{number}.log")))?;
            let execute = pilots.folder.path().join(format!("execute-{number}"));
            let mut command = Command::new(&site.pilot);
            command.args(["run", "--config", "/dev/null"]);
            let knobs = [
                ("COLLECTOR_HOST", pool.collector()),
                ("SEC_TOKEN_DIRECTORY", tokens.display().to_string()),
                ("STARTD_NAME", format!("bench-{number}")),
                ("NETWORK_INTERFACE", "127.0.0.1".to_owned()),
                ("NUM_SLOTS", "1".to_owned()),
                ("NUM_CPUS", "1".to_owned()),
                ("MEMORY", "256".to_owned()),
                ("EXECUTE", execute.display().to_string()),
                ("SAILPLANE_IDENTITY_SWITCH", "NEVER".to_owned()),
                ("SAILPLANE_JOB_AGENT", agent.display().to_string()),
            ];
            for (knob, value) in knobs {
                command.arg("--set").arg(format!("{knob}={value}"));
            }
            command
                .current_dir(pilots.folder.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .uid(owner.0.as_raw())
                .gid(owner.1.as_raw());
            pilots
                .children
                .push(command.spawn().context("start a pilot")?);
        }
        Ok(pilots)
    }

    fn wait_joined(&self, pool: &dyn Manager) -> Result<()> {
        let wanted = self.children.len();
        wait::every(Duration::from_secs(1), "the pilots to join", GATHER, || {
            Ok((pool.slots()? >= wanted).then_some(()))
        })
        .with_context(|| format!("a pilot's log:\n{}", self.log()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("0.log")).unwrap_or_default()
    }
}

impl Drop for Pilots {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is what is wanted.
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        // The pilots' keepers see the end of their pilots, and end.
        wait::pause(Duration::from_secs(2));
    }
}

/// `sailplane pool serve`.
struct Embedded {
    folder: tempfile::TempDir,
    program: PathBuf,
    child: Child,
}

impl Embedded {
    fn start(site: &Site) -> Result<Self> {
        let owner = process::ensure_account(POOL_ACCOUNT)?;
        let folder = tempfile::Builder::new()
            .prefix("sailplane-pool")
            .tempdir_in("/var/tmp")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        process::give(folder.path(), owner)?;
        let conf = format!(
            "LOCAL_DIR = {}\nCOLLECTOR_HOST = 127.0.0.1:0\nUID_DOMAIN = bench.example\n",
            folder.path().display()
        );
        fs::write(folder.path().join("pool.conf"), conf)?;
        let log = File::create(folder.path().join("pool.log"))?;
        let mut command = Command::new(&site.pilot);
        command
            .args(["pool", "serve", "--config", "pool.conf"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .uid(owner.0.as_raw())
            .gid(owner.1.as_raw());
        let child = command.spawn().context("start the embedded pool")?;
        let embedded = Self {
            folder,
            program: site.pilot.clone(),
            child,
        };
        wait::until("the embedded pool", wait::PATIENCE, || {
            Ok((!embedded.collector().is_empty()).then_some(()))
        })
        .with_context(|| fs::read_to_string(embedded.path("pool.log")).unwrap_or_default())?;
        let token = embedded.tool(
            embedded.folder.path(),
            &[
                "token",
                "create",
                "--identity",
                "pilot@bench.example",
                "--scope",
                "ADVERTISE_STARTD",
            ],
        )?;
        fs::write(embedded.token(), token)?;
        Ok(embedded)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tool(&self, folder: &Path, words: &[&str]) -> Result<String> {
        let owner = process::ensure_account(POOL_ACCOUNT)?;
        let mut command = Command::new(&self.program);
        command
            .arg("pool")
            .args(words)
            .env("CONDOR_CONFIG", self.path("pool.conf"))
            .current_dir(folder)
            .uid(owner.0.as_raw())
            .gid(owner.1.as_raw());
        if words.first() != Some(&"token") {
            command.arg("--pool").arg(self.collector());
        }
        process::output(&mut command)
    }
}

impl Manager for Embedded {
    fn collector(&self) -> String {
        let text = fs::read_to_string(self.path("address")).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    }

    fn token(&self) -> PathBuf {
        self.path("pilot.token")
    }

    fn submit(&self, folder: &Path) -> Result<()> {
        self.tool(folder, &["submit", "job.sub"]).map(drop)
    }

    fn account(&self) -> &'static str {
        POOL_ACCOUNT
    }

    fn slots(&self) -> Result<usize> {
        let text = self.tool(self.folder.path(), &["status", "-af", "Name"])?;
        Ok(text.lines().count())
    }

    fn processes(&self) -> Vec<i32> {
        memory::family(self.child.id().cast_signed())
    }

    fn longest_cycle(&self) -> Result<f64> {
        let text = self.tool(
            self.folder.path(),
            &[
                "status",
                "-negotiator",
                "-af",
                "LongestNegotiationCycleSeconds",
            ],
        )?;
        text.trim()
            .parse()
            .context("read the embedded pool's cycle time")
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real one.
struct Condor(Pool);

impl Condor {
    fn start() -> Result<Self> {
        let knobs = [
            "NEGOTIATOR_DEBUG=D_SUB_SECOND",
            "MAX_JOBS_PER_SUBMISSION=100000",
            "MAX_JOBS_PER_OWNER=200000",
        ];
        Ok(Self(Pool::raise(&PoolOptions {
            name: "scale".to_owned(),
            knobs: knobs.map(str::to_owned).to_vec(),
            ..PoolOptions::default()
        })?))
    }
}

impl Manager for Condor {
    fn collector(&self) -> String {
        self.0.collector_host().to_owned()
    }

    fn token(&self) -> PathBuf {
        self.0.pilot_token().to_owned()
    }

    fn submit(&self, folder: &Path) -> Result<()> {
        self.0
            .submit_file("alice", folder, "job.sub", &[])
            .map(drop)
    }

    fn account(&self) -> &'static str {
        POOL_ACCOUNT
    }

    fn slots(&self) -> Result<usize> {
        let text = self.0.tool("admin", "condor_status", ["-af", "Name"])?;
        Ok(text.lines().count())
    }

    fn processes(&self) -> Vec<i32> {
        [
            "condor_collector",
            "condor_negotiator",
            "condor_schedd",
            "condor_shadow",
        ]
        .iter()
        .flat_map(|program| self.0.daemons(program))
        .map(|process| process.pid)
        .collect()
    }

    fn longest_cycle(&self) -> Result<f64> {
        longest_cycle(&self.0.log("NegotiatorLog")).context("find a cycle in the NegotiatorLog")
    }
}

/// The longest time between "Started Negotiation Cycle" and "Finished Negotiation Cycle".
fn longest_cycle(log: &str) -> Option<f64> {
    let mut began = None;
    let mut longest: Option<f64> = None;
    for line in log.lines() {
        if line.contains("Started Negotiation Cycle") {
            began = time_of(line);
        } else if line.contains("Finished Negotiation Cycle")
            && let (Some(from), Some(to)) = (began.take(), time_of(line))
        {
            // Over midnight.
            let length = (to - from).rem_euclid(86_400.0);
            longest = Some(longest.map_or(length, |longest| longest.max(length)));
        }
    }
    longest
}

/// Seconds of the day of a log line such as `11/25/26 18:04:05.123 ...`.
fn time_of(line: &str) -> Option<f64> {
    let clock = line.split(' ').nth(1)?;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_cycle_of_a_log() {
        let log = "11/25/26 23:59:59.500 ---------- Started Negotiation Cycle ----------\n\
                   11/26/26 00:00:01.000 ---------- Finished Negotiation Cycle ----------\n\
                   11/26/26 00:01:00.000 ---------- Started Negotiation Cycle ----------\n\
                   11/26/26 00:01:00.100 ---------- Finished Negotiation Cycle ----------\n";
        let longest = longest_cycle(log).unwrap();
        assert!((longest - 1.5).abs() < 1e-6, "{longest}");
        assert_eq!(
            longest_cycle("11/25/26 18:00:00.000 something else\n"),
            None
        );
    }
}
