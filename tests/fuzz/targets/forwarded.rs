//! What a version is told of where a request comes from, over both codecs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::forwarded(bytes));
