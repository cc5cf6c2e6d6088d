//! What the judges for compatibility look at: figures per interval of each arm,
//! out of serin's own counts, and numbers that were asked of somebody else.
//!
//! Time here is what was watched since the start, so a restart leaves no hole.
//! Counts are kept in cells as long as the question needs and no finer: what is
//! counted at a look belongs to the cell that the look ends in or closes.
//!
//! Copies of the primary's requests are requests of the canary, of which only the
//! outcome is known. Where counts are compared the primary's are those of a slice of
//! its traffic that is as large as the canary's.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::Histogram;

use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::evidence::GenerationDelta;
use super::evidence::Pairs;
use super::evidence::add_sparse;
use crate::clock::Moment;
use crate::outside::provider::Query;

/// Cells that are kept; a longer window has coarser cells.
const CELLS: u64 = 64;

/// Numbers of others that are kept, each the newest of its name and arm.
const OUTSIDE: usize = 256;

/// Of several numbers at once, so many are kept.
pub const POINTS: usize = 1_024;

/// What is measured of one arm over one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// In percent of the requests that ended.
    SuccessRate,
    ErrorRate,
    /// From 0 to 1.
    SuccessRatio,
    ErrorRatio,
    /// Per second. Never absent: without a request it is zero.
    RequestRate,
    Requests,
    Failures,
    /// Of good answers, in milliseconds; 0.99 for p99.
    Latency {
        quantile: f64,
    },
    /// A number that somebody else gives, by its name.
    Outside {
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Canary,
    Primary,
}

/// What came of measuring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// There was nothing to measure.
    Absent,
    /// Nobody can tell: all that was asked were copies, and of these no time is known.
    Unknown,
    Number(Number),
    /// Several, as a query of a metrics server answers.
    Numbers(Vec<Number>),
    /// Anything else that was said.
    Said(serde_json::Value),
    /// Whoever was asked could not answer.
    Error(String),
}

/// Not a number is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Number(Option<f64>);

/// As JSON can say it: what is not a number is null, what is infinite a text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(Option<f64>),
    Infinite(String),
}

/// What somebody else said who was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    pub name: String,
    pub arm: Arm,
    /// When it was asked.
    pub at: Moment,
    pub sample: Sample,
}

/// A number that somebody else is to be asked for, and of which arms, as long as
/// the rollout is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub name: String,
    pub query: Query,
    pub arms: Vec<Arm>,
    /// How soon it is asked again.
    pub every: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    cell_ms: u64,
    /// Cells further back than this many milliseconds are of no use.
    reach_ms: u64,
    latencies: bool,
    cells: VecDeque<Cell>,
    outside: Vec<Kept>,
}

/// Of the time up to and with `end_ms`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    end_ms: u64,
    canary: Counts,
    primary: Counts,
    #[serde(default)]
    slice: Slice,
}

/// As much of the primary's traffic as the canary had, by the coin of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slice {
    ended: f64,
    failed: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    ok: u64,
    failed: u64,
    /// Of both, those that were copies.
    #[serde(default, skip_serializing_if = "is_zero")]
    copies: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latency: Vec<(u32, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    at_ms: u64,
    outside: Outside,
}

impl From<f64> for Number {
    fn from(value: f64) -> Number {
        Number((!value.is_nan()).then_some(value))
    }
}

impl From<Number> for Written {
    fn from(number: Number) -> Written {
        match number.0 {
            Some(value) if value.is_infinite() => Written::Infinite(value.to_string()),
            value => Written::Number(value),
        }
    }
}

impl From<Written> for Number {
    fn from(written: Written) -> Number {
        match written {
            Written::Number(value) => Number(value),
            Written::Infinite(text) => text.parse().unwrap_or(f64::NAN).into(),
        }
    }
}

impl Outside {
    /// Whoever says more than this is to be asked more narrowly.
    pub const LARGEST: usize = 4_096;
}

impl Number {
    pub fn value(self) -> f64 {
        self.0.unwrap_or(f64::NAN)
    }
}

impl Measure {
    pub fn is_latency(&self) -> bool {
        matches!(self, Measure::Latency { .. })
    }

