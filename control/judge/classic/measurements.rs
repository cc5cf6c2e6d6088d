//! An analysis run as Argo runs one: each metric is measured at its own pace,
//! every measurement has an outcome, limits make the outcomes a phase, and the
//! worst phase is the run's.
//!
//! A metric fails with more failures than its limit, not as many. When one has
//! ended badly the others are stopped at the next pass, and what was stopped
//! counts as successful, even where it never measured.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::Moment;
use crate::judge::checks::millis;
use crate::judge::condition::Condition;
use crate::judge::condition::Outcome;
use crate::judge::condition::outcome;
use crate::judge::samples::Arm;
use crate::judge::samples::Measure;
use crate::judge::samples::Sample;
use crate::judge::samples::Samples;

/// After an error the next measurement comes this soon, whatever the interval.
pub const ERROR_RETRY: Duration = Duration::from_secs(10);

/// Whoever is asked and does not answer for so long has not answered.
pub const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub measure: Measure,
    pub arm: Arm,
    /// How far a measurement looks back.
    pub window: Duration,
    /// Without one there is one measurement.
    pub interval: Option<Duration>,
    pub initial_delay: Duration,
    /// Measurements to take: none asks for one without an interval, and for no
    /// end with one.
    pub count: Option<u32>,
    pub success: Option<Condition>,
    pub failure: Option<Condition>,
    /// None switches it off.
    pub failure_limit: Option<u32>,
    pub inconclusive_limit: u32,
    pub consecutive_error_limit: u32,
    /// Zero is off.
    pub consecutive_success_limit: u32,
    /// Measured and shown, and without a say.
    pub dry_run: bool,
    /// How many measurements are kept.
    pub retention: u32,
}

/// From good to bad, so that the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Successful,
    Running,
    Pending,
    Inconclusive,
    Error,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    metrics: Vec<Measured>,
    phase: Phase,
    message: String,
    /// An operator, or the rollout's end, asks it to end.
    ending: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    metric: Metric,
    pub phase: Phase,
    pub message: String,
    pub counts: Counts,
    pub measurements: VecDeque<Measurement>,
    /// When the next one is due; none when there is none to come.
    next_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub successful: u32,
    pub failed: u32,
    pub inconclusive: u32,
    pub error: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u32,
    pub consecutive_error: u32,
    pub consecutive_success: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub at_ms: u64,
    pub sample: Sample,
    pub outcome: Outcome,
}

impl Phase {
    pub fn is_complete(self) -> bool {
        !matches!(self, Phase::Running | Phase::Pending)
    }

    fn is_bad(self) -> bool {
        matches!(self, Phase::Failed | Phase::Error | Phase::Inconclusive)
    }

    pub fn name(self) -> &'static str {
        match self {
            Phase::Successful => "Successful",
            Phase::Running => "Running",
            Phase::Pending => "Pending",
            Phase::Inconclusive => "Inconclusive",
            Phase::Error => "Error",
            Phase::Failed => "Failed",
        }
    }
}

impl Run {
    pub fn new(metrics: &[Metric]) -> Run {
        let measured = |metric: &Metric| Measured {
            metric: metric.clone(),
            phase: Phase::Pending,
            message: String::new(),
            counts: Counts::default(),
            measurements: VecDeque::new(),
            next_ms: Some(millis(metric.initial_delay)),
        };
        Run {
            metrics: metrics.iter().map(measured).collect(),
            phase: Phase::Pending,
            message: String::new(),
            ending: false,
        }
    }

    /// One pass: what is due is measured, and every phase is assessed anew.
    /// `now_ms` counts from the run's start, `now` is for conditions that ask.
    pub fn pass(&mut self, now_ms: u64, now: Moment, samples: &Samples) -> Phase {
        if self.phase.is_complete() {
            return self.phase;
        }
        let terminating = self.ending
            || self.metrics.iter().any(|measured| !measured.metric.dry_run && measured.phase.is_bad());
        for measured in self.metrics.iter_mut().filter(|measured| !measured.phase.is_complete()) {
            if !terminating {
                measured.measure(now_ms, now, samples);
            }
            (measured.phase, measured.message) = measured.assess(terminating);
        }
        (self.phase, self.message) = self.assess(terminating);
        self.phase
    }

