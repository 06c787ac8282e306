//! HTCondor's own execute side, as the peer to compare with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Ad, Pool, process, say, wait};

/// A `condor_master` with a `condor_startd`, on a pool of ours. It runs payloads under its own account.
#[derive(Debug)]
pub struct CondorStartd {
    instance: PathBuf,
    name: String,
    master: i32,
}

impl CondorStartd {
    /// Starts it. It may not have joined yet.
    ///
    /// # Errors
    /// When the script fails, with what it said.
    pub fn start(pool: &Pool, name: &str, slots: u32, knobs: &[(String, String)]) -> Result<Self> {
        let mut command = process::pool_script("startd");
        command
            .arg("up")
            .arg(pool.dir())
            .arg(name)
            .arg(slots.to_string());
        command.args(knobs.iter().map(|(knob, value)| format!("{knob}={value}")));
        let text = process::output(&mut command)?;
        let master = text
            .trim()
            .parse()
            .with_context(|| format!("the script said {text:?}"))?;
        Ok(Self {
            instance: pool.dir().to_owned(),
            name: name.to_owned(),
            master,
        })
    }

    /// Its slots, as the collector has them.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn slots(&self, pool: &Pool) -> Result<Vec<Ad>> {
        pool.slots(&format!("regexp(\"@{}\", Name)", self.name))
    }

    /// Waits until the collector has all its slots.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_joined(&self, pool: &Pool, slots: usize) -> Result<Vec<Ad>> {
        wait::every(
            Duration::from_millis(20),
            "the startd's slots in the collector",
            wait::PATIENCE,
            || Ok(Some(self.slots(pool)?).filter(|found| found.len() == slots)),
        )
    }

    /// Process number of its `condor_master`.
    #[must_use]
    pub fn master(&self) -> i32 {
        self.master
    }
}

impl Drop for CondorStartd {
    fn drop(&mut self) {
        let down = process::output(
            process::pool_script("startd")
                .arg("down")
                .arg(&self.instance)
                .arg(&self.name),
        );
        if let Err(error) = down {
            say(&format!("stopping HTCondor's startd failed: {error:#}"));
        }
    }
}
