#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| validation::builtin::fuzzing::http_answer(data));
