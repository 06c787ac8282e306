#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::files::fuzzing::fuzz_user_files(data));
