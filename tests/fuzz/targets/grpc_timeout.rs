//! How long a gRPC caller waits.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin_proxy::fuzz::grpc_timeout(bytes));
