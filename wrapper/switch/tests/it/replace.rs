//! Files that are put into the sandbox of a running payload: renewed tokens (G6). The payload does what it can to read half of
//! one, to have it written elsewhere, or to keep it from being written.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch_protocol::MAX_CREDENTIAL;
use launch_protocol::broker::{Answer, Command, OpenLimits, Opened, Purpose};
use nix::mount::{MsFlags, mount};

use crate::cell::{EXECUTE, in_cell, names_in, own, put};
use crate::client::{Pilot, pipe_with};

/// Where the pilot has them put.
const TOKEN: &str = ".condor_creds/scitokens.use";

/// Makes the directory, and the first token.
const FIRST: &str = "umask 077; mkdir .condor_creds; echo first >.condor_creds/scitokens.use;";

fn holding(content: &[u8]) -> File {
    let mut file = tempfile::tempfile_in("/tmp").expect("a file");
    file.write_all(content).expect("written");
    file.rewind().expect("rewound");
    file
}

fn replace_as(pilot: &mut Pilot, payload: u32, file: &str, content: &File) -> Result<(), String> {
    let file = PathBuf::from(file);
    let descriptor = content.as_raw_fd();
    match pilot
        .ask(Command::Replace { payload, file }, &[descriptor])
        .0
    {
        Answer::Done => Ok(()),
        Answer::Refused(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

fn replace(pilot: &mut Pilot, payload: u32, content: &str) -> Result<(), String> {
    replace_as(pilot, payload, TOKEN, &holding(content.as_bytes()))
}

fn refused() -> Result<(), String> {
    Err("renew.write".to_owned())
}

fn token_of(opened: &Opened) -> String {
    fs::read_to_string(opened.sandbox_path().join(TOKEN)).expect("a token")
}

/// Reads as fast as it can, and says how many different tokens it has seen, all of them whole.
const READER: &str = "exec python3 -Sc '
import re
seen = set()
print(\"ready\", flush=True)
while True:
    with open(\".condor_creds/scitokens.use\") as file: token = file.read()
    whole = re.fullmatch(\"([0-9]+):(x*)[.]\", token)
    if not whole or int(whole[1]) * 37 % 5000 != len(whole[2]):
        print(\"a part:\", repr(token[:40]), len(token), flush=True)
        break
    seen.add(token)
    if token.startswith(\"199:\"): break
print(len(seen))
'";

#[test]
fn g6_whoever_reads_a_renewed_token_reads_all_of_it() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let payload = opened.payload;
        let token = |turn: usize| format!("{turn}:{}.", "x".repeat(turn * 37 % 5000));
        let script = format!("{FIRST} printf %s '{}' >{TOKEN}; {READER}", token(0));
        let running = pilot.begin(payload, &script);
        assert_eq!(running.line(), "ready");
        for turn in 1..200 {
            assert_eq!(replace(&mut pilot, payload, &token(turn)), Ok(()));
        }
        let seen = running.output();
        assert!(
            seen.trim_end().parse::<u32>().is_ok_and(|it| it > 5),
            "{seen}"
        );
        let facts = fs::metadata(opened.sandbox_path().join(TOKEN)).expect("there");
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (opened.uid, 0o600));
        assert_eq!(
            names_in(opened.sandbox_path().join(".condor_creds")),
            ["scitokens.use"]
        );
        let log = cell.log();
        assert!(
            log.contains(r#""event":"replace","verdict":"accepted""#),
            "{log}"
        );
        assert!(!log.contains("xxxx"), "{log}");
        pilot.close(payload);
    });
}

#[test]
fn g6_a_payload_cannot_have_a_token_written_elsewhere() {
    in_cell(|cell| {
        put("/outside/victim", "keep", 0o666);
        put("/outside/scitokens.use", "keep", 0o666);
        fs::set_permissions(
            "/outside",
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .expect("mode");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let payload = opened.payload;
        for trick in [
            // The file is a link to somebody else's, a directory, a pipe.
            "ln -s /outside/victim scitokens.use",
            "mkdir scitokens.use",
            "mkfifo scitokens.use",
            // The directory is a link, to one of its own even, is open for others, or is gone.
            "cd ..; rmdir .condor_creds; ln -s /outside .condor_creds",
            "cd ..; mkdir /tmp/own; rm -rf .condor_creds; ln -s /tmp/own .condor_creds",
            "cd ..; rmdir .condor_creds; mkdir d; ln -s d .condor_creds",
            "chmod 777 .",
            "cd ..; rmdir .condor_creds",
            "cd ..; rmdir .condor_creds; : >.condor_creds",
        ] {
            let script =
                format!("{FIRST} cd .condor_creds; rm scitokens.use; {trick}; echo ready; read x");
            pilot.run(payload, "rm -rf .condor_creds d /tmp/own");
            let running = pilot.begin(payload, &script.replace("read x", "exec sleep 1000"));
            assert_eq!(running.line(), "ready");
            assert_eq!(replace(&mut pilot, payload, "secret"), refused(), "{trick}");
            pilot.kill(payload);
            while pilot.event() != (Answer::Empty { payload }) {}
        }
        // Now one, now the other, while it is written.
        let script = format!(
            "{FIRST} mv .condor_creds real; echo ready; \
             while :; do mv -T real .condor_creds; mv -T .condor_creds real; \
             ln -s /outside .condor_creds; rm .condor_creds; done 2>/dev/null"
        );
        pilot.run(payload, "rm -rf .condor_creds d /tmp/own");
        let running = pilot.begin(payload, &script);
        assert_eq!(running.line(), "ready");
        for _ in 0..100 {
            // Whether it is there in time is chance.
            let _ = replace(&mut pilot, payload, "secret");
        }
        pilot.close(payload);
        for victim in ["victim", "scitokens.use"] {
            let content = fs::read_to_string(Path::new("/outside").join(victim)).expect("there");
            assert_eq!(content, "keep", "{victim}");
        }
        assert_eq!(names_in("/outside"), ["scitokens.use", "victim"]);
    });
}

#[test]
fn g6_a_full_disk_leaves_the_old_token() {
    in_cell(|cell| {
        let small = Path::new("/scratch/small");
        fs::create_dir_all(small).expect("folder");
        let options = Some("size=256k,mode=755");
        mount(
            Some("small"),
            small,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .expect("tmpfs");
        own(small, cell.pilot, 0o755);
        let mut pilot = Pilot::start(cell);
        let credential = "accept 3600 full /CN=Bob";
        let opened = pilot
            .try_open_in(credential, "/scratch/small")
            .expect("opens");
        let payload = opened.payload;
        let script = format!(
            "{FIRST} dd if=/dev/zero of=big bs=4k 2>/dev/null; echo full; \
             until test -e {TOKEN}.go; do sleep 0.02; done; rm big; echo free; exec sleep 1000"
        );
        let running = pilot.begin(payload, &script);
        assert_eq!(running.line(), "full");
        let second = "x".repeat(20_000);
        assert_eq!(replace(&mut pilot, payload, &second), refused());
        assert_eq!(token_of(&opened), "first\n");
        let folder = opened.sandbox_path().join(".condor_creds");
        assert_eq!(
            names_in(&folder),
            ["scitokens.use"],
            "nothing is left of it"
        );
        // An empty one needs no room.
        let sign = format!("{TOKEN}.go");
        assert_eq!(
            replace_as(&mut pilot, payload, &sign, &holding(b"")),
            Ok(())
        );
        assert_eq!(running.line(), "free");
        assert_eq!(replace(&mut pilot, payload, &second), Ok(()));
        assert_eq!(token_of(&opened), second);
        pilot.close(payload);
    });
}

#[test]
fn g6_what_is_no_file_of_the_sandbox_is_not_written() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let payload = opened.payload;
        let running = pilot.begin(payload, &format!("{FIRST} echo ready; exec sleep 1000"));
        assert_eq!(running.line(), "ready");
        let content = holding(b"secret");
        for name in ["../x", "/outside", "a/../../x", ".", "..", "", "none/x"] {
            let outcome = replace_as(&mut pilot, payload, name, &content);
            assert_eq!(outcome, refused(), "{name:?}");
        }
        let large = holding(&vec![b'x'; MAX_CREDENTIAL + 1]);
        assert_eq!(replace_as(&mut pilot, payload, TOKEN, &large), refused());
        // A pipe could be endless.
        let pipe = File::from(pipe_with("secret"));
        assert_eq!(replace_as(&mut pilot, payload, TOKEN, &pipe), refused());
        assert_eq!(token_of(&opened), "first\n");
        let unknown = replace(&mut pilot, payload + 7, "secret");
        assert_eq!(unknown, Err("payload.unknown".to_owned()));
        pilot.close(payload);
        let gone = replace(&mut pilot, payload, "secret");
        assert_eq!(gone, Err("payload.unknown".to_owned()));

        let pipe = pipe_with("accept 600 full /CN=Bob");
        let command = Command::Open {
            job_label: "1.0".into(),
            execute_dir: None,
            slot_account: None,
            purpose: Purpose::Run,
            limits: OpenLimits::default(),
            agent: false,
        };
        let (Answer::Opened(bare), _) = pilot.ask(command, &[pipe.as_raw_fd()]) else {
            panic!("not opened")
        };
        let nowhere = replace(&mut pilot, bare.payload, "secret");
        assert_eq!(nowhere, Err("renew.sandbox".to_owned()));
        pilot.close(bare.payload);
        assert!(names_in(EXECUTE).is_empty());
    });
}

#[test]
fn g6_a_payload_that_stops_the_writer_does_not_outlive_its_end() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let payload = opened.payload;
        // All processes of the account but the one that says so.
        let script = format!("{FIRST} echo ready; while :; do kill -STOP -1; done 2>/dev/null");
        let running = pilot.begin(payload, &script);
        assert_eq!(running.line(), "ready");
        let start = Instant::now();
        let content = holding(b"secret");
        for _ in 0..8 {
            let file = TOKEN.into();
            pilot.send(Command::Replace { payload, file }, &[content.as_raw_fd()]);
        }
        let closing = pilot.send(Command::Close { payload }, &[]);
        let mut answers: Vec<_> = (0..9).map(|_| pilot.reply()).collect();
        answers.retain(|(id, ..)| *id == closing);
        assert!(
            matches!(answers[..], [(_, Answer::Closed, _)]),
            "{answers:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{:?}",
            start.elapsed()
        );
        assert!(names_in(EXECUTE).is_empty());
    });
}
