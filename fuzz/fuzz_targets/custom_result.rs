#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| validation::custom::fuzzing::fuzz_check_result(data));
