//! A node that reaches others and cannot be reached: a network of its own, whose loopback is nobody else's.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::{process, say, wait};

/// Addresses between the host and such nodes: a network for private use, four addresses a node.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 0);
const NODES: u32 = 1 << 14;

/// A network namespace with one wire to the host. Who listens on its loopback address is reached from within only; it
/// itself reaches the host. It is gone when this is dropped, and also when the process is killed: a program that
/// waits for our end holds it.
#[derive(Debug)]
pub struct Nat {
    holder: Child,
    outside: Ipv4Addr,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Nat {
    /// Makes one. Needs root.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub fn make() -> Result<Self> {
        let number = std::process::id() * 8 + MADE.fetch_add(1, Ordering::Relaxed);
        let first = u32::from(NETWORK) + number % NODES * 4;
        let (outside, inside) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2));
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            // Its end is ours.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("make a network namespace")?;
        let nat = Self { holder, outside };
        let own = fs::metadata("/proc/self/ns/net")?.ino();
        wait::every(
            Duration::from_millis(5),
            "the namespace",
            Duration::from_secs(10),
            || {
                let there = fs::metadata(nat.path())
                    .context("the namespace's holder")?
                    .ino();
                Ok((there != own).then_some(()))
            },
        )?;
        let (here, there) = (format!("spt{number:x}o"), format!("spt{number:x}i"));
        let pid = nat.holder.id().to_string();
        ip(&[
            "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &pid,
        ])?;
        ip(&["addr", "add", &format!("{outside}/30"), "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        for words in [
            vec!["addr", "add", &format!("{inside}/30"), "dev", &there],
            vec!["link", "set", &there, "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net={}", nat.path().display()))
                .arg("ip")
                .args(words);
            process::output(&mut command)?;
        }
        Ok(nat)
    }

    /// The host's address for this node.
    #[must_use]
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let done = process::output(Command::new("ip").args(words));
    done.map(drop)
        .map_err(|error| anyhow!("ip {}: {error:#}", words.join(" ")))
}

impl Drop for Nat {
    fn drop(&mut self) {
        if let Err(error) = self.holder.kill().and_then(|()| self.holder.wait()) {
            say(&format!("a network namespace is left: {error}"));
        }
    }
}
