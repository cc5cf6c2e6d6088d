//! Endpoints that fail for a moment and are well again: noise of a machine, which is no
//! version's. The canary has one of them and the primary all others, each with as much of
//! its version's traffic as the next; each fails at its own times. Nobody fails over.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::World;

/// From the end of one blip to the next at the same endpoint, on average.
pub const EVERY: Duration = Duration::from_secs(20 * 60);

/// When whose endpoints fail, over one run. Where there are no blips it is empty.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Of the primary.
    endpoints: u32,
    changes: Vec<Change>,
}

/// How many endpoints fail from here on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    at_ms: u64,
    canary: u32,
    primary: u32,
}

/// Another seed, for what must not be drawn with the same numbers.
pub fn apart(seed: u64) -> u64 {
    seed ^ 0x0b11_95ee_d0ff_5e75
}

impl Course {
    /// Of so many endpoints of both versions, each blip `lasting` so long.
    pub fn of(lasting: Duration, endpoints: u32, length: Duration, seed: u64) -> Course {
        if lasting.is_zero() {
            return Course::default();
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(apart(seed));
        let (length, lasting) = (length.as_millis() as u64, lasting.as_millis() as u64);
        // When, whether it is the canary's, and whether it begins to fail.
        let mut turns: Vec<(u64, bool, bool)> = Vec::new();
        for endpoint in 0..endpoints {
            let mut at = 0;
            loop {
                let well = -(1.0 - random.random::<f64>()).ln() * EVERY.as_millis() as f64;
                at += well as u64 + 1;
                if at >= length {
                    break;
                }
                turns.push((at, endpoint == 0, true));
                at += lasting;
                turns.push((at, endpoint == 0, false));
            }
        }
        turns.sort_unstable();
        let (mut canary, mut primary) = (0, 0);
        let mut changes: Vec<Change> = Vec::with_capacity(turns.len());
        for (at_ms, is_canary, begins) in turns {
            let failing = if is_canary { &mut canary } else { &mut primary };
            *failing = if begins { *failing + 1 } else { *failing - 1 };
            changes.push(Change { at_ms, canary, primary });
        }
        Course { endpoints: endpoints - 1, changes }
    }

    /// How the world is with it, so long after the beginning.
    pub fn on(&self, world: World, since: Duration) -> World {
        let seen = self.passed(since);
        let Some(Change { canary, primary, .. }) = seen.checked_sub(1).map(|last| self.changes[last]) else {
            return world;
        };
        let mut world = world;
        if canary > 0 {
            world.canary.failure = 1.0;
        }
        if primary > 0 {
            let well = 1.0 - f64::from(primary) / f64::from(self.endpoints);
            world.primary.failure = 1.0 - (1.0 - world.primary.failure) * well;
        }
        world
    }

    /// Milliseconds in which nothing changes; at most so many.
    pub fn steady_ms(&self, since: Duration, most: u64) -> u64 {
        match self.changes.get(self.passed(since)) {
            Some(next) => most.min(next.at_ms - since.as_millis() as u64),
            None => most,
        }
    }

    fn passed(&self, since: Duration) -> usize {
        let now = since.as_millis() as u64;
        self.changes.partition_point(|change| change.at_ms <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::Version;

    const LASTING: Duration = Duration::from_secs(5);
    const LENGTH: Duration = Duration::from_secs(1_000 * 3600);

    fn world() -> World {
        let version = Version::failing(0.01);
        World { requests_per_second: 10.0, primary: version, canary: version }
    }

    /// Time in which the canary fails, and the mean of the primary's failures.
    fn walked(course: &Course) -> (f64, f64) {
        let (mut since, mut canary, mut primary) = (Duration::ZERO, 0.0, 0.0);
        while since < LENGTH {
            let ms = course.steady_ms(since, 60_000);
            assert!(ms > 0, "time goes on");
            let world = course.on(world(), since);
            canary += if world.canary.failure == 1.0 { ms as f64 } else { 0.0 };
            primary += ms as f64 * world.primary.failure;
            since += Duration::from_millis(ms);
        }
        (canary / since.as_millis() as f64, primary / since.as_millis() as f64)
    }

    #[test]
    fn each_endpoint_fails_for_its_share_of_the_time() {
        for endpoints in [2, 10] {
            let (canary, primary) = walked(&Course::of(LASTING, endpoints, LENGTH, 1));
            let share = 5.0 / 1205.0;
            assert!((canary / share - 1.0).abs() < 0.1, "{canary}");
            assert!(((primary - 0.01) / (0.99 * share) - 1.0).abs() < 0.1, "{primary}");
        }
    }

    #[test]
    fn without_blips_nothing_ever_changes() {
        let course = Course::of(Duration::ZERO, 10, LENGTH, 1);
        let hour = Duration::from_secs(3600);
        assert_eq!((course.steady_ms(hour, 1_000), course.on(world(), hour)), (1_000, world()));
    }
}
