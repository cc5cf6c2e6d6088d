//! Counters: one shard per worker with that worker as its only writer, read and
//! summed by anybody.
//!
//! A shard is made of atomics that are only ever stored by their worker, so an
//! increment is a plain load and store: no lock prefix, no cache line shared
//! with another writer. A reading is exact for what has ended; it is not a
//! snapshot across counters.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::codes::Codes;
use crate::exemplars::Exemplars;
use crate::histogram;
use crate::histogram::BUCKETS;
use crate::histogram::Histogram;
use crate::kept::Kept;
use crate::model::Role;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::reading::Attempt;
use crate::reading::Counts;
use crate::reading::Sent;
use crate::reading::VersionReading;

pub use crate::count::Count;

/// A histogram with a single writer; takes its memory at the first value.
#[derive(Default)]
pub struct Latency {
    buckets: OnceLock<Box<[Count]>>,
    sum_us: Count,
}

impl Latency {
    pub fn record(&self, us: u64) {
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| Count::default()).collect());
        buckets[histogram::index(us)].add(1);
        self.sum_us.add(us);
    }

    pub fn add_to(&self, sum: &mut Histogram) {
        let Some(buckets) = self.buckets.get() else { return };
        for (i, count) in buckets.iter().enumerate() {
            let n = count.get();
            if n != 0 {
                sum.add_count(i, n);
            }
        }
        sum.add_sum(self.sum_us.get());
    }
}

/// What is counted for one version in one role, over all workers.
pub struct Slot {
    pub key: SlotKey,
    shards: Box<[Shard]>,
    /// By the sum of its moves.
    kept: Kept<u64, VersionReading>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotKey {
    pub service: String,
    pub version: String,
    pub role: Role,
    pub sent: Sent,
}

/// One worker's part. Aligned so that two workers never write one cache line.
#[derive(Default)]
#[repr(align(128))]
pub struct Shard {
    success: Count,
    failure: Count,
    uncounted: Count,
    classes: [Count; 6],
    begun: Count,
    pub retries: Count,
    attempts: [Count; Attempt::ALL.len()],
    pub retry_success: Count,
    pub retry_exhausted: Count,
    pub retry_overflow: Count,
    pub shielded: Count,
    pub fallback: Count,
    pub panicked: Count,
    pub mirrored: Count,
    pub mirror_dropped: Count,
    pub bytes_in: Count,
    pub bytes_out: Count,
    latency: Latency,
    codes: Codes,
    exemplars: Exemplars,
}

impl Shard {
    pub fn begin(&self) {
        self.begun.add(1);
    }

    pub fn end(&self, outcome: Outcome, age_us: u64) {
        self.classes[usize::from(outcome.class())].add(1);
        self.codes.record(outcome.code, age_us);
        if outcome.verdict != Verdict::Uncounted {
            self.latency.record(age_us);
        }
        // Last, because these are among the moves: who sees them sees all above.
        match outcome.verdict {
            Verdict::Success => self.success.add(1),
            Verdict::Failure => self.failure.add(1),
            Verdict::Uncounted => self.uncounted.add(1),
        }
    }

    /// A counted request by its id, where it was given one here; before it ends.
    pub fn exemplify(&self, id: [u64; 2], age_us: u64, now_us: u64) {
        self.exemplars.record(id, age_us, now_us);
    }

    pub fn attempt(&self, result: Attempt) {
        self.attempts[result as usize].add(1);
    }

    /// Changes with whatever a reading would tell: durations, codes and exemplars
    /// come with an end, and all else is counted here.
    fn moves(&self) -> u64 {
        let Shard {
            success,
            failure,
            uncounted,
            classes,
            begun,
            retries,
            attempts,
            retry_success,
            retry_exhausted,
            retry_overflow,
            shielded,
            fallback,
            panicked,
            mirrored,
            mirror_dropped,
            bytes_in,
            bytes_out,
            latency: _,
            codes: _,
            exemplars: _,
        } = self;
        let ends = [success, failure, uncounted, begun, bytes_in, bytes_out];
        let tries = [retries, retry_success, retry_exhausted, retry_overflow];
        let detours = [shielded, fallback, panicked, mirrored, mirror_dropped];
        let all = ends.into_iter().chain(tries).chain(detours).chain(classes).chain(attempts);
        all.fold(0, |sum, count| sum.wrapping_add(count.get()))
    }

