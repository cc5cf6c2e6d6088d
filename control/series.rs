//! The recent past of every metric, second by second, in memory of a stated size.
//!
//! All series are written at the same moments, so a moment is kept once for all,
//! and a series is only its values (`codes.rs`). What is older than the retention
//! goes, and what is oldest goes first where the bytes do not suffice. Nothing
//! here knows what a metric means, or asks the time.

mod codes;
mod labels;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard};

use codes::{Encoder, decode};
pub use labels::{Labels, NAME};

/// Moments in one block: the unit in which the past is given up.
const BLOCK: usize = 1024;
/// A series beyond this many is not kept.
const MOST_SERIES: usize = 50_000;

/// A value and its moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: i64,
    pub value: f64,
}

/// What the value of a series is called that has ended, as Prometheus has it.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

impl Point {
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE
    }
}

/// How much of the past there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub moments: usize,
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub series: usize,
    pub moments: usize,
    /// Labels, values and what it takes to find them.
    pub bytes: usize,
    /// Series that were not kept because there were too many.
    pub refused: u64,
}

/// What a family is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub kind: &'static str,
    pub help: &'static str,
}

#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    hasher: RandomState,
    texts: HashSet<Arc<str>>,
    /// By the hash of a name and its labels as they are written. That two have
    /// the same 64 bits is not to be expected in the life of the universe's
    /// machines, and the seed is our own.
    series: HashMap<u64, Series>,
    about: HashMap<&'static str, About>,
    /// Number of the open block; those before it are closed.
    open: u64,
    times: Vec<i64>,
    closed: VecDeque<Arc<[i64]>>,
    /// Of all that is closed.
    bytes: usize,
    refused: u64,
}

struct Series {
    labels: Labels,
    blocks: VecDeque<Block>,
    head: Encoder,
}

struct Block {
    number: u64,
    bytes: Arc<[u8]>,
}

/// One moment that is being written.
pub struct Record<'s> {
    inner: MutexGuard<'s, Inner>,
    keep: Keep,
}

/// A series as it was when it was picked; reading it disturbs nobody.
pub struct Picked {
    pub labels: Labels,
    parts: Vec<Part>,
}

/// The moments of a block, and a series' values at them.
type Part = (Arc<[i64]>, Arc<[u8]>);

/// Whether a series is one of those that are sought.
pub type IsMeant<'t> = dyn Fn(&Labels) -> bool + 't;

/// Which series, and from when to when.
pub struct Wish<'w> {
    pub is_meant: &'w IsMeant<'w>,
    pub from: i64,
    pub to: i64,
}

