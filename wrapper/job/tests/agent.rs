//! The agent by itself, without root: it serves whoever holds the other end of its socket.
//! What needs another account is tested with the helper, in `wrapper/switch/tests`.
#![allow(
    clippy::expect_used,
    reason = "all of this is test code, helpers included"
)]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use launch_protocol::MAX_PACKET;
use launch_protocol::agent::{Reply, Request};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;

struct Agent {
    socket: OwnedFd,
    child: Child,
}

fn start(sandbox: &Path) -> Agent {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (socket, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).expect("a deadline");
    let program = env!("CARGO_BIN_EXE_sailplane-job");
    let child = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" \"$1\" 3<&0 0</dev/null", program])
        .arg(sandbox)
        .stdin(Stdio::from(theirs))
        .spawn()
        .expect("starts");
    Agent { socket, child }
}

impl Agent {
    fn send(&self, packet: &[u8]) {
        send(self.socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL).expect("sent");
    }

    fn reply(&self) -> Reply {
        let mut packet = vec![0; MAX_PACKET];
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                // A call with a deadline is not taken up again after a signal.
                Err(Errno::EINTR) => {}
                length => break length.expect("arrives"),
            }
        };
        packet.truncate(length);
        Reply::decode(&packet).expect("a reply")
    }

    fn ask(&self, request: &Request) -> Reply {
        self.send(&request.encode().expect("valid"));
        self.reply()
    }

    fn end(mut self) -> Option<i32> {
        drop(self.socket);
        self.child.wait().expect("reaped").code()
    }
}

#[test]
fn it_serves_until_the_socket_closes() {
    let sandbox = tempfile::tempdir().expect("a folder");
    let agent = start(sandbox.path());
    assert_eq!(agent.reply(), Reply::Ready);
    assert_eq!(
        agent.ask(&Request::MakeDir {
            path: "d".into(),
            mode: 0o777
        }),
        Reply::Done
    );
    assert_eq!(
        agent.ask(&Request::Create {
            path: "d/f".into(),
            mode: 0o666
        }),
        Reply::Opened
    );
    let missing = agent.ask(&Request::OpenRead {
        path: "d/g".into(),
        follow: false,
    });
    assert!(
        matches!(
            missing,
            Reply::Failed {
                errno: libc::ENOENT,
                ..
            }
        ),
        "{missing:?}"
    );
    let outside = agent.ask(&Request::OpenRead {
        path: "../x".into(),
        follow: false,
    });
    assert!(
        matches!(
            outside,
            Reply::Failed {
                errno: libc::EXDEV,
                ..
            }
        ),
        "{outside:?}"
    );
    let Reply::Entries {
        entries,
        more: false,
    } = agent.ask(&Request::List { path: "d".into() })
    else {
        panic!("no entries")
    };
    assert_eq!(entries.len(), 1);
    assert_eq!(agent.end(), Some(0));
}

#[test]
fn trouble_with_the_sandbox_is_told() {
    let agent = start(Path::new("/no/such/sandbox"));
    let trouble = agent.reply();
    assert!(
        matches!(&trouble, Reply::Trouble { errno: libc::ENOENT, message }
        if message.contains("/no/such/sandbox")),
        "{trouble:?}"
    );
    assert_eq!(agent.end(), Some(1));
}

#[test]
fn a_malformed_packet_or_missing_descriptors_end_it() {
    let sandbox = tempfile::tempdir().expect("a folder");
    for packet in [b"nonsense".to_vec(), Request::Exec.encode().expect("valid")] {
        let mut agent = start(sandbox.path());
        assert_eq!(agent.reply(), Reply::Ready);
        agent.send(&packet);
        assert_eq!(agent.child.wait().expect("reaped").code(), Some(1));
    }
}

#[test]
fn by_hand_it_explains_itself() {
    let output = Command::new("/bin/sh")
        .args([
            "-c",
            "exec \"$0\" 3</dev/null",
            env!("CARGO_BIN_EXE_sailplane-job"),
        ])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by sailplane-switch"));
}
