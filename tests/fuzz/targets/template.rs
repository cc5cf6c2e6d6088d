//! Values of headers with operators.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::template(bytes));
