//! The recent past of every metric, second by second, in memory of a stated size.
//!
//! All series are written at the same moments, so a moment is kept once for all,
//! and a series is only its values (`codes.rs`), written where they differ from
//! what was told before (`part.rs`). What is older than the retention
//! goes, and what is oldest goes first where the bytes do not suffice. Nothing
//! here knows what a metric means, or asks the time.

mod codes;
mod labels;
mod part;
mod past;
mod piece;
pub mod keeper;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard};

use codes::decode;
pub use labels::{Labels, NAME};
pub use part::Told;
use part::{BLOCK, Now, Part, Series};

/// A series beyond this many is not kept.
const MOST_SERIES: usize = 50_000;
/// The part of what is told outside of any.
const REST: u64 = 0;

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
    parts: HashMap<u64, Part>,
    /// Which part a series is of, by the hash of its name and labels as they are
    /// written. That two have the same 64 bits is not to be expected in the life of
    /// the universe's machines, and the seed is our own.
    owners: HashMap<u64, u64>,
    about: HashMap<&'static str, About>,
    /// What a process before us has left, until somebody tells of it again.
    past: HashMap<Labels, Box<Series>>,
    /// Number of the open block; those before it are closed.
    open: u64,
    times: Vec<i64>,
    closed: VecDeque<Arc<[i64]>>,
    /// Of all that is closed.
    bytes: usize,
    refused: u64,
}

/// One moment that is being written.
pub struct Record<'s> {
    inner: MutexGuard<'s, Inner>,
    keep: Keep,
    now: Now,
    /// The part that is being told.
    current: Option<(u64, Part)>,
}

/// A series as it was when it was picked; reading it disturbs nobody.
pub struct Picked {
    pub labels: Labels,
    stretches: Vec<Stretch>,
}

