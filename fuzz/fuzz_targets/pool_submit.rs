#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::submit::fuzzing::fuzz_submit(data));
