//! Answers by their very status code, each with a coarse histogram of its
//! durations: what the words of other proxies are spoken from.
//!
//! A version has one table per worker, which alone writes it. It has a place for
//! each class and sixteen for codes as they come; a code that finds none counts
//! as its class. The bounds are Envoy's, and are counted exactly: the fine
//! buckets of `histogram` have no edge at 5 ms.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::count::Count;

/// Inclusive upper bounds in microseconds; above the last there is one more bucket.
pub const BOUNDS_US: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

const BUCKETS: usize = BOUNDS_US.len() + 1;
/// No answer at all, and 1xx to 5xx.
const CLASSES: usize = 6;
const OWN: usize = 16;

/// Answers of one code, cumulative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CodeReading {
    /// 0 where there was no answer; a round hundred may stand for others of its class.
    pub code: u16,
    pub sum_us: u64,
    /// By [`BOUNDS_US`], not cumulative over the bounds.
    pub buckets: [u64; BUCKETS],
}

impl CodeReading {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Takes its memory with the first answer.
#[derive(Default)]
pub struct Codes(OnceLock<Box<Table>>);

#[derive(Default)]
struct Table {
    classes: [Row; CLASSES],
    own: [Own; OWN],
}

#[derive(Default)]
struct Row {
    sum_us: Count,
    buckets: [Count; BUCKETS],
}

#[derive(Default)]
struct Own {
    /// 0 while the place is free.
    code: Count,
    row: Row,
}

impl Codes {
    pub fn record(&self, code: u16, us: u64) {
        let table = self.0.get_or_init(Box::default);
        let row = table.row(code);
        row.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].add(1);
        row.sum_us.add(us);
    }

    pub fn add_to(&self, sum: &mut Vec<CodeReading>) {
        let Some(table) = self.0.get() else { return };
        let classes = (0..).zip(&table.classes).map(|(class, row)| (class * 100, row));
        let own = table.own.iter().map(|own| (own.code.get() as u16, &own.row));
        for (code, row) in classes.chain(own) {
            let reading = row.read(code);
            if reading.buckets.iter().any(|count| *count > 0) {
                add(sum, &reading);
            }
        }
    }
}

impl Table {
    fn row(&self, code: u16) -> &Row {
        let class = usize::from(code / 100).min(CLASSES - 1);
        if usize::from(code) == class * 100 {
            return &self.classes[class];
        }
        for own in &self.own {
            match own.code.get() {
                // The worker is the only one who writes, so the place stays free until here.
                0 => own.code.add(u64::from(code)),
                taken if taken != u64::from(code) => continue,
                _ => {}
            }
            return &own.row;
        }
        &self.classes[class]
    }
}

impl Row {
    fn read(&self, code: u16) -> CodeReading {
        let mut reading = CodeReading { code, sum_us: self.sum_us.get(), ..CodeReading::default() };
        for (sum, count) in reading.buckets.iter_mut().zip(&self.buckets) {
            *sum = count.get();
        }
        reading
    }
}

/// Adds the answers of one code to a list that has each code once, in order.
pub fn add(sum: &mut Vec<CodeReading>, more: &CodeReading) {
    match sum.binary_search_by_key(&more.code, |reading| reading.code) {
        Ok(at) => {
            let reading = &mut sum[at];
            reading.sum_us += more.sum_us;
            for (mine, theirs) in reading.buckets.iter_mut().zip(more.buckets) {
                *mine += theirs;
            }
        }
        Err(at) => sum.insert(at, more.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(codes: &Codes) -> Vec<(u16, u64)> {
        let mut sum = Vec::new();
        codes.add_to(&mut sum);
        sum.iter().map(|reading| (reading.code, reading.count())).collect()
    }

    #[test]
    fn codes_are_told_apart_and_bounds_are_inclusive() {
        let codes = Codes::default();
        for (code, us) in [(200, 500), (200, 501), (503, 1), (0, 7), (204, 4_000_000_000)] {
            codes.record(code, us);
        }
        assert_eq!(read(&codes), [(0, 1), (200, 2), (204, 1), (503, 1)]);
        let mut sum = Vec::new();
        codes.add_to(&mut sum);
        assert_eq!((sum[1].buckets[0], sum[1].buckets[1], sum[1].sum_us), (1, 1, 1001));
        assert_eq!(sum[2].buckets[BUCKETS - 1], 1);
    }

    #[test]
    fn more_codes_than_places_count_as_their_class_and_none_is_lost() {
        let codes = Codes::default();
        for code in 401..=450 {
            codes.record(code, 10);
        }
        codes.record(999, 10);
        let read = read(&codes);
        assert_eq!(read.iter().map(|(_, count)| count).sum::<u64>(), 51);
        assert_eq!(read.len(), OWN + 2);
        assert_eq!((read[0], read[OWN + 1]), ((400, 34), (500, 1)));
    }

    #[test]
    fn two_workers_add_up() {
        let (one, other) = (Codes::default(), Codes::default());
        one.record(404, 10);
        other.record(404, 10_000);
        let mut sum = Vec::new();
        one.add_to(&mut sum);
        other.add_to(&mut sum);
        assert_eq!((sum.len(), sum[0].count(), sum[0].sum_us), (1, 2, 10_010));
    }
}
