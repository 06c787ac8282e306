//! The same for who calls gLExec: the process splits, and every step of every half of it may fail.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::conversation::{WHO, assert_plain, judge};
use super::{Fault, NEVER, Outcome, PATIENCE, pause};
use crate::cell::{Cell, LIBEXEC, own, put};
use crate::client::readable;
use crate::strace;
use crate::strays::strays;

/// Where [`strace::read_all`] looks.
const TRACE: &str = "/run/trace";
const CERT: &str = "/scratch/pilot-proxy";

/// Everything that is traced in a call of gLExec's, from the first process on.
fn call(cell: &Cell, options: &str) -> Command {
    let _ = std::fs::remove_file("/tmp/report");
    let _ = std::fs::remove_dir_all(TRACE);
    std::fs::create_dir_all(TRACE).expect("folder");
    std::os::unix::fs::symlink(format!("{LIBEXEC}/sailplane-switch"), "/opt/glexec")
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
        .expect("linked");
    put(CERT, "accept 3600 full /CN=Alice", 0o600);
    own(CERT, cell.pilot, 0o600);
    let mut command = Command::new("strace");
    command
        .args(["-D", "-ff", "-o", &format!("{TRACE}/t"), "-u", "pilot"])
        .args(options.split(' ').filter(|word| !word.is_empty()))
        .args([
            "/bin/sh",
            "-c",
            "exec 3>/tmp/report; exec /opt/glexec /bin/sh -c \"$WHO\"",
        ])
        .env_clear()
        .env("WHO", WHO)
        .env("GLEXEC_CLIENT_CERT", CERT)
        .env("GLEXEC_REPORT_FD", "3")
        .env("GLEXEC_TARGET_PROXY", "/dev/null")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How often each call is made by the process that makes it most often, once the program is its own.
pub(super) fn steps(cell: &Cell) -> Vec<(String, usize, usize)> {
    let child = call(cell, "-s 64").spawn().expect("starts");
    let front = child.id();
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    let mut most = std::collections::BTreeMap::<String, (usize, usize)>::new();
    for (pid, process) in strace::read_all(front) {
        let mut own = std::collections::BTreeMap::<&str, (usize, usize)>::new();
        // The loader's steps before the first are the C library's matter; a child has none.
        let starts = process
            .calls
            .iter()
            .position(|call| call.name == "close_range");
        let start = starts.filter(|_| pid == front).unwrap_or(0);
        for (number, call) in process.calls.iter().enumerate() {
            let (skipped, all) = own.entry(&call.name).or_default();
            *skipped += usize::from(number < start);
            *all += 1;
        }
        for (name, (skipped, all)) in own {
            let entry = most.entry(name.to_owned()).or_default();
            *entry = (entry.0.max(skipped), entry.1.max(all));
        }
    }
    let most = most
        .into_iter()
        .filter(|(name, _)| !NEVER.contains(&name.as_str()));
    most.map(|(name, (skipped, all))| (name, skipped, all))
        .collect()
}

/// Around the step that was made to fail.
fn where_hit() -> String {
    let mut found = String::new();
    for name in crate::cell::names_in(TRACE) {
        let text = std::fs::read(format!("{TRACE}/{name}")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains("(INJECTED)") {
            found.push_str(&format!("{name}: {text}"));
        }
    }
    found
}

/// Was it the writing of a message to the caller that was made to fail?
fn message_failed() -> bool {
    let hit = where_hit();
    let mut lines = hit.lines();
    lines.any(|line| line.contains("write(2, ") && line.ends_with("(INJECTED)"))
}

/// One call of gLExec's with a failure in it.
pub(super) fn try_fault(cell: &Cell, fault: &Fault) -> Outcome {
    let mut child = call(cell, &fault.options()).spawn().expect("starts");
    let mut out = child.stdout.take().expect("a pipe");
    let mut err = child.stderr.take().expect("a pipe");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > PATIENCE + Duration::from_secs(35) {
            let _ = child.kill();
            let left = strays();
            panic!("gLExec does not end: {left:?}; {}", where_hit());
        }
        pause();
    };
    // Nobody holds the caller's streams when the call is over.
    let mut text = [String::new(), String::new()];
    assert!(readable(&out, PATIENCE), "somebody holds standard output");
    out.read_to_string(&mut text[0]).expect("text");
    assert!(readable(&err, PATIENCE), "somebody holds standard error");
    err.read_to_string(&mut text[1]).expect("text");
    let [out, err] = text;
    let ran = judge(cell, cell.alice, "/", &out);
    match (status.code(), ran) {
        (Some(0), Ok(())) => Outcome::Ran,
        (Some(0), Err(Outcome::FewerGroups)) => Outcome::FewerGroups,
        (Some(code @ 201..=203), _) => {
            for line in err.lines().filter(|line| line.contains(": ")) {
                assert_plain(line);
            }
            // The caller's streams are let go when the command starts.
            let report = std::fs::read_to_string("/tmp/report").unwrap_or_default();
            let started = report.contains("\"started\"");
            // The message is a write, too, and every process's of that number fails.
            let is_mute = err.is_empty() && message_failed();
            assert!(
                started || is_mute || err.contains('['),
                "UNCLEAR: {code} without a code: {err:?}"
            );
            Outcome::Refused(code.to_string())
        }
        // The command itself, or the front, was hit.
        (Some(code), ran) => {
            assert!(code != 0, "status 0 of what did not run: {out:?} {err:?}");
            match ran {
                Ok(()) => Outcome::Ended("ran, another status"),
                Err(_) => Outcome::Ended("another status"),
            }
        }
        (None, _) => Outcome::Killed,
    }
}
