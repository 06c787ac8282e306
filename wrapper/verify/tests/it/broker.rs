//! As the broker uses it: with a packet socket as descriptor 0, a process for each credential.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::verdict::{
    CredentialKind, MAX_VERDICT, NEW_VERIFIER, Purpose, RefusalClass, Verdict, VerifyRequest,
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};

use crate::common::HOUR;
use crate::common::token::{jwk, jwks, token};
use crate::{PROGRAM, Site};

/// The resident program.
struct Program {
    socket: OwnedFd,
    child: Child,
}

impl Program {
    fn start(directory: &std::path::Path) -> Self {
        Self::start_with(directory, &[])
    }

    fn start_with(directory: &std::path::Path, words: &[String]) -> Self {
        let (socket, theirs) = pair();
        let child = Command::new(PROGRAM)
            .arg(directory)
            .args(words)
            .env_clear()
            .stdin(theirs)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket, child }
    }

    /// Asks for one more verifier.
    fn verifier(&self) -> Verifier {
        let (socket, theirs) = pair();
        send_beside(&self.socket, NEW_VERIFIER, &[&theirs]);
        Verifier { socket }
    }

    /// The only child, once it has confined itself.
    fn confined_child(&self) -> String {
        let begin = Instant::now();
        let pid = self.child.id();
        loop {
            let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            let child = list.trim();
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            if status.contains("Seccomp_filters:\t1") {
                return child.to_owned();
            }
            assert!(begin.elapsed() < SOON, "never confined itself");
            std::thread::yield_now();
        }
    }

    fn end(mut self) -> ExitStatus {
        drop(self.socket);
        self.child.wait().unwrap()
    }
}

/// Of each request; comes back in its verdict.
const ID: u32 = 77;

const SOON: Duration = Duration::from_secs(10);

/// Our end of the socket of a process for one credential.
struct Verifier {
    socket: OwnedFd,
}

impl Verifier {
    fn present(&self, credential: &OwnedFd) {
        self.hand_over(&request(), &[credential]);
    }

    fn hand_over(&self, packet: &[u8], descriptors: &[&OwnedFd]) {
        send_beside(&self.socket, packet, descriptors);
    }

    /// The verdict, or `None` when it ends without one. Afterwards nothing more may come.
    fn verdict(&self) -> Option<Verdict> {
        let mut packet = [0; MAX_VERDICT + 1];
        // A process that ends with our packet unread resets the connection.
        let mut hear =
            || recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap_or(0);
        let length = hear();
        assert!(length == 0 || hear() == 0, "it says one thing and ends");
        (length > 0).then(|| Verdict::decode(&packet[..length]).unwrap())
    }
}

fn request() -> Vec<u8> {
    let request = VerifyRequest {
        id: ID,
        purpose: Purpose::Run,
        may_lack_key: false,
    };
    request.encode().unwrap()
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

fn send_beside(socket: &OwnedFd, packet: &[u8], descriptors: &[&OwnedFd]) {
    let numbers: Vec<i32> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[][..]
    } else {
        &control[..]
    };
    let data = [IoSlice::new(packet)];
    sendmsg::<()>(socket.as_raw_fd(), &data, control, MsgFlags::empty(), None).unwrap();
}