    /// Ends at the next pass.
    pub fn end(&mut self) {
        self.ending = true;
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ended badly.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn metrics(&self) -> &[Measured] {
        &self.metrics
    }

    /// The worst of those that have a say and have ended.
    fn assess(&self, terminating: bool) -> (Phase, String) {
        let telling = || self.metrics.iter().filter(|measured| !measured.metric.dry_run);
        let worst = telling()
            .filter(|measured| measured.phase.is_complete())
            .reduce(|worst, next| if next.phase > worst.phase { next } else { worst });
        if !terminating && telling().any(|measured| !measured.phase.is_complete()) {
            return (Phase::Running, String::new());
        }
        let Some(worst) = worst else { return (Phase::Successful, String::new()) };
        let message = match worst.message.as_str() {
            "" => String::new(),
            why => format!("Metric \"{}\" assessed {} due to {why}", worst.metric.name, worst.phase.name()),
        };
        (worst.phase, message)
    }
}

impl Measured {
    pub fn name(&self) -> &str {
        &self.metric.name
    }

    fn measure(&mut self, now_ms: u64, now: Moment, samples: &Samples) {
        let Some(due) = self.next_ms.filter(|due| *due <= now_ms) else { return };
        let metric = &self.metric;
        // Overdue by long: what counts is now.
        let at = if now_ms - due >= 1_000 { now_ms } else { due };
        let from = at.saturating_sub(millis(metric.window));
        if now_ms < due + millis(SILENCE) && samples.awaits(&metric.measure, metric.arm, from) {
            return;
        }
        let sample = samples.measure(&metric.measure, metric.arm, from, at);
        let outcome = outcome(metric.success.as_ref(), metric.failure.as_ref(), &sample, now);
        self.counts.add(&outcome);
        let wait = match (&outcome, metric.interval) {
            (Outcome::Error(_), _) => Some(ERROR_RETRY),
            (_, interval) => interval,
        };
        self.next_ms = wait.map(|wait| at + millis(wait));
        self.measurements.push_back(Measurement { at_ms: at, sample, outcome });
        while self.measurements.len() > self.metric.retention.max(1) as usize {
            self.measurements.pop_front();
        }
    }

    /// The first rule that fits decides.
    fn assess(&self, terminating: bool) -> (Phase, String) {
        let told = |phase| (phase, String::new());
        if self.measurements.is_empty() {
            return told(if terminating { Phase::Successful } else { Phase::Pending });
        }
        if let Some(broken) = self.broken_limit() {
            return broken;
        }
        let (metric, counts) = (&self.metric, &self.counts);
        let enough = metric.consecutive_success_limit;
        if enough > 0 && counts.consecutive_success >= enough {
            return told(Phase::Successful);
        }
        let count = metric.count.or(if metric.interval.is_some() { None } else { Some(1) });
        if count.is_some_and(|count| counts.taken() >= count) {
            return match (metric.failure_limit.is_some(), enough > 0) {
                (true, true) => told(Phase::Inconclusive),
                (false, true) => told(Phase::Failed),
                (_, false) => told(Phase::Successful),
            };
        }
        told(if terminating { Phase::Successful } else { Phase::Running })
    }

    /// Later limits overwrite earlier ones: too many failures and too many
    /// inconclusive measurements are inconclusive.
    fn broken_limit(&self) -> Option<(Phase, String)> {
        let (metric, counts) = (&self.metric, &self.counts);
        let mut broken = None;
        if let Some(limit) = metric.failure_limit.filter(|limit| counts.failed > *limit) {
            broken = Some((Phase::Failed, format!("failed ({}) > failureLimit ({limit})", counts.failed)));
        }
        if counts.inconclusive > metric.inconclusive_limit {
            let (got, limit) = (counts.inconclusive, metric.inconclusive_limit);
            broken =
                Some((Phase::Inconclusive, format!("inconclusive ({got}) > inconclusiveLimit ({limit})")));
        }
        if counts.consecutive_error > metric.consecutive_error_limit {
            let (got, limit) = (counts.consecutive_error, metric.consecutive_error_limit);
            let last = self.measurements.iter().rev().find_map(|measurement| match &measurement.outcome {
                Outcome::Error(text) => Some(text.as_str()),
                _ => None,
            });
            let why = format!(
                "consecutiveErrors ({got}) > consecutiveErrorLimit ({limit}): \"Error Message: {}\"",
                last.unwrap_or_default()
            );
            broken = Some((Phase::Error, why));
        }
        broken
    }
}

impl Counts {
    /// Errors are no measurement taken.
    pub fn taken(&self) -> u32 {
        self.successful + self.failed + self.inconclusive + self.unknown
    }

    fn add(&mut self, outcome: &Outcome) {
        let success = *outcome == Outcome::Successful;
        self.consecutive_success = if success { self.consecutive_success + 1 } else { 0 };
        let error = matches!(outcome, Outcome::Error(_));
        self.consecutive_error = if error { self.consecutive_error + 1 } else { 0 };
        match outcome {
            Outcome::Successful => self.successful += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Inconclusive => self.inconclusive += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Error(_) => self.error += 1,
        }
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
