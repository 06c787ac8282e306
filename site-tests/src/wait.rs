//! Waiting for something that another program does, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long the slower steps of a test may take on a loaded two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Calls `probe` until it gives a value.
///
/// # Errors
/// When `patience` is over, with `what` was waited for; at once when `probe` itself fails.
pub fn until<T>(
    what: &str,
    patience: Duration,
    probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    every(Duration::from_millis(100), what, patience, probe)
}

/// As [`until`], looking every `interval`.
///
/// # Errors
/// As [`until`].
pub fn every<T>(
    interval: Duration,
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain for {what}", patience.as_secs_f64());
        }
        pause(interval);
    }
}

/// Lets time pass where passing time is the very thing that a test is about (a proxy that ends, for example).
#[expect(
    clippy::disallowed_methods,
    reason = "the pool's daemons are other programs and give us no event to wait for; every caller has a deadline"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
