//! What is played in the payload. Each scenario says what works by passing, and what does not in one sentence.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::broker::SignalScope;
use launch_protocol::exec::ExecStep;
use nix::unistd::geteuid;

use super::agent::AgentError;
use super::client::ClientError;
use super::policy::Account;
use super::stage::{PATIENCE, Stage, StageError};
use crate::outcome::{Failure, Outcome, Threshold, Whose};

/// What every job's shell has to say in the end.
const GREETING: &str = "Hello World";
/// A suspended payload has to be silent for so long, with room in the pipe that it fills otherwise.
const SILENCE: Duration = Duration::from_millis(25);
/// What was on its way when a payload was suspended may come for so long, ms.
const LAST_WORDS: u8 = 5;
/// Longest time from the order to the signal that a program runs, once its helper is there.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A scenario.
pub(super) type Scenario = fn(&mut Stage) -> Result<Outcome, StageError>;

/// All of them, in their order: name, what for, code.
pub(super) const ALL: [(&str, &str, Scenario); 10] = [
    (
        "switch-shell",
        "a shell with id and a greeting, as the account of a job",
        shell,
    ),
    (
        "switch-script",
        "a script of the pilot's, as the account of a job",
        script,
    ),
    (
        "switch-credential",
        "the credential handed over to the job",
        credential,
    ),
    (
        "switch-stdio",
        "standard streams, arguments and environment",
        stdio,
    ),
    (
        "switch-exec-failure",
        "a program that cannot be executed is reported",
        exec_failure,
    ),
    (
        "switch-linger",
        "a program that runs is reported at once, whatever lingers",
        linger,
    ),
    (
        "switch-suspend",
        "suspending and resuming all of a job",
        suspend,
    ),
    (
        "switch-kill",
        "killing all of a job, whatever it does to escape",
        kill,
    ),
    (
        "switch-accounting",
        "what a job has used is counted",
        accounting,
    ),
    ("switch-clean", "nothing is left of a job", clean),
];

fn site(why: String, hint: &str) -> Outcome {
    Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
}

fn shell(stage: &mut Stage) -> Result<Outcome, StageError> {
    let ran = stage.shell(&format!("id -u && id -g && id && echo '{GREETING}'"))?;
    Ok(judge_shell(
        &String::from_utf8_lossy(&ran.stdout),
        &ran.words(),
        (stage.opened.uid, stage.opened.gid),
        stage.account,
        geteuid().as_raw(),
    ))
}

/// Whether the shell was who it should have been.
fn judge_shell(
    said: &str,
    words: &str,
    promised: (u32, u32),
    account: Account,
    us: u32,
) -> Outcome {
    let mut lines = said.lines();
    let uid: Option<u32> = lines.next().and_then(|line| line.parse().ok());
    let gid: Option<u32> = lines.next().and_then(|line| line.parse().ok());
    let id = lines.next().unwrap_or("").to_owned();
    let is_greeted = lines.next() == Some(GREETING) && lines.next().is_none();
    let (Some(uid), Some(gid), true) = (uid, gid, is_greeted) else {
        return site(
            format!("a shell in the account of a job does not run to its end: {words}"),
            "run `/bin/sh -c 'id && echo Hello World'` as the account by hand: its shell, libraries or limits are broken",
        );
    };
    let outcome = if uid == 0 {
        site(
            "a job would run as root".to_owned(),
            "take root out of the helper's maps (grid-mapfile and others that /etc/sailplane/switch.conf names), now",
        )
    } else if account == Account::Other && uid == us {
        site(
            format!("a job would run as the pilot itself (uid {uid}): the account is not changed"),
            "let the site's map give other accounts to jobs than to pilots; a gLExec may be installed without its setuid bit",
        )
    } else if (uid, gid) != promised && account == Account::Other {
        site(
            format!(
                "a job runs as uid {uid}, gid {gid}, and the helper said uid {}, gid {}",
                promised.0, promised.1
            ),
            "look at the name service of the node (`getent passwd`), which gives different answers",
        )
    } else {
        Outcome::passed()
    };
    outcome.text("id", id)
}

