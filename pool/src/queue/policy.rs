//! The expressions by which a job decides about itself, and the administrator's about every job.
//!
//! Order and meaning are those of `htcondor:src/condor_utils/user_job_policy.cpp`. The limits on time
//! (`AllowedJobDuration`, `AllowedExecuteDuration`) are checked here as well, on the timer.

use classad::{ClassAd, EvalContext, Expr, Value};

use super::config::SystemPolicy;
use super::run::Status;
use crate::shadow::exit::short_time;

/// Hold codes (`htcondor:src/condor_utils/condor_holdcodes.h`).
pub(super) mod code {
    /// `UserRequest`.
    pub(in crate::queue) const USER_REQUEST: i32 = 1;
    /// `JobPolicy`.
    pub(in crate::queue) const JOB_POLICY: i32 = 3;
    /// `SpoolingInput`.
    pub(in crate::queue) const SPOOLING_INPUT: i64 = 16;
    /// `SystemPolicy`.
    pub(in crate::queue) const SYSTEM_POLICY: i32 = 26;
    /// `JobDurationExceeded`.
    pub(in crate::queue) const JOB_DURATION: i32 = 46;
    /// `JobExecuteExceeded`.
    pub(in crate::queue) const EXECUTE_DURATION: i32 = 47;
    /// `JobPolicyVacate`.
    pub(in crate::queue) const JOB_POLICY_VACATE: i32 = 1000;
}

/// Why something is done to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    /// One sentence.
    pub(super) reason: String,
    /// As in `HoldReasonCode`.
    pub(super) code: i32,
    /// As in `HoldReasonSubCode`.
    pub(super) subcode: i32,
}

/// What a policy wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Stay,
    /// Hold the job.
    Hold(Why),
    /// Release it.
    Release(Why),
    /// Remove it.
    Remove(Why),
    /// Stop it, to run again.
    Vacate(Why),
}

/// The administrator's part.
#[derive(Debug, Clone, Default)]
pub(super) struct System {
    pub(super) hold: Option<SystemPolicy>,
    pub(super) release: Option<SystemPolicy>,
    pub(super) remove: Option<SystemPolicy>,
}

/// True if an ad has anything that [`periodic`] would look at.
pub(super) fn has_periodic(ad: &ClassAd) -> bool {
    const NAMES: [&str; 7] = [
        "PeriodicHold",
        "PeriodicRelease",
        "PeriodicRemove",
        "PeriodicVacate",
        "TimerRemove",
        "AllowedJobDuration",
        "AllowedExecuteDuration",
    ];
    NAMES.iter().any(|name| match ad.get(name) {
        // condor_submit writes `false` for what the user did not ask for.
        Some(expr) => !matches!(
            expr.as_literal(),
            Some(Value::Boolean(false) | Value::Undefined)
        ),
        None => false,
    })
}

/// What the periodic expressions of a job want, and the administrator's.
pub(super) fn periodic(job: &ClassAd, status: Status, system: &System, now: i64) -> Verdict {
    if status == Status::Removed {
        return Verdict::Stay;
    }
    let eye = Eye { job, now };
    if matches!(status, Status::Running | Status::Suspended) {
        if let Some(why) = eye.too_long() {
            return Verdict::Hold(why);
        }
        if let Some(mut why) = eye.job("PeriodicVacate") {
            why.code = code::JOB_POLICY_VACATE;
            return Verdict::Vacate(why);
        }
    }
    if let Some(limit) = job.int("TimerRemove")
        && limit >= 0
        && limit < now
    {
        return Verdict::Remove(eye.fired("TimerRemove"));
    }
    if !matches!(status, Status::Held | Status::Completed)
        && let Some(why) = eye.either("PeriodicHold", system.hold.as_ref(), "SYSTEM_PERIODIC_HOLD")
    {
        return Verdict::Hold(why);
    }
    let by_user = job.int("HoldReasonCode") == Some(i64::from(code::USER_REQUEST));
    if status == Status::Held
        && !by_user
        && let Some(why) = eye.either(
            "PeriodicRelease",
            system.release.as_ref(),
            "SYSTEM_PERIODIC_RELEASE",
        )
    {
        return Verdict::Release(why);
    }
    match eye.either(
        "PeriodicRemove",
        system.remove.as_ref(),
        "SYSTEM_PERIODIC_REMOVE",
    ) {
        Some(why) => Verdict::Remove(why),
        None => Verdict::Stay,
    }
}

