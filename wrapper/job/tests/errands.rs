//! Errands by themselves, without root: they work on processes and files of whoever starts them.
//! What needs another account is tested with the helper, in `wrapper/switch/tests`.
#![allow(
    clippy::expect_used,
    reason = "all of this is test code, helpers included"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn errand(words: &[&str]) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sailplane-job"))
        .args(words)
        .spawn()
        .expect("starts");
    child.wait().expect("reaped").code()
}

/// A shell that waits, after `script` has said that it is ready. Killed when dropped, and all below it.
struct Shell(Child);

impl Shell {
    fn start(script: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let output = child.stdout.as_mut().expect("a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn below(&self) -> String {
        self.0.id().to_string()
    }

    /// Lets the shell go on, and gives its exit status.
    fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().expect("reaped").code()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = errand(&["--signal", "9", "--below", &self.below()]);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn members(shell: &Shell) -> Option<i32> {
    errand(&["--members", "--below", &shell.below()])
}

/// Waits until nothing lives below the shell any more.
fn empty(shell: &Shell, mut again: impl FnMut()) {
    let start = Instant::now();
    while members(shell) != Some(0) {
        assert!(start.elapsed() < Duration::from_secs(20), "still there");
        again();
    }
}

#[test]
fn k4_members_are_what_descends_and_lives() {
    let nobody = Shell::start("echo ready; read x");
    assert_eq!(members(&nobody), Some(0));
    let child = Shell::start("sleep 1000 & echo ready; read x");
    assert_eq!(members(&child), Some(2));
    // In a session of its own, the child of a child.
    let deep = Shell::start("(setsid sleep 1000; :) & echo ready; read x");
    assert_eq!(members(&deep), Some(2));
    // A zombie that nobody has reaped.
    let zombie = Shell::start("exec 3<&0; /bin/true & echo ready; exec sleep 1000");
    empty(&zombie, || {});
    for shell in [&child, &deep] {
        assert_eq!(
            errand(&["--signal", "9", "--below", &shell.below()]),
            Some(0)
        );
        empty(shell, || {});
    }
    // Theirs only.
    assert_eq!(child.end(), Some(1));
    assert_eq!(members(&nobody), Some(0));
}

#[test]
fn k4_a_signal_reaches_all_of_them_and_nobody_else() {
    let script = "(trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done) & \
                  wait $!; test $? = 7 && exit 0";
    let (one, other) = (Shell::start(script), Shell::start(script));
    let signal = usr1();
    assert_eq!(
        errand(&["--signal", &signal, "--below", &one.below()]),
        Some(0)
    );
    assert_eq!(one.end(), Some(0));
    assert_eq!(members(&other), Some(2));
}

fn usr1() -> String {
    let number = nix::sys::signal::Signal::SIGUSR1 as i32;
    number.to_string()
}

#[test]
fn k4_a_tree_that_forks_all_the_time_is_killed() {
    // Each hands over to a child and ends, so that no list is true for longer than a moment; what it leaves
    // is adopted by the shell's reaper, so there is one that adopts. It burns out by itself, so that a test that
    // is killed leaves no machine to a fork bomb.
    let script = "exec python3 -Sc '
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1)
end = time.monotonic() + 60
for n in range(2):
    if os.fork() == 0:
        while time.monotonic() < end:
            if os.fork(): os._exit(0)
        os._exit(0)
print(\"ready\", flush=True)
while True:
    try: os.waitpid(-1, 0)
    except ChildProcessError: time.sleep(0.01)
'";
    let comets = Shell::start(script);
    empty(&comets, || {
        let _ = errand(&["--signal", "9", "--below", &comets.below()]);
    });
}

#[test]
fn words_that_are_not_understood_do_nothing() {
    for words in [
        &["--members"][..],
        &["--members", "--below"],
        &["--members", "--below", "0"],
        &["--members", "--below", "-1"],
        &["--members", "1"],
        &["--signal", "x", "--below", "1"],
        &["--signal", "-9", "--below", "1"],
        &["--signal", "9"],
    ] {
        assert_eq!(errand(words), Some(126), "{words:?}");
    }
}
