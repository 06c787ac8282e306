//! A pool, a node with the helper, and a pilot on it.

use anyhow::Result;

use crate::POOL_ACCOUNT;
use crate::helper::{self, Site};
use crate::{
    CondorStartd, Pilot, PilotOptions, Pool, PoolOptions, Submission, Submitted, TestCa, process,
};

/// How to set a stage.
#[derive(Debug, Clone, Default)]
pub struct StageOptions {
    /// The pool.
    pub pool: PoolOptions,
    /// The pilot.
    pub pilot: PilotOptions,
}

impl StageOptions {
    /// A stage with two slots; the name ends up in the pool's.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            pool: PoolOptions {
                name: name.to_owned(),
                ..PoolOptions::default()
            },
            ..Self::default()
        }
    }

    /// Number of the pilot's slots.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.pilot.slots = slots;
        self
    }

    /// A knob of the pilot.
    #[must_use]
    pub fn pilot_knob(mut self, name: &str, value: impl ToString) -> Self {
        self.pilot = self.pilot.knob(name, value);
        self
    }

    /// A knob of the pool, `KNOB=VALUE`.
    #[must_use]
    pub fn pool_knob(mut self, line: &str) -> Self {
        self.pool.knobs.push(line.to_owned());
        self
    }

    /// Raises everything and waits until the pilot has joined.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn set(self) -> Result<Stage> {
        let site = helper::site()?;
        let pool = Pool::raise(&self.pool)?;
        let mut pilot = Pilot::start(site, &pool, &self.pilot)?;
        pilot.wait_joined(&pool, usize::try_from(self.pilot.slots)?)?;
        Ok(Stage { pilot, pool, site })
    }

    /// As [`Self::set`], on a node without our helper.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn set_without_helper(mut self) -> Result<Stage> {
        let site = helper::bare()?;
        self.pilot = self
            .pilot
            .knob("SAILPLANE_JOB_AGENT", helper::bare_agent().display())
            .knob("SAILPLANE_CA_DIRECTORY", site.ca.certificates().display());
        let pool = Pool::raise(&self.pool)?;
        let mut pilot = Pilot::start(site, &pool, &self.pilot)?;
        pilot.wait_joined(&pool, usize::try_from(self.pilot.slots)?)?;
        Ok(Stage { pilot, pool, site })
    }

    /// The same pool with HTCondor's own execute side instead of ours, for tests of what both must do alike.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn set_for_condor(mut self) -> Result<PeerStage> {
        // The startd of HTCondor 23.9.6 can't receive delegated proxies where OpenSSL is 3.5 or newer.
        self.pool.no_delegation = true;
        process::ensure_account(POOL_ACCOUNT)?;
        let ca = TestCa::at(&helper::state().join("test-ca"), POOL_ACCOUNT)?;
        let pool = Pool::raise(&self.pool)?;
        let startd = CondorStartd::start(&pool, "peer", self.pilot.slots, &[])?;
        startd.wait_joined(&pool, usize::try_from(self.pilot.slots)?)?;
        Ok(PeerStage { startd, pool, ca })
    }
}

/// Where jobs run, whoever runs them: what tests for both sides see of a stage.
pub trait Play {
    /// The pool.
    fn pool(&self) -> &Pool;
    /// The authority of the users' certificates.
    fn ca(&self) -> &TestCa;

    /// Sends jobs.
    ///
    /// # Errors
    /// As [`Submission::submit`].
    fn submit(&self, submission: &Submission) -> Result<Submitted> {
        submission.submit(self.pool(), self.ca())
    }
}

/// Everything that a test needs. The pilot goes down before the pool.
#[derive(Debug)]
pub struct Stage {
    /// The pilot.
    pub pilot: Pilot,
    /// The pool that it has joined.
    pub pool: Pool,
    /// The node.
    pub site: &'static Site,
}

impl Play for Stage {
    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn ca(&self) -> &TestCa {
        &self.site.ca
    }
}

/// A pool with HTCondor's own execute side.
#[derive(Debug)]
pub struct PeerStage {
    /// The execute side.
    pub startd: CondorStartd,
    /// The pool that it has joined.
    pub pool: Pool,
    ca: TestCa,
}

impl Play for PeerStage {
    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn ca(&self) -> &TestCa {
        &self.ca
    }
}
