//! The life of a payload under each account: launch, failure to launch, signals, suspension, accounting, kill, clean-up.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Opened, Purpose, SignalScope};
use nix::sys::signal::Signal;
use validation::switching::agent::AgentError;
use validation::{Failure, Outcome, Threshold};

use super::ground;
use super::inventory;
use super::mappings::{Fate, Runnable};
use super::options::Options;
use super::results::{self, Found, Results, check};
use super::session::Session;
use super::shell::{self, Lines};

/// One account after the other.
pub(super) fn examine(
    results: &mut Results,
    session: &mut Session<'_>,
    accounts: &[Runnable],
    options: &Options,
) {
    if accounts.is_empty() {
        results.run(
            check("launch", "payloads under the accounts of the site").needs("helper-starts"),
            || Ok(Outcome::skipped("no credential is accepted with which one could be started: give some with --credential, or --test-ca and --expect")),
        );
        return;
    }
    let _ = options;
    let mut had_dynamic = false;
    for account in accounts {
        // One number is like the other.
        if account.fate == Fate::Dynamic && std::mem::replace(&mut had_dynamic, true) {
            continue;
        }
        one(results, session, account);
    }
}

fn one(results: &mut Results, session: &mut Session<'_>, account: &Runnable) {
    let name = &account.name;
    let mut opened = None;
    results.run(
        check(
            &format!("open-{name}"),
            "an account, a sandbox and a group for a payload",
        )
        .needs("helper-starts"),
        || open(session, account, &mut opened),
    );
    let Some(opened) = opened else {
        return;
    };
    let before = inventory::processes_of(opened.uid);
    let ready = format!("launch-{name}");
    let life = Life {
        opened: &opened,
        before: &before,
        owner_is_alone: opened.lease != "account",
    };
    results.run(
        check(
            &ready,
            "a script runs as the account, with its input, output and environment",
        ),
        || life.launch(session),
    );
    type Step<'a> = &'a dyn Fn(&mut Session<'_>) -> Found;
    let steps: [(&str, &str, Step<'_>); 5] = [
        (
            "exec-failure",
            "a program that cannot be executed is named",
            &|session| life.exec_failure(session),
        ),
        (
            "signal",
            "a signal reaches the payload, which can end by itself",
            &|session| life.signal(session),
        ),
        (
            "suspend",
            "all processes stop when suspended, and go on",
            &|session| life.suspend(session),
        ),
        (
            "usage",
            "processor time and memory are accounted for",
            &|session| life.usage(session),
        ),
        (
            "kill",
            "processes that ignore signals and leave their session are killed",
            &|session| life.kill(session),
        ),
    ];
    for (word, about, step) in steps {
        results.run(
            check(&format!("{word}-{name}"), about).needs(&ready),
            || step(session),
        );
    }
    results.run(
        check(
            &format!("clean-up-{name}"),
            "nothing of the payload is left when it is closed",
        )
        .needs(&ready),
        || life.clean_up(session),
    );
}

fn open(session: &mut Session<'_>, account: &Runnable, into: &mut Option<Opened>) -> Found {
    if account.fate == Fate::Pool(None) && !session.ground.is_root {
        return Ok(Outcome::skipped(
            "it would lease a pool account for good, which only root can undo: run this as root",
        ));
    }
    let began = Instant::now();
    let opened = session
        .open(&account.credential, Purpose::Run)
        .map_err(|error| results::client(&error))?;
    let took = began.elapsed();
    let sandbox = opened.sandbox_path().to_owned();
    let outcome = Outcome::passed()
        .text("account", opened.account.clone())
        .number("uid", f64::from(opened.uid), "", None)
        .number("time", took.as_secs_f64() * 1000.0, "ms", None);
    // Closed by clean-up, or at the end of the helper.
    let number = opened.uid;
    *into = Some(opened);
    let facts = fs::symlink_metadata(&sandbox).map_err(|error| {
        Failure::site(
            format!(
                "the sandbox {}: {}",
                sandbox.display(),
                ground::words(&error)
            ),
            HELPER,
        )
    })?;
    if facts.uid() != number || facts.mode() & 0o7777 != 0o700 {
        return Err(Failure::site(
            format!(
                "the sandbox {} belongs to uid {} with mode {:04o} instead of {number} with 0700",
                sandbox.display(),
                facts.uid(),
                facts.mode() & 0o7777
            ),
            HELPER,
        ));
    }
    Ok(outcome)
}

const HELPER: &str =
    "install the helper again; if that does not help, report this with the helper's log";

/// A payload that is open.
struct Life<'a> {
    opened: &'a Opened,
    /// Processes that the account had before.
    before: &'a BTreeSet<u32>,
    /// Nothing else runs as this account.
    owner_is_alone: bool,
}

fn failed(why: impl Into<String>) -> Failure {
    Failure::site(why, HELPER)
}

impl Life<'_> {
    fn start(&self, session: &mut Session<'_>, script: &str) -> Result<shell::Running, Failure> {
        let client = session.client().map_err(|error| results::client(&error))?;
        shell::start(client, self.opened.payload, script).map_err(|error| {
            if let AgentError::Client(error) = &error {
                session.put_aside(error);
            }
            results::agent(&error)
        })
    }

    /// Waits for the end of everything; the wait status of the script.
    fn end(&self, session: &mut Session<'_>) -> Result<i32, Failure> {
        let limit = session.limit;
        let client = session.client().map_err(|error| results::client(&error))?;
        match client.empty(self.opened.payload, limit) {
            Ok(status) => Ok(status.unwrap_or(-1)),
            Err(error) => {
                session.put_aside(&error);
                Err(results::client(&error))
            }
        }
    }

    fn launch(&self, session: &mut Session<'_>) -> Found {
        const SCRIPT: &str =
            "id -u; id -g; id -G; pwd; echo \"$GREETING\"; umask; cat; echo trouble >&2; exit 7";
        let began = Instant::now();
        let running = self.start(session, SCRIPT)?;
        let took = began.elapsed();
        let (output, errors) = running.say("read me\n");
        let status = self.end(session)?;
        let (output, errors) = (output.rest(session.limit), errors.rest(session.limit));
        let lines: Vec<&str> = output.lines().collect();
        let [uid, gid, groups, folder, greeting, mask, input] = lines.as_slice() else {
            return Err(failed(format!(
                "the script did not do what it should; it said {:?} and {:?}, wait status {status}",
                output.trim(),
                errors.trim()
            )));
        };
        let wanted = [
            ("the user number", *uid, self.opened.uid.to_string()),
            ("the group number", *gid, self.opened.gid.to_string()),
            (
                "the working folder",
                *folder,
                self.opened.sandbox_path().display().to_string(),
            ),
            ("the environment", *greeting, "good morning".to_owned()),
            ("standard input", *input, "read me".to_owned()),
            ("standard error", errors.trim(), "trouble".to_owned()),
            (
                "the exit status",
                &(status >> 8).to_string(),
                "7".to_owned(),
            ),
        ];
        for (what, got, should) in wanted {
            if got != should {
                return Err(failed(format!(
                    "{what} of the payload is {got:?} instead of {should:?}"
                )));
            }
        }
        if !mask.ends_with("022") {
            return Err(failed(format!(
                "the payload's umask is {mask} instead of 0022"
            )));
        }
        if *uid == "0" || groups.split(' ').any(|group| group == "0") {
            return Err(failed(format!(
                "the payload has rights of root: uid {uid}, groups {groups}"
            )));
        }
        Ok(Outcome::passed().text("groups", *groups).number(
            "time",
            took.as_secs_f64() * 1000.0,
            "ms",
            None,
        ))
    }

    fn exec_failure(&self, session: &mut Session<'_>) -> Found {
        const MISSING: &str = "/nonexistent/sailplane-site-test";
        let client = session.client().map_err(|error| results::client(&error))?;
        let answer = shell::become_program(client, self.opened.payload, MISSING, &["x"]);
        self.end(session)?;
        match answer {
            Err(AgentError::Exec(failure)) if failure.path.to_string_lossy() == MISSING => {
                Ok(Outcome::passed().text("said", failure.message))
            }
            Err(error) => Err(results::agent(&error)),
            Ok(_) => Err(failed(format!(
                "{MISSING} does not exist, and yet it was started"
            ))),
        }
    }

    fn signal(&self, session: &mut Session<'_>) -> Found {
        let limit = session.limit;
        let mut running = self.start(
            session,
            "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done",
        )?;
        self.expect(&mut running.output, "ready", limit)?;
        let began = Instant::now();
        self.send(session, Signal::SIGTERM, SignalScope::Leader)?;
        let status = self.end(session)?;
        if status >> 8 != 5 {
            return Err(failed(format!(
                "SIGTERM did not reach the script: its wait status is {status}"
            )));
        }
        Ok(Outcome::passed().number("time", began.elapsed().as_secs_f64() * 1000.0, "ms", None))
    }

    fn suspend(&self, session: &mut Session<'_>) -> Found {
        let limit = session.limit;
        // Two that talk: one in a session of its own.
        let script = "setsid sh -c 'while :; do echo child; sleep 0.02; done' & while :; do echo parent; sleep 0.02; done";
        let mut running = self.start(session, script)?;
        if running.output.line(limit).is_none() {
            return Err(failed("the script did not begin to talk"));
        }
        let began = Instant::now();
        self.send(session, Signal::SIGSTOP, SignalScope::All)?;
        let quiet = Duration::from_millis(150);
        while !running.output.is_quiet(quiet) {
            if began.elapsed() > limit {
                self.kill_all(session)?;
                return Err(failed(format!(
                    "processes still ran {} s after they were suspended",
                    limit.as_secs()
                )));
            }
        }
        let stopped = began.elapsed().saturating_sub(quiet);
        self.send(session, Signal::SIGCONT, SignalScope::All)?;
        let went_on = running.output.line(limit).is_some();
        self.kill_all(session)?;
        if !went_on {
            return Err(failed(
                "the processes did not go on after they were suspended",
            ));
        }
        Ok(Outcome::passed()
            .text("how", session.hello.tracking.clone())
            .number("time", stopped.as_secs_f64() * 1000.0, "ms", None))
    }

    fn usage(&self, session: &mut Session<'_>) -> Found {
        self.start(session, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")?;
        self.end(session)?;
        let client = session.client().map_err(|error| results::client(&error))?;
        let usage = client
            .usage(self.opened.payload)
            .map_err(|error| results::client(&error))?;
        if usage.user_usec + usage.system_usec == 0 || usage.wall_usec == 0 {
            return Err(failed(
                "the payload has computed, and no time is accounted for",
            ));
        }
        if usage.processes != 0 {
            return Err(failed(format!(
                "{} processes are counted after all have ended",
                usage.processes
            )));
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let (cpu, peak) = (
            (usage.user_usec + usage.system_usec) as f64 / 1000.0,
            usage.memory_peak_bytes as f64 / 1_048_576.0,
        );
        Ok(Outcome::passed()
            .number("cpu", cpu, "ms", None)
            .number("memory_peak", peak, "MiB", None)
            .text("memory_source", usage.memory_source))
    }

    fn kill(&self, session: &mut Session<'_>) -> Found {
        let limit = session.limit;
        let script = "trap '' TERM HUP INT QUIT; setsid sh -c \"trap '' TERM HUP; sleep 6021 & sleep 6021\" & \
                      nohup sleep 6021 >/dev/null 2>&1 & echo ready; while :; do sleep 1; done";
        let mut running = self.start(session, script)?;
        self.expect(&mut running.output, "ready", limit)?;
        let began = Instant::now();
        self.kill_all(session)?;
        let took = began.elapsed();
        self.nobody_left()?;
        Ok(Outcome::passed().number(
            "time",
            took.as_secs_f64() * 1000.0,
            "ms",
            Some(Threshold::AtMost(limit.as_secs_f64() * 1000.0)),
        ))
    }

    fn clean_up(&self, session: &mut Session<'_>) -> Found {
        let limit = session.limit;
        let script = "mkdir -p deep/deeper; echo x > deep/deeper/file; ln -s /etc/passwd deep/link; chmod 000 deep/deeper; \
                      chmod 500 deep; setsid sleep 6021 >/dev/null 2>&1 & echo ready; exit 0";
        let mut running = self.start(session, script)?;
        self.expect(&mut running.output, "ready", limit)?;
        let began = Instant::now();
        let client = session.client().map_err(|error| results::client(&error))?;
        if let Err(error) = client.close(self.opened.payload) {
            session.put_aside(&error);
            return Err(results::client(&error));
        }
        let took = began.elapsed();
        let sandbox: PathBuf = self.opened.sandbox_path().to_owned();
        if fs::symlink_metadata(&sandbox).is_ok() {
            return Err(failed(format!(
                "the sandbox {} is still there",
                sandbox.display()
            )));
        }
        self.nobody_left()?;
        Ok(Outcome::passed().number("time", took.as_secs_f64() * 1000.0, "ms", None))
    }

    /// No process of the account that was not there before.
    fn nobody_left(&self) -> Result<(), Failure> {
        if !self.owner_is_alone {
            // Somebody else may use it, and have started something meanwhile.
            return Ok(());
        }
        let now = inventory::processes_of(self.opened.uid);
        let left: Vec<String> = now
            .difference(self.before)
            .map(ToString::to_string)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(failed(format!(
            "processes of {} are left: {}",
            self.opened.account,
            left.join(", ")
        )))
    }

    fn expect(&self, output: &mut Lines, word: &str, limit: Duration) -> Result<(), Failure> {
        match output.line(limit) {
            Some(line) if line == word => Ok(()),
            Some(line) => Err(failed(format!(
                "the script said {line:?} instead of {word:?}"
            ))),
            None => Err(failed(format!(
                "the script said nothing within {} s",
                limit.as_secs()
            ))),
        }
    }

    fn send(
        &self,
        session: &mut Session<'_>,
        signal: Signal,
        scope: SignalScope,
    ) -> Result<(), Failure> {
        let client = session.client().map_err(|error| results::client(&error))?;
        client
            .signal(self.opened.payload, signal as i32, scope)
            .map_err(|error| results::client(&error))
    }

    fn kill_all(&self, session: &mut Session<'_>) -> Result<(), Failure> {
        let client = session.client().map_err(|error| results::client(&error))?;
        client
            .kill(self.opened.payload)
            .map_err(|error| results::client(&error))?;
        self.end(session).map(drop)
    }
}
