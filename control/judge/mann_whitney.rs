//! An analysis stage as PipeCD runs one: each metric is checked at its interval
//! against bounds, against the last good release, or against the primary by the
//! test of Mann and Whitney; one that fails too often fails the stage.
//!
//! It follows PipeCD where that fails open: an empty answer is a success, and a
//! comparison with too few points can never fail. A check that is due when the
//! time is over is still made, which PipeCD leaves to chance.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::checks::millis;
use super::ranks::MannWhitney;
use super::ranks::Untestable;
use super::samples::Arm;
use super::samples::Measure;
use super::samples::Number;
use super::samples::POINTS;
use super::samples::Sample;
use super::samples::Samples;

/// A difference this improbable fails a check.
pub const ALPHA: f64 = 0.05;

/// A check looks at points this far apart unless it is told otherwise, or at the
/// ends of a shorter interval.
pub const POINT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub measure: Measure,
    pub strategy: Strategy,
    pub interval: Duration,
    /// Between two points of a check.
    pub point: Duration,
    /// It fails with more failed checks than this.
    pub failure_limit: u32,
    pub skip_on_no_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every point lies from `min` to `max`.
    Threshold { min: Option<f64>, max: Option<f64> },
    /// Against the same time of the last stage that passed.
    Previous { deviation: Deviation },
    /// Against the primary, or what stands for it.
    Primary { deviation: Deviation },
}

/// Which deviation is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    #[default]
    Either,
    High,
    Low,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    duration_ms: u64,
    checked: Vec<Checked>,
    failure: Option<String>,
    at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Checked {
    metric: Metric,
    checks: u32,
    failures: u32,
    last: String,
    /// The canary's points of each check, for the stage of the next release.
    record: Vec<Vec<Number>>,
    /// The same of the last stage that passed.
    previous: Option<Vec<Vec<Number>>>,
}

/// Why there are no points to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoPoints {
    /// Some were there that are no number.
    NoNumber,
    /// All are of copies, of which nobody knows them.
    Unknown,
}

impl Stage {
    pub fn new(metrics: &[Metric], duration: Duration, before: Option<&Stage>) -> Stage {
        // One that failed hands on what it compared with.
        let record_of = |name: &str| {
            let before = before?;
            let checked = before.checked.iter().find(|checked| checked.metric.name == name)?;
            let passed = before.is_over() && before.failure.is_none();
            if passed { Some(checked.record.clone()) } else { checked.previous.clone() }
        };
        let checked = |metric: &Metric| Checked {
            metric: metric.clone(),
            checks: 0,
            failures: 0,
            last: "no check yet".to_owned(),
            record: Vec::new(),
            previous: record_of(&metric.name),
        };
        Stage {
            duration_ms: millis(duration),
            checked: metrics.iter().map(checked).collect(),
            failure: None,
            at_ms: 0,
        }
    }

    /// Checks what is due. Why the stage fails, where it does.
    pub fn look(&mut self, now_ms: u64, samples: &Samples) -> Result<(), String> {
        self.at_ms = now_ms;
        for checked in &mut self.checked {
            if self.failure.is_none() {
                self.failure = checked.look(now_ms.min(self.duration_ms), samples).err();
            }
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    pub fn is_over(&self) -> bool {
        self.failure.is_some() || self.at_ms >= self.duration_ms
    }

    /// Name, checks made, failures, limit and the last check's answer.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, u32, u32, u32, &str)> {
        self.checked.iter().map(|checked| {
            let metric = &checked.metric;
            (
                metric.name.as_str(),
                checked.checks,
                checked.failures,
                metric.failure_limit,
                checked.last.as_str(),
            )
        })
    }
}

impl Metric {
    /// How far apart the points of one check are.
    pub fn step(&self) -> Duration {
        self.interval.min(self.point)
    }

    /// Both ends of the interval have one.
    pub fn points(&self) -> u64 {
        millis(self.interval) / millis(self.step()).max(1) + 1
    }
}

impl Checked {
    fn look(&mut self, until_ms: u64, samples: &Samples) -> Result<(), String> {
        let every = millis(self.metric.interval).max(1);
        let due = until_ms / every;
        // A check that nobody was there to make is dropped.
        if due <= u64::from(self.checks) {
            return Ok(());
        }
        self.checks = u32::try_from(due).unwrap_or(u32::MAX);
        let failed = self.check(due * every, samples);
        if let Err(why) = &failed {
            self.failures += 1;
            self.last =
                format!("{why}; failure {} with a limit of {}", self.failures, self.metric.failure_limit);
        }
        if self.failures > self.metric.failure_limit {
            return Err(format!("{}: {}", self.metric.name, self.last));
        }
        Ok(())
    }