/// A file of ours that is removed at the end.
struct Ours(PathBuf);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn script(stage: &mut Stage) -> Result<Outcome, StageError> {
    let text = format!("#!/bin/sh\nid -u\necho '{GREETING}'\n");
    // Jobs in namespaces do not see the pilot's work folder, so that theirs has to do.
    let is_inside = stage.account == Account::Own
        || stage
            .hello
            .features
            .iter()
            .any(|feature| feature == "chroot");
    let (path, _ours) = if is_inside {
        let name = Path::new("switch-script");
        let mut agent = stage.client.agent(stage.opened.payload)?;
        agent.create(name, 0o755)?.write_all(text.as_bytes())?;
        drop(agent);
        // The agent ends, and is reported.
        stage.client.empty(stage.opened.payload, PATIENCE)?;
        (stage.sandbox().join(name), None)
    } else {
        let path = stage
            .execute
            .join(format!(".sailplane-check-script-{}", std::process::id()));
        let made = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&path);
        let ours = Ours(path.clone());
        let written = made
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        if let Err(error) = written {
            return Ok(Outcome::skipped(format!(
                "a script cannot be written into {}: {error}",
                stage.execute.display()
            )));
        }
        (path, Some(ours))
    };
    let words = path.to_string_lossy().into_owned();
    match stage.run(&[&words], &[], b"") {
        Ok(ran) if String::from_utf8_lossy(&ran.stdout).lines().last() == Some(GREETING) => {
            Ok(Outcome::passed())
        }
        Ok(ran) => Ok(site(
            format!(
                "the script {words} does not do what it says in the account of a job: {}",
                ran.words()
            ),
            "look at /bin/sh, and at what the file system does with scripts",
        )),
        Err(StageError::Agent(AgentError::Exec(failure))) => Ok(site(
            format!(
                "the account of a job cannot execute a script of the pilot's: {}: {}",
                failure.path.display(),
                failure.message
            ),
            "open the directories above it to everybody (o+x; see the check switch-path), and mount them without noexec",
        )),
        Err(error) => Err(error),
    }
}

fn credential(stage: &mut Stage) -> Result<Outcome, StageError> {
    if stage.credential.is_empty() {
        return Ok(Outcome::skipped("there is no credential to hand over"));
    }
    let name = Path::new("switch-credential.pem");
    let mut agent = stage.client.agent(stage.opened.payload)?;
    agent.create(name, 0o600)?.write_all(&stage.credential)?;
    drop(agent);
    stage.client.empty(stage.opened.payload, PATIENCE)?;
    let path = stage.sandbox().join(name).to_string_lossy().into_owned();
    let line = "stat -c '%u %a' \"$X509_USER_PROXY\" >&2 && cat \"$X509_USER_PROXY\"";
    let ran = stage.run(&["/bin/sh", "-c", line], &[("X509_USER_PROXY", &path)], b"")?;
    let rights = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    let expected = format!("{} 600", inside_uid(stage));
    Ok(if ran.stdout != stage.credential {
        site(
            format!(
                "the job cannot read the credential that was handed over to it: {}",
                ran.words()
            ),
            "look at the file system of the work folder (EXECUTE): SELinux, or a network file system with its own idea of accounts, \
             may forbid it",
        )
    } else if rights != expected && stage.account == Account::Other {
        site(
            format!(
                "the job's credential has owner and mode {rights:?}, and they should be {expected:?}"
            ),
            "look at the file system of the work folder: it has to keep owners and modes",
        )
    } else {
        Outcome::passed()
    })
}

const fn inside_uid(stage: &Stage) -> u32 {
    stage.opened.uid
}

