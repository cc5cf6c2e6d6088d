//! One setting of a split's weights and the evidence gathered under it.
//!
//! A request belongs for life to the generation that tossed its coin, whatever
//! the weights become meanwhile. So the judge knows the exact probability with
//! which each request went where it went.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;
use crate::model::Role;
use crate::reading::ArmReading;
use crate::reading::GenerationReading;
use crate::reading::StratumReading;
use crate::reading::Way;
use crate::split::fresh::Fresh;
use crate::split::strata::Parts;
use crate::tally::Count;
use crate::tally::Latency;
use crate::weights::WHOLE;
use crate::weights::Weights;

pub struct Generation {
    pub id: u64,
    pub weights: Weights,
    /// Names of the versions, in the order of the arms.
    versions: Vec<String>,
    /// Names of the parts that are counted apart, in their order.
    strata: Arc<[String]>,
    /// Where each version's interval of points lies; the primary has the rest.
    intervals: Vec<Interval>,
    pub primary: usize,
    pub fresh: Fresh,
    shards: Box<[Box<[Arm]>]>,
}

struct Interval {
    from: u32,
    until: u32,
    version: usize,
}

/// What became of the requests of one version on one worker.
#[derive(Default)]
#[repr(align(128))]
pub struct Arm {
    pub dispatched: Count,
    pub ok: Count,
    pub failed: Count,
    pub aborted: Count,
    pub slow: Count,
    pub failed_revealed: Count,
    pub failed_units: Count,
    pub first_failed: Count,
    pub load: Count,
    pub load_failed: Count,
    pub latency: Latency,
    /// The same of one request of each user.
    pub first: Latency,
    pub parts: Parts,
}