fn memory_file(content: &[u8]) -> OwnedFd {
    let file = nix::sys::memfd::memfd_create("credential", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(file.unwrap());
    file.write_all(content).unwrap();
    file.into()
}

fn ask(directory: &std::path::Path, credential: &[u8]) -> Option<Verdict> {
    let program = Program::start(directory);
    let verifier = program.verifier();
    verifier.present(&memory_file(credential));
    let verdict = verifier.verdict();
    assert!(program.end().success());
    verdict
}

#[test]
fn a_good_credential_is_accepted_with_its_facts() {
    let Some(site) = Site::of_root() else { return };
    let expected = Verdict::Accepted {
        id: ID,
        kind: CredentialKind::Proxy,
        identity: "/O=Lab/CN=Jane Doe".into(),
        fqans: Vec::new(),
        issuers: vec!["/O=Lab/CN=Lab CA".into()],
        not_after: site.now + HOUR,
        limited: true,
    };
    let verdict = ask(site.directory.path(), site.proxy(HOUR).as_bytes());
    assert_eq!(verdict, Some(expected));
}

#[test]
fn s20_each_credential_has_a_process_that_the_others_do_not_touch() {
    let Some(site) = Site::of_root() else { return };
    let program = Program::start(site.directory.path());
    let (silent, broken, slow) = (program.verifier(), program.verifier(), program.verifier());
    broken.hand_over(b"x", &[]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    slow.present(&reader.into());
    for left in [HOUR, -5, 2 * HOUR] {
        let quick = program.verifier();
        quick.present(&memory_file(site.proxy(left).as_bytes()));
        match quick.verdict() {
            Some(Verdict::Accepted { not_after, .. }) => assert_eq!(not_after, site.now + left),
            Some(Verdict::Rejected { code, .. }) => assert_eq!(code, "proxy.expired"),
            None => panic!("no verdict"),
        }
    }
    assert_eq!(broken.verdict(), None);
    writer.write_all(site.proxy(HOUR).as_bytes()).unwrap();
    drop(writer);
    assert!(matches!(slow.verdict(), Some(Verdict::Accepted { .. })));
    drop(silent);
    assert!(program.end().success());
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
        let verdict = ask(directory, credential.as_bytes());
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
    }
}

#[test]
fn trust_anchors_are_read_when_the_credential_arrives() {
    let Some(site) = Site::of_root() else { return };
    let program = Program::start(site.directory.path());
    let verifier = program.verifier();
    program.confined_child();
    for entry in fs::read_dir(site.directory.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    verifier.present(&memory_file(site.proxy(HOUR).as_bytes()));
    let verdict = verifier.verdict();
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
        let verdict = ask(site.directory.path(), site.proxy(HOUR).as_bytes());
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
fn a_closed_socket_ends_a_process_silently() {
    let site = Site::new();
    let program = Program::start(site.directory.path());
    let verifier = program.verifier();
    let child = program.confined_child();
    drop(verifier);
    let begin = Instant::now();
    while fs::exists(format!("/proc/{child}")).unwrap() {
        assert!(begin.elapsed() < SOON, "it stays");
        std::thread::yield_now();
    }
    assert!(program.end().success());
}

#[test]
fn packets_of_another_shape_get_no_verdict() {
    let site = Site::new();
    let one = memory_file(site.proxy(HOUR).as_bytes());
    let (alone, two) = ([&one], [&one, &one]);
    let request = request();
    let shapes = |good| -> [(&[u8], &[&OwnedFd]); 6] {
        [
            (good, &[]),
            (b"new\0", &alone),
            (b"verif", &alone),
            (b"x", &[]),
            (good, &two),
            (&[b'v'; 4096], &alone),
        ]
    };
    for (packet, descriptors) in shapes(&request) {
        let program = Program::start(site.directory.path());
        let verifier = program.verifier();
        verifier.hand_over(packet, descriptors);
        assert_eq!(verifier.verdict(), None);
        assert!(program.end().success());
    }
    // From the broker itself: then nothing more is believed.
    for (packet, descriptors) in shapes(NEW_VERIFIER) {
        let mut program = Program::start(site.directory.path());
        send_beside(&program.socket, packet, descriptors);
        assert_eq!(program.child.wait().unwrap().code(), Some(2));
    }
}

#[test]
fn s20_a_credential_that_never_ends_ends_its_process() {
    let site = Site::new();
    let program = Program::start(site.directory.path());
    let verifier = program.verifier();
    let (reader, _writer) = std::io::pipe().unwrap();
    let begin = Instant::now();
    verifier.present(&reader.into());
    assert_eq!(verifier.verdict(), None);
    assert!((9..15).contains(&begin.elapsed().as_secs()));
    assert!(program.end().success());
}

#[test]
fn s20_a_process_waits_with_nothing_but_the_right_to_read() {
    let site = Site::new();
    let program = Program::start(site.directory.path());
    let _verifier = program.verifier();
    let child = program.confined_child();
    let about = |what: &str| fs::read_to_string(format!("/proc/{child}/{what}")).unwrap();
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
    // Its own socket in place of the one on which the others are asked for, and nothing beside.
    let parent = program.child.id().to_string();
    let open = |pid: &str| {
        let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        names
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (
                    path.file_name().unwrap().to_owned(),
                    fs::read_link(path).unwrap(),
                )
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (ours, theirs) = (open(&child), open(&parent));
    let zero = OsStr::new("0");
    assert_ne!(ours[zero], theirs[zero]);
    for (number, what) in ours.iter().filter(|(number, _)| *number != zero) {
        assert_eq!(theirs.get(number), Some(what), "inherited from this test");
    }
    assert!(ours.values().all(|what| *what != theirs[zero]));
}

/// What the confined process may still open is enough for everything it has to judge.
#[test]
fn s20_attributes_revocation_lists_and_tokens_are_judged_under_confinement() {
    let Some(site) = Site::of_root() else { return };
    let folder = site.directory.path();
    let (voms, keys) = (folder.join("voms/vo.lab"), folder.join("jwks.json"));
    fs::create_dir_all(&voms).unwrap();
    let names = "/O=Lab/CN=voms.example.org\n/O=Lab/CN=Lab CA\n";
    fs::write(voms.join("voms.example.org.lsc"), names).unwrap();
    let key = crate::common::ec_key();
    fs::write(&keys, jwks(&[jwk(&key, "k", "")])).unwrap();
    let nursery = Program::start_with(
        folder,
        &[
            format!("vomsdir={}", folder.join("voms").display()),
            "issuer=https://issuer.example".into(),
            format!("jwks={}", keys.display()),
            "audience=https://site.example".into(),
        ],
    );
    let ask = |credential: &str| {
        let verifier = nursery.verifier();
        verifier.present(&memory_file(credential.as_bytes()));
        verifier.verdict()
    };
    let (proxy, server) = site.voms_proxy();
    let Some(Verdict::Accepted { fqans, issuers, .. }) = ask(&proxy) else {
        panic!("refused: {:?}", ask(&proxy))
    };
    assert_eq!(fqans, ["/vo.lab/prod/Role=pilot", "/vo.lab"]);
    assert_eq!(issuers, ["/O=Lab/CN=Lab CA"]);
    let claims = format!(
        r#"{{"iss":"https://issuer.example","sub":"jane","aud":"https://site.example","exp":{},"scope":"compute.create","wlcg.groups":["/lab"]}}"#,
        site.now + HOUR
    );
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let expected = Verdict::Accepted {
        id: ID,
        kind: CredentialKind::Token,
        identity: "https://issuer.example,jane".into(),
        fqans: vec!["https://issuer.example,/lab".into()],
        issuers: vec!["https://issuer.example".into()],
        not_after: site.now + HOUR,
        limited: false,
    };
    assert_eq!(ask(&token(&key, header, &claims)), Some(expected));
    let forged = token(&crate::common::ec_key(), header, &claims);
    for (credential, expected) in [
        (forged.as_str(), "token.signature"),
        ("a.b.c", "token.malformed"),
    ] {
        let Some(Verdict::Rejected { code, .. }) = ask(credential) else {
            panic!("{expected}")
        };
        assert_eq!(code, expected);
    }
    // The server of the VO is revoked.
    site.revoke(&server);
    let Some(Verdict::Rejected { code, message, .. }) = ask(&proxy) else {
        panic!("accepted")
    };
    assert_eq!(code, "ac.signer");
    assert!(message.contains("revoked"), "{message}");
    fs::write(voms.join("voms.example.org.lsc"), "/CN=a\n").unwrap();
    let Some(Verdict::Rejected { code, class, .. }) = ask(&proxy) else {
        panic!("accepted")
    };
    assert_eq!(
        (code.as_str(), class),
        ("ac.lsc-malformed", RefusalClass::SitePermanent)
    );
}
