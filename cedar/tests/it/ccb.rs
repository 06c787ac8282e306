//! The daemon's side of CCB: recorded exchanges with a real broker, and brokers that do what they like.

use std::net::IpAddr;
use std::time::Duration;

use cedar::ccb::{Due, Heard, Place, Registration, Request, Settings};
use cedar::wire::{Coding, MessageReader, MessageWriter};
use classad::ClassAd;
use proptest::prelude::*;

use crate::support::{Frame, frames, vector};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn place() -> Place {
    Place {
        peer: HERE,
        local: HERE,
    }
}

fn registration() -> Registration {
    Registration::new(Settings {
        name: "STARTD <127.0.0.1:22692>".to_owned(),
        heartbeat: Some(Duration::from_secs(300)),
        reconnect: Duration::from_secs(60),
        max_dials: 8,
    })
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The message of an ad as it goes into the encrypted stream.
fn sent(ad: &ClassAd) -> Vec<u8> {
    let mut message = MessageWriter::new(Coding::Encrypted);
    message.ad(ad);
    message.finish().unwrap()
}

fn received(frame: &Frame) -> ClassAd {
    let plain = frame.plain.as_ref().expect("a decrypted frame");
    let mut reader = MessageReader::new(Coding::Encrypted, plain);
    let ad = reader.ad().unwrap();
    reader.expect_end().unwrap();
    ad
}

fn request_of(ad: &ClassAd) -> Box<Request> {
    let mut registration = registration();
    registration.connected(seconds(0), place());
    let frames = frames(&vector("70_ccb_register_and_request"));
    registration
        .heard(seconds(1), &received(&frames[10]))
        .unwrap();
    match registration.heard(seconds(2), ad).unwrap() {
        Heard::Dial(request) => request,
        other => panic!("not dialled: {other:?}"),
    }
}

#[test]
fn registration_heartbeat_and_report_are_what_the_real_broker_took() {
    let frames = frames(&vector("70_ccb_register_and_request"));
    let plain = |at: usize| frames[at].plain.clone().unwrap();
    let mut registration = registration();
    let register = registration.connected(seconds(0), place());
    assert_eq!(sent(&register), plain(9));
    let heard = registration.heard(seconds(1), &received(&frames[10]));
    assert!(matches!(heard, Ok(Heard::Registered { changed: true })));
    assert_eq!(
        registration.contact().unwrap().as_str(),
        "127.0.0.1:22618?addrs=127.0.0.1-22618&alias=vm#1"
    );
    let due = registration.due().unwrap();
    let Ok(Due::Heartbeat(beat)) = registration.tick(due) else {
        panic!("no heartbeat")
    };
    assert_eq!(sent(&beat), plain(11));
    let heard = registration.heard(due, &received(&frames[12]));
    assert!(matches!(heard, Ok(Heard::Nothing)));
    let Ok(Heard::Dial(request)) = registration.heard(due, &received(&frames[13])) else {
        panic!("not dialled")
    };
    assert_eq!(request.name(), "TOOL on <127.0.0.1:22646>");
    let report = registration.finished(&request, &Ok(())).unwrap();
    assert_eq!(sent(&report), plain(14));
}

#[test]
fn a_reconnect_shows_contact_and_cookie_as_the_real_broker_wants_them() {
    let first = frames(&vector("70_ccb_register_and_request"));
    let again = frames(&vector("72_ccb_reconnect"));
    let mut registration = registration();
    registration.connected(seconds(0), place());
    registration
        .heard(seconds(1), &received(&first[10]))
        .unwrap();
    registration.lost(0);
    let register = registration.connected(seconds(60), place());
    assert_eq!(sent(&register), again[9].plain.clone().unwrap());
    let heard = registration.heard(seconds(61), &received(&again[10]));
    assert!(matches!(heard, Ok(Heard::Registered { changed: false })));
}

#[test]
fn a_reversed_connection_begins_as_the_real_requester_expects() {
    let request = received(&frames(&vector("70_ccb_register_and_request"))[13]);
    let request = request_of(&request);
    let (target, address) = request.target(place()).unwrap();
    assert_eq!(address, "127.0.0.1:22651".parse().unwrap());
    let frames = frames(&vector("71_ccb_reverse_connection"));
    assert_eq!(request.hello(&target, "sailplane").unwrap(), frames[0].raw);
}

#[test]
fn a_requester_behind_a_shared_port_is_selected_first() {
    let recorded = vector("73_ccb_reverse_connection_via_shared_port");
    let mut ad = ClassAd::new();
    ad.insert("Command", 68);
    for (name, value) in recorded["decoded"]["ccb_request"].as_object().unwrap() {
        if let Some(text) = value.as_str() {
            ad.insert(name.as_str(), text);
        }
    }
    let request = request_of(&ad);
    let (target, _) = request.target(place()).unwrap();
    let frames = frames(&recorded);
    let both = [&frames[0].raw[..], &frames[1].raw].concat();
    assert_eq!(request.hello(&target, "sailplane").unwrap(), both);
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("127.0.0.1:1?addrs=127.0.0.1-1#4".to_owned()),
        Just("<192.0.2.1:9618?sock=a_1>".to_owned()),
        Just("<127.0.0.1:22>".to_owned()),
        Just("1".to_owned()),
        "[ -~]{0,60}",
        "\\PC{0,20}",
    ]
}

fn ads() -> impl Strategy<Value = ClassAd> {
    let command = prop_oneof![Just(67i64), Just(68), Just(441), any::<i64>()];
    (
        command,
        proptest::collection::vec((0usize..6, values()), 0..7),
    )
        .prop_map(|(command, pairs)| {
            let mut ad = ClassAd::new();
            ad.insert("Command", command);
            for (index, text) in pairs {
                let name = [
                    "ClaimId",
                    "RequestID",
                    "MyAddress",
                    "CCBID",
                    "Name",
                    "Result",
                ][index];
                ad.insert(name, text.as_str());
            }
            ad
        })
}

proptest! {
    /// Whatever a broker says: never more connections than allowed, each outcome told once and only to the
    /// connection that asked, and silence always ends.
    #[test]
    fn no_broker_brings_a_registration_out_of_its_bounds(script in proptest::collection::vec((ads(), 0u64..400, any::<bool>()), 0..60)) {
        let mut registration = registration();
        let far = Place { peer: "192.0.2.1".parse().unwrap(), local: "192.0.2.9".parse().unwrap() };
        let mut now = seconds(0);
        registration.connected(now, far);
        let mut dialling = Vec::new();
        let mut present = 0;
        for (ad, pause, ends) in script {
            now += seconds(pause);
            let alive = match registration.tick(now) {
                Ok(_) => registration.heard(now, &ad),
                Err(error) => Err(error),
            };
            match alive {
                Ok(Heard::Dial(request)) => {
                    let (target, address) = request.target(far).unwrap();
                    prop_assert!(!address.ip().is_loopback());
                    let hello = request.hello(&target, "STARTD").unwrap();
                    prop_assert!(hello.len() < 64 * 1024);
                    dialling.push((present, request));
                }
                Ok(_) => {}
                Err(_) => {
                    registration.lost(1);
                    present += 1;
                    registration.connected(now, far);
                }
            }
            prop_assert!(dialling.len() <= 8);
            prop_assert_eq!(registration.dials(), dialling.len());
            if ends && !dialling.is_empty() {
                let (of, request) = dialling.remove(0);
                let told = registration.finished(&request, &Err("no".to_owned()));
                prop_assert_eq!(told.is_some(), of == present && registration.is_up());
            }
            prop_assert!(registration.due().is_some());
        }
    }
}
