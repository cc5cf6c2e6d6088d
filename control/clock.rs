//! A point in time as plain data, and the one place that asks for it.

#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds since the Unix epoch, never going back within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The wall clock read once, then carried by the monotonic one.
pub struct Clock {
    start: Moment,
    since: Instant,
}

impl Clock {
    /// `floor` is the latest moment known from before, so time never goes back
    /// over a restart either.
    pub fn start(floor: Moment) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Moment(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Clock { start: wall.max(floor), since: Instant::now() }
    }

    pub fn now(&self) -> Moment {
        self.start.after(self.since.elapsed())
    }
}
