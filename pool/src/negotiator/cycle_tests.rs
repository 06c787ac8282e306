use std::collections::{BTreeMap, HashSet};

use cedar::ClaimId;
use proptest::prelude::*;

use super::super::ResourceRequest;
use super::super::weight::{is_partitionable, slot_weight};
use super::*;

fn ad(text: &str) -> Arc<ClassAd> {
    Arc::new(ClassAd::parse_old(text).unwrap())
}

fn slot(number: usize, text: &str) -> Slot {
    Slot {
        name: format!("slot{number}"),
        ad: ad(&format!(
            "Name = \"slot{number}\"\nState = \"Unclaimed\"\n{text}"
        )),
        claim: Some(ClaimId::parse(&format!("<10.0.0.1:5>#1#{number}#key")).unwrap()),
        child_claims: Vec::new(),
    }
}

/// One request of `count` jobs in cluster `cluster`.
fn request(cluster: i32, count: usize, text: &str) -> ResourceRequest {
    let jobs = (0..)
        .take(count)
        .map(|proc| JobId::new(cluster, proc))
        .collect();
    ResourceRequest { ad: ad(text), jobs }
}

fn submitter(name: &str, running_weight: f64, requests: Vec<ResourceRequest>) -> SubmitterJobs {
    SubmitterJobs {
        submitter: name.to_owned(),
        running_weight,
        requests,
    }
}

fn input(slots: Vec<Slot>, submitters: Vec<SubmitterJobs>) -> CycleInput {
    CycleInput {
        now: 1_000_000,
        slots,
        submitters,
        ranks: Ranks::default(),
        max_evaluations: u64::MAX,
    }
}

fn accountant() -> Accountant {
    Accountant::new(86_400.0, 1000.0)
}

fn slots_of<'a>(cycle: &'a Cycle, submitter: &str) -> Vec<&'a str> {
    let ours = cycle
        .matches
        .iter()
        .filter(|found| found.submitter == submitter);
    ours.map(|found| found.slot.name.as_str()).collect()
}

const PLAIN: &str = "Cpus = 1\nMemory = 1000\nRequirements = true";
const ANY: &str = "Requirements = true\nRequestCpus = 1";

#[test]
fn two_users_share_alike_and_one_with_jobs_running_waits() {
    let slots: Vec<_> = (1..=10).map(|number| slot(number, PLAIN)).collect();
    let users = vec![
        submitter("a@x", 0.0, vec![request(1, 50, ANY)]),
        submitter("b@x", 4.0, vec![request(2, 50, ANY)]),
    ];
    let cycle = cycle(&input(slots, users), &accountant());
    assert_eq!(slots_of(&cycle, "a@x").len(), 7);
    assert_eq!(slots_of(&cycle, "b@x").len(), 3);
    assert_eq!(cycle.stats.groups, 1);
    assert_eq!(cycle.stats.evaluations, 4, "one group, two requests");
    // jobs go in their order
    let first: Vec<_> = cycle
        .matches
        .iter()
        .filter(|found| found.job.cluster == 1)
        .collect();
    assert!(first.windows(2).all(|pair| pair[0].job < pair[1].job));
    assert!(
        cycle
            .rejections
            .iter()
            .all(|rejection| rejection.reason == Reason::Taken)
    );
}

#[test]
fn a_better_factor_is_a_larger_share() {
    let slots: Vec<_> = (1..=30).map(|number| slot(number, PLAIN)).collect();
    let users = vec![
        submitter("a@x", 0.0, vec![request(1, 50, ANY)]),
        submitter("b@x", 0.0, vec![request(2, 50, ANY)]),
    ];
    let mut accountant = accountant();
    accountant.set_factor("b@x", 500.0);
    let cycle = cycle(&input(slots, users), &accountant);
    let shares = [slots_of(&cycle, "a@x").len(), slots_of(&cycle, "b@x").len()];
    assert_eq!(shares, [10, 20]);
}

#[test]
fn each_rejection_says_whose_it_is() {
    let reason = |slots: Vec<Slot>, job: &str| {
        let users = vec![submitter("a@x", 0.0, vec![request(1, 1, job)])];
        let cycle = cycle(&input(slots, users), &accountant());
        cycle.rejections.first().map(|rejection| rejection.reason)
    };
    let claimed = slot(1, "State = \"Claimed\"\nRequirements = true");
    let mut unclaimable = slot(1, PLAIN);
    unclaimable.claim = None;
    let closed = slot(1, "Requirements = TARGET.Owner == \"b\"");
    let part = "PartitionableSlot = true\nCpus = 2\nMemory = 100\nDisk = 1\nRequirements = true";
    assert_eq!(reason(Vec::new(), ANY), Some(Reason::NoFreeSlots));
    assert_eq!(
        reason(vec![claimed, unclaimable], ANY),
        Some(Reason::NoFreeSlots)
    );
    assert_eq!(
        reason(vec![slot(1, PLAIN)], "Requirements = Memory > 5000"),
        Some(Reason::JobRefuses)
    );
    assert_eq!(
        reason(vec![slot(1, PLAIN)], "RequestCpus = 1"),
        Some(Reason::JobRefuses)
    );
    assert_eq!(reason(vec![closed], ANY), Some(Reason::SlotsRefuse));
    let large = "Requirements = true\nRequestCpus = 3";
    assert_eq!(
        reason(vec![slot(1, part)], large),
        Some(Reason::SlotsRefuse)
    );
    assert_eq!(reason(vec![slot(1, PLAIN)], ANY), None);
}

