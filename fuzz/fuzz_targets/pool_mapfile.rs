#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::security::fuzzing::fuzz_pool_mapfile(data));
