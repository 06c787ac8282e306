//! Recorded claims against our messages.

use std::collections::BTreeSet;

use cedar::{ClaimId, Sinful};
use classad::ClassAd;

use super::claim::{
    Activated, BadReply, CaFailure, Claimed, Request, ShadowFacts, ca_reply, locate_starter,
    may_go_on, reconnect_job,
};
use crate::shadow::vectors::{load, written};

fn names(ad: &ClassAd) -> BTreeSet<String> {
    ad.iter()
        .map(|(name, _)| name.as_str().to_owned())
        .collect()
}

#[test]
fn the_request_for_a_claim_is_that_of_the_real_schedd() {
    for vector in ["exec-request-claim-pslot", "exec-request-claim-static"] {
        let messages = load(vector);
        let mut theirs = messages[0].reader();
        let claim = ClaimId::parse(&theirs.str().unwrap()).unwrap();
        let ad = theirs.ad().unwrap();
        let mut job = ad.clone();
        for flag in names(&ad).iter().filter(|name| {
            name.starts_with("_condor_")
                || name.as_str() == "StartdSendsAlives"
                || name.as_str() == "ScheddName"
        }) {
            job.remove(flag);
        }
        let address = Sinful::parse(&theirs.str().unwrap()).unwrap();
        let schedd_name = ad.string("ScheddName").unwrap();
        let request = Request {
            claim: &claim,
            job: &job,
            schedd_name: &schedd_name,
            address: &address,
            alive_interval: 300,
        };
        let body = written(|out| request.write(out));
        let mut ours = cedar::MessageReader::new(cedar::Coding::Encrypted, &body);
        assert!(claim.same_as(&ours.str().unwrap()));
        let our_ad = ours.ad().unwrap();
        assert_eq!(names(&our_ad), names(&ad), "{vector}");
        for (name, expr) in ad.iter() {
            assert_eq!(
                our_ad.get(name.as_str()),
                Some(expr),
                "{vector}: {}",
                name.as_str()
            );
        }
        assert_eq!(ours.str().unwrap(), address.to_string());
        assert_eq!((ours.int().unwrap(), ours.int().unwrap()), (300, 0));
        assert!(
            ours.at_end() && {
                theirs.int().unwrap();
                theirs.int().unwrap();
                theirs.at_end()
            }
        );
    }
}

#[test]
fn leftovers_of_a_partitionable_slot_are_kept_apart_from_what_was_claimed() {
    for vector in ["exec-request-claim-pslot", "exec-mini-pslot-request-claim"] {
        let messages = load(vector);
        let asked = ClaimId::parse(&messages[0].reader().str().unwrap()).unwrap();
        let Claimed::Yes {
            slot: Some(slot),
            leftovers: Some(leftovers),
        } = Claimed::read(messages[1].reader(), &asked).unwrap()
        else {
            panic!("{vector}");
        };
        assert_eq!(slot.claim, asked, "{vector}");
        assert_ne!(leftovers.claim, asked, "{vector}");
        assert_eq!(
            leftovers.slot.bool("PartitionableSlot"),
            Some(true),
            "{vector}"
        );
        assert_eq!(
            slot.slot.string("SlotType").as_deref(),
            Some("Dynamic"),
            "{vector}"
        );
    }
}

#[test]
fn a_static_slot_has_no_leftovers_even_if_the_startd_sends_it_twice() {
    for vector in ["exec-request-claim-static", "exec-mini-request-claim"] {
        let messages = load(vector);
        let asked = ClaimId::parse(&messages[0].reader().str().unwrap()).unwrap();
        let answer = Claimed::read(messages[1].reader(), &asked).unwrap();
        assert!(
            matches!(
                answer,
                Claimed::Yes {
                    leftovers: None,
                    ..
                }
            ),
            "{vector}: {answer:?}"
        );
    }
}

