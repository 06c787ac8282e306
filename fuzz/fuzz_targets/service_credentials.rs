#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sailplane::job::fuzzing::fuzz_service_credentials(data));
