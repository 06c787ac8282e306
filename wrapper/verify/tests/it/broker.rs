//! Started ahead of need, with a packet socket as descriptor 0.

use std::fs::{self, File};
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::verdict::{CredentialKind, HAND_OVER, MAX_VERDICT, RefusalClass, Verdict};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};

use crate::common::HOUR;
use crate::{PROGRAM, Site};

struct Verifier {
    socket: OwnedFd,
    child: Child,
}

impl Verifier {
    fn start(directory: &std::path::Path) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let child = Command::new(PROGRAM)
            .arg(directory)
            .env_clear()
            .stdin(theirs)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket, child }
    }

    fn hand_over(&self, packet: &[u8], descriptors: &[&OwnedFd]) {
        let numbers: Vec<i32> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() {
            &[][..]
        } else {
            &control[..]
        };
        let data = [IoSlice::new(packet)];
        let socket = self.socket.as_raw_fd();
        sendmsg::<()>(socket, &data, control, MsgFlags::empty(), None).unwrap();
    }

    /// The verdict, or `None` when the program ends without one; and how it ended.
    fn finish(mut self) -> (Option<Verdict>, ExitStatus) {
        let mut packet = [0; MAX_VERDICT + 1];
        // A program that ends with our packet unread resets the connection.
        let length = recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap_or(0);
        let verdict = (length > 0).then(|| Verdict::decode(&packet[..length]).unwrap());
        (verdict, self.child.wait().unwrap())
    }
}