/// What to do with a job whose process has ended, `ExitBySignal` and the like already being in its ad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AtExit {
    /// It is done.
    Leave,
    /// It runs again.
    Requeue(String),
    /// It is held.
    Hold(Why),
}

/// What `OnExitHold` and `OnExitRemove` want; the periodic expressions come first, as in a real shadow.
pub(super) fn at_exit(job: &ClassAd, system: &System, now: i64) -> AtExit {
    match periodic(job, Status::TransferringOutput, system, now) {
        Verdict::Hold(why) => return AtExit::Hold(why),
        Verdict::Remove(_) => return AtExit::Leave,
        Verdict::Stay | Verdict::Release(_) | Verdict::Vacate(_) => {}
    }
    let eye = Eye { job, now };
    if let Some(why) = eye.job("OnExitHold") {
        return AtExit::Hold(why);
    }
    match job.get("OnExitRemove") {
        // Anything but a clear "no" lets the job go.
        Some(expr) if truth(&eye.eval(expr)) == Some(false) => AtExit::Requeue(format!(
            "The job attribute OnExitRemove expression '{}' evaluated to FALSE",
            expr.to_old()
        )),
        _ => AtExit::Leave,
    }
}

/// A number or boolean as a condition; `None` for everything else, which never fires.
fn truth(value: &Value) -> Option<bool> {
    value.as_bool()
}

struct Eye<'a> {
    job: &'a ClassAd,
    now: i64,
}

