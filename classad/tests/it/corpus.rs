//! The fuzz targets' entry points over the kept corpus.

use std::fs;
use std::path::Path;

fn run(name: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        entry(&fs::read(file.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn old_syntax() {
    run("classad_old", classad::fuzzing::fuzz_classad_old);
}

#[test]
fn new_syntax() {
    run("classad_new", classad::fuzzing::fuzz_classad_new);
}
