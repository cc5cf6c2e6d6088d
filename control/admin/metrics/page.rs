//! What a page of metrics is made of, whoever reads it: families that are told
//! value by value. A [`Sink`] writes them down as text, as protobuf, or into the
//! history; it is told each value once and keeps no page. One that keeps what it
//! was told is asked first whether a part of it is to be told again.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, LazyLock};

use foldhash::quality::FixedState;
use serin_proxy::codes::{BOUNDS_US, CodeReading};
use serin_proxy::exemplars::ExemplarReading;
use serin_proxy::histogram::{self, index};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
}

/// What is told of one thing, by hashes: who has kept the last telling need not
/// hear the same again.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which thing. Equal labels are always told of the same.
    pub key: u64,
    /// All its values; `None` where it has to be told.
    pub state: Option<u64>,
    /// Which series, in which order; `None` where nothing is promised.
    pub shape: Option<u64>,
}

impl Part {
    pub fn new(key: impl Hash, state: impl Hash, shape: impl Hash) -> Part {
        Part { key: digest(key), state: Some(digest(state)), shape: Some(digest(shape)) }
    }
}

/// Where a thing stands. No other can stand there while it is kept.
pub fn address<T>(thing: &Arc<T>) -> u64 {
    Arc::as_ptr(thing).addr() as u64
}

/// Equal things have equal hashes; others have others.
pub fn digest(of: impl Hash) -> u64 {
    HASHER.hash_one(of)
}

/// Its keys are our own, so what a stranger might do to a hash table is no concern.
const HASHER: FixedState = FixedState::with_seed(0);

/// An inclusive upper bound, as it is compared and as it is written.
pub struct Edge {
    pub bound: f64,
    pub text: String,
}

/// A histogram as it is told: counts below bounds, cumulative.
pub struct Shown<'h> {
    pub edges: &'static [Edge],
    pub below: Vec<u64>,
    pub count: u64,
    pub sum: f64,
    /// All that is known of it, where that is more.
    pub fine: Option<&'h histogram::Histogram>,
    pub exemplars: &'h [ExemplarReading],
}

pub trait Sink {
    /// Whether the thing whose turn it is rests since the last telling, by the
    /// address of what is told of it. Where not, the parts to come are its own,
    /// until the next is asked after.
    fn rests(&mut self, _address: u64) -> bool {
        false
    }
    /// Begins what is told of one thing, and answers whether it has to be told.
    fn part(&mut self, _part: &Part) -> bool {
        true
    }

    fn number(&mut self, family: Family, labels: &[(&str, &str)], value: f64);
    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], shown: &Shown<'_>);
}

pub struct Page<'s>(pub &'s mut dyn Sink);

/// Bounds in microseconds: every doubling and the middle between two, from 128 us
/// to 67 s. All are edges of fine buckets; those are exclusive above, `le` is
/// inclusive, and a duration is whole microseconds rounded down, so the two differ
/// by less than a microsecond.
pub fn bounds_us() -> impl Iterator<Item = u64> {
    (7..26).flat_map(|doubling| [1 << doubling, 3 << (doubling - 1)]).chain([1 << 26])
}

fn edges(bounds_us: impl Iterator<Item = u64>, unit_us: f64) -> Vec<Edge> {
    let edge = |us: u64| us as f64 / unit_us;
    bounds_us.map(|us| Edge { bound: edge(us), text: edge(us).to_string() }).collect()
}

static FINE: LazyLock<Vec<Edge>> = LazyLock::new(|| edges(bounds_us(), 1e6));
static MILLISECONDS: LazyLock<Vec<Edge>> = LazyLock::new(|| edges(BOUNDS_US.into_iter(), 1e3));
static SECONDS: LazyLock<Vec<Edge>> = LazyLock::new(|| edges(usual_us(), 1e6));

/// The bounds of the Prometheus libraries, 5 ms to 10 s, are all among Envoy's.
fn usual_us() -> impl Iterator<Item = u64> {
    BOUNDS_US.into_iter().filter(|us| (5_000..=10_000_000).contains(us))
}

/// In which unit another's histogram is told, and so under which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Seconds,
}

