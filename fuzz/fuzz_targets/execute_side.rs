#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::shadow::fuzzing::fuzz_execute_side(data));
