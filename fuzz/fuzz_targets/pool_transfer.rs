#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::transfer::fuzzing::fuzz_pool_transfer(data));