impl Shown<'_> {
    /// For each bucket, the last among them, one of its requests; durations in seconds.
    pub fn exemplified(&self) -> Vec<Option<ExemplarReading>> {
        let mut found = vec![None; self.edges.len() + 1];
        for exemplar in self.exemplars {
            let seconds = exemplar.us as f64 / 1e6;
            found[self.edges.partition_point(|edge| edge.bound <= seconds)] = Some(*exemplar);
        }
        found
    }

    /// Of answers by code, under the bounds that they are counted by.
    pub fn of_codes<'c>(codes: impl Iterator<Item = &'c CodeReading>, unit: Unit) -> Shown<'static> {
        let (mut counts, mut sum_us) = ([0; BOUNDS_US.len() + 1], 0);
        for code in codes {
            sum_us += code.sum_us;
            for (sum, count) in counts.iter_mut().zip(code.buckets) {
                *sum += count;
            }
        }
        let mut so_far = 0;
        let below = BOUNDS_US.iter().zip(counts).map(|(us, count)| {
            so_far += count;
            (*us, so_far)
        });
        let below: Vec<(u64, u64)> = below.collect();
        let (edges, unit_us, below): (&'static [Edge], f64, Vec<u64>) = match unit {
            Unit::Milliseconds => (&MILLISECONDS, 1e3, below.into_iter().map(|(_, count)| count).collect()),
            Unit::Seconds => {
                let is_usual = |us: u64| usual_us().any(|usual| usual == us);
                let below = below.into_iter().filter(|(us, _)| is_usual(*us));
                (&SECONDS, 1e6, below.map(|(_, count)| count).collect())
            }
        };
        Shown {
            edges,
            below,
            count: counts.iter().sum(),
            sum: sum_us as f64 / unit_us,
            fine: None,
            exemplars: &[],
        }
    }
}

impl Page<'_> {
    /// What is told until the next part begins is of this one.
    pub fn part(&mut self, key: impl Hash, state: impl Hash, shape: impl Hash) -> bool {
        self.0.part(&Part::new(key, state, shape))
    }

    /// The same of a thing that is shared as long as it rests.
    pub fn thing<T>(&mut self, thing: &Arc<T>, part: impl FnOnce(&T) -> Part) -> bool {
        !self.rests(address(thing)) && self.0.part(&part(thing))
    }

    /// Whether what would come of things at these addresses is as it was.
    pub fn rests(&mut self, address: u64) -> bool {
        self.0.rests(address)
    }

    /// One that is another each time.
    pub fn part_that_moves(&mut self, key: impl Hash) {
        self.0.part(&Part { key: digest(key), state: None, shape: None });
    }

    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        self.counter_seconds(name, help, labels, value as f64);
    }

    pub fn counter_seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.0.number(Family { name, help, kind: Kind::Counter }, labels, value);
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.0.number(Family { name, help, kind: Kind::Gauge }, labels, value);
    }

    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        kept: &histogram::Histogram,
        exemplars: &[ExemplarReading],
    ) {
        let counts = kept.counts();
        let (mut so_far, mut next) = (0, 0);
        let below = bounds_us().map(|bound_us| {
            let edge = index(bound_us);
            so_far += counts[next..edge].iter().sum::<u64>();
            next = edge;
            so_far
        });
        let below = below.collect();
        let sum = kept.sum_us() as f64 / 1e6;
        let shown = Shown { edges: &FINE, below, count: kept.count(), sum, fine: Some(kept), exemplars };
        self.0.histogram(Family { name, help, kind: Kind::Histogram }, labels, &shown);
    }

    pub fn shown(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        shown: &Shown<'_>,
    ) {
        self.0.histogram(Family { name, help, kind: Kind::Histogram }, labels, shown);
    }
}

#[cfg(test)]
mod tests {
    use serin_proxy::histogram::lower_us;

    use super::*;

    #[test]
    fn every_bound_is_an_edge_of_a_fine_bucket_and_they_grow() {
        let bounds: Vec<u64> = bounds_us().collect();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        assert!(bounds.iter().all(|us| lower_us(index(*us)) == *us), "{bounds:?}");
    }

    #[test]
    fn bounds_of_others_are_written_as_they_write_them() {
        let texts = |edges: &[Edge]| edges.iter().map(|edge| edge.text.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            texts(&MILLISECONDS),
            "0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000"
        );
        assert_eq!(texts(&SECONDS), "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10");
    }

    #[test]
    fn codes_are_shown_below_the_bounds_of_the_unit() {
        let code = |code, at: usize| {
            let mut buckets = [0; BOUNDS_US.len() + 1];
            buckets[at] = 2;
            CodeReading { code, sum_us: 3_000, buckets }
        };
        let codes = [code(200, 0), code(503, 3)];
        let shown = Shown::of_codes(codes.iter(), Unit::Milliseconds);
        assert_eq!((shown.below[0], shown.below[3], shown.count, shown.sum), (2, 4, 4, 6.0));
        let shown = Shown::of_codes(codes.iter(), Unit::Seconds);
        assert_eq!((shown.below[0], shown.below[1], shown.count, shown.sum), (2, 4, 4, 0.006));
    }
}