    /// As in the configuration.
    pub fn name(&self) -> String {
        match self {
            Measure::SuccessRate => "successRate".to_owned(),
            Measure::ErrorRate => "errorRate".to_owned(),
            Measure::SuccessRatio => "successRatio".to_owned(),
            Measure::ErrorRatio => "errorRatio".to_owned(),
            Measure::RequestRate => "requestRate".to_owned(),
            Measure::Requests => "requests".to_owned(),
            Measure::Failures => "failures".to_owned(),
            Measure::Latency { quantile } => format!("p{}", (quantile * 1e9).round() / 1e7),
            Measure::Outside { name } => name.clone(),
        }
    }
}

impl Sample {
    /// The number where there is just one; absence and errors are not a number.
    pub fn number(&self) -> f64 {
        match self {
            Sample::Number(number) => number.value(),
            Sample::Numbers(numbers) => numbers.last().map_or(f64::NAN, |number| number.value()),
            Sample::Absent | Sample::Unknown | Sample::Said(_) | Sample::Error(_) => f64::NAN,
        }
    }
}

impl Samples {
    /// `edges` are all lengths and offsets of windows that will be asked about,
    /// `reach` the furthest that one looks back.
    pub fn new(edges: &[Duration], reach: Duration, latencies: bool) -> Samples {
        let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let common = edges.iter().map(millis).filter(|ms| *ms > 0).fold(0, common_divisor);
        let reach_ms = millis(&reach).max(1);
        let cell_ms = common.max(reach_ms.div_ceil(CELLS)).max(1);
        Samples { cell_ms, reach_ms, latencies, cells: VecDeque::new(), outside: Vec::new() }
    }

    /// What came in up to `now_ms`, which is `now`.
    pub fn observe(&mut self, now_ms: u64, now: Moment, evidence: &Evidence) {
        let end_ms = now_ms.max(1).div_ceil(self.cell_ms) * self.cell_ms;
        if self.cells.back().is_none_or(|cell| cell.end_ms < end_ms) {
            self.cells.push_back(Cell { end_ms, ..Cell::default() });
        }
        let keep_from = now_ms.saturating_sub(self.reach_ms + self.cell_ms);
        while self.cells.front().is_some_and(|cell| cell.end_ms < keep_from) {
            self.cells.pop_front();
        }
        let cell = self.cells.back_mut().expect("one was pushed where there was none");
        for delta in &evidence.generations {
            cell.canary.add(&delta.canary, self.latencies);
            cell.canary.add(&delta.canary_forced, self.latencies);
            cell.primary.add(&delta.primary, self.latencies);
            cell.slice.add(delta);
        }
        // What they are copies of has been counted already.
        cell.canary.add_copies(evidence.pairs);
        cell.slice.add_originals(evidence.pairs);
        for new in &evidence.outside {
            let is_known = |kept: &Kept| (&kept.outside.name, kept.outside.arm) == (&new.name, new.arm);
            let known = self.outside.iter().position(is_known);
            let age_ms = u64::try_from(now.since(new.at).as_millis()).unwrap_or(u64::MAX);
            let mut kept = Kept { at_ms: now_ms.saturating_sub(age_ms), outside: new.clone() };
            if let Sample::Numbers(numbers) = &mut kept.outside.sample {
                numbers.truncate(POINTS);
            }
            match known {
                Some(at) => self.outside[at] = kept,
                None if self.outside.len() < OUTSIDE => self.outside.push(kept),
                None => {}
            }
        }
    }

    /// After `from_ms`, up to and with `to_ms`.
    pub fn measure(&self, measure: &Measure, arm: Arm, from_ms: u64, to_ms: u64) -> Sample {
        let mut sum = Counts::default();
        for cell in self.within(from_ms, to_ms) {
            sum.merge(cell.of(arm));
        }
        let seconds = seconds(from_ms, to_ms);
        let ended = (sum.ok + sum.failed) as f64;
        let number = match measure {
            Measure::Outside { name } => return self.newest(name, arm, from_ms),
            Measure::RequestRate => Some(ended / seconds),
            Measure::Requests => Some(ended),
            Measure::Failures => Some(sum.failed as f64),
            Measure::Latency { .. } if sum.are_only_copies() => return Sample::Unknown,
            Measure::Latency { quantile } => sum.quantile_ms(*quantile),
            _ if ended == 0.0 => None,
            Measure::SuccessRate => Some(100.0 * sum.ok as f64 / ended),
            Measure::ErrorRate => Some(100.0 * sum.failed as f64 / ended),
            Measure::SuccessRatio => Some(sum.ok as f64 / ended),
            Measure::ErrorRatio => Some(sum.failed as f64 / ended),
        };
        number.map_or(Sample::Absent, |number| Sample::Number(number.into()))
    }

