//! A verifier for tests: does what the "credential" tells it, so that the broker can be shown every
//! way in which a verifier may fail. The real one is `sailplane-verify`.
//!
//! The credential is one line: `accept SECONDS limited|full DN[|FQAN...]`, `reject CODE`, `hang`, `exit STATUS`,
//! `kill`, `bytes N` (N bytes of nonsense), `newline` (an identity with a control byte), `empty`.

#[path = "../tests/it/sys.rs"]
mod sys;

use std::fs::File;
use std::io::{IoSliceMut, Read as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::verdict::{
    CredentialKind, NEW_VERIFIER, ONLY_VERIFIER, RefusalClass, Verdict, VerifyRequest,
};
use nix::sys::signal::{SigHandler, Signal, raise};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recv, recvmsg, send};

fn main() -> ExitCode {
    sys::handle(Signal::SIGCHLD, SigHandler::SigIgn);
    if std::env::args_os().len() == 1 {
        // What it may trust; it trusts everything.
        let mut words = [0; launch_protocol::MAX_PACKET];
        if !matches!(recv(0, &mut words, MsgFlags::empty()), Ok(length) if length > 0) {
            return ExitCode::SUCCESS;
        }
    }
    let mut only = false;
    while let Some(socket) = receive(std::io::stdin().as_raw_fd(), |packet| {
        only = packet == ONLY_VERIFIER;
        only || packet == NEW_VERIFIER
    }) {
        if only || sys::fork() {
            // Like the real one, it keeps nothing of its parent.
            let null = File::open("/dev/null").ok();
            let closed = null.map(|null| nix::unistd::dup2_stdin(&null));
            return if matches!(closed, Some(Ok(()))) {
                verify(socket.as_raw_fd())
            } else {
                ExitCode::from(3)
            };
        }
    }
    ExitCode::SUCCESS
}

/// The descriptor beside a packet that suits.
fn receive(socket: RawFd, suits: impl FnOnce(&[u8]) -> bool) -> Option<File> {
    let mut packet = [0; 64];
    let mut parts = [IoSliceMut::new(&mut packet)];
    let mut control = nix::cmsg_space!([i32; 1]);
    let message =
        recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
    let length = message.bytes;
    let descriptor = message
        .cmsgs()
        .into_iter()
        .flatten()
        .find_map(|item| match item {
            ControlMessageOwned::ScmRights(raw) => raw.first().copied(),
            _ => None,
        })?;
    packet
        .get(..length)
        .is_some_and(suits)
        .then(|| sys::own(descriptor))
}

/// Seconds after which the real one, too, is ended by the kernel; a few more.
const DEADLINE: u32 = 15;

fn verify(raw: RawFd) -> ExitCode {
    nix::unistd::alarm::set(DEADLINE);
    let Some(mut credential) = receive(raw, |packet| VerifyRequest::decode(packet).is_ok()) else {
        return ExitCode::from(4);
    };
    let mut text = String::new();
    if credential.read_to_string(&mut text).is_err() {
        return ExitCode::from(5);
    }
    let mut words = text.trim().splitn(4, ' ');
    let answer = match words.next() {
        Some("accept") => {
            let seconds: i64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let limited = words.next() == Some("limited");
            let mut names = words.next().unwrap_or("/CN=nobody").split('|');
            let identity = names.next().unwrap_or_default().to_owned();
            let not_after = now.cast_signed() + seconds;
            Verdict::Accepted {
                id: 0,
                kind: CredentialKind::Proxy,
                identity,
                fqans: names.map(str::to_owned).collect(),
                issuers: vec!["/CN=Test CA".to_owned()],
                not_after,
                limited,
            }
            .encode()
            .ok()
        }
        Some("reject") => {
            let code = words.next().unwrap_or("x").to_owned();
            let message = "The test says no.".to_owned();
            Verdict::Rejected {
                id: 0,
                code,
                message,
                class: RefusalClass::Job,
            }
            .encode()
            .ok()
        }
        Some("hang") => {
            let Ok((read, _write)) = nix::unistd::pipe() else {
                return ExitCode::from(6);
            };
            let _ = nix::unistd::read(&read, &mut [0]);
            None
        }
        Some("exit") => {
            return ExitCode::from(words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
        }
        Some("kill") => {
            let _ = raise(Signal::SIGKILL);
            None
        }
        Some("bytes") => {
            let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
            Some(vec![b'A'; count])
        }
        Some("newline") => {
            let good = Verdict::Accepted {
                id: 0,
                kind: CredentialKind::Proxy,
                identity: "/CN=a_b".into(),
                fqans: Vec::new(),
                issuers: Vec::new(),
                not_after: i64::MAX,
                limited: false,
            };
            good.encode().ok().map(|packet| {
                packet
                    .into_iter()
                    .map(|byte| if byte == b'_' { b'\n' } else { byte })
                    .collect()
            })
        }
        _ => None,
    };
    if let Some(answer) = answer {
        let _ = send(raw, &answer, MsgFlags::empty());
    }
    ExitCode::SUCCESS
}
