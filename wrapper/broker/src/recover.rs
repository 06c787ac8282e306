//! Cleans up after monitors that are gone (requirement K10): whatever the monitor finds of their payloads
//! is killed, its sandbox and group removed, its lease given back.

use std::time::{Duration, Instant};

use launch_protocol::monitor::{Adopted, Ask, Errand, Reply};
use nix::poll::{PollTimeout, poll};

use crate::group::members;
use crate::line::Line;
use crate::monitor::{DONE, Monitor};
use crate::proc;

/// How long all of it may take at the start, while the pilot waits.
const ALL: Duration = Duration::from_secs(60);
/// How long one left-over payload may take; what is not gone by then is tried again by the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has everything cleaned up that is left of payloads; true: there was something.
pub(crate) fn have_recovered(monitor: &Monitor) -> bool {
    match monitor.ask(&Ask::Recover) {
        Ok(Reply::Started { child }) => {
            monitor.wait_for(child, ALL);
            true
        }
        _ => false,
    }
}

/// Cleans up everything that is left; returns how many payloads there were. `serial`: the last number in
/// use.
pub(crate) fn recover(monitor: &Monitor, serial: &mut u32) -> usize {
    let mut count = 0;
    loop {
        *serial += 1;
        let payload = *serial;
        let Ok(Reply::Adopted(Some(left))) = monitor.ask(&Ask::Adopt { payload }) else {
            return count;
        };
        count += 1;
        let clean = Recovery {
            monitor,
            payload,
            left: &left,
            deadline: Instant::now() + PATIENCE,
        }
        .clean();
        if !clean {
            // Somebody will try again.
            let _ = monitor.order(&Ask::Abandon { payload });
        }
        let outcome = if clean { "done" } else { "incomplete" };
        let line = Line::new("recover").text("lease", &left.lease);
        let line = line.text("uid", &left.uid.to_string());
        monitor.record(line.text("outcome", outcome));
    }
}

struct Recovery<'a> {
    monitor: &'a Monitor,
    payload: u32,
    left: &'a Adopted,
    deadline: Instant,
}

impl Recovery<'_> {
    /// True: nothing is left.
    fn clean(&self) -> bool {
        let payload = self.payload;
        let processes = self.kill_group() && (!self.left.dynamic || self.kill_account());
        let files = self.remove();
        processes && files && self.repeat(|| self.monitor.order(&Ask::Bury { payload }).is_ok())
    }

    fn kill_group(&self) -> bool {
        let payload = self.payload;
        self.repeat(|| {
            if self.left.groups.iter().all(|it| members(it).is_empty()) {
                return true;
            }
            let _ = self.monitor.order(&Ask::Kill { payload });
            false
        })
    }

    /// Kills every process of a dynamic account, until none lives. Zombies that nobody reaps do not keep
    /// a record for ever.
    fn kill_account(&self) -> bool {
        self.repeat(|| {
            if self.run(Errand::Alone { home: false }) {
                return true;
            }
            self.run(Errand::KillAll);
            !proc::is_anything_alive(self.left.uid)
        })
    }

    /// Empties the sandbox; of a dynamic account everything goes.
    fn remove(&self) -> bool {
        let account = self.left.dynamic;
        let if_alone = false;
        let nothing = !account && !self.left.sandbox;
        nothing || self.run(Errand::Remove { account, if_alone })
    }

    fn run(&self, errand: Errand) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.monitor.run_errand(self.payload, errand, left) == Ok(Some(DONE))
    }

    /// Tries until it succeeds or the time is up, a millisecond apart.
    fn repeat(&self, mut attempt: impl FnMut() -> bool) -> bool {
        loop {
            if attempt() {
                return true;
            }
            if Instant::now() >= self.deadline || self.monitor.is_gone() {
                return false;
            }
            let _ = poll(&mut [], PollTimeout::from(1_u8));
        }
    }
}
