//! Cookies, and users who stay on a version by them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::cookies(bytes));
