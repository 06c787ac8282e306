//! Entry points for fuzzing: a pilot that says anything, and whatever a user writes into a submit file.

use std::path::{Component, Path};

use cedar::Coding;
use classad::ClassAd;

use super::job::TransferJob;
use super::place::{Place, Places};
use super::plan::Crypto;
use super::receiver::{Received, Receiver};
use super::remaps::Remaps;
use super::sender::{Heard, Sender};

/// Splits the input into messages (two length bytes before each) and feeds both sides of the dialogue with them. A name
/// that is accepted stays beneath the job's directory.
pub fn fuzz_pool_transfer(data: &[u8]) {
    let mut receiver = Receiver::new(Coding::Encrypted);
    let mut sender = Sender::new(Coding::Encrypted);
    let _ = sender.file(b"name", Crypto::AsIs);
    let (mut receiver_lives, mut sender_lives) = (true, true);
    let Some(job) = job() else { return };
    let mut rest = data;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (message, more) =
            more.split_at(usize::from(u16::from_be_bytes(*length)).min(more.len()));
        rest = more;
        if receiver_lives {
            match receiver.handle(message) {
                Ok(Received::File(header)) => check_name(&job, &header.name),
                Ok(Received::Directory { name, .. }) => check_name(&job, &name),
                Ok(Received::Asks { interval }) => {
                    assert!(interval >= 60);
                    let _ = receiver.go_ahead(Some(1));
                }
                Ok(_) => {}
                Err(_) => receiver_lives = false,
            }
        }
        if sender_lives {
            match sender.handle(message) {
                Ok(Heard::Ready { .. }) => {
                    let _ = sender.go_ahead();
                    sender.await_request();
                }
                Ok(Heard::Request(request)) => {
                    assert!(request.len() < message.len());
                    let _ = sender.finish(&super::ack::Ack::Success);
                }
                Ok(_) => {}
                Err(_) => sender_lives = false,
            }
        }
    }
}

/// Remaps, and names under them: a name that the rules do not mention stays what it is.
pub fn fuzz_output_remaps(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (rules, name) = text.split_once('\0').unwrap_or((&text, "a/b"));
    let remaps = Remaps::parse(rules);
    let target = remaps.apply(name);
    let first = name.split('/').next().unwrap_or(name);
    if !first.is_empty() && !rules.contains(first) {
        assert_eq!(target, Ok(None));
    }
}

fn job() -> Option<TransferJob> {
    let mut ad = ClassAd::new();
    for (name, value) in [
        ("Owner", "o"),
        ("Iwd", "/iwd"),
        ("Cmd", "c"),
        ("Out", "out"),
        ("TransferOutput", "d,e"),
    ] {
        ad.insert(name, value);
    }
    ad.insert("ClusterId", 1);
    ad.insert("ProcId", 0);
    TransferJob::from_ad(&ad, "slot").ok()
}

fn check_name(job: &TransferJob, name: &[u8]) {
    if let Ok(place) = Places::of_user(job).of(name) {
        match place {
            Place::Named(path) => assert!(path.starts_with("/iwd")),
            Place::Beneath { base, path } => {
                assert_eq!(base, Path::new("/iwd"));
                assert!(
                    path.components()
                        .all(|part| matches!(part, Component::Normal(_)))
                );
            }
        }
        let path = Places::of_user(job)
            .of(name)
            .map(|place| place.path())
            .unwrap_or_default();
        assert!(!path.components().any(|part| part == Component::ParentDir));
    }
}
