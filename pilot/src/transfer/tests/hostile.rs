//! A peer that means harm, or does not know the protocol.

use cedar::{Coding, MessageWriter};
use classad::ClassAd;
use proptest::prelude::*;

use super::super::download::{DownloadError, StorageError};
use super::super::receive::{ReceiveError, Received, Receiver};
use super::super::select::{Item, ItemKind};
use super::super::send::{Heard, SendError, Sender};
use super::super::testing::{Directory, tree};
use super::round_trips::{Limits, file, transfer};

fn int(value: i64) -> Vec<u8> {
    let mut message = MessageWriter::new(Coding::Encrypted);
    message.int(value);
    message.finish().unwrap()
}

fn ints(one: i64, two: i64) -> Vec<u8> {
    [int(one), int(two)].concat()
}

fn text(value: &str) -> Vec<u8> {
    let mut message = MessageWriter::new(Coding::Encrypted);
    message.str(value);
    message.finish().unwrap()
}

fn ad(pairs: &[(&str, i64)]) -> Vec<u8> {
    let mut ad = ClassAd::new();
    for (name, value) in pairs {
        ad.insert(*name, *value);
    }
    let mut message = MessageWriter::new(Coding::Encrypted);
    message.ad(&ad);
    message.finish().unwrap()
}

/// A receiver that has agreed to the item `command` and waits for its body.
fn receiver_at(command: i64) -> Receiver {
    let mut receiver = Receiver::new(Coding::Encrypted);
    let header = [int(0), ad(&[("SandboxSize", 1)])].concat();
    for message in [
        header,
        int(command),
        text("name"),
        int(300),
        ad(&[("Result", 2)]),
    ] {
        receiver.handle(&message).unwrap();
    }
    receiver
}

#[tokio::test]
async fn names_that_leave_the_sandbox_are_refused_and_the_rest_is_consumed() {
    for name in ["../evil", "/etc/evil", "a/../../evil", "", "."] {
        let from = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("proxy.pem"), "good").unwrap();
        std::fs::write(from.path().join("x"), "evil").unwrap();
        let to = tempfile::tempdir().unwrap();
        let evil = Item {
            name: name.into(),
            kind: ItemKind::File {
                path: "x".into(),
                size: 4,
            },
        };
        let evil_directory = Item {
            name: name.into(),
            kind: ItemKind::Directory { mode: 0o777 },
        };
        let items = vec![file("proxy.pem"), evil, evil_directory, file("x")];
        let limits = Limits {
            memory: 1 << 20,
            disk: 0,
        };
        let (uploaded, downloaded) =
            transfer(items, from.path(), Directory::new(to.path()), limits).await;
        let DownloadError::Storage(StorageError::Name { .. }) = downloaded.unwrap_err() else {
            panic!("{name:?} was not refused for its name");
        };
        assert_eq!(
            uploaded.theirs.hold.unwrap().subcode,
            i64::from(libc::EPERM)
        );
        assert!(
            tree(to.path())
                .iter()
                .all(|(path, ..)| path == "proxy.pem" || path == "x")
        );
    }
}

#[test]
fn sizes_and_blocks_must_be_what_they_say() {
    for (size, block) in [
        (-1, 262_144),
        (10, 0),
        (10, -5),
        (10, 1 << 40),
        (i64::MIN, 1),
    ] {
        let mut receiver = receiver_at(1);
        receiver.handle(&int(0o644)).unwrap();
        assert!(
            matches!(
                receiver.handle(&ints(size, block)),
                Err(ReceiveError::OutOfRange { .. })
            ),
            "{size} {block}"
        );
    }
    for wrong in [9, 11, 0] {
        let mut receiver = receiver_at(1);
        receiver.handle(&int(0o644)).unwrap();
        receiver.handle(&ints(10, 262_144)).unwrap();
        assert!(matches!(
            receiver.handle(&vec![0; wrong]),
            Err(ReceiveError::BlockLength { .. })
        ));
    }
    // The sender's block size rules, not ours.
    let mut receiver = receiver_at(1);
    receiver.handle(&int(0o644)).unwrap();
    receiver.handle(&ints(10, 4)).unwrap();
    for (length, last) in [(4, false), (4, false), (2, true)] {
        let Received::Data { is_last } = receiver.handle(&vec![0; length]).unwrap() else {
            panic!("no data")
        };
        assert_eq!(is_last, last);
    }
}