    fn in_flight(&self) -> u64 {
        let ended = [&self.success, &self.failure, &self.uncounted].map(Count::get);
        self.begun.get().saturating_sub(ended.iter().sum())
    }

    fn add_to(&self, sum: &mut VersionReading) {
        let counts = &mut sum.counts;
        counts.success += self.success.get();
        counts.failure += self.failure.get();
        counts.uncounted += self.uncounted.get();
        counts.in_flight += self.in_flight();
        for (sum, class) in counts.classes.iter_mut().zip(&self.classes) {
            *sum += class.get();
        }
        counts.retries += self.retries.get();
        for (sum, attempts) in counts.attempts.iter_mut().zip(&self.attempts) {
            *sum += attempts.get();
        }
        counts.retry_success += self.retry_success.get();
        counts.retry_exhausted += self.retry_exhausted.get();
        counts.retry_overflow += self.retry_overflow.get();
        counts.shielded += self.shielded.get();
        counts.fallback += self.fallback.get();
        counts.panicked += self.panicked.get();
        counts.mirrored += self.mirrored.get();
        counts.mirror_dropped += self.mirror_dropped.get();
        counts.bytes_in += self.bytes_in.get();
        counts.bytes_out += self.bytes_out.get();
        self.latency.add_to(&mut sum.latency);
        self.codes.add_to(&mut sum.codes);
        self.exemplars.add_to(&mut sum.exemplars);
    }
}

impl Slot {
    pub fn new(key: SlotKey, workers: usize) -> Arc<Slot> {
        let shards = (0..workers).map(|_| Shard::default()).collect();
        Arc::new(Slot { key, shards, kept: Kept::default() })
    }

    pub fn shard(&self, worker: usize) -> &Shard {
        &self.shards[worker]
    }

    /// Every version could be mirrored to or be given load; that few are is no news.
    pub fn is_shown(&self) -> bool {
        self.key.sent == Sent::ByUsers || self.is_used()
    }

    /// Has there ever been a request?
    pub fn is_used(&self) -> bool {
        self.shards.iter().any(|shard| shard.begun.get() > 0)
    }

    /// Requests under way, over all workers.
    pub fn in_flight(&self) -> u64 {
        self.shards.iter().map(Shard::in_flight).sum()
    }

    pub fn read(&self) -> Arc<VersionReading> {
        let moves = self.shards.iter().fold(0, |sum: u64, shard| sum.wrapping_add(shard.moves()));
        self.kept.of(moves, || self.sum())
    }

    fn sum(&self) -> VersionReading {
        let mut sum = VersionReading {
            service: self.key.service.clone(),
            version: self.key.version.clone(),
            role: self.key.role,
            sent: self.key.sent,
            counts: Counts::default(),
            latency: Histogram::default(),
            codes: Vec::new(),
            exemplars: Vec::new(),
        };
        for shard in &self.shards {
            shard.add_to(&mut sum);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_at_rest_is_not_read_again() {
        let (service, version) = ("web".to_owned(), "primary".to_owned());
        let slot = Slot::new(SlotKey { service, version, role: Role::Primary, sent: Sent::ByUsers }, 2);
        let at_rest = slot.read();
        assert!(Arc::ptr_eq(&at_rest, &slot.read()));
        slot.shard(1).begin();
        assert_eq!(slot.read().counts.in_flight, 1);
        slot.shard(1).retries.add(1);
        assert_eq!(slot.read().counts.retries, 1);
        slot.shard(1).end(Outcome::of_code(200), 7);
        let ended = slot.read();
        assert_eq!((ended.counts.success, ended.latency.count(), ended.codes.len()), (1, 1, 1));
        assert!(Arc::ptr_eq(&ended, &slot.read()));
    }
}
