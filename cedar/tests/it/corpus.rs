//! The entry points of the fuzzers over their kept corpora, so that a find stays found.

use std::path::PathBuf;

use cedar::fuzzing;

/// An entry point of a fuzzer.
type Target = fn(&[u8]);

#[test]
fn every_kept_input_of_the_fuzzers_runs_through() {
    let targets: [(&str, Target); 8] = [
        ("cedar_frame", fuzzing::fuzz_cedar_frame),
        ("cedar_ad", fuzzing::fuzz_cedar_ad),
        (
            "cedar_handshake_client",
            fuzzing::fuzz_cedar_handshake_client,
        ),
        (
            "cedar_handshake_server",
            fuzzing::fuzz_cedar_handshake_server,
        ),
        ("cedar_methods", fuzzing::fuzz_cedar_methods),
        ("ccb", fuzzing::fuzz_ccb),
        ("sinful", fuzzing::fuzz_sinful),
        ("scitoken", fuzzing::fuzz_scitoken),
    ];
    for (name, target) in targets {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            target(&data);
            // Cut short, an input must be as harmless.
            for cut in [
                0,
                1,
                data.len() / 3,
                data.len() / 2,
                data.len().saturating_sub(1),
            ] {
                target(&data[..cut]);
            }
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
}
