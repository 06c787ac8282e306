#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::queue::fuzzing::fuzz_queue_request(data));
