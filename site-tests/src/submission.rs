//! Jobs as users send them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::events::{Event, EventLog};
use crate::{Ad, JobId, JobState, Pool, ProxyKind, TestCa, process, wait};

/// A submit file in the making, with the files that it needs.
#[derive(Debug, Clone)]
pub struct Submission {
    user: String,
    lines: Vec<String>,
    files: Vec<(String, Vec<u8>, u32)>,
    proxy: Option<ProxyKind>,
    count: u32,
}

impl Submission {
    /// A job of `user` (who has a proxy for two hours) that runs an executable of the execute machine.
    #[must_use]
    pub fn program(user: &str, path: &str, arguments: &[&str]) -> Self {
        let quoted: Vec<_> = arguments.iter().map(|argument| quote(argument)).collect();
        Self {
            user: user.to_owned(),
            lines: vec![
                format!("executable = {path}"),
                "transfer_executable = false".to_owned(),
                format!("arguments = \"{}\"", quoted.join(" ")),
            ],
            files: Vec::new(),
            proxy: Some(ProxyKind::Minutes(120)),
            count: 1,
        }
    }

    /// A job that runs text in `/bin/sh`.
    #[must_use]
    pub fn shell(user: &str, script: &str) -> Self {
        Self::program(user, "/bin/sh", &["-c", script])
    }

    /// A job whose executable travels with it.
    #[must_use]
    pub fn script(user: &str, name: &str, text: &str) -> Self {
        let mut submission = Self::program(user, name, &[]).file(name, text.as_bytes(), 0o755);
        submission.lines = vec![format!("executable = {name}")];
        submission
    }

    /// Adds a line of the submit file.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Puts a file into the submit folder first. `name` may have folders in it.
    #[must_use]
    pub fn file(mut self, name: &str, bytes: &[u8], mode: u32) -> Self {
        self.files.push((name.to_owned(), bytes.to_owned(), mode));
        self
    }

    /// The proxy that goes along; `None` for a job without one.
    #[must_use]
    pub fn proxy(mut self, proxy: Option<ProxyKind>) -> Self {
        self.proxy = proxy;
        self
    }

    /// How many jobs.
    #[must_use]
    pub fn queue(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// Writes the files and runs `condor_submit`.
    ///
    /// # Errors
    /// When a file can't be written or `condor_submit` refuses.
    pub fn submit(&self, pool: &Pool, ca: &TestCa) -> Result<Submitted> {
        let folder = pool.folder(&self.user)?;
        for (name, bytes, mode) in &self.files {
            let path = folder.join(name);
            let mut parent = folder.clone();
            for part in Path::new(name)
                .parent()
                .into_iter()
                .flat_map(Path::components)
            {
                parent.push(part);
                fs::create_dir_all(&parent)?;
                process::give(&parent, pool.owner())?;
            }
            fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
            process::give(&path, pool.owner())?;
        }
        let mut text = self.lines.join("\n");
        text.push_str("\nlog = job.log\n");
        let defaults = [
            ("output", "out.$(Process)"),
            ("error", "err.$(Process)"),
            ("should_transfer_files", "YES"),
            ("request_memory", "32"),
            ("request_disk", "1024"),
        ];
        for (key, value) in defaults {
            let given = |line: &String| {
                line.split('=')
                    .next()
                    .is_some_and(|name| name.trim() == key)
            };
            if !self.lines.iter().any(given) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        if text.contains("should_transfer_files = YES") && !text.contains("when_to_transfer_output")
        {
            text.push_str("when_to_transfer_output = ON_EXIT\n");
        }
        if let Some(kind) = self.proxy {
            let path = folder.join("proxy.pem");
            ca.proxy(&self.user, kind, &path)?;
            text.push_str(&format!("x509userproxy = {}\n", path.display()));
        }
        text.push_str(&format!("queue {}\n", self.count));
        fs::write(folder.join("job.sub"), text)?;
        let jobs = pool.submit_file(&self.user, &folder, "job.sub", &[])?;
        Ok(Submitted {
            jobs,
            folder,
            log: "job.log",
        })
    }
}

/// A submit file of `examples/jobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Example {
    /// Says who runs it.
    Hello,
    /// Files and folders both ways, standard input, a renamed output.
    Files,
    /// Ends with exit code 3.
    Fails,
}

impl Example {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hello, Self::Files, Self::Fails];

