//! The one place of the proxy that asks the time.

#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the process first asked; never zero, so that zero can
/// mean "not yet" where a moment is kept.
pub fn now_us() -> u64 {
    let start = START.get_or_init(Instant::now);
    start.elapsed().as_micros() as u64 + 1
}

pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
