//! What a person's Ctrl-C does: the play stops where it next looks, so that pool, pilot and folder go as at the end.

use std::sync::OnceLock;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;

/// Somebody wants the demo to stop.
#[derive(Debug, Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

static SIGNALS: OnceLock<Option<SignalFd>> = OnceLock::new();

/// From here on the signals that end a program are kept for [`check`]. The programs that the demo starts are this one
/// too, and lift the mask first of all.
pub(super) fn listen() {
    SIGNALS.get_or_init(|| {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let listening = SignalFd::with_flags(&signals, flags).ok()?;
        // Without a descriptor to read them from they keep their usual effect.
        signals.thread_block().ok()?;
        Some(listening)
    });
}

/// Whether to go on.
pub(super) fn check() -> Result<(), Interrupted> {
    let pending = SIGNALS.get().and_then(Option::as_ref);
    match pending.map(SignalFd::read_signal) {
        Some(Ok(Some(_))) => Err(Interrupted),
        _ => Ok(()),
    }
}
