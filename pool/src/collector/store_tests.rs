use super::*;

fn ad(text: &str) -> ClassAd {
    ClassAd::parse_old(text).unwrap()
}

fn slot_ad(name: &str) -> ClassAd {
    let mut ad =
        ad("MyType = \"Machine\"\nState = \"Unclaimed\"\nMyAddress = \"<10.0.0.1:5?x=1>\"");
    ad.insert("Name", name);
    ad
}

fn claim(number: u32) -> ClassAd {
    ad(&format!("ClaimId = \"<10.0.0.1:5>#1#{number}#secret\""))
}

fn store() -> Store {
    Store::new(900, 100)
}

fn put(store: &mut Store, name: &str, number: u32, now: i64) -> Stored {
    store
        .update(
            &Kind::Machine,
            slot_ad(name),
            Some(claim(number)),
            &Sender::default(),
            now,
        )
        .unwrap()
}

fn reserve(store: &mut Store, now: i64) {
    let slot = store.slot("a", now).unwrap();
    store.reserve(&slot, now);
}

fn names(store: &mut Store, kind: &Kind, now: i64) -> Vec<String> {
    let records = store.records(kind, now);
    records
        .iter()
        .map(|record| record.public.string("Name").unwrap())
        .collect()
}

#[test]
fn an_ad_lives_until_its_own_or_the_common_lifetime_is_over() {
    let mut store = store();
    put(&mut store, "a", 1, 1000);
    let mut short = slot_ad("b");
    short.insert("ClassAdLifetime", 10);
    store
        .update(&Kind::Machine, short, None, &Sender::default(), 1000)
        .unwrap();
    assert_eq!(names(&mut store, &Kind::Machine, 1010), ["a", "b"]);
    assert_eq!(names(&mut store, &Kind::Machine, 1011), ["a"]);
    put(&mut store, "a", 1, 1500);
    assert_eq!(names(&mut store, &Kind::Machine, 2400), ["a"]);
    assert!(names(&mut store, &Kind::Machine, 2401).is_empty());
}

#[test]
fn secrets_never_stay_in_the_public_ad() {
    let mut store = store();
    let mut public = slot_ad("a");
    public.insert("Capability", "top secret");
    public.insert("_condor_privX", "top secret");
    store
        .update(
            &Kind::Machine,
            public,
            Some(claim(7)),
            &Sender::default(),
            1,
        )
        .unwrap();
    let record = store.records(&Kind::Any, 1).pop().unwrap();
    assert!(!record.public.to_old().contains("secret"));
    assert_eq!(record.claim().unwrap().public(), "<10.0.0.1:5>#1#7#...");
    let private = record.private.unwrap();
    assert_eq!(private.string("Name").as_deref(), Some("a"));
    assert_eq!(private.string("Capability").as_deref(), Some("top secret"));
}

#[test]
fn the_sender_cannot_say_itself_who_it_is() {
    let mut store = store();
    let mut forged = slot_ad("a");
    forged.insert("AuthenticatedIdentity", "root@everywhere");
    forged.insert("AuthenticationMethod", "SSL");
    let sender = Sender {
        user: Some("pilot@x".to_owned()),
        method: None,
    };
    store
        .update(&Kind::Machine, forged, None, &sender, 1)
        .unwrap();
    let record = store.records(&Kind::Machine, 1).pop().unwrap();
    assert_eq!(
        record.public.string("AuthenticatedIdentity").as_deref(),
        Some("pilot@x")
    );
    assert!(!record.public.contains("AuthenticationMethod"));
}

#[test]
fn ads_are_taken_back_by_name_or_by_constraint() {
    let mut store = store();
    for name in ["a", "b", "c", "d"] {
        put(&mut store, name, 1, 1);
    }
    let by_key = ad("Name = \"a\"\nMyAddress = \"<10.0.0.1:77>\"\nRequirements = true");
    assert_eq!(store.invalidate(&Kind::Machine, &by_key, 1), 1);
    let other_host = ad("Name = \"b\"\nMyAddress = \"<10.9.9.9:77>\"\nRequirements = true");
    assert_eq!(store.invalidate(&Kind::Machine, &other_host, 1), 0);
    let by_name = ad("Name = \"b\"");
    assert_eq!(store.invalidate(&Kind::Machine, &by_name, 1), 1);
    let by_constraint = ad("Requirements = TARGET.Name == \"c\"");
    assert_eq!(store.invalidate(&Kind::Machine, &by_constraint, 1), 1);
    assert_eq!(
        store.invalidate(&Kind::Machine, &ad("MyType = \"Query\""), 1),
        0
    );
    assert_eq!(names(&mut store, &Kind::Machine, 1), ["d"]);
}

