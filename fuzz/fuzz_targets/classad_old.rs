#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| classad::fuzzing::fuzz_classad_old(data));
