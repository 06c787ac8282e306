//! Host names and netgroups.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use super::super::sys;

/// How long a decision waits for the name of an address. The names are needed only for lists that have a pattern of
/// host names.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer of the resolver is believed, a good one and a bad one.
const KEEP: Duration = Duration::from_secs(300);
const KEEP_NOTHING: Duration = Duration::from_secs(60);

/// Most addresses remembered, and most look-ups at a time.
const MAX_KNOWN: usize = 10_000;
const MAX_RUNNING: usize = 32;

/// Who knows names.
pub(crate) trait Names: Send + Sync + std::fmt::Debug {
    /// The addresses of a host.
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// The name of an address, if the addresses of that name include it. `Err`: it is not known (yet).
    fn name(&self, address: IpAddr) -> Result<Option<String>, Unknown>;

    /// Whether a netgroup has a member.
    fn in_netgroup(&self, group: &str, host: &str, user: &str, domain: &str) -> bool;
}

/// The resolver has not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown;

/// The machine's resolver and its name service.
#[derive(Debug, Default)]
pub(crate) struct SystemNames {
    known: std::sync::Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<IpAddr, (Instant, Option<String>)>,
    running: usize,
}

impl Names for SystemNames {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = (host, 0).to_socket_addrs()?;
        Ok(found.map(|found| found.ip().to_canonical()).collect())
    }

    fn name(&self, address: IpAddr) -> Result<Option<String>, Unknown> {
        let now = Instant::now();
        {
            let mut known = lock(&self.known);
            if let Some((until, name)) = known.names.get(&address)
                && *until > now
            {
                return Ok(name.clone());
            }
            if known.running >= MAX_RUNNING {
                return Err(Unknown);
            }
            known.running += 1;
        }
        let (tell, told) = mpsc::channel();
        let shared = std::sync::Arc::clone(&self.known);
        // The resolver may hang for longer than anybody wants to wait; its answer is kept for the next time.
        std::thread::spawn(move || {
            let name = sys::name_of(address).filter(|name| belongs(name, address));
            let mut known = lock(&shared);
            known.running = known.running.saturating_sub(1);
            if known.names.len() >= MAX_KNOWN {
                known.names.clear();
            }
            let keep = if name.is_some() { KEEP } else { KEEP_NOTHING };
            let end = Instant::now() + keep;
            known.names.insert(address, (end, name.clone()));
            drop(known);
            let _ = tell.send(name);
        });
        told.recv_timeout(PATIENCE).map_err(|_| Unknown)
    }

    fn in_netgroup(&self, group: &str, host: &str, user: &str, domain: &str) -> bool {
        sys::in_netgroup(group, host, user, domain)
    }
}

/// Whoever owns an address can give it any name; the owner of the name must agree.
fn belongs(name: &str, address: IpAddr) -> bool {
    (name, 0)
        .to_socket_addrs()
        .is_ok_and(|mut found| found.any(|found| found.ip().to_canonical() == address))
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_knows_its_own_name_both_ways_and_no_netgroup_of_that_name() {
        let names = SystemNames::default();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(names.addresses("localhost").unwrap().contains(&loopback));
        let name = names.name(loopback).unwrap().unwrap();
        assert!(names.addresses(&name).unwrap().contains(&loopback));
        assert_eq!(names.name(loopback), Ok(Some(name)), "it is remembered");
        // Reserved for documentation: nobody's.
        assert!(names.addresses("no-such-host.invalid").is_err());
        assert!(!names.in_netgroup("no-such-group", "localhost", "alice", "x.org"));
        assert!(!names.in_netgroup("nul\0in it", "localhost", "alice", "x.org"));
    }
}
