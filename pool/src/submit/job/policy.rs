//! What is to become of the job: status, notification, rank, periodic and on-exit expressions, retries, signals, times.

use classad::Expr;

use super::Job;

/// Hold code of a job submitted with `hold = true` (`htcondor:src/condor_utils/condor_holdcodes.h`,
/// `SubmittedOnHold`).
const SUBMITTED_ON_HOLD: i64 = 15;

/// Signals by name (`htcondor:src/condor_utils/sig_name.cpp`).
const SIGNALS: &[(&str, i32)] = &[
    ("SIGKILL", libc::SIGKILL),
    ("SIGCONT", libc::SIGCONT),
    ("SIGTERM", libc::SIGTERM),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGHUP", libc::SIGHUP),
    ("SIGSTOP", libc::SIGSTOP),
    ("SIGTSTP", libc::SIGTSTP),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGABRT", libc::SIGABRT),
    ("SIGALRM", libc::SIGALRM),
    ("SIGFPE", libc::SIGFPE),
    ("SIGILL", libc::SIGILL),
    ("SIGINT", libc::SIGINT),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGTTIN", libc::SIGTTIN),
    ("SIGTTOU", libc::SIGTTOU),
    ("SIGIO", libc::SIGIO),
    ("SIGBUS", libc::SIGBUS),
    ("SIGURG", libc::SIGURG),
    ("SIGPROF", libc::SIGPROF),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGSYS", libc::SIGSYS),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
];

/// Attributes that need a startd which can wait with a job.
const DEFERRING: [&str; 6] = [
    "CronMinute",
    "CronHour",
    "CronDayOfMonth",
    "CronMonth",
    "CronDayOfWeek",
    "DeferralTime",
];

impl Job<'_, '_> {
    pub(super) fn status(&mut self) {
        if self.flag("hold", None, false) {
            self.set("JobStatus", 5);
            self.set("HoldReasonCode", SUBMITTED_ON_HOLD);
            self.set("HoldReason", "submitted on hold at user's request");
        } else {
            self.set("JobStatus", 1);
        }
        let now = self.context().now;
        self.set("EnteredCurrentStatus", now);
    }

