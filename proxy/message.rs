//! HTTP/1 messages as bytes: what a head says, read where it lies and strictly,
//! and where a body ends. Nothing here reads, writes or waits.

pub mod answer;
pub mod field;
pub mod framing;
pub mod growing;
mod runs;
pub mod scan;
