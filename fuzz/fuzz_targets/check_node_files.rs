#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| validation::builtin::fuzzing::node_files(data));