    pub(super) fn notification(&mut self) {
        let name = self.present("notification", "JobNotification");
        let text = match self.get(name) {
            Some(text) => Some(text),
            None => self
                .context()
                .knob("JOB_DEFAULT_NOTIFICATION")
                .map(str::to_owned),
        };
        let number = match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("never") => 0,
            Some("always") => 1,
            Some("complete") => 2,
            Some("error") => 3,
            Some("start") => 4,
            Some(other) => {
                self.fail(
                    name,
                    format!(
                        "notification = {other}: expected Never, Always, Complete, Start or Error"
                    ),
                );
                return;
            }
        };
        self.set("JobNotification", number);
    }

    pub(super) fn rank(&mut self) {
        let name = self.present("rank", "preferences");
        let context = self.context();
        let knob = |first: &str, second: &str| {
            context
                .knob(first)
                .or_else(|| context.knob(second))
                .map(str::to_owned)
        };
        let rank = match self.get(name) {
            Some(text) => Some(text),
            None => knob("DEFAULT_RANK_VANILLA", "DEFAULT_RANK"),
        };
        let rank = match (rank, knob("APPEND_RANK_VANILLA", "APPEND_RANK")) {
            (Some(rank), Some(more)) => Some(format!("({rank}) + ({more})")),
            (rank, more) => rank.or(more),
        };
        match rank {
            Some(rank) => self.set_expression("Rank", &rank, name),
            None => self.set("Rank", 0.0),
        }
    }

    pub(super) fn periodic(&mut self) {
        for (attribute, name) in [
            ("PeriodicHold", "periodic_hold"),
            ("PeriodicHoldReason", "periodic_hold_reason"),
            ("PeriodicHoldSubCode", "periodic_hold_subcode"),
            ("PeriodicRelease", "periodic_release"),
            ("PeriodicRemove", "periodic_remove"),
            ("PeriodicVacate", "periodic_vacate"),
            ("OnExitHoldReason", "on_exit_hold_reason"),
            ("OnExitHoldSubCode", "on_exit_hold_subcode"),
        ] {
            self.copy_expression(attribute, name);
        }
    }

    pub(super) fn leave_in_queue(&mut self) {
        if !self.copy_expression("LeaveJobInQueue", "leave_in_queue")
            && !self.has("LeaveJobInQueue")
        {
            self.set("LeaveJobInQueue", false);
        }
    }

    /// `max_retries`, `success_exit_code`, `retry_until` become one `OnExitRemove`.
    pub(super) fn retries(&mut self) {
        let retries = self.integer("max_retries", "JobMaxRetries");
        let success = self.integer("success_exit_code", "JobSuccessExitCode");
        let until = self.get("retry_until");
        if retries.is_none() && success.is_none() && until.is_none() {
            self.copy_expression("OnExitRemove", "on_exit_remove");
            self.copy_expression("OnExitHold", "on_exit_hold");
            return;
        }
        let until = match until.map(|text| self.retry_until(&text)) {
            Some(None) => return,
            Some(until) => until,
            None => None,
        };
        match retries {
            Some(retries) => self.set("JobMaxRetries", retries),
            None if self.has("JobMaxRetries") => {}
            None => {
                let default = self
                    .context()
                    .knob("DEFAULT_JOB_MAX_RETRIES")
                    .and_then(|text| self.macros().integer(text))
                    .unwrap_or(2);
                self.set("JobMaxRetries", default);
            }
        }
        if !self.copy_expression("OnExitHold", "on_exit_hold") && !self.has("OnExitHold") {
            self.set("OnExitHold", false);
        }
        if self.has("OnExitRemove") && success.is_none() && until.is_none() {
            return;
        }
        let mut remove = "NumJobCompletions > JobMaxRetries || ExitCode =?= ".to_owned();
        match success {
            Some(code) => {
                self.set("JobSuccessExitCode", code);
                remove.push_str("JobSuccessExitCode");
            }
            None => remove.push('0'),
        }
        let name = self.present("on_exit_remove", "OnExitRemove");
        let own = self.get(name);
        let own = match own.map(|text| (Expr::parse_old(&text), text)) {
            None => None,
            Some((Ok(expr), _)) => Some(expr.operand_of_or().to_old()),
            Some((Err(error), text)) => {
                self.fail(
                    name,
                    format!("{name} = {text}: expected a ClassAd expression ({error})"),
                );
                return;
            }
        };
        for part in [until, own].into_iter().flatten() {
            remove.push_str(" || ");
            remove.push_str(&part);
        }
        self.set_expression("OnExitRemove", &remove, name);
    }

    /// What `retry_until` adds: an exit code or a condition.
    fn retry_until(&mut self, text: &str) -> Option<String> {
        let expr = match Expr::parse_old(text) {
            Ok(expr) => expr,
            Err(error) => {
                self.fail(
                    "retry_until",
                    format!("retry_until = {text}: expected an exit code or a condition ({error})"),
                );
                return None;
            }
        };
        let names = expr.references();
        let plain = names.unscoped.is_empty() && names.my.is_empty() && names.target.is_empty();
        match self.macros().integer(text).filter(|_| plain) {
            Some(code) if i32::try_from(code).is_ok() => Some(format!("ExitCode =?= {code}")),
            Some(_) => {
                self.fail(
                    "retry_until",
                    format!("retry_until = {text}: expected an exit code of 32 bits"),
                );
                None
            }
            None => Some(expr.operand_of_or().to_old()),
        }
    }

    pub(super) fn signals(&mut self) {
        for (attribute, name) in [
            ("KillSig", "kill_sig"),
            ("RemoveKillSig", "remove_kill_sig"),
            ("HoldKillSig", "hold_kill_sig"),
        ] {
            let name = self.present(name, attribute);
            let Some(text) = self.get(name) else {
                continue;
            };
            let number = text.parse().unwrap_or(0);
            let found = SIGNALS
                .iter()
                .find(|(signal, value)| *value == number || signal.eq_ignore_ascii_case(&text));
            match found {
                Some((signal, _)) => self.set(attribute, *signal),
                None => self.fail(
                    name,
                    format!("{name} = {text}: expected a signal such as SIGTERM or 15"),
                ),
            }
        }
        if let Some(seconds) = self.integer("kill_sig_timeout", "KillSigTimeout") {
            self.set("KillSigTimeout", seconds);
        }
    }

    pub(super) fn deferral(&mut self) {
        self.deferral_number("deferral_time", "DeferralTime", "DeferralTime", None);
        if !self.is_deferred() {
            return;
        }
        // Defaults: htcondor:src/condor_includes/condor_attributes.h, JOB_DEFERRAL_WINDOW_DEFAULT and
        // JOB_DEFERRAL_PREP_TIME_DEFAULT.
        for (names, attribute, default) in [
            (
                [
                    "cron_window",
                    "CronWindow",
                    "deferral_window",
                    "DeferralWindow",
                ],
                "DeferralWindow",
                0,
            ),
            (
                [
                    "cron_prep_time",
                    "CronPrepTime",
                    "deferral_prep_time",
                    "DeferralPrepTime",
                ],
                "DeferralPrepTime",
                300,
            ),
        ] {
            let name = names
                .into_iter()
                .find(|name| self.macros().raw(name).is_some())
                .unwrap_or(attribute);
            self.deferral_number(name, name, attribute, Some(default));
        }
    }

    fn deferral_number(&mut self, name: &str, other: &str, attribute: &str, default: Option<i64>) {
        let name = self.present(name, other);
        let Some(text) = self.get(name) else {
            if let Some(default) = default {
                self.set(attribute, default);
            }
            return;
        };
        self.set_expression(attribute, &text, name);
        let literal = self.ad.get(attribute).and_then(Expr::as_literal);
        if literal.is_some_and(|value| value.as_int().is_none_or(|number| number < 0)) {
            self.fail(
                name,
                format!("{name} = {text}: expected a number of seconds of at least 0"),
            );
        }
    }

    /// Whether the job must wait for a time.
    pub(super) fn is_deferred(&self) -> bool {
        DEFERRING.iter().any(|attribute| self.has(attribute))
    }

    /// Attributes that follow from others, or have a default.
    pub(super) fn automatic(&mut self) {
        if !self.has("MaxHosts") {
            self.set("MinHosts", 1);
            self.set("MaxHosts", 1);
        }
        if !self.has("CurrentHosts") {
            self.set("CurrentHosts", 0);
        }
        if self.has("SuccessCheckpointExitCode") {
            self.set("WantFTOnCheckpoint", true);
        }
        if !self.has("JobLeaseDuration")
            && let Some(text) = self.context().knob("JOB_DEFAULT_LEASE_DURATION")
        {
            self.set_expression("JobLeaseDuration", text, "JOB_DEFAULT_LEASE_DURATION");
        }
        if !self.has("JobPrio") {
            self.set("JobPrio", 0);
        }
        if self.has("JobStarterLog") && !self.has("JobStarterDebug") {
            self.set("JobStarterDebug", true);
        }
        self.common_mistakes();
    }

    fn common_mistakes(&mut self) {
        if let Some(who) = self.ad.string("NotifyUser")
            && ["never", "false"].contains(&who.to_ascii_lowercase().as_str())
        {
            self.warn(
                "notify_user",
                format!(
                    "notify_user = {who} sends mail to the user {who}@{}; for no mail write notification = never",
                    self.context().uid_domain
                ),
            );
        }
        let lease = self
            .ad
            .get("JobLeaseDuration")
            .and_then(Expr::as_literal)
            .and_then(|value| value.as_int());
        if lease.is_some_and(|lease| (1..20).contains(&lease)) {
            self.warn(
                "job_lease_duration",
                "job_lease_duration is less than 20 seconds; 20 is used",
            );
            self.set("JobLeaseDuration", 20);
        }
        if let Some(length) = self.ad.int("JobMachineAttrsHistoryLength")
            && i32::try_from(length).is_ok_and(|length| length < 0)
        {
            self.fail(
                "job_machine_attrs_history_length",
                format!("job_machine_attrs_history_length = {length}: expected at least 0"),
            );
        }
    }
}