fn stdio(stage: &mut Stage) -> Result<Outcome, StageError> {
    // What shells and environment wrappers have lost in their time: blanks, quotes, newlines, other scripts.
    let value = "two  blanks, 'quotes\" $x `y`,\nnewline, \u{e9}\u{4e2d}";
    let input = b"from the pilot's pipe\nwithout a last newline";
    let line = "cat; printf %s \"$SWITCH_TRIAL|$1|$2\" >&2";
    let words = ["/bin/sh", "-c", line, "sh", "", "-n a  b"];
    let ran = stage.run(&words, &[("SWITCH_TRIAL", value)], input)?;
    let expected = format!("{value}||-n a  b");
    let lost = if ran.stdout != input {
        Some("standard input and output")
    } else if ran.stderr != expected.as_bytes() {
        Some("arguments and environment")
    } else if !ran.is_success() {
        Some("the exit status")
    } else {
        None
    };
    Ok(match lost {
        None => Outcome::passed(),
        Some(what) => site(
            format!("{what} of a job do not come through: {}", ran.words()),
            "look at what stands between pilot and job: wrappers, prologues, the account's shell",
        ),
    })
}

fn exec_failure(stage: &mut Stage) -> Result<Outcome, StageError> {
    let missing = stage
        .sandbox()
        .join("no-such-program")
        .to_string_lossy()
        .into_owned();
    let came = stage.start(&[&missing], &[], b"");
    Ok(match came {
        Err(StageError::Agent(AgentError::Exec(failure)))
            if failure.errno == libc::ENOENT && failure.step == ExecStep::Exec =>
        {
            // The agent goes, and says so.
            stage.client.empty(stage.opened.payload, PATIENCE)?;
            Outcome::passed().text("said", failure.message)
        }
        Err(StageError::Agent(AgentError::Exec(failure))) => Outcome::failed(Failure::new(
            Whose::Pilot,
            format!(
                "a program that is not there is reported as another failure: {}",
                failure.message
            ),
            "report it to the authors of the helper",
        )),
        Err(error) => return Err(error),
        Ok(_) => Outcome::failed(Failure::new(
            Whose::Pilot,
            "a program that is not there is reported as running",
            "report it to the authors of the helper",
        )),
    })
}

fn linger(stage: &mut Stage) -> Result<Outcome, StageError> {
    let running = stage.start(&["/bin/sh", "-c", "exec sleep 600"], &[], b"")?;
    // Something of the payload's still holds its streams, and every helper in between is there: the signal came all the
    // same, and nothing has ended.
    let ended = stage.client.event(Duration::from_millis(1))?;
    let payload = stage.opened.payload;
    stage.client.kill(payload)?;
    if ended.is_none() {
        stage.client.empty(payload, PATIENCE)?;
    }
    let took = running.started_in;
    let outcome = if ended.is_some() {
        site(
            "a program that should run for minutes ended at once".to_owned(),
            "look for what kills processes of the job's account: limits (`ulimit -t`), a watchdog of the site, the kernel for want of \
             memory (`dmesg`)",
        )
    } else if took > START_LIMIT {
        site(
            format!(
                "a program is reported as running only after {:.1} s",
                took.as_secs_f64()
            ),
            "look for what delays it: a slow file system, name service, or prologue",
        )
    } else {
        Outcome::passed()
    };
    let limit = START_LIMIT.as_secs_f64() * 1000.0;
    Ok(outcome.number(
        "start",
        (took.as_secs_f64() * 1e4).round() / 10.0,
        "ms",
        Some(Threshold::AtMost(limit)),
    ))
}