#[test]
fn a_partitionable_slot_is_given_to_several_until_it_is_full() {
    let part = "PartitionableSlot = true\nCpus = 5\nMemory = 4000\nDisk = 100000\nSlotWeight = Cpus\nRequirements = TARGET.RequestCpus <= MY.Cpus";
    let users = vec![
        submitter(
            "a@x",
            0.0,
            vec![request(
                1,
                9,
                "Requirements = true\nRequestCpus = 2\nRequestMemory = 100",
            )],
        ),
        submitter(
            "b@x",
            0.0,
            vec![request(
                2,
                9,
                "Requirements = TARGET.Memory > 1\nRequestCpus = 1\nRequestMemory = 100",
            )],
        ),
    ];
    let cycle = cycle(&input(vec![slot(1, part)], users), &accountant());
    assert_eq!(slots_of(&cycle, "a@x").len(), 1);
    assert_eq!(slots_of(&cycle, "b@x").len(), 3);
    let left: Vec<_> = cycle
        .matches
        .iter()
        .map(|found| found.slot.ad.int("Cpus").unwrap())
        .collect();
    assert_eq!(left, [5, 3, 2, 1], "each match shows what there was");
}

#[test]
fn packing_and_rank_are_as_in_htcondor() {
    let slots = vec![
        slot(1, "Cpus = 8\nMemory = 10\nRequirements = true"),
        slot(2, "Cpus = 1\nMemory = 20\nRequirements = true"),
        slot(3, "Cpus = 1\nMemory = 20\nSpeed = 3\nRequirements = true"),
    ];
    let job = "Requirements = true\nRank = TARGET.Speed";
    let users = vec![submitter("a@x", 0.0, vec![request(1, 3, job)])];
    let cycle = cycle(&input(slots, users), &accountant());
    assert_eq!(slots_of(&cycle, "a@x"), ["slot3", "slot2", "slot1"]);
}

#[test]
fn work_is_bounded() {
    let slots: Vec<_> = (1..=20)
        .map(|number| slot(number, &format!("{PLAIN}\nSite = {number}")))
        .collect();
    let requests = (1..=20)
        .map(|number| {
            request(
                number,
                1,
                &format!("Requirements = TARGET.Site == {number}"),
            )
        })
        .collect();
    let mut input = input(slots, vec![submitter("a@x", 0.0, requests)]);
    assert_eq!(cycle(&input, &accountant()).matches.len(), 20);
    input.max_evaluations = 100;
    let cycle = cycle(&input, &accountant());
    assert!(cycle.stats.evaluations <= 101);
    assert!(!cycle.matches.is_empty());
    assert!(
        cycle
            .rejections
            .iter()
            .any(|rejection| rejection.reason == Reason::NotReached)
    );
}

#[test]
fn ten_thousand_jobs_and_a_thousand_slots_need_few_evaluations() {
    let policy =
        "Memory = 2000\nRequirements = TARGET.RequestMemory <= MY.Memory && (time() < 2000000)";
    let slots: Vec<_> = (0..1000)
        .map(|number| slot(number, &format!("Cpus = {}\n{policy}", 1 + number % 4)))
        .collect();
    let users: Vec<_> = (0..10)
        .map(|user| {
            let jobs = format!("Owner = \"u{user}\"\nRequestMemory = 100\nRequestCpus = 1\nRequirements = TARGET.Cpus >= RequestCpus");
            submitter(&format!("u{user}@x"), 0.0, vec![request(user, 1000, &jobs)])
        })
        .collect();
    let cycle = cycle(&input(slots, users), &accountant());
    assert_eq!(cycle.matches.len(), 1000);
    assert_eq!(cycle.stats.groups, 4);
    assert_eq!(cycle.stats.evaluations, 10 * 4 * 2);
}

/// What a slot had, what its matches took.
#[derive(Debug, Default)]
struct Used {
    cpus: i64,
    memory: i64,
    matches: usize,
}

fn any_slot() -> impl Strategy<Value = String> {
    (0..3_i64, 1..9_i64, 1..5_i64, 0..3_usize).prop_map(|(site, cpus, memory, kind)| {
        let start = ["true", "TARGET.Site =?= undefined || TARGET.Site == MY.Site", "TARGET.RequestCpus > 1"][kind];
        let memory = memory * 256;
        let part = if cpus > 2 { "PartitionableSlot = true\n" } else { "" };
        format!("{part}Cpus = {cpus}\nMemory = {memory}\nDisk = 1000000\nSite = {site}\nSlotWeight = Cpus\nRequirements = ({start}) && TARGET.RequestCpus <= MY.Cpus && TARGET.RequestMemory <= MY.Memory")
    })
}

