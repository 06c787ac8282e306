//! The seeds of the fuzz targets, run by ordinary tests.

use std::fs;

/// A target of `fuzz/fuzz_targets`, and what it calls.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Runs every seed of each.
pub(crate) fn holds(targets: &[Target]) {
    for (name, target) in targets {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
        let mut count = 0;
        for entry in fs::read_dir(format!("{folder}{name}")).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 2, "{name}");
    }
}
