#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::collector::fuzzing::fuzz_pool_collector(data));
