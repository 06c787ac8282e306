//! The checks and what came of each.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use launch_protocol::broker::Refusal;
use validation::findings::FORMAT;
use validation::switching::agent::AgentError;
use validation::switching::client::ClientError;
use validation::{Check, CheckName, Entry, Failure, Outcome, Report, Setting, Severity, Verdict};

use super::ground::Ground;
use super::options::Options;
use super::sys;

/// What a check gives: an outcome, or straight away why it failed.
pub(super) type Found = Result<Outcome, Failure>;

/// Everything found so far.
#[derive(Debug)]
pub(super) struct Results {
    started: i64,
    clock: Instant,
    entries: Vec<Entry>,
}

impl Results {
    /// Starts the clock.
    pub(super) fn begin(_options: &Options) -> Self {
        Self {
            started: unix_now(),
            clock: Instant::now(),
            entries: Vec::new(),
        }
    }

    /// Runs a check, unless one of its prerequisites has not passed, or somebody has interrupted us.
    pub(super) fn run(&mut self, check: Check, look: impl FnOnce() -> Found) {
        if sys::is_interrupted() {
            self.add(check, Outcome::skipped("interrupted"));
            return;
        }
        self.run_always(check, look);
    }

    /// The same, interrupted or not: for what must be done at the end.
    pub(super) fn run_always(&mut self, check: Check, look: impl FnOnce() -> Found) {
        if let Some(missing) = check
            .prerequisites
            .iter()
            .find(|name| !self.has_passed(name))
        {
            let why = format!("{missing} has not passed");
            self.add(check, Outcome::skipped(why));
            return;
        }
        let began = Instant::now();
        let mut outcome = look().unwrap_or_else(Outcome::failed);
        outcome.elapsed = began.elapsed();
        self.add(check, outcome);
    }

    /// Adds what was found elsewhere.
    pub(super) fn add(&mut self, check: Check, outcome: Outcome) {
        self.entries.push(Entry { check, outcome });
    }

    fn has_passed(&self, name: &CheckName) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.check.name == *name && entry.outcome.is_passed())
    }

    /// The report.
    pub(super) fn report(self, ground: &Ground, options: &Options) -> Report {
        let verdict = Verdict::of(
            self.entries
                .iter()
                .map(|entry| (&entry.check, &entry.outcome)),
        );
        Report {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            elapsed: self.clock.elapsed(),
            verdict,
            node: ground.node.clone(),
            settings: settings(options),
            entries: self.entries,
        }
    }
}

fn settings(options: &Options) -> Vec<Setting> {
    let setting = |knob: &str, value: String, unit: &str, default: bool| Setting {
        knob: knob.to_owned(),
        value,
        unit: unit.to_owned(),
        default,
    };
    vec![
        setting("--helper", options.helper.display().to_string(), "", false),
        setting("--config", options.config.display().to_string(), "", false),
        setting(
            "--storm",
            options.storm.to_string(),
            "",
            options.storm == 32,
        ),
        setting(
            "--limit",
            options.limit.to_string(),
            "s",
            options.limit == 10,
        ),
    ]
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(super) fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|time| i64::try_from(time.as_secs()).ok())
        .unwrap_or(0)
}

/// A check whose failure is a failure of the node.
pub(super) fn check(name: &str, about: &str) -> Check {
    Check::new(name, about)
}

/// A check whose failure is worth a word only.
pub(super) fn warning(name: &str, about: &str) -> Check {
    Check::new(name, about).severity(Severity::Warn)
}

/// A refusal of the helper where none was expected.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let failure = Failure::site(
        format!("the helper refused ({}): {}", refusal.code, refusal.message),
        advice(&refusal.code),
    );
    if refusal.may_succeed_later {
        failure.transient()
    } else {
        failure
    }
}

/// The same for everything that a client of the helper meets.
pub(super) fn client(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused(refusal) => refused(refusal),
        ClientError::Version(_) => Failure::site(
            error.to_string(),
            "install helper and sailplane-site-test of one release (examples/site/install)",
        ),
        ClientError::Spawn { .. } => Failure::site(error.to_string(), "see helper-installed"),
        other => Failure::site(
            other.to_string(),
            "look into the helper's log: the system log (authpriv), or log_file of the configuration",
        ),
    }
}

/// The same for the agent in the sandbox.
pub(super) fn agent(error: &AgentError) -> Failure {
    match error {
        AgentError::Client(error) => client(error),
        other => Failure::site(
            other.to_string(),
            "see that every folder on the way to the sandbox can be entered by everybody (mode 0755), and that its file \
             system allows programs to be run (no noexec)",
        ),
    }
}

/// What helps against a refusal, by its code.
pub(super) fn advice(code: &str) -> &'static str {
    let (family, _) = code.split_once('.').unwrap_or((code, ""));
    match (code, family) {
        ("startup.setuid", _) => "chown root:root the helper, then chmod 4755",
        ("startup.nosuid", _) => "install the helper on a file system that is not mounted nosuid",
        ("startup.no_new_privs", _) => {
            "start this program where no_new_privs is not set: not in a container or a systemd unit with NoNewPrivileges"
        }
        ("startup.userns", _) => {
            "start this program in the host's own user namespace, not in a container's"
        }
        ("caller.not_listed", _) => {
            "name the account in user_white_list, or give a listed one with --as"
        }
        ("caller.executable", _) => {
            "name this program's path in caller_executables for the time of the test"
        }
        ("caller.unfit", _) => "give pilots and payloads separate accounts",
        ("map.none", _) => "add a line for this name to a map file, or a step to mapping",
        ("map.account_missing", _) => "make the account, or name another one in the map file",
        ("map.account_unfit", _) => {
            "name an account that target_uid_min, target_uid_max, account_prefixes and forbidden_accounts allow"
        }
        ("policy.missing" | "verifier.missing", _) => {
            "install all programs of the helper again (examples/site/install)"
        }
        ("lease.none" | "pool.none", _) => {
            "wait until an account is free, or widen dynamic_uids or the pool"
        }
        ("time.closed", _) => "try again in the hours of allowed_hours",
        ("pilot.missing", _) => "give the pilot's own credential with --pilot-credential",
        (_, "conf" | "policy") => {
            "run `sailplane-policy check` on the configuration, and see that root alone can write it and all it names"
        }
        (_, "ban") => "remove the line from the ban list, if the ban is over",
        (_, "trust" | "namespace" | "crl" | "ca" | "chain") => {
            "look at the CA files in certdir: are they complete and current (fetch-crl)?"
        }
        (_, "proxy" | "cert" | "bundle") => {
            "make a new credential with grid-proxy-init or voms-proxy-init"
        }
        (_, "execdir") => {
            "name the folder in execute_dirs; it must belong to the pilots' account or be like /tmp (mode 1777)"
        }
        (_, "hook") => "look at prologue and epilogue of the configuration",
        _ => {
            "look into the helper's log: the system log (authpriv), or log_file of the configuration"
        }
    }
}
