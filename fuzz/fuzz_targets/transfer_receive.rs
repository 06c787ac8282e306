#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sailplane::transfer::fuzzing::fuzz_transfer_receive(data));
