//! `strace` on a process that runs already.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::readable;

/// What it writes: of one process, or the beginning of the names of one file a process.
const OUTPUT: &str = "/run/fault";

/// A tracer that has attached itself.
pub(super) struct Tracer(Child);

impl Tracer {
    pub(super) fn attach(options: &str, pid: u32) -> Self {
        let mut strace = Command::new("strace")
            .args(options.split(' '))
            .args(["-o", OUTPUT, "-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("strace starts");
        // "Process N attached" on its standard error.
        let mut stderr = strace.stderr.take().expect("a pipe");
        if readable(&stderr, Duration::from_secs(5)) {
            let _ = stderr.read(&mut [0; 256]);
        }
        // Kept open, for what it says later.
        std::mem::forget(stderr);
        Self(strace)
    }

    /// Waits until all that it traces are gone.
    pub(super) fn join(mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It ends with whom it traces; if not, it must let go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forgets what earlier ones have written.
pub(super) fn forget() {
    for name in crate::cell::names_in("/run") {
        if name.starts_with("fault") {
            let _ = fs::remove_file(format!("/run/{name}"));
        }
    }
}

/// Has the victim been stopped where the fault says so?
pub(super) fn has_stopped() -> bool {
    fs::read_to_string(OUTPUT).is_ok_and(|text| text.contains("--- stopped by SIGSTOP ---"))
}

/// How many of each call anybody has made who was traced with `-ff`: the most that one of them did.
pub(super) fn most_of_each() -> BTreeMap<String, usize> {
    let mut most = BTreeMap::<String, usize>::new();
    for name in crate::cell::names_in("/run")
        .iter()
        .filter(|name| name.starts_with("fault."))
    {
        let text = fs::read(format!("/run/{name}")).unwrap_or_default();
        let mut own = BTreeMap::<String, usize>::new();
        for call in String::from_utf8_lossy(&text)
            .lines()
            .filter_map(crate::strace::parse)
        {
            *own.entry(call.name).or_default() += 1;
        }
        for (name, number) in own {
            let all = most.entry(name).or_default();
            *all = number.max(*all);
        }
    }
    most
}