fn suspend(stage: &mut Stage) -> Result<Outcome, StageError> {
    let payload = stage.opened.payload;
    // Two processes, of which one has left session and process group. Both write as much as is read: whichever is not
    // suspended writes at once when there is room.
    let line = "(setsid sh -c 'while :; do echo y; done') & while :; do echo x; done";
    let mut running = stage.start(&["/bin/sh", "-c", line], &[], b"")?;
    let is_alive = running.stdout.says_something(PATIENCE)?;
    stage
        .client
        .signal(payload, libc::SIGSTOP, SignalScope::All)?;
    running.stdout.discard();
    nix::poll::poll(&mut [], LAST_WORDS).map_err(std::io::Error::from)?;
    running.stdout.discard();
    let is_silent = !running.stdout.says_something(SILENCE)?;
    stage
        .client
        .signal(payload, libc::SIGCONT, SignalScope::All)?;
    let is_back = running.stdout.says_something(PATIENCE)?;
    // What is suspended has to be killable, too.
    stage
        .client
        .signal(payload, libc::SIGSTOP, SignalScope::All)?;
    stage.client.kill(payload)?;
    let gone = stage.client.empty(payload, PATIENCE);
    let hint = "look at the control groups of the node (freezer), and at the helper's log (`journalctl -t sailplane-switch`)";
    Ok(match (is_alive, is_silent, is_back, gone) {
        (true, true, true, Ok(_)) => Outcome::passed(),
        (false, ..) => site(
            "a job that should speak does not".to_owned(),
            "see what processes of the job's account wait for (`ps -o pid,stat,wchan,cmd -u ACCOUNT`); the helper's log says which \
             account it was",
        ),
        (_, false, ..) => site("a job goes on while it is suspended".to_owned(), hint),
        (_, _, false, _) => site("a job that was suspended does not go on".to_owned(), hint),
        (.., Err(ClientError::Timeout(_))) => {
            site("a suspended job cannot be killed".to_owned(), hint)
        }
        (.., Err(error)) => return Err(error.into()),
    })
}

fn kill(stage: &mut Stage) -> Result<Outcome, StageError> {
    let payload = stage.opened.payload;
    let line = "trap '' TERM HUP INT QUIT; (trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600' & sleep 600) & \
                (sleep 600 &) ; echo ready; while :; do sleep 600; done";
    let mut running = stage.start(&["/bin/sh", "-c", line], &[], b"")?;
    let is_ready = running.stdout.line()? == b"ready\n";
    let before = stage.client.usage(payload)?.processes;
    let began = std::time::Instant::now();
    stage.client.kill(payload)?;
    let hint = "look at the helper's log (`journalctl -t sailplane-switch`); processes that hang in the kernel (state D) wait for a file system";
    match stage.client.empty(payload, PATIENCE) {
        Ok(_) => {}
        Err(ClientError::Timeout(_)) => {
            let left = stage.client.usage(payload)?.processes;
            return Ok(site(
                format!("{left} processes of a job survive its being killed"),
                hint,
            ));
        }
        Err(error) => return Err(error.into()),
    }
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let left = stage.client.usage(payload)?.processes;
    let outcome = if left > 0 {
        site(
            format!("{left} processes of a job survive its being killed"),
            hint,
        )
    } else if !is_ready {
        site(
            "a job that should speak does not".to_owned(),
            "see what processes of the job's account wait for (`ps -o pid,stat,wchan,cmd -u ACCOUNT`); the helper's log says which \
             account it was",
        )
    } else {
        Outcome::passed()
    };
    Ok(outcome
        .number("killed", f64::from(before), "", None)
        .number("kill_time", (took * 10.0).round() / 10.0, "ms", None))
}