#[test]
fn only_what_may_make_a_match_is_news() {
    let mut store = store();
    assert!(put(&mut store, "a", 1, 1).offers_more);
    assert!(!put(&mut store, "a", 1, 2).offers_more);
    assert!(put(&mut store, "a", 2, 3).offers_more);
    let without_claim = store.update(&Kind::Machine, slot_ad("b"), None, &Sender::default(), 3);
    assert!(!without_claim.unwrap().offers_more);
}

#[test]
fn a_reserved_slot_comes_back_with_another_claim_or_when_its_time_is_over() {
    let mut store = store();
    let free = |store: &mut Store, now| store.slots(true, now).len();
    put(&mut store, "a", 1, 1);
    let slot = store.slot("a", 1).unwrap();
    store.reserve(&slot, 1);
    assert_eq!((free(&mut store, 1), store.slots(false, 1).len()), (0, 1));
    // a periodic update that shows the same claim changes nothing
    put(&mut store, "a", 1, 2);
    assert_eq!(free(&mut store, 2), 0);
    put(&mut store, "a", 2, 3);
    assert_eq!(free(&mut store, 3), 1);
    reserve(&mut store, 3);
    assert_eq!(free(&mut store, 3 + RESERVED), 1);
    reserve(&mut store, 4);
    assert!(store.unreserve("a") && !store.unreserve("a") && !store.unreserve("nobody"));
    assert_eq!(free(&mut store, 4), 1);
}

#[test]
fn leftovers_of_a_partitionable_slot_are_seen_at_once() {
    let mut store = store();
    put(&mut store, "a", 1, 1);
    reserve(&mut store, 1);
    let next = ClaimId::parse("<10.0.0.1:5>#1#2#other").unwrap();
    assert!(store.replace_claim(
        "a",
        &next,
        Some(ad("Cpus = 3\nClaimId = \"<1.1.1.1:1>#1#1#x\""))
    ));
    let slot = store.slots(true, 1).pop().unwrap();
    assert_eq!(slot.claim.unwrap().public(), next.public());
    assert_eq!(slot.ad.int("Cpus"), Some(3));
    assert!(!slot.ad.contains("ClaimId"));
    assert!(!store.replace_claim("b", &next, None));
}

#[test]
fn one_table_cannot_take_all_memory() {
    let mut store = Store::new(900, 2);
    put(&mut store, "a", 1, 1);
    put(&mut store, "b", 1, 1);
    let third = store.update(&Kind::Machine, slot_ad("c"), None, &Sender::default(), 1);
    assert_eq!(third, Err(Refused::Full(2)));
    put(&mut store, "a", 1, 2);
    let other = ad("MyType = \"Defrag\"\nName = \"d\"");
    let kind = Kind::from_type("Defrag");
    store
        .update(&kind, other, None, &Sender::default(), 2)
        .unwrap();
    assert_eq!(names(&mut store, &Kind::Any, 2), ["a", "b", "d"]);
    store.withdraw(&kind, "d");
    assert!(names(&mut store, &kind, 2).is_empty());
}

#[test]
fn the_negotiator_may_change_attributes_of_a_slot() {
    let mut store = store();
    put(&mut store, "a", 1, 1);
    let mut changes = slot_ad("a");
    changes.insert("MyType", "Other");
    changes.insert("Offline", true);
    store.merge(changes, 1).unwrap();
    let slot = store.slot("a", 1).unwrap();
    assert_eq!(slot.ad.bool("Offline"), Some(true));
    assert_eq!(slot.ad.string("MyType").as_deref(), Some("Machine"));
    assert_eq!(store.merge(slot_ad("b"), 1), Err(Refused::Unknown));
}
