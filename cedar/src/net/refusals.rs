//! The line in the log for each client that is refused.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ErrorKind;
use crate::command::Named;
use crate::error::HandshakeError;
use crate::security::server::Asked;

/// Most lines in one [`WINDOW`]: a flood of hostile clients must not fill the disk with their names.
const LINES: u32 = 100;

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Writes the lines. What is left out is counted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    window: Mutex<Window>,
    /// True for a server of claims' sessions: strangers at its door are no news.
    quiet: bool,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Refusals {
    /// For a server that makes new sessions, or with `quiet` for one that does not.
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            ..Self::default()
        }
    }

    /// Writes one line about a client that was refused.
    pub(super) fn log(&self, peer: SocketAddr, asked: &Asked, why: &ErrorKind) {
        let command = asked.command.map(Named).map(|named| named.to_string());
        let command = command.as_deref().unwrap_or("none");
        let level = asked.level.map_or("none", |level| level.name());
        let identity = asked.peer.as_ref().map_or("nobody", |peer| &peer.user);
        let method = asked.method.map_or("none", |method| method.name());
        if self.is_routine(asked, why) {
            tracing::debug!(%peer, identity, method, command, level, "refused: {why}");
            return;
        }
        let Some(left_out) = self.admit() else {
            return;
        };
        if left_out > 0 {
            tracing::warn!("{left_out} more refusals were too many to log one by one");
        }
        tracing::warn!(%peer, identity, method, command, level, "refused: {why}");
    }

    /// True for what happens every day and mends itself: a session that was forgotten, a connection
    /// that was opened and closed to see whether anybody is there.
    fn is_routine(&self, asked: &Asked, why: &ErrorKind) -> bool {
        match why {
            ErrorKind::Handshake(
                HandshakeError::UnknownSession { .. } | HandshakeError::WeakSession { .. },
            ) => true,
            ErrorKind::Handshake(HandshakeError::Unauthorized { .. }) => false,
            ErrorKind::Closed => self.quiet || asked.command.is_none(),
            _ => self.quiet,
        }
    }

    /// `None` if there were too many lines just now, else how many were left out before.
    fn admit(&self) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| began.elapsed() >= WINDOW) {
            window.began = Some(Instant::now());
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_written() {
        let refusals = Refusals::default();
        for _ in 0..LINES {
            assert_eq!(refusals.admit(), Some(0));
        }
        assert_eq!(refusals.admit(), None);
        assert_eq!(refusals.admit(), None);
        let past = Instant::now().checked_sub(WINDOW);
        refusals.window.lock().unwrap().began = past;
        assert_eq!(refusals.admit(), Some(2));
    }
}