impl Eye<'_> {
    fn eval(&self, expr: &Expr) -> Value {
        EvalContext::new().my(self.job).now(self.now).eval(expr)
    }

    fn either(&self, name: &str, system: Option<&SystemPolicy>, knob: &str) -> Option<Why> {
        self.job(name)
            .or_else(|| system.and_then(|policy| self.system(policy, knob)))
    }

    /// An expression of the job, with its companions `...Reason` and `...SubCode`.
    fn job(&self, name: &str) -> Option<Why> {
        let expr = self.job.get(name)?;
        (truth(&self.eval(expr)) == Some(true)).then(|| self.fired(name))
    }

    fn fired(&self, name: &str) -> Why {
        let said = self.job.get(&format!("{name}Reason"));
        let reason = said.and_then(|expr| text(self.eval(expr)));
        let subcode = self.job.get(&format!("{name}SubCode"));
        let subcode = subcode.and_then(|expr| number(&self.eval(expr)));
        let source = self.job.get(name).map(Expr::to_old).unwrap_or_default();
        Why {
            reason: reason.unwrap_or_else(|| {
                format!("The job attribute {name} expression '{source}' evaluated to TRUE")
            }),
            code: code::JOB_POLICY,
            subcode: subcode.unwrap_or(0),
        }
    }

    fn system(&self, policy: &SystemPolicy, knob: &str) -> Option<Why> {
        if truth(&self.eval(&policy.when)) != Some(true) {
            return None;
        }
        let reason = policy.reason.as_ref();
        let subcode = policy.subcode.as_ref();
        Some(Why {
            reason: reason
                .and_then(|expr| text(self.eval(expr)))
                .unwrap_or_else(|| {
                    let source = policy.when.to_old();
                    format!("The system macro {knob} expression '{source}' evaluated to TRUE")
                }),
            code: code::SYSTEM_POLICY,
            subcode: subcode
                .and_then(|expr| number(&self.eval(expr)))
                .unwrap_or(0),
        })
    }

    fn too_long(&self) -> Option<Why> {
        let began = self.job.int("ShadowBday").filter(|began| *began > 0)?;
        if let Some(allowed) = self.job.int("AllowedJobDuration")
            && self.now - began >= allowed
        {
            let reason = format!(
                "The job exceeded allowed job duration of {}",
                short_time(allowed)
            );
            return Some(Why {
                reason,
                code: code::JOB_DURATION,
                subcode: 0,
            });
        }
        let allowed = self.job.int("AllowedExecuteDuration")?;
        let mut executing = self.job.int("JobCurrentStartExecutingDate")?;
        if executing < began {
            return None;
        }
        if let Some(checkpoint) = self.job.int("TransferOutFinished") {
            executing = executing.max(checkpoint);
        }
        (self.now - executing > allowed).then(|| Why {
            reason: format!(
                "The job exceeded allowed execute duration of {}",
                short_time(allowed)
            ),
            code: code::EXECUTE_DURATION,
            subcode: 0,
        })
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i32> {
    value.as_int().and_then(|value| i32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn retries_end_with_success_or_when_they_are_used_up() {
        // As condor_submit writes max_retries = 2.
        let retry = "OnExitHold = false\nJobMaxRetries = 2\n\
             OnExitRemove = NumJobCompletions > JobMaxRetries || ExitCode =?= 0\nExitBySignal = false\n";
        let after = |rest: &str| at_exit(&ad(&format!("{retry}{rest}")), &System::default(), NOW);
        assert!(matches!(
            after("ExitCode = 1\nNumJobCompletions = 2"),
            AtExit::Requeue(_)
        ));
        assert_eq!(after("ExitCode = 1\nNumJobCompletions = 3"), AtExit::Leave);
        assert_eq!(after("ExitCode = 0\nNumJobCompletions = 1"), AtExit::Leave);
    }

    #[test]
    fn an_undefined_condition_does_nothing_and_the_job_leaves() {
        let job =
            ad("OnExitHold = Nonsense > 3\nOnExitRemove = AlsoNonsense\nPeriodicRemove = \"x\"");
        assert_eq!(at_exit(&job, &System::default(), NOW), AtExit::Leave);
        assert_eq!(
            periodic(&job, Status::Idle, &System::default(), NOW),
            Verdict::Stay
        );
    }

    #[test]
    fn a_hold_says_what_the_user_wrote() {
        let job = ad(
            "OnExitHold = ExitCode == 3\nOnExitHoldReason = strcat(\"code \", ExitCode)\nOnExitHoldSubCode = 7\nExitCode = 3",
        );
        assert_eq!(
            at_exit(&job, &System::default(), NOW),
            AtExit::Hold(Why {
                reason: "code 3".to_owned(),
                code: 3,
                subcode: 7
            })
        );
    }

    #[test]
    fn a_user_s_hold_is_not_released_by_an_expression() {
        let system = System::default();
        let held = |code: i32| {
            let job = ad(&format!("PeriodicRelease = true\nHoldReasonCode = {code}"));
            periodic(&job, Status::Held, &system, NOW)
        };
        assert_eq!(held(1), Verdict::Stay);
        assert!(matches!(held(13), Verdict::Release(_)));
    }

    #[test]
    fn time_limits_count_from_the_start_of_the_run() {
        let system = System::default();
        let job = ad("AllowedJobDuration = 60\nShadowBday = 1699999950");
        assert_eq!(periodic(&job, Status::Running, &system, NOW), Verdict::Stay);
        let Verdict::Hold(why) = periodic(&job, Status::Running, &system, NOW + 10) else {
            panic!("not held");
        };
        assert_eq!((why.code, why.subcode), (46, 0));
        assert_eq!(
            periodic(&job, Status::Idle, &system, NOW + 10),
            Verdict::Stay
        );
    }

    #[test]
    fn the_administrator_s_expression_comes_after_the_job_s() {
        let system = System {
            hold: Some(SystemPolicy {
                when: Expr::parse_old("ImageSize > 100").unwrap(),
                reason: None,
                subcode: Some(Expr::parse_old("9").unwrap()),
            }),
            ..System::default()
        };
        let Verdict::Hold(why) = periodic(&ad("ImageSize = 101"), Status::Idle, &system, NOW)
        else {
            panic!("not held");
        };
        assert_eq!((why.code, why.subcode), (26, 9));
        assert!(why.reason.contains("SYSTEM_PERIODIC_HOLD"));
    }
}
