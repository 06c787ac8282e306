//! `PREEMPT`, `WANT_HOLD` and what goes with them: whether a running job is to leave the slot, and whether it is held then.
//!
//! Evaluated as HTCondor's startd does (`htcondor:src/condor_startd.V6/Resource.cpp`, `eval_preempt`, `wants_hold`,
//! `hold_job`): `MY` is the slot's ad, `TARGET` the job's, and the job's present figures are in both. Pure.

use classad::{ClassAd, EvalContext, Expr, Value};

use crate::job::JobProgress;
use crate::job::hold::{Hold, HoldCode};

/// The knobs, by the names under which they can refer to each other.
const NAMES: [&str; 4] = [
    "PREEMPT",
    "WANT_HOLD",
    "WANT_HOLD_REASON",
    "WANT_HOLD_SUBCODE",
];

/// The policy for running jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Eviction {
    /// `PREEMPT`: the job leaves the slot when its retirement time is used up.
    pub preempt: Expr,
    /// `WANT_HOLD`: one that leaves for [`Self::preempt`] is held, not sent back to the queue.
    pub hold: Expr,
    /// `WANT_HOLD_REASON`: text of the hold.
    pub reason: Expr,
    /// `WANT_HOLD_SUBCODE`: number of the hold.
    pub subcode: Expr,
}

impl Default for Eviction {
    /// Nothing leaves.
    fn default() -> Self {
        Self {
            preempt: Expr::from(false),
            hold: Expr::from(false),
            reason: Expr::literal(Value::Undefined),
            subcode: Expr::literal(Value::Undefined),
        }
    }
}

/// What `PREEMPT` says of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It may stay.
    Stays,
    /// It is to leave.
    Leaves,
    /// It may stay, because the expression has no truth value: undefined, an error, a text.
    Unclear(Value),
}

impl Eviction {
    /// Whether there is anything to evaluate.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !matches!(
            self.preempt.as_literal(),
            Some(Value::Boolean(false) | Value::Integer(0) | Value::Undefined)
        )
    }

    /// `PREEMPT`, for a job with this ad and progress in a slot with this ad.
    #[must_use]
    pub fn answer(
        &self,
        slot: &ClassAd,
        job: &ClassAd,
        progress: &JobProgress,
        now: i64,
    ) -> Answer {
        let value = self.context(slot, job, progress, now).eval(&self.preempt);
        match truth(&value) {
            Some(true) => Answer::Leaves,
            Some(false) => Answer::Stays,
            None => Answer::Unclear(value),
        }
    }

    /// How a job that leaves is held; `None`: it goes back to the queue.
    #[must_use]
    pub fn held(
        &self,
        slot: &ClassAd,
        job: &ClassAd,
        progress: &JobProgress,
        now: i64,
    ) -> Option<Hold> {
        let context = self.context(slot, job, progress, now);
        if truth(&context.eval(&self.hold)) != Some(true) {
            return None;
        }
        let reason = match context.eval(&self.reason) {
            Value::String(text) if !text.trim().is_empty() => text,
            _ => format!(
                "The pilot put the job on hold when PREEMPT became true, because WANT_HOLD was: {}",
                self.hold.to_old()
            ),
        };
        let subcode = match context.eval(&self.subcode) {
            Value::Integer(number) => i32::try_from(number).unwrap_or(0),
            _ => 0,
        };
        Some(Hold::new(HoldCode::StartdHeldJob, subcode, reason))
    }

    fn context(
        &self,
        slot: &ClassAd,
        job: &ClassAd,
        progress: &JobProgress,
        now: i64,
    ) -> EvalContext {
        let mut my = slot.clone();
        let knobs = [&self.preempt, &self.hold, &self.reason, &self.subcode];
        for (name, knob) in NAMES.into_iter().zip(knobs) {
            my.insert(name, knob.clone());
        }
        let mut target = job.clone();
        figures(&mut my, progress);
        figures(&mut target, progress);
        EvalContext::new().my(&my).target(&target).now(now)
    }
}

/// The figures of a running job, under the names that its own ad has them. None are known before it has started.
fn figures(ad: &mut ClassAd, progress: &JobProgress) {
    let Some(started) = progress.started else {
        return;
    };
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    ad.insert("JobStartDate", started);
    ad.insert("ImageSize", whole(progress.image_size_kib));
    ad.insert("ResidentSetSize", whole(progress.image_size_kib));
    ad.insert("MemoryUsage", whole(progress.image_size_kib.div_ceil(1024)));
    ad.insert("DiskUsage", whole(progress.disk_usage_kib));
    ad.insert("CpusUsage", progress.cpus_usage);
    ad.insert("RemoteUserCpu", progress.cpu_seconds.0);
    ad.insert("RemoteSysCpu", progress.cpu_seconds.1);
    ad.insert("NumPids", whole(progress.pids));
}

