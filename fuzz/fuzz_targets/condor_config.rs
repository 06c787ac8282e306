#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| condorconf::fuzzing::fuzz_condor_config(data));
