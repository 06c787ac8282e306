#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::user_log::fuzzing::fuzz_event_log(data));
