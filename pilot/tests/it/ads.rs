//! What the pool reads in a slot ad.

use cedar::Sinful;
use classad::{ClassAd, Expr};
use sailplane::advertise::facts::NodeFacts;
use sailplane::advertise::live::invalidation;
use sailplane::advertise::offer::{Identity, Offer, base_ad};

use crate::pair::{Pilot, Setup};

fn identity() -> Identity {
    Identity {
        startd_name: "pilot_1@node7".to_owned(),
        machine: "node7".to_owned(),
        address: Sinful::parse("<10.1.2.3:4711?addrs=10.1.2.3-4711&noUDP>")
            .unwrap()
            .into(),
        started: 1_700_000_000,
        condor_version: cedar::version::COMPATIBLE.banner("test"),
        condor_platform: "$CondorPlatform: X86_64-Test_1 $".to_owned(),
    }
}

fn offer(attributes: Vec<(String, Expr)>) -> Offer {
    Offer {
        slots: 4,
        cpus: 8,
        memory_mib: 4000,
        start: Expr::from(true),
        rank: Expr::from(0_i64),
        max_retirement: Expr::from(0_i64),
        max_vacate: Expr::parse_old("10 * 60").unwrap(),
        weight: Expr::parse_old("Cpus").unwrap(),
        uid_domain: "example.org".to_owned(),
        filesystem_domain: "node7".to_owned(),
        collector_host: "cm".to_owned(),
        disk_kib: None,
        reserved_disk_kib: 0,
        condition: None,
        facts: Vec::new(),
        accounts: std::collections::BTreeMap::new(),
        attributes,
        slot_attributes: [(2, vec![("Own".to_owned(), Expr::from(2_i64))])].into(),
        checks: Vec::new(),
    }
}

/// Without any one of these a slot is never matched (protocol page 02, section 1.2).
const NEEDED: [&str; 11] = [
    "MyType",
    "Name",
    "MyAddress",
    "StartdIpAddr",
    "Requirements",
    "Start",
    "Memory",
    "Disk",
    "Arch",
    "OpSys",
    "HasFileTransfer",
];

#[tokio::test]
async fn a_slot_has_what_a_match_needs() {
    let ad = Pilot::start(Setup::default()).await.ad().await;
    for name in NEEDED {
        assert!(ad.contains(name), "{name} is missing");
    }
    for name in [
        "State",
        "Activity",
        "Cpus",
        "CondorVersion",
        "OpSysAndVer",
        "TimeToLive",
    ] {
        assert!(ad.contains(name), "{name} is missing");
    }
    assert_eq!(ad.bool("HasReconnect"), Some(true));
    assert!(!ad.contains("ClaimId"));
}

#[test]
fn slots_share_the_node_evenly() {
    let ad = base_ad(&NodeFacts::probe(), &identity(), &offer(Vec::new()), 3);
    assert_eq!(ad.string("Name").as_deref(), Some("slot3@pilot_1@node7"));
    assert_eq!((ad.int("Cpus"), ad.int("Memory")), (Some(2), Some(1000)));
    assert_eq!((ad.int("TotalSlots"), ad.int("SlotID")), (Some(4), Some(3)));
    assert_eq!(ad.int("MachineMaxVacateTime"), Some(600));
}

#[test]
fn operators_add_attributes_but_cannot_move_the_slot() {
    let attributes = vec![
        ("GLIDEIN_Site".to_owned(), Expr::from("Nebelung")),
        ("Name".to_owned(), Expr::from("slot1@elsewhere")),
        ("StartdIpAddr".to_owned(), Expr::from("<6.6.6.6:6>")),
        ("HasFileTransfer".to_owned(), Expr::from(false)),
    ];
    let node = NodeFacts::probe();
    let ad = base_ad(&node, &identity(), &offer(attributes.clone()), 1);
    assert_eq!(ad.string("GLIDEIN_Site").as_deref(), Some("Nebelung"));
    assert_eq!(ad.bool("HasFileTransfer"), Some(false));
    assert_eq!(ad.string("Name").as_deref(), Some("slot1@pilot_1@node7"));
    assert_eq!(ad.string("StartdIpAddr"), ad.string("MyAddress"));
    let own = base_ad(&node, &identity(), &offer(attributes), 2);
    assert_eq!(
        (own.int("Own"), own.contains("GLIDEIN_Site")),
        (Some(2), false)
    );
}

#[test]
fn the_address_is_told_in_both_forms() {
    let ad = base_ad(&NodeFacts::probe(), &identity(), &offer(Vec::new()), 1);
    let list = ad.string("AddressV1").unwrap();
    assert!(
        list.starts_with("{[ p=\"primary\"; a=\"10.1.2.3\"; port=4711;"),
        "{list}"
    );
}

#[test]
fn an_invalidation_names_one_slot_whatever_its_name() {
    let name = "slot1@odd\"name";
    let ad = invalidation(&identity(), name, "Machine");
    let mut slot = ClassAd::new();
    slot.insert("Name", name);
    assert!(classad::half_match(&ad, &slot, 0));
    slot.insert("Name", "slot2@odd\"name");
    assert!(!classad::half_match(&ad, &slot, 0));
    assert_eq!(ad.string("TargetType").as_deref(), Some("Machine"));
}
