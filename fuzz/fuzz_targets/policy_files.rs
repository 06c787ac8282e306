#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sailplane_policy::fuzzing::fuzz_policy_files(data));
