//! Times, sizes, shares and places as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| serin::config::native::fuzz::units(text));
