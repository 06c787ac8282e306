//! Both dialogues replayed against what HTCondor 23.9.6 said.

use cedar::{Coding, MessageReader, MessageWriter};

use super::super::receive::{Received, Receiver};
use super::super::send::{Heard, Sender};
use super::super::testing::{Recorded, recorded};
use super::super::{Ack, AckHold};

fn bytes(message: MessageWriter) -> Vec<u8> {
    message.finish().unwrap()
}

fn ad(body: &[u8]) -> classad::ClassAd {
    MessageReader::new(Coding::Encrypted, body).ad().unwrap()
}

/// What a received sandbox consists of.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    files: Vec<(String, Option<u32>, u64)>,
    directories: Vec<(String, u32)>,
    delegated: Vec<String>,
    bytes: u64,
}

/// Feeds what the shadow sent, checks that each of our answers is what the recorded starter answered.
fn replay_input(name: &str) -> (Seen, Ack) {
    let messages = recorded(name);
    let (shadow, ours): (Vec<Recorded>, Vec<Recorded>) = messages
        .into_iter()
        .partition(|message| message.from == "shadow");
    // The first of ours is the transfer key.
    let mut ours = ours.into_iter().skip(1);
    let mut receiver = Receiver::new(Coding::Encrypted);
    let mut seen = Seen::default();
    let mut last = None;
    for message in &shadow {
        match receiver.handle(&message.body).unwrap() {
            Received::Header {
                is_final,
                sandbox_size,
            } => {
                assert!(!is_final);
                assert!(sandbox_size >= 0);
            }
            Received::Nothing => {}
            Received::Reply(replies) => {
                for reply in replies {
                    assert_eq!(bytes(reply), ours.next().unwrap().body, "{name}");
                }
            }
            Received::File(header) => {
                seen.files.push((
                    String::from_utf8(header.name).unwrap(),
                    header.mode,
                    header.size,
                ));
            }
            Received::Data { .. } => seen.bytes += message.body.len() as u64,
            Received::EmptyFile => {}
            Received::Directory { name, mode } => {
                seen.directories
                    .push((String::from_utf8(name).unwrap(), mode));
            }
            Received::Delegation { name } => {
                seen.delegated.push(String::from_utf8(name).unwrap());
                let recorded = ours.next().unwrap().body;
                assert_eq!(bytes(receiver.request_delegation(&recorded[8..])), recorded);
            }
            Received::Certificates { chain } => assert_eq!(chain.len() + 8, message.body.len()),
            Received::Url { .. } => panic!("no URL was recorded"),
            Received::Finished(theirs) => {
                let recorded = Ack::from_ad(&ad(&ours.next().unwrap().body));
                let body = bytes(receiver.acknowledge(&recorded));
                assert_eq!(Ack::from_ad(&ad(&body)), recorded);
                last = Some(theirs);
            }
        }
    }
    assert!(
        ours.next().is_none(),
        "{name}: the recorded starter said more"
    );
    (seen, last.unwrap_or_else(|| panic!("{name} has no end")))
}

#[test]
fn inputs_are_understood() {
    let (seen, ack) = replay_input("exec-mini-ft-input-full");
    assert!(ack.is_success());
    assert_eq!(seen.bytes, 300_245);
    assert_eq!(
        seen.directories,
        [("indir".to_owned(), 0o755), ("indir/sub".to_owned(), 0o755)]
    );
    let names: Vec<_> = seen.files.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "in1.txt",
            "indir/top.txt",
            "indir/sub/deep.txt",
            "big.bin",
            "stdin.txt",
            "job.sh"
        ]
    );
    assert_eq!(seen.files[5], ("job.sh".to_owned(), Some(0o755), 210));

    let (seen, ack) = replay_input("exec-ft-input-empty");
    assert_eq!((seen, ack), (Seen::default(), Ack::SUCCESS));
    for name in [
        "exec-ft-input-full",
        "exec-ft-input-encrypt-flags",
        "exec-evict-ft-input-second-run",
    ] {
        assert!(replay_input(name).1.is_success(), "{name}");
    }
}

#[test]
fn a_delegated_and_a_copied_proxy_are_understood() {
    let (seen, ack) = replay_input("exec-mini-x509-delegation");
    assert!(ack.is_success());
    assert_eq!(seen.delegated, ["proxy.pem"]);
    let (seen, ack) = replay_input("exec-x509-ft-input-copy");
    assert!(ack.is_success());
    assert_eq!(seen.files, [("proxy.pem".to_owned(), Some(0o600), 3860)]);
}

