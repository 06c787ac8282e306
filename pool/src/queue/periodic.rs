//! What is done every few seconds.

use std::sync::atomic::Ordering;

use classad::EvalContext;

use super::policy::{self, Verdict};
use super::run::Status;
use super::select::Snapshot;
use super::{Queue, now};

impl Queue {
    /// Periodic work, to be called every few seconds: stores progress, and every `PERIODIC_EXPR_INTERVAL` evaluates the
    /// periodic expressions of the jobs that have some.
    pub async fn tick(&self) {
        self.store_progress().await;
        let now = now();
        let due =
            self.inner.policies_at.load(Ordering::Relaxed) + self.inner.config.periodic_interval;
        if now < due {
            return;
        }
        self.inner.policies_at.store(now, Ordering::Relaxed);
        let queue = self.clone();
        // A panic of the task has been reported already.
        let _ = tokio::task::spawn_blocking(move || queue.policies(now)).await;
    }

    /// Evaluates on copies, so that nobody waits for it, then acts on what still stands.
    pub(super) fn policies(&self, now: i64) {
        let system = &self.inner.system;
        let everybody =
            system.hold.is_some() || system.release.is_some() || system.remove.is_some();
        let copies: Vec<Snapshot> = {
            let model = self.model();
            let worth = model.jobs.iter().filter(|(_, job)| {
                everybody
                    || job.periodic
                    || (job.run.is_none()
                        && matches!(job.status, Status::Completed | Status::Removed))
            });
            worth.map(|(id, job)| Snapshot::new(*id, job)).collect()
        };
        for job in copies {
            let ad = job.whole();
            if matches!(job.status, Status::Completed | Status::Removed) {
                let stay = EvalContext::new()
                    .my(&ad)
                    .now(now)
                    .eval_attr("LeaveJobInQueue");
                if stay.as_bool() != Some(true) {
                    self.let_go(job.id);
                    continue;
                }
            }
            match policy::periodic(&ad, job.status, system, now) {
                Verdict::Stay => {}
                verdict => self.enforce(job.id, verdict),
            }
        }
        self.model().autoclusters_in_bounds();
    }
}