    /// What the canary's measure is compared with. Rates and times are the primary's;
    /// counts are of as much of its traffic as the canary had.
    pub fn control(&self, measure: &Measure, from_ms: u64, to_ms: u64) -> Sample {
        let sum =
            |of: fn(&Slice) -> f64| self.within(from_ms, to_ms).map(|cell| of(&cell.slice)).sum::<f64>();
        let number = match measure {
            Measure::RequestRate => sum(|slice| slice.ended) / seconds(from_ms, to_ms),
            Measure::Requests => sum(|slice| slice.ended),
            Measure::Failures => sum(|slice| slice.failed),
            _ => return self.measure(measure, Arm::Primary, from_ms, to_ms),
        };
        Sample::Number(number.into())
    }

    fn within(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.end_ms > from_ms && cell.end_ms <= to_ms)
    }

    /// Whether it waits for somebody who was asked since then and has not answered.
    pub fn awaits(&self, measure: &Measure, arm: Arm, from_ms: u64) -> bool {
        let Measure::Outside { name } = measure else { return false };
        let is_answer = |kept: &Kept| (&kept.outside.name, kept.outside.arm) == (name, arm);
        !self.outside.iter().any(|kept| is_answer(kept) && kept.at_ms >= from_ms)
    }

    /// What was said last, where it was said within the window.
    fn newest(&self, name: &str, arm: Arm, from_ms: u64) -> Sample {
        let fits = |kept: &&Kept| (kept.outside.name.as_str(), kept.outside.arm) == (name, arm);
        let kept = self.outside.iter().find(fits).filter(|kept| kept.at_ms >= from_ms);
        // That nobody has answered is not that there is nothing.
        kept.map_or(Sample::Error("nobody has answered".to_owned()), |kept| kept.outside.sample.clone())
    }
}

impl Cell {
    fn of(&self, arm: Arm) -> &Counts {
        match arm {
            Arm::Canary => &self.canary,
            Arm::Primary => &self.primary,
        }
    }
}

impl Slice {
    fn add(&mut self, delta: &GenerationDelta) {
        // Where all is the canary's the primary has nothing to take a slice of.
        let size = if delta.w < 1.0 { delta.w / (1.0 - delta.w) } else { 0.0 };
        let ArmDelta { ok, failed, .. } = delta.primary;
        self.ended += size * (ok + failed) as f64;
        self.failed += size * failed as f64;
    }

    fn add_originals(&mut self, pairs: Pairs) {
        self.ended += pairs.all() as f64;
        self.failed += (pairs.primary_only + pairs.both) as f64;
    }
}

impl Counts {
    fn add_copies(&mut self, pairs: Pairs) {
        self.ok += pairs.neither + pairs.primary_only;
        self.failed += pairs.canary_only + pairs.both;
        self.copies += pairs.all();
    }

    fn are_only_copies(&self) -> bool {
        self.copies > 0 && self.copies == self.ok + self.failed
    }

    fn add(&mut self, delta: &ArmDelta, latencies: bool) {
        self.ok += delta.ok;
        self.failed += delta.failed;
        for (bucket, n) in delta.latency.iter().filter(|_| latencies) {
            add_sparse(&mut self.latency, *bucket, *n);
        }
    }

    fn merge(&mut self, other: &Counts) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.copies += other.copies;
        for (bucket, n) in &other.latency {
            add_sparse(&mut self.latency, *bucket, *n);
        }
    }

    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let mut histogram = Histogram::default();
        for (bucket, n) in &self.latency {
            histogram.add_count((*bucket as usize).min(BUCKETS - 1), *n);
        }
        Some(histogram.quantile_us(quantile)? as f64 / 1000.0)
    }
}

fn seconds(from_ms: u64, to_ms: u64) -> f64 {
    to_ms.saturating_sub(from_ms).max(1) as f64 / 1000.0
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
