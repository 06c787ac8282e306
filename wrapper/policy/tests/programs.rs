//! The programs as root starts them: a packet socket on descriptor 0, an empty environment.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "all of this is test code, helpers included"
)]

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::MAX_PACKET;
use launch_protocol::policy::{
    Answer, Case, CredentialKind, Decision, Entry, Party, Purpose, Query, Reply, Request,
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, recv, sendmsg,
    socketpair,
};
use sailplane_policy::{Judge, Verdict};

struct Servant {
    socket: Option<OwnedFd>,
    child: Child,
    next: u32,
}

impl Servant {
    fn start(program: &str, words: &[&str]) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
        let child = Command::new(program)
            .args(words)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .spawn()
            .expect("starts");
        Self {
            socket: Some(ours),
            child,
            next: 1,
        }
    }

    fn ask(&mut self, queries: Vec<Query>) -> Reply {
        let id = self.next;
        self.next += 1;
        let packet = Request { id, queries }.encode().expect("encodes");
        let socket = self.socket.as_ref().expect("open").as_raw_fd();
        let parts = [IoSlice::new(&packet)];
        sendmsg::<UnixAddr>(socket, &parts, &[], MsgFlags::empty(), None).expect("sent");
        let mut answer = vec![0; MAX_PACKET];
        let length = recv(socket, &mut answer, MsgFlags::empty()).expect("received");
        let answer = Answer::decode(&answer[..length]).expect("an answer");
        assert_eq!(answer.id, id);
        answer.reply
    }

    /// Closes the socket; the exit status.
    fn end(mut self) -> Option<i32> {
        self.socket = None;
        self.child.wait().expect("waited").code()
    }
}

fn write(path: &Path, text: &str) {
    let mut file = File::create(path).expect("made");
    file.write_all(text.as_bytes()).expect("written");
    // As a file that has been there for a while.
    let before = std::time::SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(before).expect("aged");
}

fn case(identity: &str) -> Case {
    Case {
        purpose: Purpose::Run,
        holder: Party {
            kind: CredentialKind::Proxy,
            identity: identity.to_owned(),
            fqans: vec!["/vo/Role=x".to_owned()],
            issuers: vec!["/CN=CA".to_owned()],
            limited: false,
            not_after: i64::MAX,
        },
        pilot: None,
        caller_uid: 2000,
        caller_name: Some("pilot".to_owned()),
        slot_account: None,
        now_unix: 1_795_392_000,
    }
}

#[test]
fn a_thousand_decisions_with_a_large_map() {
    let folder = tempfile::tempdir().expect("folder");
    let (conf, map) = (folder.path().join("conf"), folder.path().join("map"));
    let lines: String = (0..20_000)
        .map(|number| format!("\"/DC=org/DC=example/CN=Person {number}\" user{number}\n"))
        .collect();
    write(&map, &lines);
    let text = format!(
        "[switch]\nuser_white_list=pilot\ncertdir=/c\ngridmap={}\ndynamic_uids=300000-300009\n",
        map.display()
    );
    write(&conf, &text);
    let open = |path: &Path| File::open(path).expect("there");
    let mut judge = Judge::default();
    let settings = judge.read(&open(&conf)).expect("good");
    assert_eq!(settings.policy_files, std::slice::from_ref(&map));
    // What was changed a moment ago is not kept; wait until it may be.
    std::thread::park_timeout(Duration::from_secs(4));
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for number in 0..1000 {
        let begun = Instant::now();
        let case = case(&format!("/DC=org/DC=example/CN=Person {number}"));
        let files = judge.load(&open(&conf), vec![open(&map).into()]);
        let files = files.expect("good").expect("unchanged");
        let Ok(Verdict::Decided(Decision::Account { name, source, .. })) = files.decide(&case)
        else {
            panic!("not decided");
        };
        assert_eq!(name, format!("user{number}"));
        assert!(source.ends_with(&format!(":{}", number + 1)));
        if number > 0 {
            slowest = slowest.max(begun.elapsed());
        }
    }
    println!(
        "1000 decisions in {:?}, the slowest {slowest:?}",
        start.elapsed()
    );
}

#[test]
fn s3_the_name_service_is_a_program_of_its_own() {
    for program in [
        env!("CARGO_BIN_EXE_sailplane-names"),
        env!("CARGO_BIN_EXE_sailplane-names-nss"),
    ] {
        let mut servant = Servant::start(program, &[]);
        let queries = vec![Query::Uid(0), Query::Account("no-such-account".to_owned())];
        let Reply::Names(entries) = servant.ask(queries) else {
            panic!("names");
        };
        assert!(matches!(&entries[0], Some(Entry::Account { uid: 0, .. })));
        assert_eq!(entries[1], None);
        assert_eq!(servant.end(), Some(0));
    }
}

