#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| launch_protocol::fuzzing::fuzz_switch_conf(data));