    /// Name without ending.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Files => "files",
            Self::Fails => "fails",
        }
    }

    /// Submits it as the example's readme says, with a proxy for two hours.
    ///
    /// # Errors
    /// When the files can't be copied or `condor_submit` refuses.
    pub fn submit(self, user: &str, pool: &Pool, ca: &TestCa) -> Result<Submitted> {
        let folder = pool.folder(user)?;
        let examples = process::source_tree().join("examples/jobs");
        process::output(
            Command::new("cp")
                .arg("-r")
                .arg(examples.join("."))
                .arg(&folder),
        )?;
        let owner = format!("{}:{}", pool.owner().0, pool.owner().1);
        process::output(Command::new("chown").arg("-R").arg(owner).arg(&folder))?;
        let proxy = folder.join("proxy.pem");
        ca.proxy(user, ProxyKind::Minutes(120), &proxy)?;
        let environment = [("X509_USER_PROXY", proxy.as_path())];
        let jobs =
            pool.submit_file(user, &folder, &format!("{}.sub", self.name()), &environment)?;
        let log = match self {
            Self::Hello => "hello.log",
            Self::Files => "files.log",
            Self::Fails => "fails.log",
        };
        Ok(Submitted { jobs, folder, log })
    }

    /// Standard output of the submitted example.
    ///
    /// # Errors
    /// When it has not come back.
    pub fn output(self, submitted: &Submitted) -> Result<String> {
        let job = submitted.job()?;
        submitted.read(&match self {
            Self::Hello => format!("hello.{}.{}.out", job.cluster, job.process),
            Self::Files | Self::Fails => format!("{}.{}.out", self.name(), job.cluster),
        })
    }
}

/// Quotes one argument for the double-quoted form of `arguments`.
fn quote(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', "''").replace('"', "\"\""))
}

/// Jobs in the queue.
#[derive(Debug, Clone)]
pub struct Submitted {
    jobs: Vec<JobId>,
    folder: PathBuf,
    log: &'static str,
}

impl Submitted {
    /// The first (mostly only) job.
    ///
    /// # Errors
    /// When `condor_submit` made none.
    pub fn job(&self) -> Result<JobId> {
        self.jobs
            .first()
            .copied()
            .ok_or_else(|| anyhow!("nothing was submitted"))
    }

    /// All jobs.
    #[must_use]
    pub fn jobs(&self) -> &[JobId] {
        &self.jobs
    }

    /// Where the user's files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The event log.
    #[must_use]
    pub fn log(&self) -> EventLog {
        EventLog::new(self.folder.join(self.log))
    }

    /// A file that came back, as text.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Standard output of the first job.
    ///
    /// # Errors
    /// When it has not come back.
    pub fn output(&self) -> Result<String> {
        self.read("out.0")
    }

    /// Waits until the first job runs.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_running(&self) -> Result<Event> {
        let job = self.job()?;
        let log = self.log();
        log.wait_for(Some(job), "the job to begin", wait::PATIENCE, |event| {
            event.number == Event::EXECUTE
        })
    }

    /// Waits until all jobs have ended by themselves, and returns their last ads.
    ///
    /// # Errors
    /// When one is held or removed, or `patience` ends first.
    pub fn wait_completed(&self, pool: &Pool, patience: Duration) -> Result<Vec<Ad>> {
        let log = self.log();
        wait::every(
            Duration::from_millis(50),
            "all jobs to end",
            patience,
            || {
                let events = log.events()?;
                if let Some(held) = events.iter().find(|event| event.number == Event::HELD) {
                    return Err(anyhow!("job {} was held: {}", held.job, held.text));
                }
                let done = events
                    .iter()
                    .filter(|event| event.number == Event::TERMINATED)
                    .count();
                Ok((done >= self.jobs.len()).then_some(()))
            },
        )
        .with_context(|| {
            format!(
                "event log so far:\n{}",
                self.read(self.log).unwrap_or_default()
            )
        })?;
        self.jobs
            .iter()
            .map(|job| pool.wait_for(*job, JobState::Completed, wait::PATIENCE))
            .collect()
    }

    /// Waits until the first job is held and returns its ad.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub fn wait_held(&self, pool: &Pool, patience: Duration) -> Result<Ad> {
        let job = self.job()?;
        self.log()
            .wait_for(Some(job), "the job to be held", patience, |event| {
                event.number == Event::HELD
            })?;
        wait::until("the held job's ad", wait::PATIENCE, || {
            Ok(pool
                .q(job)?
                .filter(|ad| ad.int("JobStatus") == Some(JobState::Held as i64)))
        })
    }
}