#[test]
fn setuid_bits_are_dropped() {
    let mut receiver = receiver_at(1);
    receiver.handle(&int(0o106_755)).unwrap();
    let Received::File(header) = receiver.handle(&ints(0, 1)).unwrap() else {
        panic!("no file")
    };
    assert_eq!(header.mode, Some(0o755));
    let mut receiver = receiver_at(6);
    let Received::Directory { mode, .. } = receiver.handle(&int(0)).unwrap() else {
        panic!("no directory")
    };
    assert_eq!(mode, 0o700);
}

#[test]
fn a_url_is_announced_as_such() {
    let mut receiver = receiver_at(5);
    assert!(matches!(
        receiver.handle(&text("http://x/y")),
        Ok(Received::Url { .. })
    ));
}

#[test]
fn an_unknown_key_and_a_refusal_are_told_apart() {
    let mut receiver = Receiver::new(Coding::Encrypted);
    assert!(matches!(
        receiver.handle(&int(0)),
        Err(ReceiveError::KeyRefused)
    ));
    let mut sender = Sender::new(Coding::Encrypted);
    let _ = sender.file(b"x");
    assert!(matches!(sender.handle(&int(0)), Err(SendError::KeyRefused)));
    let mut sender = Sender::new(Coding::Encrypted);
    let _ = sender.file(b"x");
    assert!(matches!(
        sender.handle(&ad(&[("Result", 0), ("Timeout", 300)])),
        Ok(Heard::Nothing)
    ));
    assert!(sender.must_wait());
    let refusal = sender.handle(&ad(&[("Result", -1), ("HoldReasonCode", 33)]));
    assert!(matches!(refusal, Err(SendError::Refused { code: 33, .. })));
}

#[test]
fn unknown_commands_and_words_after_the_end_are_errors() {
    let mut receiver = Receiver::new(Coding::Encrypted);
    receiver
        .handle(&[int(0), ad(&[("SandboxSize", 1)])].concat())
        .unwrap();
    assert!(matches!(
        receiver.handle(&int(77)),
        Err(ReceiveError::UnknownCommand(77))
    ));
    let mut receiver = Receiver::new(Coding::Encrypted);
    receiver
        .handle(&[int(0), ad(&[("SandboxSize", 1)])].concat())
        .unwrap();
    receiver.handle(&int(0)).unwrap();
    assert!(matches!(
        receiver.handle(&ad(&[("Result", 0)])),
        Ok(Received::Finished(_))
    ));
    assert!(matches!(
        receiver.handle(&int(0)),
        Err(ReceiveError::AfterEnd)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_sequence_of_messages_makes_the_dialogues_panic(
        messages in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                (-2_i64..10).prop_map(int),
                (-2_i64..10, -2_i64..10).prop_map(|(one, two)| ints(one, two)),
                "[a-z./]{0,6}".prop_map(|name| text(&name)),
                (-2_i64..4).prop_map(|result| ad(&[("Result", result), ("SubCommand", result + 6)])),
            ],
            0..30,
        ),
        start in 1_i64..7,
    ) {
        for mut receiver in [Receiver::new(Coding::Encrypted), receiver_at(start)] {
            for message in &messages {
                if receiver.handle(message).is_err() {
                    break;
                }
            }
        }
        let mut sender = Sender::new(Coding::Encrypted);
        let _ = sender.file(b"x");
        for message in &messages {
            if sender.handle(message).is_err() {
                break;
            }
        }
    }
}
