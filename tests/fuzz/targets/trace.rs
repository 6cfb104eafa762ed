#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| spawnling::fuzz::run("trace", input));