fn any_request() -> impl Strategy<Value = (usize, String)> {
    (1..8_usize, 1..4_i64, 1..600_i64, 0..4_i64, 0..3_usize).prop_map(|(count, cpus, memory, site, kind)| {
        let wish = ["true", "TARGET.Memory > 300", "TARGET.Site != 1"][kind];
        let own = if site < 3 { format!("Site = {site}\n") } else { String::new() };
        (count, format!("{own}RequestCpus = {cpus}\nRequestMemory = {memory}\nRank = TARGET.Site\nRequirements = {wish}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_slot_is_given_twice_and_both_sides_agree(
        slots in proptest::collection::vec(any_slot(), 0..25),
        users in proptest::collection::vec(proptest::collection::vec(any_request(), 0..5), 1..5),
    ) {
        let slots: Vec<_> = slots.iter().enumerate().map(|(number, text)| slot(number, text)).collect();
        let mut cluster = 0;
        let submitters: Vec<_> = users.iter().enumerate().map(|(user, requests)| {
            let requests = requests.iter().map(|(count, text)| {
                cluster += 1;
                request(cluster, *count, text)
            });
            submitter(&format!("u{user}@x"), 0.0, requests.collect())
        }).collect();
        let input = input(slots.clone(), submitters.clone());
        let cycle = cycle(&input, &accountant());

        let ad_of = |job: JobId| {
            let mut requests = submitters.iter().flat_map(|submitter| &submitter.requests);
            requests.find(|request| request.jobs.contains(&job)).map(|request| Arc::clone(&request.ad)).unwrap()
        };
        let mut used: BTreeMap<&str, Used> = BTreeMap::new();
        let mut jobs = HashSet::new();
        for found in &cycle.matches {
            let job = ad_of(found.job);
            prop_assert!(jobs.insert(found.job), "{} matched twice", found.job);
            prop_assert!(half_match(&job, &found.slot.ad, input.now));
            prop_assert!(half_match(&found.slot.ad, &job, input.now));
            let entry = used.entry(&found.slot.name).or_default();
            entry.cpus += job.int("RequestCpus").unwrap();
            entry.memory += job.int("RequestMemory").unwrap();
            entry.matches += 1;
        }
        for slot in &slots {
            let Some(used) = used.get(slot.name.as_str()) else { continue };
            prop_assert!(used.cpus <= slot.ad.int("Cpus").unwrap());
            prop_assert!(used.memory <= slot.ad.int("Memory").unwrap());
            prop_assert!(is_partitionable(&slot.ad) || used.matches == 1);
        }
        // Every job is matched or rejected, and who is rejected though slots are left fits none of them.
        let rejected: usize = cycle.rejections.iter().map(|rejection| rejection.jobs.len()).sum();
        prop_assert_eq!(cycle.matches.len() + rejected, cycle.stats.jobs);
        for rejection in &cycle.rejections {
            for slot in slots.iter().filter(|slot| !used.contains_key(slot.name.as_str())) {
                let fits = half_match(&rejection.ad, &slot.ad, input.now) && half_match(&slot.ad, &rejection.ad, input.now)
                    && (!is_partitionable(&slot.ad) || Part::of(&slot.ad, &rejection.ad, input.now).is_some());
                prop_assert!(!fits, "{} is left for {:?}", slot.name, rejection);
            }
        }
    }

    #[test]
    fn shares_are_fair_within_one_slot(
        weights in proptest::collection::vec(1..5_i64, 1..60),
        factors in proptest::collection::vec(1..6_i32, 2..5),
        running in proptest::collection::vec(0..10_i32, 4),
    ) {
        let slots: Vec<_> = weights.iter().enumerate()
            .map(|(number, cpus)| slot(number, &format!("Cpus = {cpus}\nSlotWeight = Cpus\nRequirements = true")))
            .collect();
        let mut accountant = accountant();
        let submitters: Vec<_> = factors.iter().zip(&running).enumerate().map(|(user, (factor, running))| {
            let name = format!("u{user}@x");
            accountant.set_factor(&name, f64::from(*factor));
            let cluster = i32::try_from(user).unwrap();
            submitter(&name, f64::from(*running), vec![request(cluster, 100, ANY)])
        }).collect();
        let largest = weights.iter().copied().max().unwrap();
        let largest = f64::from(i32::try_from(largest).unwrap());
        let input = input(slots, submitters);
        let cycle = cycle(&input, &accountant);
        let mut use_now: Vec<f64> = input.submitters.iter().map(|submitter| submitter.running_weight).collect();
        for found in &cycle.matches {
            let user = input.submitters.iter().position(|submitter| submitter.submitter == found.submitter).unwrap();
            use_now[user] += slot_weight(&found.slot.ad, input.now);
        }
        // Nobody who got a slot is ahead of anybody by more than that slot.
        let load = |user: usize, weight: f64| weight * accountant.effective_priority(&input.submitters[user].submitter);
        for rich in 0..use_now.len() {
            if use_now[rich] <= input.submitters[rich].running_weight {
                continue;
            }
            for poor in 0..use_now.len() {
                prop_assert!(load(rich, use_now[rich] - largest) <= load(poor, use_now[poor]) + 1e-6);
            }
        }
    }
}
