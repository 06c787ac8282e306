//! The evaluations the slot does itself: START in both directions, and what a job is promised.

use std::time::Duration;

use classad::{ClassAd, EvalContext, Value, half_match, symmetric_match};

use super::event::Pledge;

/// `MachineMaxVacateTime` when the ad does not say (`htcondor:src/condor_startd.V6/ResAttributes.cpp`).
const DEFAULT_VACATE: Duration = Duration::from_secs(600);

/// Whether slot and job want each other.
#[must_use]
pub fn fits(slot: &ClassAd, job: &ClassAd, now: i64) -> bool {
    symmetric_match(slot, job, now)
}

/// Whether the slot (still) wants the job.
#[must_use]
pub fn wanted(slot: &ClassAd, job: &ClassAd, now: i64) -> bool {
    half_match(slot, job, now)
}

/// What a job that starts now is promised: the machine's time to retire, or less if the job asks for less; and the
/// machine's time to vacate, bounded by the job's own (02, section 2.9).
#[must_use]
pub fn pledge(slot: &ClassAd, job: &ClassAd, now: i64) -> Pledge {
    let machine = |name| {
        seconds(
            &EvalContext::new()
                .my(slot)
                .target(job)
                .now(now)
                .eval_attr(name),
        )
    };
    let wish = |name| {
        seconds(
            &EvalContext::new()
                .my(job)
                .target(slot)
                .now(now)
                .eval_attr(name),
        )
    };
    let retirement = machine("MaxJobRetirementTime").unwrap_or(Duration::ZERO);
    let vacate = machine("MachineMaxVacateTime").unwrap_or(DEFAULT_VACATE);
    let own = wish("JobMaxVacateTime")
        .or_else(|| wish("KillSigTimeout"))
        .unwrap_or(vacate);
    Pledge {
        retirement: wish("MaxJobRetirementTime")
            .unwrap_or(retirement)
            .min(retirement),
        vacate: own.min(vacate),
    }
}

/// The longest retirement time that is promised without looking at a job.
#[must_use]
pub fn plain_retirement(slot: &ClassAd, now: i64) -> Duration {
    seconds(
        &EvalContext::new()
            .my(slot)
            .now(now)
            .eval_attr("MaxJobRetirementTime"),
    )
    .unwrap_or(Duration::ZERO)
}

/// The longest time to vacate that is promised without looking at a job.
#[must_use]
pub fn plain_vacate(slot: &ClassAd, now: i64) -> Duration {
    seconds(
        &EvalContext::new()
            .my(slot)
            .now(now)
            .eval_attr("MachineMaxVacateTime"),
    )
    .unwrap_or(DEFAULT_VACATE)
}

fn seconds(value: &Value) -> Option<Duration> {
    match value {
        Value::Integer(seconds) => Some(Duration::from_secs(u64::try_from(*seconds).unwrap_or(0))),
        Value::Real(seconds) => Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn both_sides_must_agree() {
        let slot = ad("Start = TARGET.RequestCpus < 2\nRequirements = START\nArch = \"X86_64\"");
        let job = ad("RequestCpus = 1\nRequirements = TARGET.Arch == \"X86_64\"");
        assert!(fits(&slot, &job, 0));
        assert!(!fits(&slot, &ad("RequestCpus = 2\nRequirements = true"), 0));
        assert!(!fits(
            &slot,
            &ad("RequestCpus = 1\nRequirements = TARGET.Arch == \"ARM\""),
            0
        ));
        assert!(wanted(
            &slot,
            &ad("RequestCpus = 1\nRequirements = false"),
            0
        ));
    }

    #[test]
    fn a_job_may_shorten_its_times_only() {
        let slot = ad("MaxJobRetirementTime = 3600\nMachineMaxVacateTime = 10 * 60");
        let asks_less = pledge(
            &slot,
            &ad("JobMaxVacateTime = 6\nMaxJobRetirementTime = 0"),
            0,
        );
        assert_eq!(
            (asks_less.retirement, asks_less.vacate),
            (Duration::ZERO, Duration::from_secs(6))
        );
        let asks_more = pledge(
            &slot,
            &ad("KillSigTimeout = 9999\nMaxJobRetirementTime = 9999"),
            0,
        );
        assert_eq!(
            (asks_more.retirement.as_secs(), asks_more.vacate.as_secs()),
            (3600, 600)
        );
    }
}