    /// Why this check fails.
    fn check(&mut self, at_ms: u64, samples: &Samples) -> Result<(), String> {
        let canary = self.points(Arm::Canary, at_ms, samples);
        let record = canary.as_ref().ok().and_then(|points| points.as_ref().ok()).cloned();
        let round = self.record.len();
        self.record.push(record.unwrap_or_default().into_iter().map(Number::from).collect());
        let Some(canary) = self.with_data(canary?)? else { return Ok(()) };
        let compared = match self.metric.strategy {
            Strategy::Threshold { min, max } => within(&canary, min, max),
            Strategy::Previous { deviation } => match &self.previous {
                None => Ok("no release before this to compare with".to_owned()),
                Some(record) => {
                    let before = record.get(round).map_or(&[][..], Vec::as_slice);
                    let before: Vec<f64> = before.iter().map(|number| number.value()).collect();
                    compare(&canary, &before, deviation)
                }
            },
            Strategy::Primary { deviation } => {
                let primary = self.points(Arm::Primary, at_ms, samples)?;
                let Some(primary) = self.with_data(primary)? else { return Ok(()) };
                compare(&canary, &primary, deviation)
            }
        };
        self.last = compared?;
        Ok(())
    }

    /// None where a check without data is skipped.
    fn with_data(&mut self, points: Result<Vec<f64>, NoPoints>) -> Result<Option<Vec<f64>>, String> {
        self.last = match points {
            Ok(points) => return Ok(Some(points)),
            Err(NoPoints::Unknown) => "not known of copies, skipped".to_owned(),
            Err(NoPoints::NoNumber) if self.metric.skip_on_no_data => "no data, skipped".to_owned(),
            Err(NoPoints::NoNumber) => return Err("no data".to_owned()),
        };
        Ok(None)
    }

    /// The outer error is of whoever was asked.
    fn points(&self, arm: Arm, at_ms: u64, samples: &Samples) -> Result<Result<Vec<f64>, NoPoints>, String> {
        let metric = &self.metric;
        let from = at_ms.saturating_sub(millis(metric.interval));
        if matches!(metric.measure, Measure::Outside { .. }) {
            let points = match samples.measure(&metric.measure, arm, from, at_ms) {
                Sample::Absent | Sample::Unknown => Vec::new(),
                Sample::Number(number) => vec![number.value()],
                Sample::Numbers(numbers) => numbers.into_iter().map(Number::value).collect(),
                Sample::Error(text) => return Err(text),
                Sample::Said(_) => return Err("the answer is no number".to_owned()),
            };
            return Ok(numbers(points));
        }
        let step = millis(metric.step()).max(1);
        let ends = (0..metric.points()).map(|i| from + i * step).filter(|end| *end >= step);
        let measure = |end: u64| match arm {
            Arm::Canary => samples.measure(&metric.measure, arm, end - step, end),
            Arm::Primary => samples.control(&metric.measure, end - step, end),
        };
        let all: Vec<Sample> = ends.take(POINTS).map(measure).collect();
        let known: Vec<f64> =
            all.iter().filter(|sample| **sample != Sample::Unknown).map(Sample::number).collect();
        let are_hidden = known.len() < all.len() && known.iter().all(|point| point.is_nan());
        Ok(if are_hidden { Err(NoPoints::Unknown) } else { numbers(known) })
    }
}

fn numbers(points: Vec<f64>) -> Result<Vec<f64>, NoPoints> {
    if points.iter().any(|point| point.is_nan()) { Err(NoPoints::NoNumber) } else { Ok(points) }
}

fn within(points: &[f64], min: Option<f64>, max: Option<f64>) -> Result<String, String> {
    let out = |point: &&f64| min.is_some_and(|min| **point < min) || max.is_some_and(|max| **point > max);
    let bound = |bound: Option<f64>| bound.map_or("no bound".to_owned(), |bound| bound.to_string());
    match points.iter().find(out) {
        Some(point) => Err(format!("{point} is not from {} to {}", bound(min), bound(max))),
        None => Ok(format!("{} points within bounds", points.len())),
    }
}

/// Whether the canary deviates from the other side in the way that is a failure.
pub fn compare(canary: &[f64], other: &[f64], deviation: Deviation) -> Result<String, String> {
    match MannWhitney::of(canary, other) {
        Err(Untestable::Empty) if canary.is_empty() && other.is_empty() => {
            Ok("nothing to compare".to_owned())
        }
        Err(Untestable::Empty) => Err("one side has no points".to_owned()),
        Err(Untestable::AllEqual) => Ok("all points are equal".to_owned()),
        Ok(test) => {
            let (p, what) = match deviation {
                Deviation::Either => (test.two_sided, "different from"),
                Deviation::High => (test.greater, "higher than"),
                Deviation::Low => (test.less, "lower than"),
            };
            let text = format!("{} and {} points, p = {p:.4}", canary.len(), other.len());
            if p <= ALPHA {
                Err(format!("the canary is {what} what it is compared with: {text}"))
            } else {
                Ok(text)
            }
        }
    }
}
