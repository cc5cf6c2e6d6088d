//! The PROXY protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::preamble(bytes));