fn memory_file(content: &[u8]) -> OwnedFd {
    let file = nix::sys::memfd::memfd_create("credential", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(file.unwrap());
    file.write_all(content).unwrap();
    file.into()
}

fn ask(directory: &std::path::Path, credential: &[u8]) -> (Option<Verdict>, ExitStatus) {
    let verifier = Verifier::start(directory);
    verifier.hand_over(HAND_OVER, &[&memory_file(credential)]);
    verifier.finish()
}

#[test]
fn a_good_credential_is_accepted_with_its_facts() {
    let Some(site) = Site::of_root() else { return };
    let (verdict, status) = ask(site.directory.path(), site.proxy(HOUR).as_bytes());
    let expected = Verdict::Accepted {
        id: 0,
        kind: CredentialKind::Proxy,
        identity: "/O=Lab/CN=Jane Doe".into(),
        fqans: Vec::new(),
        issuers: Vec::new(),
        not_after: site.now + HOUR,
        limited: true,
    };
    assert_eq!(verdict, Some(expected));
    assert!(status.success());
}

#[test]
fn refusals_carry_code_sentence_and_class() {
    let Some(site) = Site::of_root() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let missing = elsewhere.path().join("missing");
    let good = site.proxy(HOUR);
    let home = site.directory.path();
    for (directory, credential, expected, expected_class) in [
        (home, site.proxy(-5), "proxy.expired", RefusalClass::Job),
        (home, String::new(), "bundle.empty", RefusalClass::Job),
        (
            home,
            "x".repeat(300_000),
            "bundle.too-large",
            RefusalClass::Job,
        ),
        (
            elsewhere.path(),
            good.clone(),
            "chain.untrusted",
            RefusalClass::Job,
        ),
        (
            &missing,
            good,
            "trust.unreadable",
            RefusalClass::SitePermanent,
        ),
    ] {
        let (verdict, status) = ask(directory, credential.as_bytes());
        let Some(Verdict::Rejected {
            code,
            message,
            class,
            ..
        }) = verdict
        else {
            panic!("{expected}: {verdict:?}")
        };
        assert_eq!((code.as_str(), class), (expected, expected_class));
        assert!(message.len() > 20 && !message.contains('\n'), "{message}");
        assert!(status.success());
    }
}

#[test]
fn the_credential_may_come_through_a_pipe() {
    let Some(site) = Site::of_root() else { return };
    let verifier = Verifier::start(site.directory.path());
    let (reader, mut writer) = std::io::pipe().unwrap();
    verifier.hand_over(HAND_OVER, &[&reader.into()]);
    writer.write_all(site.proxy(HOUR).as_bytes()).unwrap();
    drop(writer);
    assert!(matches!(
        verifier.finish().0,
        Some(Verdict::Accepted { .. })
    ));
}

#[test]
fn trust_anchors_are_read_when_the_credential_arrives() {
    let Some(site) = Site::of_root() else { return };
    let verifier = Verifier::start(site.directory.path());
    wait_until_confined(&verifier.child);
    for entry in fs::read_dir(site.directory.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    verifier.hand_over(HAND_OVER, &[&memory_file(site.proxy(HOUR).as_bytes())]);
    let (verdict, _) = verifier.finish();
    assert!(matches!(verdict, Some(Verdict::Rejected { code, .. }) if code == "chain.untrusted"));
}

/// Who may write a CA file decides who is trusted. By hand it does not matter.
#[test]
fn ca_files_that_others_may_change_are_refused() {
    let site = Site::new();
    let entry = fs::read_dir(site.directory.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    for mode in [0o664, 0o646] {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        let (verdict, _) = ask(site.directory.path(), site.proxy(HOUR).as_bytes());
        let Some(Verdict::Rejected { code, class, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(
            (code.as_str(), class),
            ("trust.writable", RefusalClass::SitePermanent)
        );
    }
}

#[test]
fn a_closed_socket_ends_it_silently() {
    let site = Site::new();
    let mut verifier = Verifier::start(site.directory.path());
    wait_until_confined(&verifier.child);
    drop(verifier.socket);
    assert!(verifier.child.wait().unwrap().success());
}

#[test]
fn packets_of_another_shape_get_no_verdict() {
    let site = Site::new();
    let one = memory_file(site.proxy(HOUR).as_bytes());
    for (packet, descriptors) in [
        (HAND_OVER, &[][..]),
        (b"verify\0", &[&one][..]),
        (b"verif", &[&one]),
        (b"x", &[]),
        (HAND_OVER, &[&one, &one]),
        (&[b'v'; 4096], &[&one]),
    ] {
        let verifier = Verifier::start(site.directory.path());
        verifier.hand_over(packet, descriptors);
        let (verdict, status) = verifier.finish();
        assert_eq!(verdict, None);
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_credential_that_never_ends_ends_the_program() {
    let site = Site::new();
    let verifier = Verifier::start(site.directory.path());
    let (reader, _writer) = std::io::pipe().unwrap();
    let begin = Instant::now();
    verifier.hand_over(HAND_OVER, &[&reader.into()]);
    let (verdict, status) = verifier.finish();
    assert_eq!(verdict, None);
    assert_eq!(status.signal(), Some(libc::SIGALRM));
    assert!((9..15).contains(&begin.elapsed().as_secs()));
}

#[test]
fn it_waits_with_nothing_but_the_right_to_read() {
    let site = Site::new();
    let verifier = Verifier::start(site.directory.path());
    wait_until_confined(&verifier.child);
    let about =
        |what: &str| fs::read_to_string(format!("/proc/{}/{what}", verifier.child.id())).unwrap();
    let status = about("status");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let limits = about("limits");
    for (name, value) in [
        ("Max cpu time", "5"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
        ("Max processes", "0"),
        ("Max open files", "16"),
        ("Max address space", "268435456"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
        assert_eq!(words[..2], [value, value], "{name}");
    }
}

/// Waits for the filter to be installed.
fn wait_until_confined(child: &Child) {
    let begin = Instant::now();
    let path = format!("/proc/{}/status", child.id());
    while !fs::read_to_string(&path)
        .unwrap()
        .contains("Seccomp_filters:\t2")
    {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "never confined itself"
        );
        std::thread::yield_now();
    }
}