/// As HTCondor takes truth from a value: numbers have it, too.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(truth) => Some(*truth),
        Value::Integer(number) => Some(*number != 0),
        Value::Real(number) => Some(*number != 0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expr(text: &str) -> Expr {
        Expr::parse_old(text).unwrap()
    }

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    /// 1.5 GiB of memory, 2 GiB of disk, half a core.
    fn running() -> JobProgress {
        JobProgress {
            started: Some(1000),
            image_size_kib: 1536 << 10,
            disk_usage_kib: 2 << 20,
            cpus_usage: 0.5,
            cpu_seconds: (40.0, 10.0),
            pids: 3,
            ..JobProgress::default()
        }
    }

    fn slot() -> ClassAd {
        ad(
            "Cpus = 1\nMemory = 1024\nDisk = 4000000\nTotalJobRunTime = 100\nGLIDEIN_ToDie = 5000\nLimit = 1500",
        )
    }

    fn job() -> ClassAd {
        ad(
            "JobUniverse = 5\nRequestMemory = 512\nOwner = \"alice\"\nMemoryUsage = 1\nProjectName = \"x\"",
        )
    }

    #[test]
    fn preempt_sees_slot_and_job_with_the_present_figures() {
        use Answer::{Leaves, Stays};
        for (preempt, answer) in [
            ("false", Stays),
            ("0", Stays),
            ("1", Leaves),
            ("MemoryUsage > 1535", Leaves),
            ("MemoryUsage > 1536", Stays),
            ("MemoryUsage > Memory", Leaves),
            // The job's own ad is as old as its start; its figures are not.
            ("TARGET.MemoryUsage > TARGET.RequestMemory", Leaves),
            ("MY.MemoryUsage > MY.Memory", Leaves),
            ("ResidentSetSize >= 1536 * 1024", Leaves),
            ("DiskUsage > Disk", Stays),
            ("CpusUsage > Cpus + 0.5", Stays),
            ("RemoteUserCpu + RemoteSysCpu > 49", Leaves),
            ("NumPids > 2", Leaves),
            ("TotalJobRunTime > 60 && TARGET.Owner == \"alice\"", Leaves),
            ("GLIDEIN_ToDie - time() < 600", Stays),
            ("time() - JobStartDate > 999", Leaves),
            ("MemoryUsage > Limit", Leaves),
            ("ifThenElse(WANT_HOLD, true, false)", Leaves),
        ] {
            let policy = Eviction {
                preempt: expr(preempt),
                hold: expr("MemoryUsage > 1000"),
                ..Eviction::default()
            };
            assert_eq!(
                policy.answer(&slot(), &job(), &running(), 2000),
                answer,
                "{preempt}"
            );
        }
    }

    #[test]
    fn what_is_neither_true_nor_false_lets_the_job_stay() {
        for (preempt, value) in [
            ("NoSuchAttribute > 3", Value::Undefined),
            ("\"yes\"", Value::String("yes".to_owned())),
            ("1 / 0", Value::Error),
            ("PREEMPT || false", Value::Error),
        ] {
            let policy = Eviction {
                preempt: expr(preempt),
                ..Eviction::default()
            };
            assert!(policy.is_needed());
            assert_eq!(
                policy.answer(&slot(), &job(), &running(), 0),
                Answer::Unclear(value),
                "{preempt}"
            );
        }
        let memory = Eviction {
            preempt: expr("MemoryUsage > 1000"),
            ..Eviction::default()
        };
        let not_started = JobProgress::default();
        let fresh = ad("RequestMemory = 512");
        assert_eq!(
            memory.answer(&slot(), &fresh, &not_started, 0),
            Answer::Unclear(Value::Undefined),
            "a job that has not started has no figures"
        );
        assert!(!Eviction::default().is_needed());
    }

    #[test]
    fn a_job_that_leaves_is_held_if_that_is_wanted() {
        let held = |hold: &str, reason: &str, subcode: &str| {
            let policy = Eviction {
                preempt: expr("true"),
                hold: expr(hold),
                reason: expr(reason),
                subcode: expr(subcode),
            };
            policy
                .held(&slot(), &job(), &running(), 0)
                .map(|hold| (hold.code as i32, hold.subcode, hold.reason))
        };
        for back_to_the_queue in ["false", "undefined", "Nothing", "\"true\"", "1 / 0"] {
            assert_eq!(held(back_to_the_queue, "\"x\"", "1"), None);
        }
        let reason = "strcat(\"memory \", MemoryUsage, \" > \", Memory)";
        let subcode = "ifThenElse(MemoryUsage > Memory, 102, 0)";
        assert_eq!(
            held("MemoryUsage > Memory", reason, subcode),
            Some((21, 102, "memory 1536 > 1024".to_owned()))
        );
        let by_itself = "The pilot put the job on hold when PREEMPT became true, because WANT_HOLD was: \
                         MemoryUsage > Memory";
        for (reason, subcode) in [
            ("undefined", "undefined"),
            ("\" \"", "\"102\""),
            ("7", "1.5"),
        ] {
            assert_eq!(
                held("MemoryUsage > Memory", reason, subcode),
                Some((21, 0, by_itself.to_owned())),
                "{reason}"
            );
        }
        assert_eq!(
            held("true", "\"two\nlines\"", "99999999999"),
            Some((21, 0, "two lines".to_owned()))
        );
    }
}
