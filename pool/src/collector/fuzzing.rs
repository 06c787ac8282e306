//! Entry of the fuzz target `pool_collector`.

use cedar::{Coding, MessageReader, is_private};
use classad::ClassAd;

use super::kind::{Kind, actions};
use super::lines::Lines;
use super::query::Query;
use super::store::{Sender, Store};
use crate::negotiator::analyse;

/// The time in the tables.
const NOW: i64 = 1_000_000;

/// Takes the bytes for a message with ads, as updates, queries and invalidations have them. Nothing may panic, an ad
/// reads the same as without a memory of lines, and no answer for everybody has a private attribute in it.
pub fn fuzz_pool_collector(data: &[u8]) {
    for coding in [Coding::Plain, Coding::Encrypted] {
        one(coding, data);
    }
}

fn one(coding: Coding, data: &[u8]) {
    let mut lines = Lines::default();
    let mut store = Store::new(900, 8);
    let (mut input, mut check) = (
        MessageReader::new(coding, data),
        MessageReader::new(coding, data),
    );
    while let Ok(ad) = lines.ad(&mut input) {
        assert_eq!(check.ad().as_ref(), Ok(&ad));
        put(&mut store, &ad);
        ask(&mut store, &ad);
        let _ = analyse(&ad, &store.slots(false, NOW), NOW);
    }
    assert!(check.ad().is_err());
}

fn put(store: &mut Store, ad: &ClassAd) {
    for kind in [
        Kind::Machine,
        Kind::Submitter,
        Kind::Grid,
        Kind::from_type("Other"),
    ] {
        // A refusal is as good as any other outcome.
        let _ = store.update(&kind, ad.clone(), Some(ad.clone()), &Sender::default(), NOW);
    }
    let _ = store.merge(ad.clone(), NOW);
}

fn ask(store: &mut Store, ad: &ClassAd) {
    for (_, action, _) in actions() {
        let Ok(query) = Query::read(&action, ad.clone()) else {
            continue;
        };
        for pass in &query.passes {
            for record in store.records(&pass.kind, NOW) {
                let Some(answer) = pass.answer(&query, &record, NOW) else {
                    continue;
                };
                let secret = answer.iter().any(|(name, _)| is_private(name.as_str()));
                assert!(!secret || pass.is_private());
            }
        }
    }
    store.invalidate(&Kind::Machine, ad, NOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pool_collector");
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            fuzz_pool_collector(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 3, "{count}");
    }
}
