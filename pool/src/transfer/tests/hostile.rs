//! Pilots that do not keep to the rules.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cedar::{Coding, MessageWriter};
use classad::ClassAd;

use super::super::ack::{Ack, bounded};
use super::super::download::{Broken, Download, Downloaded};
use super::super::receiver::ReceiveError;
use super::super::{command, fuzzing};
use super::{Now, Pipe, Site, ad, pipe, sides};

fn message(build: impl FnOnce(&mut MessageWriter)) -> Vec<u8> {
    let mut message = MessageWriter::new(Coding::Encrypted);
    build(&mut message);
    message.finish().unwrap()
}

fn int(value: i64) -> Vec<u8> {
    message(|message| {
        message.int(value);
    })
}

fn ad_message(attributes: &[(&str, i64)]) -> Vec<u8> {
    let mut ad = ClassAd::new();
    for (name, value) in attributes {
        ad.insert(*name, *value);
    }
    message(|message| {
        message.ad(&ad);
    })
}

fn header() -> Vec<u8> {
    message(|message| {
        message.int(1).ad(&ClassAd::new());
    })
}

/// An item up to its body, with the go-ahead if it is the first.
fn item(kind: i64, name: &[u8], is_first: bool) -> Vec<Vec<u8>> {
    let name = message(|message| {
        message.str_bytes(name);
    });
    let mut messages = vec![int(kind), name];
    if is_first {
        messages.extend([int(300), ad_message(&[("Result", 2)])]);
    }
    messages
}

fn file(name: &[u8], content: &[u8], is_first: bool) -> Vec<Vec<u8>> {
    let mut messages = item(command::FILE, name, is_first);
    let sizes = message(|message| {
        message
            .int(i64::try_from(content.len()).unwrap())
            .int(262_144);
    });
    messages.extend([int(0o644), sizes, content.to_vec()]);
    messages
}

fn end() -> Vec<Vec<u8>> {
    vec![int(command::FINISHED), ad_message(&[("Result", 0)])]
}

