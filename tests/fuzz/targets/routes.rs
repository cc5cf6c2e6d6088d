//! The indexes of hosts and paths.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::routes(bytes));
