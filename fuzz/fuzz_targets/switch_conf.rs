#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sailplane_switch::fuzzing::fuzz_switch_conf(data));