/// What comes of a pilot that says all this whatever it hears, and our last message.
async fn pilot(
    site: &Site,
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> (Result<Downloaded, Broken>, Option<Vec<u8>>) {
    let (mut wire, other) = pipe();
    let Pipe {
        out, mut incoming, ..
    } = other;
    for message in messages {
        out.send(message).unwrap();
    }
    drop(out);
    let (mut bytes, mut count, mut is_spooled) = (0, 0, false);
    let done = Download {
        wire: &mut wire,
        files: &site.files(),
        job: &site.job(),
        spool: &site.spool(),
        sides: &sides(),
        limit: None,
        patience: Duration::from_secs(30),
        turn: Now,
        is_spooled: &mut is_spooled,
        bytes: &mut bytes,
        count: &mut count,
    }
    .run()
    .await;
    drop(wire);
    let mut last = None;
    while let Some(message) = incoming.recv().await {
        last = Some(message);
    }
    (done, last)
}

#[tokio::test]
async fn illegal_names_are_consumed_refused_and_told() {
    let site = Site::new();
    let outside = site.home.path().parent().unwrap().join("stolen");
    for name in [
        &b"/tmp/absolute-name-of-a-pilot"[..],
        b"../stolen",
        b"d/../../stolen",
        b"",
        b"..",
    ] {
        let mut messages = vec![header()];
        messages.extend(file(name, b"evil", true));
        messages.extend(file(b"fine", b"good", false));
        messages.extend(end());
        let (done, last) = pilot(&site, messages).await;
        let failure = done.unwrap().failure.unwrap();
        assert_eq!(
            (failure.code, failure.subcode),
            (12, i64::from(libc::EPERM)),
            "{name:?}"
        );
        assert!(
            failure.reason.contains("illegal name"),
            "{}",
            failure.reason
        );
        let ack = ad(&last.unwrap());
        assert_eq!(
            (ack.int("Result"), ack.int("HoldReasonSubCode")),
            (Some(-1), Some(1))
        );
        assert!(!outside.exists() && !Path::new("/tmp/absolute-name-of-a-pilot").exists());
    }
}

#[tokio::test]
async fn a_link_that_the_submit_file_does_not_name_leads_nowhere() {
    let mut site = Site::new();
    let elsewhere = super::super::super::files::testing::home(&super::owner());
    std::os::unix::fs::symlink(elsewhere.path(), site.home.path().join("way")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("f"), site.home.path().join("name")).unwrap();
    for name in [&b"way/f"[..], b"name"] {
        let mut messages = vec![header()];
        messages.extend(file(name, b"evil", true));
        messages.extend(end());
        let failure = pilot(&site, messages).await.0.unwrap().failure.unwrap();
        assert_eq!(failure.subcode, i64::from(libc::EXDEV));
        assert!(
            failure.reason.contains("leads out of the job's directory"),
            "{}",
            failure.reason
        );
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // The user may.
    site.ad.insert("TransferOutput", "way");
    let mut messages = vec![header()];
    messages.extend(file(b"way/f", b"good", true));
    messages.extend(end());
    assert!(pilot(&site, messages).await.0.unwrap().failure.is_none());
    assert_eq!(fs::read(elsewhere.path().join("f")).unwrap(), b"good");
}

#[tokio::test]
async fn modes_give_nobody_more_than_the_owner_wants() {
    let site = Site::new();
    let mut messages = vec![header()];
    messages.extend(item(command::FILE, b"f", true));
    let sizes = message(|message| {
        message.int(0).int(262_144);
    });
    messages.extend([int(0o107_777), sizes, int(super::super::EMPTY_FILE)]);
    messages.extend(item(command::MAKE_DIR, b"d", false));
    messages.push(int(0o047_077));
    messages.extend(end());
    assert!(pilot(&site, messages).await.0.unwrap().failure.is_none());
    let mode = |name: &str| {
        let facts = fs::metadata(site.home.path().join(name)).unwrap();
        std::os::unix::fs::MetadataExt::mode(&facts) & 0o7777
    };
    assert_eq!((mode("f"), mode("d")), (0o755, 0o755));
}

#[tokio::test]
async fn numbers_out_of_range_and_messages_out_of_order_end_the_dialogue() {
    let site = Site::new();
    let sized = |size: i64, block: i64| {
        let mut messages = item(command::FILE, b"f", true);
        let sizes = message(|message| {
            message.int(size).int(block);
        });
        messages.extend([int(0o644), sizes]);
        messages
    };
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("a negative size", sized(-1, 262_144)),
        ("a block of no size", sized(10, 0)),
        ("a block of 2^40 bytes", sized(1 << 41, 1 << 40)),
        (
            "a negative interval",
            vec![int(1), item(1, b"f", false)[1].clone(), int(-5)],
        ),
        ("an unknown command", vec![int(17)]),
        ("a URL to be fetched", vec![int(command::URL)]),
        ("a delegation", vec![int(command::DELEGATED_PROXY)]),
        ("an ad for a command", vec![ad_message(&[("Result", 0)])]),
        ("a refusal", {
            let mut messages = item(command::FILE, b"f", true);
            messages[3] = ad_message(&[("Result", -1)]);
            messages
        }),
        ("a short block", {
            let mut messages = file(b"f", b"content", true);
            messages.last_mut().unwrap().pop();
            messages
        }),
        ("another mark for an empty file", {
            let mut messages = sized(0, 262_144);
            messages.push(int(667));
            messages
        }),
    ];
    for (what, case) in cases {
        let (done, _) = pilot(&site, std::iter::once(header()).chain(case)).await;
        assert!(matches!(done, Err(Broken::Protocol(_))), "{what}: {done:?}");
    }
    let (done, _) = pilot(&site, [int(1)]).await;
    assert!(
        matches!(done, Err(Broken::Protocol(ReceiveError::Malformed { .. }))),
        "{done:?}"
    );
}

#[tokio::test]
async fn an_announced_but_unsent_file_costs_nothing() {
    let site = Site::new();
    let mut messages = vec![header()];
    messages.extend(item(command::FILE, b"huge", true));
    let sizes = message(|message| {
        message.int(1 << 60).int(1 << 20);
    });
    messages.extend([int(0o644), sizes]);
    let (done, _) = pilot(&site, messages).await;
    assert!(
        matches!(done, Err(Broken::Link(_))),
        "the pilot went away: {done:?}"
    );
    assert_eq!(
        fs::metadata(site.home.path().join("huge")).unwrap().len(),
        0
    );
}

#[test]
fn words_of_a_pilot_are_one_short_line() {
    let mut said = ClassAd::new();
    said.insert("Result", -1);
    said.insert("HoldReason", format!("a\nb{}", "é".repeat(10_000)));
    let Ack::Hold(failure) = Ack::from_ad(&said) else {
        panic!()
    };
    assert!(failure.reason.len() <= 4096 && !failure.reason.contains('\n'));
    assert_eq!(bounded("x\u{7f}y"), "x y");
    assert!(
        matches!(Ack::from_ad(&ClassAd::new()), Ack::Hold(_)),
        "no result is no success"
    );
}

#[test]
fn what_the_fuzzers_found_interesting_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in [
        ("pool_transfer", fuzzing::fuzz_pool_transfer as fn(&[u8])),
        ("output_remaps", fuzzing::fuzz_output_remaps),
    ] {
        let mut count = 0;
        for seed in fs::read_dir(corpus.join(name)).unwrap() {
            target(&fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name}");
    }
}
