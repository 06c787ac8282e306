#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| credential::fuzzing::fuzz_crl(data));
