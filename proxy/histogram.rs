//! Log-linear buckets for durations: where a value falls, and what a bucket means.
//!
//! 32 equal buckets to each doubling, from 1 us to a little over 1 h (2^32 us).
//! A bucket is at most 1/32 of its lower edge wide, so a value is known within
//! 3.125 % and a quantile read at the middle of its bucket within 1.6 %.

use serde::{Deserialize, Serialize};

/// Equal steps per doubling.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values at or above this many microseconds share the last bucket.
const LIMIT_US: u64 = 1 << 32;
/// How many buckets there are; the last holds everything above the limit.
pub const BUCKETS: usize = index(LIMIT_US) + 1;

/// The bucket of a duration in microseconds.
pub const fn index(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let us = if us > LIMIT_US { LIMIT_US } else { us };
    let exponent = us.ilog2() - STEP_BITS;
    (exponent as u64 * STEPS + (us >> exponent)) as usize
}

/// The smallest duration in a bucket, in microseconds. `lower_us(i + 1)` is the
/// exclusive upper edge of bucket `i`.
pub const fn lower_us(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let exponent = index / STEPS - 1;
    (STEPS + index % STEPS) << exponent
}

/// Counts per bucket. Cumulative, addable, subtractable. Takes its memory at the
/// first value: most versions of a large fleet are idle.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Histogram {
    counts: Option<Box<[u64; BUCKETS]>>,
    sum_us: u64,
}

static NOTHING: [u64; BUCKETS] = [0; BUCKETS];

/// As it is written: most buckets are empty.
#[derive(Serialize, Deserialize)]
struct Sparse {
    counts: Vec<(u32, u64)>,
    sum_us: u64,
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Sparse {
        let counts = (0..).zip(histogram.counts().iter().copied()).filter(|(_, count)| *count > 0).collect();
        Sparse { counts, sum_us: histogram.sum_us }
    }
}

impl From<Sparse> for Histogram {
    /// Buckets that we do not have count as the last.
    fn from(sparse: Sparse) -> Histogram {
        let mut histogram = Histogram::default();
        for (bucket, count) in sparse.counts {
            histogram.add_count((bucket as usize).min(BUCKETS - 1), count);
        }
        histogram.sum_us = sparse.sum_us;
        histogram
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        self.sum_us == other.sum_us && self.counts() == other.counts()
    }
}

impl Eq for Histogram {}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram(count {}, sum {} us)", self.count(), self.sum_us)
    }
}

impl Histogram {
    pub fn record(&mut self, us: u64) {
        self.add_count(index(us), 1);
        self.sum_us += us;
    }

    /// Adds `n` observations to bucket `index` without touching the sum.
    pub fn add_count(&mut self, index: usize, n: u64) {
        self.own()[index] += n;
    }

    fn own(&mut self) -> &mut [u64; BUCKETS] {
        self.counts.get_or_insert_with(|| Box::new(NOTHING))
    }

    pub fn add_sum(&mut self, us: u64) {
        self.sum_us += us;
    }

    pub fn counts(&self) -> &[u64; BUCKETS] {
        self.counts.as_deref().unwrap_or(&NOTHING)
    }

    pub fn count(&self) -> u64 {
        self.counts.as_ref().map_or(0, |counts| counts.iter().sum())
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    pub fn add(&mut self, other: &Histogram) {
        if let Some(counts) = &other.counts {
            for (mine, theirs) in self.own().iter_mut().zip(counts.iter()) {
                *mine += theirs;
            }
        }
        self.sum_us += other.sum_us;
    }

    /// What came since `earlier`, a previous reading of the same histogram.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut difference = self.clone();
        if let (Some(mine), Some(theirs)) = (&mut difference.counts, &earlier.counts) {
            for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                *mine = mine.saturating_sub(*theirs);
            }
        }
        difference.sum_us = self.sum_us.saturating_sub(earlier.sum_us);
        difference
    }

    /// The duration that a share `q` of the observations does not exceed, read
    /// at the middle of its bucket; `None` when there are none.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (i, n) in self.counts().iter().enumerate() {
            seen += n;
            if seen >= rank {
                let next = if i + 1 < BUCKETS { lower_us(i + 1) } else { lower_us(i) };
                return Some(lower_us(i).midpoint(next.max(lower_us(i) + 1) - 1));
            }
        }
        unreachable!("rank {rank} lies within count {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_the_stated_error() {
        let mut us = 1;
        while us < LIMIT_US {
            let i = index(us);
            let (low, high) = (lower_us(i), lower_us(i + 1));
            assert!(low <= us && us < high, "{us} not in [{low}, {high})");
            assert!((high - low) as f64 <= (low as f64 / 32.0).max(1.0), "bucket of {us} too wide");
            us += 1 + us / 97;
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantile_is_within_three_percent() {
        let mut histogram = Histogram::default();
        for us in 1..=100_000 {
            histogram.record(us);
        }
        for q in [0.5, 0.9, 0.99, 0.999] {
            let read = histogram.quantile_us(q).unwrap() as f64;
            let exact = q * 100_000.0;
            assert!((read / exact - 1.0).abs() < 0.03, "q {q}: {read} against {exact}");
        }
    }

    #[test]
    fn sum_and_difference_undo_each_other() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(10);
        b.record(5_000_000);
        let before = a.clone();
        a.add(&b);
        assert_eq!(a.since(&before), b);
    }
}