/// What is in no file is asked of every service, by another program in the same process: it is never lost.
#[test]
fn s3_what_the_files_leave_open_is_asked_of_the_name_service() {
    let mut servant = Servant::start(env!("CARGO_BIN_EXE_sailplane-names"), &[]);
    let pid = servant.child.id();
    let program = || std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let Reply::Names(known) = servant.ask(vec![Query::Uid(0)]) else {
        panic!("names");
    };
    assert!(known[0].is_some());
    // With and without such a group, files or not: this is one that no file decides.
    let nogroup = Query::Group("nobody".to_owned());
    let Reply::Names(unknown) = servant.ask(vec![nogroup, Query::Uid(0)]) else {
        panic!("names");
    };
    assert_eq!(unknown.len(), 2);
    assert_eq!(unknown[1], known[0]);
    assert!(program().contains("sailplane-names-nss"), "{}", program());
    assert_eq!(servant.end(), Some(0));
}

/// The name service with descriptor 3 open, as whatever is given.
fn names_with(third: Stdio) -> Servant {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
    let child = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" 3<&1 1>/dev/null"])
        .arg(env!("CARGO_BIN_EXE_sailplane-names"))
        .stdin(Stdio::from(theirs))
        .stdout(third)
        .spawn()
        .expect("starts");
    Servant {
        socket: Some(ours),
        child,
        next: 1,
    }
}

#[test]
fn s3_the_witness_sees_question_and_answer_before_who_asked() {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets");
    let mut servant = names_with(Stdio::from(theirs));
    for query in [Query::Uid(0), Query::Account("no-such-account".to_owned())] {
        let asked = vec![query];
        let reply = servant.ask(asked.clone());
        // Not waited for: they are there when the answer is.
        let seen = || {
            let mut packet = vec![0; MAX_PACKET];
            let flags = MsgFlags::MSG_DONTWAIT;
            let length = recv(ours.as_raw_fd(), &mut packet, flags).expect("already there");
            packet.truncate(length);
            packet
        };
        let (question, answer) = (seen(), seen());
        let question = Request::decode(&question).expect("a question");
        assert_eq!(question.queries, asked);
        let answer = Answer::decode(&answer).expect("an answer");
        assert_eq!((answer.id, answer.reply), (question.id, reply));
    }
    assert_eq!(servant.end(), Some(0));
}

#[test]
fn s3_a_descriptor_that_happens_to_be_open_is_no_witness() {
    // A file, and a socket of another kind that somebody else has left.
    let file = tempfile::tempfile().expect("a file");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    ours.set_nonblocking(true).expect("set");
    let thirds = [
        Stdio::from(file.try_clone().expect("cloned")),
        Stdio::from(OwnedFd::from(theirs)),
    ];
    for third in thirds {
        let mut servant = names_with(third);
        let reply = servant.ask(vec![Query::Uid(0)]);
        assert!(matches!(reply, Reply::Names(_)), "{reply:?}");
        assert_eq!(servant.end(), Some(0));
    }
    assert_eq!(file.metadata().expect("facts").len(), 0);
    let got = std::io::Read::read(&mut &ours, &mut [0; 8]);
    assert!(matches!(got, Ok(0) | Err(_)), "{got:?}");
}

#[test]
fn s20_a_service_that_is_asked_nonsense_ends() {
    let queries = vec![Query::Uid(0)];
    let question = Request { id: 1, queries }.encode().expect("encodes");
    let file = tempfile::tempfile().expect("a file");
    let beside = [file.as_raw_fd()];
    // Nonsense, half a question, and one with a file that it has no use for.
    for (packet, raw) in [
        (&b"\x01\0\0\0\x01"[..], &beside[..0]),
        (&question[..question.len() - 1], &beside[..0]),
        (&question[..], &beside[..]),
    ] {
        let mut servant = Servant::start(env!("CARGO_BIN_EXE_sailplane-policy"), &["names"]);
        let rights = [ControlMessage::ScmRights(raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let socket = servant.socket.as_ref().expect("open").as_raw_fd();
        let parts = [IoSlice::new(packet)];
        sendmsg::<UnixAddr>(socket, &parts, control, MsgFlags::empty(), None).expect("sent");
        assert_eq!(servant.child.wait().expect("waited").code(), Some(1));
    }
}

#[test]
fn an_administrator_is_told_how_to_call_it() {
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sailplane-policy"))
            .args(words)
            .output()
            .expect("runs");
        let text = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&text).into_owned(),
            output.status.code(),
        )
    };
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/site/switch.conf"
    );
    let (text, code) = run(&["check", "--content-only", example]);
    assert_eq!((text.as_str(), code), ("0 errors, 0 warnings\n", Some(0)));
    let (text, code) = run(&["check", "--content-only", "/no/such/file"]);
    assert!(text.contains("/no/such/file") && code == Some(1), "{text}");
    let (text, code) = run(&["trace", example, "--uid", "1"]);
    assert!(
        text.contains("sets no log_file") && code == Some(2),
        "{text}"
    );
    for words in [&[][..], &["help"], &["check"], &["trace", example, "--who"]] {
        let (text, code) = run(words);
        assert!(
            text.contains("usage:") && code == Some(2),
            "{words:?} {text}"
        );
    }
}
