//! The count of an HTTP/2 client's frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::frames(bytes));