impl Arm {
    fn is_used(&self) -> bool {
        self.dispatched.get() > 0
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a generation that is made now would be called.
pub fn next_id() -> u64 {
    NEXT.load(Ordering::Relaxed)
}

pub fn take_id() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// From here on generations are called this or more.
pub fn begin_at(id: u64) {
    NEXT.fetch_max(id, Ordering::Relaxed);
}

impl Generation {
    /// `id` is of [`take_id`]; generations of several splits may share one.
    pub fn named(
        id: u64,
        weights: Weights,
        versions: &[(String, Role)],
        strata: &Arc<[String]>,
        workers: usize,
    ) -> Generation {
        let primary = versions.iter().position(|(_, role)| *role == Role::Primary).unwrap_or(0);
        let arms = Way::ALL.len() * versions.len();
        let intervals = intervals(&weights, versions, primary);
        Generation {
            id,
            fresh: Fresh::begin(reach(&intervals, &weights)),
            intervals,
            weights,
            versions: versions.iter().map(|(name, _)| name.clone()).collect(),
            strata: strata.clone(),
            primary,
            shards: (0..workers).map(|_| (0..arms).map(|_| Arm::default()).collect()).collect(),
        }
    }

    /// The same beside what was tossed before; and whether users may count once more.
    pub fn after(self, before: Fresh) -> (Generation, bool) {
        let reach = reach(&self.intervals, &self.weights);
        let (fresh, again) = before.on(reach, self.versions.len());
        (Generation { fresh, ..self }, again)
    }

    /// The version that owns a point in `0..WHOLE`.
    pub fn owner(&self, point: u32) -> usize {
        let found = self.intervals.iter().find(|interval| (interval.from..interval.until).contains(&point));
        found.map_or(self.primary, |interval| interval.version)
    }

    /// Each way has arms of its own, for each has another coin or none.
    pub fn arm(&self, worker: usize, version: usize, way: Way) -> &Arm {
        &self.shards[worker][version + way as usize * self.versions.len()]
    }

    pub fn read(&self) -> GenerationReading {
        let count = self.versions.len();
        let used = |arm: &usize| *arm < count || self.shards.iter().any(|shard| shard[*arm].is_used());
        let used: Vec<usize> = (0..Way::ALL.len() * count).filter(used).collect();
        let arms = used.iter().map(|arm| self.read_arm(*arm)).collect();
        let strata = (0..self.strata.len()).map(|at| self.read_stratum(at, &used)).collect();
        let fresh_from = self.fresh.from;
        GenerationReading { id: self.id, weights: self.weights.clone(), fresh_from, arms, strata }
    }

    /// Has every request of this generation ended?
    pub fn is_quiet(&self) -> bool {
        self.shards
            .iter()
            .flatten()
            .all(|arm| arm.dispatched.get() == arm.ok.get() + arm.failed.get() + arm.aborted.get())
    }

    fn read_stratum(&self, at: usize, arms: &[usize]) -> StratumReading {
        let read = |arm: &usize| {
            let mut sum = self.empty_arm(*arm);
            self.shards.iter().for_each(|shard| shard[*arm].parts.add_to(at, &mut sum));
            sum
        };
        StratumReading { name: self.strata[at].clone(), arms: arms.iter().map(read).collect() }
    }

    fn empty_arm(&self, index: usize) -> ArmReading {
        let count = self.versions.len();
        ArmReading {
            version: self.versions[index % count].clone(),
            way: Way::ALL[index / count],
            dispatched: 0,
            ok: 0,
            failed: 0,
            aborted: 0,
            slow: 0,
            failed_revealed: 0,
            failed_units: 0,
            first_failed: 0,
            load: 0,
            load_failed: 0,
            latency: Histogram::default(),
            first: Histogram::default(),
        }
    }

    fn read_arm(&self, index: usize) -> ArmReading {
        let mut sum = self.empty_arm(index);
        for shard in &self.shards {
            let arm = &shard[index];
            // Parts before the whole, so that they never seem to be more.
            sum.load_failed += arm.load_failed.get();
            sum.load += arm.load.get();
            // Endings before beginnings, so that no request seems to have ended before it began.
            sum.ok += arm.ok.get();
            sum.failed += arm.failed.get();
            sum.aborted += arm.aborted.get();
            sum.slow += arm.slow.get();
            sum.failed_revealed += arm.failed_revealed.get();
            sum.failed_units += arm.failed_units.get();
            sum.first_failed += arm.first_failed.get();
            arm.latency.add_to(&mut sum.latency);
            arm.first.add_to(&mut sum.first);
            sum.dispatched += arm.dispatched.get();
        }
        sum
    }
}

/// Where the points end that the canary has, by weight or of a trial.
fn reach(intervals: &[Interval], weights: &Weights) -> u32 {
    intervals.first().map_or(0, |interval| interval.until).max(weights.matched())
}

/// Each version but the primary owns an interval that only grows or shrinks at
/// its open end, so a change of weight moves users between that version and the
/// primary alone. The first grows from the left, the second from the right;
/// from the third on they stack behind the first and can push each other.
fn intervals(weights: &Weights, versions: &[(String, Role)], primary: usize) -> Vec<Interval> {
    let mut left = 0;
    let mut intervals = Vec::new();
    let others = versions.iter().enumerate().filter(|(index, _)| *index != primary);
    for (position, (version, (name, _))) in others.enumerate() {
        let parts = weights.of(name);
        let from = if position == 1 { WHOLE - parts } else { left };
        if position != 1 {
            left += parts;
        }
        intervals.push(Interval { from, until: from + parts, version });
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(shares: &[(&str, u32)]) -> Generation {
        let versions: Vec<_> = shares
            .iter()
            .map(|(name, _)| {
                let role = if *name == "primary" { Role::Primary } else { Role::Canary };
                ((*name).to_owned(), role)
            })
            .collect();
        let weights = shares.iter().map(|(name, parts)| ((*name).to_owned(), *parts)).collect();
        let weights = Weights::new(weights).unwrap();
        Generation::named(take_id(), weights, &versions, &Arc::default(), 1)
    }

    #[test]
    fn every_version_owns_as_many_points_as_its_weight() {
        let generation = generation(&[("primary", 5000), ("a", 1234), ("b", 3000), ("c", 766)]);
        let mut owned = [0; 4];
        for point in 0..WHOLE {
            owned[generation.owner(point)] += 1;
        }
        assert_eq!(owned, [5000, 1234, 3000, 766]);
    }

    #[test]
    fn a_changed_weight_moves_points_only_between_that_version_and_the_primary() {
        let low = generation(&[("primary", 7000), ("a", 1000), ("b", 2000)]);
        let high = generation(&[("primary", 3000), ("a", 5000), ("b", 2000)]);
        for point in 0..WHOLE {
            match (low.owner(point), high.owner(point)) {
                (0, 1) => {}
                (before, after) => assert_eq!(before, after, "point {point}"),
            }
        }
    }
}