#[test]
fn a_refused_claim_and_nonsense_are_told_apart() {
    let messages = load("exec-mini-request-claim-refused");
    let asked = ClaimId::parse(&messages[0].reader().str().unwrap()).unwrap();
    assert!(matches!(
        Claimed::read(messages[1].reader(), &asked).unwrap(),
        Claimed::Refused
    ));
    let nonsense = written(|out| {
        out.int(6);
    });
    let reader = cedar::MessageReader::new(cedar::Coding::Encrypted, &nonsense);
    assert!(matches!(
        Claimed::read(reader, &asked),
        Err(BadReply::Code(6))
    ));
}

#[test]
fn answers_to_an_activation_are_read() {
    for (vector, expected) in [
        ("exec-activate-syscalls-exit0", Activated::Yes),
        ("exec-mini-activate-refused", Activated::Refused),
        ("exec-mini-activate-try-again", Activated::TryAgain),
    ] {
        assert_eq!(
            Activated::read(load(vector)[1].reader()).unwrap(),
            expected,
            "{vector}"
        );
    }
}

#[test]
fn a_closing_claim_is_not_used_again() {
    assert!(may_go_on(load("exec-deactivate-forcibly-after-exit")[1].reader()).unwrap());
    assert!(!may_go_on(load("exec-mini-deactivate-closing")[1].reader()).unwrap());
}

#[test]
fn reconnecting_asks_what_the_real_shadow_asks() {
    let messages = load("exec-reconnect-locate-starter");
    let theirs = messages[0].reader().ad().unwrap();
    let claim = ClaimId::parse(&theirs.string("ClaimId").unwrap()).unwrap();
    let schedd = Sinful::parse(&theirs.string("ScheddIpAddr").unwrap()).unwrap();
    let ours = locate_starter(&claim, &theirs.string("GlobalJobId").unwrap(), &schedd);
    assert_eq!(names(&ours), names(&theirs));
    for (name, expr) in theirs.iter() {
        assert_eq!(ours.get(name.as_str()), Some(expr), "{}", name.as_str());
    }
    let found = ca_reply(messages[1].reader().ad().unwrap()).unwrap();
    assert!(found.contains("StarterIpAddr"));

    for vector in ["exec-reconnect-job", "exec-mini-reconnect-job"] {
        let messages = load(vector);
        let theirs = messages[0].reader().ad().unwrap();
        let address = Sinful::parse(&theirs.string("ShadowIpAddr").unwrap()).unwrap();
        let (version, key) = (
            theirs.string("ShadowVersion").unwrap(),
            theirs.string("TransferKey"),
        );
        let ours = reconnect_job(ShadowFacts {
            address: &address,
            version: &version,
            uid_domain: &theirs.string("UidDomain").unwrap(),
            transfer_key: key.as_deref(),
        });
        assert_eq!(names(&ours), names(&theirs), "{vector}");
        for (name, expr) in theirs.iter() {
            assert_eq!(
                ours.get(name.as_str()),
                Some(expr),
                "{vector}: {}",
                name.as_str()
            );
        }
    }
}

#[test]
fn a_lost_job_is_told_from_a_lost_network() {
    let ad = |text: &str| ClassAd::parse_old(text).unwrap();
    assert!(
        matches!(ca_reply(ad("Result = \"Failure\"\nErrorString = \"no\"")), Err(CaFailure::NoSuchJob(text)) if text.contains("no"))
    );
    assert!(matches!(
        ca_reply(ad("Result = \"NotAuthenticated\"")),
        Err(CaFailure::NotOurs(_))
    ));
    assert!(matches!(ca_reply(ad("X = 1")), Err(CaFailure::Other(_))));
}

/// The size of what an async function keeps while it waits.
fn kept<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_claim_with_a_running_job_waits_in_little_memory() {
    let bytes = kept(|holder: super::holder::Holder, job| holder.serve(job));
    assert!(bytes < 16 * 1024, "{bytes} bytes");
}
