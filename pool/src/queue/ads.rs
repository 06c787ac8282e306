//! How the queue shows itself in the collector: the Scheduler ad, and one Submitter ad for each submitter.

use classad::ClassAd;

use super::model::Counts;
use super::offer::weight;
use super::run::Status;
use super::{Queue, now};

impl Queue {
    /// The Scheduler ad and the Submitter ads, to be advertised every few minutes and when something changed.
    pub fn ads(&self) -> Vec<ClassAd> {
        let config = &self.inner.config;
        let model = self.model();
        let mut schedd = self.common("Scheduler", &config.schedd_name);
        let counts = &model.counts;
        schedd.insert("NumUsers", number(model.owners.len()));
        schedd.insert("TotalJobAds", number(counts.total()));
        schedd.insert("TotalIdleJobs", number(counts.of(Status::Idle)));
        schedd.insert("TotalRunningJobs", number(running(counts)));
        schedd.insert("TotalHeldJobs", number(counts.of(Status::Held)));
        schedd.insert("TotalRemovedJobs", number(counts.of(Status::Removed)));
        for name in [
            "TotalFlockedJobs",
            "TotalLocalJobsIdle",
            "TotalLocalJobsRunning",
            "TotalSchedulerJobsIdle",
            "TotalSchedulerJobsRunning",
        ] {
            schedd.insert(name, 0);
        }
        let limit = i64::try_from(config.max_jobs_submitted).unwrap_or(i64::MAX);
        schedd.insert("MaxJobsSubmitted", limit.min(i64::from(i32::MAX)));
        schedd.insert("JobsSubmitted", model.totals.submitted);
        schedd.insert("JobsStarted", model.totals.started);
        schedd.insert("JobsCompleted", model.totals.completed);
        schedd.insert("JobsRemoved", model.totals.removed);
        let mut ads = vec![schedd];
        for (submitter, counts) in &model.submitters {
            let mut ad = self.common("Submitter", submitter);
            ad.insert("ScheddName", config.schedd_name.as_str());
            ad.insert("SubmitterTag", "");
            ad.insert("IdleJobs", number(counts.of(Status::Idle)));
            ad.insert("RunningJobs", number(running(counts)));
            ad.insert("HeldJobs", number(counts.of(Status::Held)));
            ad.insert("WeightedIdleJobs", number(counts.of(Status::Idle)));
            ad.insert("WeightedRunningJobs", weight(&model, submitter));
            for name in ["FlockedJobs", "LocalJobsIdle", "LocalJobsRunning"] {
                ad.insert(name, 0);
            }
            ads.push(ad);
        }
        ads
    }

    fn common(&self, my_type: &str, name: &str) -> ClassAd {
        let config = &self.inner.config;
        let mut ad = ClassAd::new();
        ad.insert("MyType", my_type);
        ad.insert("Name", name);
        ad.insert("Machine", config.machine.as_str());
        ad.insert("MyAddress", config.address.as_str());
        ad.insert("ScheddIpAddr", config.address.as_str());
        let version = cedar::version::COMPATIBLE.banner(crate::cli::connect::PROGRAM);
        ad.insert("CondorVersion", version);
        ad.insert("DaemonStartTime", self.inner.born);
        ad.insert("MyCurrentTime", now());
        ad
    }
}

fn running(counts: &Counts) -> usize {
    counts.of(Status::Running) + counts.of(Status::TransferringOutput)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
