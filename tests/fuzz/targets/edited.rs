//! Edits of a head, over both codecs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::edited(bytes));
