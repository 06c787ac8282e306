//! Our verdicts beside those of a real collector.

use std::collections::BTreeSet;

use cedar::security::{AuthMethod, Level, PeerIdentity};
use condorconf::{Loader, MemoryFiles};

use super::lists::tests::machine;
use super::{AccessLists, Rules};
use crate::security::knobs::Knobs;
use crate::security::levels::LEVELS;

const VERDICTS: &str = include_str!("../../../tests/data/access/verdicts");

/// The levels `condor_ping` can ask about.
fn asked() -> impl Iterator<Item = Level> {
    let left_out = [Level::Allow, Level::Client];
    LEVELS
        .into_iter()
        .filter(move |level| !left_out.contains(level))
}

struct Case<'a> {
    name: &'a str,
    config: String,
    rows: Vec<(&'a str, &'a str, BTreeSet<Level>)>,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in VERDICTS.lines() {
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case {
                name,
                config: String::new(),
                rows: Vec::new(),
            });
        } else if let Some(knob) = line.strip_prefix("set ") {
            let case = cases.last_mut().unwrap();
            case.config.push_str(knob);
            case.config.push('\n');
        } else if let Some(row) = line.strip_prefix("? ") {
            let mut words = row.split(' ');
            let (user, from) = (words.next().unwrap(), words.next().unwrap());
            let granted = words.map(|word| Level::from_name(word).unwrap()).collect();
            cases.last_mut().unwrap().rows.push((user, from, granted));
        }
    }
    cases
}

/// Where we and the collector differ: case, user, address, levels granted by one of the two only.
fn differences(rules: Rules) -> Vec<(&'static str, &'static str, &'static str, Vec<Level>)> {
    let mut different = Vec::new();
    for case in cases() {
        let files = MemoryFiles::new();
        let config = Loader::new(&files)
            .subsys("COLLECTOR")
            .read_text("case", &case.config)
            .finish()
            .unwrap();
        let mut knobs = Knobs::new(&config);
        let lists = AccessLists::load(&mut knobs, machine(), &[], rules);
        for (user, from, granted) in case.rows {
            let peer = PeerIdentity::proven(user.to_owned(), AuthMethod::Token);
            let address = Some(from.parse().unwrap());
            let ours: BTreeSet<Level> = asked()
                .filter(|level| lists.decide(&peer, address, *level).is_ok())
                .collect();
            let apart: Vec<Level> = ours.symmetric_difference(&granted).copied().collect();
            if !apart.is_empty() {
                different.push((case.name, user, from, apart));
            }
        }
    }
    different
}

#[test]
fn with_its_two_mistakes_every_verdict_is_that_of_a_real_collector() {
    assert!(cases().iter().map(|case| case.rows.len()).sum::<usize>() > 200);
    let different = differences(Rules::Of23_9_6);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn without_them_only_the_cases_of_the_mistakes_differ() {
    // A list that names a single address, or a pattern that a longer name fits.
    let known = [
        "everybody by default, one not",
        "addresses",
        "an address denied",
        "networks with a length",
        "networks with an asterisk",
        "host names",
        "an asterisk at the beginning",
        "an asterisk in the middle",
        "patterns that deny",
    ];
    let found: BTreeSet<_> = differences(Rules::Sound)
        .into_iter()
        .map(|(case, ..)| case)
        .collect();
    assert_eq!(found, known.into_iter().collect());
}
