//! The one place of the proxy that asks the time.

#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::cell::Cell;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

static START: OnceLock<Instant> = OnceLock::new();

thread_local! {
    static RECENT: Cell<u64> = const { Cell::new(0) };
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Microseconds since the process first asked; never zero, so that zero can
/// mean "not yet" where a moment is kept.
pub fn now_us() -> u64 {
    let start = START.get_or_init(Instant::now);
    let now_us = start.elapsed().as_micros() as u64 + 1;
    RECENT.set(now_us);
    now_us
}

/// What this thread last heard of the time: for what is counted in seconds.
pub fn recent_us() -> u64 {
    match RECENT.get() {
        0 => now_us(),
        recent_us => recent_us,
    }
}

/// The wall clock as a `date` field has it.
pub fn http_date() -> String {
    let second = recent_us() / 1_000_000;
    DATE.with_borrow_mut(|(known, date)| {
        if *known != second || date.is_empty() {
            (*known, *date) = (second, httpdate::fmt_http_date(SystemTime::now()));
        }
        date.clone()
    })
}

/// The wall clock, for moments that others name.
pub fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}

/// The wall clock, from the beginning of 1970.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
