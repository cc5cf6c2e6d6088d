//! What a journal holds of looks: any bytes are looks, written and read again as
//! the same, or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::journal::coded::any_bytes(bytes));