impl Store {
    /// Begins a moment, which must be later than the one before; `None` otherwise.
    pub fn record(&self, at: i64, keep: Keep) -> Option<Record<'_>> {
        let mut inner = self.inner();
        let last = inner.times.last().or_else(|| inner.closed.back()?.last());
        if last.is_some_and(|last| *last >= at) {
            return None;
        }
        if inner.times.len() == BLOCK {
            inner.close();
        }
        inner.times.push(at);
        Some(Record { inner, keep })
    }

    /// All that is wished for, of one and the same moment.
    pub fn pick(&self, wishes: &[Wish<'_>]) -> Vec<Vec<Picked>> {
        let inner = self.inner();
        let times: Arc<[i64]> = inner.times.as_slice().into();
        wishes.iter().map(|wish| inner.pick(wish, &times)).collect()
    }

    /// The latest value of each series that has one now.
    pub fn latest(&self, is_meant: &IsMeant<'_>) -> Vec<(Labels, Point)> {
        let inner = self.inner();
        let Some(at) = inner.times.last().copied() else { return Vec::new() };
        let of = |series: &Series| {
            let value = series.head.last(inner.times.len())?;
            Some((series.labels.clone(), Point { at, value }))
        };
        inner.series.values().filter(|series| is_meant(&series.labels)).filter_map(of).collect()
    }

    pub fn about(&self) -> Vec<(&'static str, About)> {
        let mut about: Vec<_> = self.inner().about.iter().map(|(name, about)| (*name, *about)).collect();
        about.sort_unstable_by_key(|(name, _)| *name);
        about
    }

    pub fn usage(&self) -> Usage {
        let inner = self.inner();
        let open: usize = inner.series.values().map(|series| series.head.len()).sum();
        Usage {
            series: inner.series.len(),
            moments: inner.closed.len() * BLOCK + inner.times.len(),
            bytes: inner.bytes + open + inner.times.len() * size_of::<i64>(),
            refused: inner.refused,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl Record<'_> {
    /// Describes the family that the values to come belong to.
    pub fn describe(&mut self, family: &'static str, about: About) {
        self.inner.about.entry(family).or_insert(about);
    }

    /// One value. `name` is told in two parts, and one label may be told apart,
    /// so that nothing needs to be put together for a series that is known.
    pub fn put(&mut self, name: [&str; 2], labels: &[(&str, &str)], last: Option<(&str, &str)>, value: f64) {
        let inner = &mut *self.inner;
        let key = inner.hasher.hash_one((name, labels, last));
        let at = inner.times.len() - 1;
        if let Some(series) = inner.series.get_mut(&key) {
            return series.head.put(at, value);
        }
        if inner.series.len() >= MOST_SERIES {
            inner.refused += 1;
            return;
        }
        let mut series = Series {
            labels: inner.labels(name, labels.iter().copied().chain(last)),
            blocks: VecDeque::new(),
            head: Encoder::default(),
        };
        inner.bytes += series.overhead();
        series.head.put(at, value);
        inner.series.insert(key, series);
    }

    /// Ends the moment: the past makes room.
    pub fn finish(mut self) {
        let keep = self.keep;
        let inner = &mut *self.inner;
        let is_over = |inner: &Inner| {
            inner.closed.len() * BLOCK + inner.times.len() > keep.moments.saturating_add(BLOCK)
                || inner.bytes > keep.bytes
        };
        while !inner.closed.is_empty() && is_over(inner) {
            inner.forget();
        }
    }
}

impl Inner {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    fn labels<'a>(&mut self, name: [&str; 2], labels: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut pairs = vec![(self.text(NAME), self.text(&name.concat()))];
        for (name, value) in labels {
            pairs.push((self.text(name), self.text(value)));
        }
        Labels::new(pairs)
    }

    fn close(&mut self) {
        let (number, moments) = (self.open, self.times.len());
        for series in self.series.values_mut() {
            let bytes = series.head.close(moments);
            if !bytes.is_empty() {
                let block = Block { number, bytes: bytes.into() };
                self.bytes += block.size();
                series.blocks.push_back(block);
            }
        }
        self.bytes += moments * size_of::<i64>();
        self.closed.push_back(std::mem::take(&mut self.times).into());
        self.open += 1;
    }

    /// Gives up the oldest block.
    fn forget(&mut self) {
        let Some(times) = self.closed.pop_front() else { return };
        self.bytes -= times.len() * size_of::<i64>();
        let oldest = self.open - self.closed.len() as u64;
        let mut freed = 0;
        self.series.retain(|_, series| {
            while series.blocks.front().is_some_and(|block| block.number < oldest) {
                freed += series.blocks.pop_front().map_or(0, |block| block.size());
            }
            let is_kept = !series.blocks.is_empty() || !series.head.is_empty();
            if !is_kept {
                freed += series.overhead();
            }
            is_kept
        });
        self.bytes -= freed;
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }

    fn pick(&self, wish: &Wish<'_>, times: &Arc<[i64]>) -> Vec<Picked> {
        let first = self.open - self.closed.len() as u64;
        let all = (first..).zip(self.closed.iter().chain([times]));
        let wanted: Vec<(u64, &Arc<[i64]>)> = all
            .filter(|(_, times)| {
                let span = times.first().zip(times.last());
                span.is_some_and(|(begin, end)| *begin <= wish.to && *end >= wish.from)
            })
            .collect();
        let none: Arc<[u8]> = Arc::default();
        let bytes = |series: &Series, number: u64| match number == self.open {
            true => series.head.snapshot(self.times.len()).into(),
            false => series.block(number).cloned().unwrap_or_else(|| none.clone()),
        };
        let picked = |series: &Series| Picked {
            labels: series.labels.clone(),
            parts: wanted.iter().map(|(number, times)| ((*times).clone(), bytes(series, *number))).collect(),
        };
        self.series.values().filter(|series| (wish.is_meant)(&series.labels)).map(picked).collect()
    }
}

impl Series {
    fn block(&self, number: u64) -> Option<&Arc<[u8]>> {
        let at = self.blocks.binary_search_by_key(&number, |block| block.number).ok()?;
        Some(&self.blocks[at].bytes)
    }

    /// Its share of the table, and its labels; their texts are mostly shared.
    fn overhead(&self) -> usize {
        size_of::<(u64, Series)>() + self.labels.size()
    }
}

impl Block {
    /// With what an `Arc` puts before its bytes.
    fn size(&self) -> usize {
        size_of::<Block>() + 16 + self.bytes.len()
    }
}

impl Picked {
    /// It has a value somewhere near what was wished for: in the same block.
    pub fn is_there(&self) -> bool {
        self.parts.iter().any(|(_, bytes)| !bytes.is_empty())
    }

    /// Its points from `from` to `to`, both included, where a series that ends
    /// has a stale one.
    pub fn points(&self, from: i64, to: i64) -> Vec<Point> {
        let mut points = Vec::new();
        let mut is_there = false;
        for (times, bytes) in &self.parts {
            decode(bytes, times.len(), |index, value| {
                let at = times[index];
                let value = match value {
                    Some(value) => value,
                    None if is_there => f64::from_bits(STALE),
                    None => return,
                };
                is_there = value.to_bits() != STALE;
                if (from..=to).contains(&at) {
                    points.push(Point { at, value });
                }
            });
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { moments: 100_000, bytes: 1 << 30 };

    fn all(store: &Store, from: i64, to: i64) -> Vec<(Labels, Vec<Point>)> {
        let picked = store.pick(&[Wish { is_meant: &|_| true, from, to }]).remove(0);
        let mut all: Vec<_> =
            picked.into_iter().map(|picked| (picked.labels.clone(), picked.points(from, to))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn write(store: &Store, at: i64, values: &[(&str, f64)]) {
        let mut record = store.record(at, KEEP).expect("time goes on");
        for (who, value) in values {
            record.put(["a_", "total"], &[("who", who)], None, *value);
        }
        record.finish();
    }

    #[test]
    fn what_was_written_is_read_over_many_blocks() {
        let store = Store::default();
        for second in 0..5000_i64 {
            write(&store, second * 1000, &[("x", (second * second) as f64), ("y", second as f64 / 3.0)]);
        }
        let read = all(&store, 1_000_000, 4_000_000);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].1.len(), 3001);
        assert!(read[0].1.iter().all(|point| point.value == (point.at / 1000).pow(2) as f64));
        assert!(read[1].1.iter().all(|point| point.value == (point.at / 1000) as f64 / 3.0));
        assert_eq!(read[0].0.get(NAME), Some("a_total"));
        assert!(store.record(4_999_000, KEEP).is_none(), "a moment comes once");
    }

    #[test]
    fn a_series_that_ends_is_stale_once_and_may_come_again() {
        let store = Store::default();
        for second in 0..3000_i64 {
            let is_there = !(100..2500).contains(&second);
            write(&store, second, if is_there { &[("x", 1.0), ("y", 2.0)] } else { &[("y", 2.0)] });
        }
        let points = &all(&store, 0, 3000)[0].1;
        let stale: Vec<i64> = points.iter().filter(|point| point.is_stale()).map(|point| point.at).collect();
        assert_eq!(stale, [100]);
        assert_eq!(points.len(), 601);
        assert_eq!(points.last().map(|point| (point.at, point.value)), Some((2999, 1.0)));
        let late: Vec<_> = all(&store, 2000, 3000)[0].1.iter().map(|point| point.at).take(2).collect();
        assert_eq!(late, [2500, 2501], "what ended before is not told of");
    }

    #[test]
    fn the_past_makes_room_by_age_and_by_bytes() {
        let store = Store::default();
        for second in 0..10_000_i64 {
            let mut record = store.record(second, Keep { moments: 2000, bytes: 1 << 30 }).expect("later");
            let who = if second < 3000 { "early" } else { "late" };
            record.put(["b", ""], &[("who", who)], None, second as f64);
            record.finish();
        }
        let usage = store.usage();
        assert!((2000..=2000 + 2 * BLOCK).contains(&usage.moments), "{usage:?}");
        assert_eq!(usage.series, 1, "a series without a past is gone");
        for second in 10_000..20_000_i64 {
            let mut record = store.record(second, Keep { moments: 1 << 20, bytes: 20_000 }).expect("later");
            let noise = (second.wrapping_mul(0x9e37_79b9) % 1_000_003) as f64 / 7.0;
            record.put(["b", ""], &[("who", "late")], None, noise);
            record.finish();
        }
        assert!(store.usage().bytes <= 20_000 + BLOCK * 12, "{:?}", store.usage());
        assert_eq!(store.latest(&|_| true).len(), 1);
    }

    #[test]
    fn bytes_of_a_series_hour() {
        let of = |value: &dyn Fn(i64) -> f64| {
            let store = Store::default();
            let empty = || {
                let mut record = store.record(0, KEEP).expect("first");
                record.put(["b", ""], &[("who", "x")], None, 0.0);
                record.finish();
                store.usage().bytes
            };
            let before = empty();
            for second in 1..=3600 {
                let mut record = store.record(second * 1000, KEEP).expect("later");
                record.put(["b", ""], &[("who", "x")], None, value(second));
                record.finish();
            }
            // The moments are there once for all series.
            store.usage().bytes - before - 3600 * size_of::<i64>()
        };
        let noise = |second: i64| (second * 7919 % 97) % 31;
        let idle = of(&|_| 5.0);
        let steady = of(&|second| (second * 100) as f64);
        let mut total = 0;
        let totals: Vec<i64> = (0..=3600)
            .map(|second| {
                total += 90 + noise(second);
                total
            })
            .collect();
        let busy = of(&|second| totals[second as usize] as f64);
        let sums = of(&|second| (totals[second as usize] * 1234) as f64 / 1e6);
        let wild = of(&|second| (second as f64).sin());
        println!(
            "bytes per series and hour: idle {idle}, steady {steady}, busy {busy}, sums {sums}, wild {wild}"
        );
        assert!(idle < 250 && steady < 260, "{idle} {steady}");
        assert!(busy < 4_500, "{busy}");
        assert!(sums < 15_000, "{sums}");
        assert!(wild < 37_000, "{wild}");
    }
}