fn accounting(stage: &mut Stage) -> Result<Outcome, StageError> {
    let payload = stage.opened.payload;
    let before = stage.client.usage(payload)?;
    let mut counted = None;
    // An orphan does the work, so that waiting for children alone would not see it. Control groups count every
    // microsecond; where there are none, ticks of a hundredth of a second are counted, and it has to be more.
    for rounds in [1000, 30_000] {
        let line =
            format!("(i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); done; echo done) & exit 0");
        let ran = stage.shell(&line)?;
        let after = stage.client.usage(payload)?;
        let cpu = (after.user_usec + after.system_usec)
            .saturating_sub(before.user_usec + before.system_usec);
        let is_enough = cpu > 0 || ran.stdout != b"done\n";
        counted = Some((ran, after, cpu));
        if is_enough {
            break;
        }
    }
    let Some((ran, after, cpu)) = counted else {
        return Ok(Outcome::skipped("nothing was tried"));
    };
    let hint = "look at the control groups of the node, and at what the helper says of tracking and memory in its log";
    let outcome = if ran.stdout != b"done\n" {
        site(
            format!(
                "a job that calculates does not run to its end: {}",
                ran.words()
            ),
            hint,
        )
    } else if cpu == 0 {
        site("the CPU time of a job is not counted".to_owned(), hint)
    } else if after.wall_usec == 0 {
        site("the time of a job is not counted".to_owned(), hint)
    } else if after.memory_peak_bytes == 0 && !after.memory_source.is_empty() {
        site(
            format!(
                "the memory of a job is not counted, though the helper says that it is ({})",
                after.memory_source
            ),
            hint,
        )
    } else {
        Outcome::passed()
    };
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let float = |number: u64| number as f64;
    Ok(outcome
        .number("cpu_time", float(cpu) / 1000.0, "ms", None)
        .number(
            "memory_peak",
            float(after.memory_peak_bytes >> 10),
            "KiB",
            None,
        )
        .text("memory_source", after.memory_source))
}

fn clean(stage: &mut Stage) -> Result<Outcome, StageError> {
    let payload = stage.opened.payload;
    let sandbox = stage.sandbox().to_owned();
    // What is hard to remove, and something that would rather stay.
    let line = "mkdir -p a/b/c && echo x > a/b/c/file && chmod 0 a/b/c/file a/b/c a/b && (setsid sleep 600 >/dev/null 2>&1 &); echo ready";
    let mut running = stage.start(&["/bin/sh", "-c", line], &[], b"")?;
    let is_ready = running.stdout.line()? == b"ready\n";
    let hint = "look at the helper's log (`journalctl -t sailplane-switch`); remove what is left as root (`sailplane-switch --sweep`)";
    let outcome = match stage.client.close(payload) {
        Err(ClientError::Refused(refusal)) => site(
            format!("something of a job is left: {}", refusal.message),
            hint,
        ),
        Err(error) => return Err(error.into()),
        Ok(()) if sandbox.exists() => site(
            format!("the sandbox of a job is left: {}", sandbox.display()),
            hint,
        ),
        Ok(()) if !is_ready => site(
            "a job that makes files does not run to its end".to_owned(),
            hint,
        ),
        Ok(()) => Outcome::passed(),
    };
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_has_to_be_who_it_was_said_to_be() {
        let said = "300001\n300001\nuid=300001 gid=300001 groups=300001\nHello World\n";
        let judged = |said: &str, promised, account, us| {
            judge_shell(said, "exit status 0", promised, account, us)
        };
        assert!(judged(said, (300_001, 300_001), Account::Other, 990).is_passed());
        let why = |outcome: Outcome| outcome.failure().unwrap().why.clone();
        assert!(
            why(judged(said, (300_002, 300_001), Account::Other, 990))
                .contains("the helper said uid 300002")
        );
        assert!(
            why(judged(said, (300_001, 300_001), Account::Other, 300_001))
                .contains("as the pilot itself")
        );
        assert!(judged(said, (300_001, 300_001), Account::Own, 300_001).is_passed());
        let root = "0\n0\nuid=0\nHello World\n";
        assert!(why(judged(root, (0, 0), Account::Other, 5)).contains("root"));
        for broken in [
            "",
            "300001\n",
            "300001\n300001\nuid=\n",
            "300001\n300001\nid\nHello World\nmore\n",
        ] {
            assert!(
                why(judged(broken, (300_001, 300_001), Account::Other, 5))
                    .contains("does not run to its end"),
                "{broken}"
            );
        }
    }
}