#[test]
fn an_input_the_shadow_could_not_read_ends_with_its_reason() {
    let (_, ack) = replay_input("exec-ft-input-missing");
    assert_eq!(ack.result, -1);
    let AckHold {
        code,
        subcode,
        reason,
    } = ack.hold.unwrap();
    assert_eq!((code, subcode), (13, 2));
    assert!(reason.contains("No such file"), "{reason}");
}

/// Says what the recorded starter said and checks that the bytes are the same.
fn replay_output(name: &str) {
    let messages = recorded(name);
    let mut theirs = messages.iter().filter(|message| message.from == "shadow");
    let mut ours = messages
        .iter()
        .filter(|message| message.from != "shadow")
        .skip(1);
    let mut sender = Sender::new(Coding::Encrypted);

    let header = ours.next().unwrap();
    let mut reader = MessageReader::new(Coding::Encrypted, &header.body);
    let is_final = reader.int().unwrap() == 1;
    let size = u64::try_from(reader.ad().unwrap().int("SandboxSize").unwrap()).unwrap();
    assert_eq!(bytes(sender.header(is_final, size)), header.body, "{name}");
    assert_eq!(is_final, !name.contains("flag0"));

    loop {
        let command = MessageReader::new(Coding::Encrypted, &ours.next().unwrap().body)
            .int()
            .unwrap();
        if command == 0 {
            break;
        }
        let name_body = &ours.next().unwrap().body;
        let item = MessageReader::new(Coding::Encrypted, name_body)
            .str()
            .unwrap();
        let begin = if command == 6 {
            sender.directory(item.as_bytes())
        } else {
            sender.file(item.as_bytes())
        };
        let mut begin = begin.into_iter().map(bytes);
        assert_eq!(begin.next().unwrap(), command.to_be_bytes());
        assert_eq!(begin.next().unwrap(), *name_body);
        if let Some(alive) = begin.next() {
            assert_eq!(alive, ours.next().unwrap().body);
            let go_ahead = loop {
                match sender.handle(&theirs.next().unwrap().body).unwrap() {
                    Heard::GoAhead(message) => break message,
                    Heard::Nothing => {}
                    Heard::Finished(_) => panic!("finished before it began"),
                }
            };
            assert_eq!(bytes(go_ahead), ours.next().unwrap().body);
        }
        assert!(!sender.must_wait());
        let mode_body = &ours.next().unwrap().body;
        let mode = MessageReader::new(Coding::Encrypted, mode_body)
            .int()
            .unwrap();
        if command == 6 {
            assert_eq!(
                bytes(sender.directory_mode(u32::try_from(mode).unwrap())),
                *mode_body
            );
            continue;
        }
        let size_body = &ours.next().unwrap().body;
        let size = MessageReader::new(Coding::Encrypted, size_body)
            .int()
            .unwrap();
        let said = if mode == 1 << 24 {
            sender.unreadable_file()
        } else {
            sender.file_header(u32::try_from(mode).unwrap(), u64::try_from(size).unwrap())
        };
        let mut said = said.into_iter().map(bytes);
        assert_eq!(said.next().unwrap(), *mode_body);
        assert_eq!(said.next().unwrap(), *size_body);
        match said.next() {
            Some(mark) => assert_eq!(mark, ours.next().unwrap().body),
            None => {
                let mut left = usize::try_from(size).unwrap();
                while left > 0 {
                    left -= ours.next().unwrap().body.len();
                }
            }
        }
    }
    let report = Ack::from_ad(&ad(&ours.next().unwrap().body));
    let mut end = sender.finish(&report).into_iter().map(bytes);
    assert_eq!(end.next().unwrap(), 0_i64.to_be_bytes());
    assert_eq!(Ack::from_ad(&ad(&end.next().unwrap())), report);
    match sender.handle(&theirs.next().unwrap().body).unwrap() {
        Heard::Finished(theirs) => assert_eq!(theirs.is_success(), report.is_success()),
        other => panic!("{other:?}"),
    }
    assert!(ours.next().is_none() && theirs.next().is_none());
}

#[test]
fn outputs_are_sent_as_the_real_starter_sends_them() {
    for name in [
        "exec-ft-output-std",
        "exec-ft-output-full",
        "exec-ft-output-changed-files",
        "exec-ft-output-missing",
        "exec-evict-ft-output-flag0",
        "exec-mini-ft-output-full",
    ] {
        replay_output(name);
    }
}