/// The moments of a block, and a series' values at them.
type Stretch = (Arc<[i64]>, Arc<[u8]>);

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
        let now = inner.now();
        Some(Record { inner, keep, now, current: None })
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
        let all = inner.parts.values().flat_map(|part| part.latest(inner.now()));
        let meant = all.filter(|(series, _)| is_meant(&series.labels));
        meant.map(|(series, value)| (series.labels.clone(), Point { at, value })).collect()
    }

    pub fn about(&self) -> Vec<(&'static str, About)> {
        let mut about: Vec<_> = self.inner().about.iter().map(|(name, about)| (*name, *about)).collect();
        about.sort_unstable_by_key(|(name, _)| *name);
        about
    }

    pub fn usage(&self) -> Usage {
        let inner = self.inner();
        let open: usize = inner.parts.values().map(Part::open_bytes).sum();
        Usage {
            series: inner.parts.values().map(Part::len).sum::<usize>() + inner.past.len(),
            moments: inner.closed_moments() + inner.times.len(),
            bytes: inner.bytes + open + inner.times.len() * size_of::<i64>(),
            refused: inner.refused,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl Record<'_> {
    /// Begins a part, which is all that is told until the next begins; a name is
    /// of one part. Answers whether it has to be told: not where it is as it was.
    pub fn part(&mut self, key: u64, told: Told) -> bool {
        self.end_part();
        let (inner, now) = (&mut *self.inner, self.now);
        let is_full = inner.owners.len() >= MOST_SERIES;
        let known = inner.parts.get_mut(&key);
        if known.is_none() && is_full {
            inner.refused += 1;
            return false;
        }
        if known.is_some_and(|part| part.goes_on(now, told, is_full)) {
            return false;
        }
        let mut part = inner.parts.remove(&key).unwrap_or_default();
        part.begin(now, told);
        self.current = Some((key, part));
        true
    }

    /// Whether a part goes on that is known to be as it was.
    pub fn goes_on(&mut self, key: u64) -> bool {
        self.end_part();
        let (inner, now) = (&mut *self.inner, self.now);
        let is_full = inner.owners.len() >= MOST_SERIES;
        match inner.parts.get_mut(&key) {
            Some(part) => part.rests(now, is_full),
            None => {
                inner.refused += u64::from(is_full);
                is_full
            }
        }
    }

    /// Whether the series to come are known, and their families with them.
    pub fn is_known(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, part)| part.is_by_place())
    }

    /// Describes the family that the values to come belong to.
    pub fn describe(&mut self, family: &'static str, about: About) {
        self.inner.about.entry(family).or_insert(about);
    }

    /// One value. `name` is told in two parts, and one label may be told apart,
    /// so that nothing needs to be put together for a series that is known.
    pub fn put(&mut self, name: [&str; 2], labels: &[(&str, &str)], last: Option<(&str, &str)>, value: f64) {
        if self.current.is_none() {
            self.part(REST, Told { state: None, shape: None });
        }
        let (inner, now) = (&mut *self.inner, self.now);
        let Some((own, part)) = &mut self.current else { return };
        let hash = |hasher: &RandomState| hasher.hash_one((name, labels, last));
        if let Some(key) = part.put_next(now, value) {
            debug_assert_eq!(key, hash(&inner.hasher), "{name:?} {labels:?} is told out of turn");
            return;
        }
        let key = hash(&inner.hasher);
        if part.put(now, key, value) {
            return;
        }
        let series = match inner.owners.get(&key).copied() {
            // Told by two: the first has it, for as long as it tells of it.
            Some(other) => inner.parts.get_mut(&other).and_then(|part| match part.is_about(now) {
                true => None,
                false => part.release(key, now),
            }),
            None if inner.owners.len() >= MOST_SERIES => {
                inner.refused += 1;
                None
            }
            None => {
                let labels = inner.labels(name, labels.iter().copied().chain(last));
                Some(inner.take_past(labels))
            }
        };
        match series {
            None => part.lack(),
            Some(series) => {
                let size = part.add(now, key, series, value);
                if inner.owners.insert(key, *own).is_none() {
                    inner.bytes += size;
                }
            }
        }
    }

    fn end_part(&mut self) {
        if let Some((key, mut part)) = self.current.take() {
            part.end(self.now);
            self.inner.parts.insert(key, part);
        }
    }

    /// Ends the moment: the past makes room.
    pub fn finish(mut self) {
        self.end_part();
        let keep = self.keep;
        let inner = &mut *self.inner;
        let is_over = |inner: &Inner| {
            inner.closed_moments() + inner.times.len() > keep.moments.saturating_add(BLOCK)
                || inner.bytes > keep.bytes
        };
        while !inner.closed.is_empty() && is_over(inner) {
            inner.forget();
        }
    }
}

impl Inner {
    fn now(&self) -> Now {
        let moment = self.open * BLOCK as u64 + self.times.len() as u64;
        Now { moment, index: self.times.len().saturating_sub(1) }
    }

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
        let (number, now, moments) = (self.open, self.now(), self.times.len());
        self.bytes += self.parts.values_mut().map(|part| part.close(number, now)).sum::<usize>();
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
        for part in self.parts.values_mut() {
            for key in part.forget(oldest, &mut freed) {
                self.owners.remove(&key);
            }
        }
        self.parts.retain(|_, part| !part.is_empty());
        self.forget_past(oldest, &mut freed);
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
        let picked = |series: &Series, head: &dyn Fn() -> Vec<u8>| {
            let bytes = |number: u64| match number == self.open {
                true => head().into(),
                false => series.block(number).cloned().unwrap_or_else(|| none.clone()),
            };
            Picked {
                labels: series.labels.clone(),
                stretches: wanted.iter().map(|(number, times)| ((*times).clone(), bytes(*number))).collect(),
            }
        };
        let is_meant = |series: &Series| (wish.is_meant)(&series.labels);
        let live = self.parts.values().flat_map(|part| part.series(self.now()));
        let live = live.filter(|(series, _)| is_meant(series)).map(|(series, head)| picked(series, &head));
        let past = self.past.values().filter(|series| is_meant(series));
        live.chain(past.map(|series| picked(series, &Vec::new))).collect()
    }
}

