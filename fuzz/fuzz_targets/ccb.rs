#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cedar::fuzzing::fuzz_ccb(data));
