//! TCP keep-alive: a peer that lost its power is noticed on a connection that is silent for minutes.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// Seconds of silence before the first probe (HTCondor's `TCP_KEEPALIVE_INTERVAL`).
const IDLE: u32 = 360;

/// Seconds between probes, and how many may stay unanswered
/// (`htcondor:src/condor_io/sock.cpp`).
const INTERVAL: u32 = 5;
const PROBES: u32 = 5;

/// Switches it on, with the intervals HTCondor uses.
pub(super) fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &IDLE)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &INTERVAL)?;
    setsockopt(tcp, sockopt::TcpKeepCount, &PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_probed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        keep_alive(&tcp).unwrap();
        assert!(getsockopt(&tcp, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&tcp, sockopt::TcpKeepIdle).unwrap(), IDLE);
    }
}