impl Picked {
    /// It has a value somewhere near what was wished for: in the same block.
    pub fn is_there(&self) -> bool {
        self.stretches.iter().any(|(_, bytes)| !bytes.is_empty())
    }

    /// Its points from `from` to `to`, both included, where a series that ends
    /// has a stale one.
    pub fn points(&self, from: i64, to: i64) -> Vec<Point> {
        let mut points = Vec::new();
        let mut is_there = false;
        for (times, bytes) in &self.stretches {
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

    const STILL: Told = Told { state: Some(1), shape: Some(1) };

    /// Two parts of which one stands still now and then, and one comes and goes,
    /// written with all that is known of them, or value by value.
    fn history(tells_all: bool) -> Store {
        let store = Store::default();
        for second in 0..4000_i64 {
            let mut record = store.record(second, KEEP).expect("later");
            for (key, name) in [(1, "still"), (2, "guest")] {
                let state = second / 700;
                if key == 2 && (second / 300) % 3 == 1 {
                    continue;
                }
                let told = Told { state: Some(state as u64), shape: Some(state as u64 / 2) };
                let told = if tells_all { Told { state: None, shape: None } } else { told };
                if !record.part(key, told) {
                    continue;
                }
                for at in 0..3 + state / 2 {
                    let value = if at == 1 { 7.0 } else { (state * at) as f64 };
                    record.put([name, ""], &[("at", &at.to_string())], None, value);
                }
            }
            record.finish();
        }
        store
    }

    #[test]
    fn what_stands_still_is_kept_as_if_it_were_told_each_time() {
        let (told, differences) = (history(true), history(false));
        let texts = |store: &Store| {
            let all = all(store, 0, 4000).into_iter();
            let bits = |points: Vec<Point>| {
                let bits = points.iter().map(|point| (point.at, point.value.to_bits()));
                bits.collect::<Vec<_>>()
            };
            all.map(|(labels, points)| (labels, bits(points))).collect::<Vec<_>>()
        };
        assert_eq!(texts(&told), texts(&differences));
        let latest = |store: &Store| {
            let mut latest = store.latest(&|_| true);
            latest.sort_by(|a, b| a.0.cmp(&b.0));
            latest
        };
        assert_eq!(latest(&told), latest(&differences));
        assert_eq!(latest(&told).len(), 5, "the guest is not there: {:?}", latest(&told));
    }

    #[test]
    fn what_there_is_no_room_for_need_not_be_told_again() {
        let store = Store::default();
        for second in 0..2 {
            let mut record = store.record(second, KEEP).expect("later");
            if second == 0 {
                assert!(!record.goes_on(2), "there is room for it");
                assert!(record.part(1, STILL));
                (0..MOST_SERIES).for_each(|at| record.put(["a", ""], &[("at", &at.to_string())], None, 1.0));
            }
            assert!(record.goes_on(1) && record.goes_on(2));
            assert!(!record.part(2, STILL));
            record.finish();
        }
        assert_eq!((store.usage().series, store.usage().refused), (MOST_SERIES, 4));
        assert_eq!(store.latest(&|_| true).len(), MOST_SERIES);
    }

    #[test]
    fn a_series_goes_to_the_part_that_tells_of_it_now() {
        let store = Store::default();
        for second in 0..20_i64 {
            let mut record = store.record(second, KEEP).expect("later");
            let owner = if second < 10 { 1 } else { 2 };
            if record.part(owner, STILL) {
                record.put(["a", ""], &[], None, 1.0);
            }
            // Twice in one moment: the first counts.
            if record.part(3, STILL) {
                record.put(["a", ""], &[], None, 2.0);
            }
            record.finish();
        }
        let all = all(&store, 0, 20);
        assert_eq!(all.len(), 1);
        let values: Vec<f64> = all[0].1.iter().map(|point| point.value).collect();
        assert_eq!(values.len(), 20);
        assert!(values[..10].iter().all(|value| *value == 1.0), "{values:?}");
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
