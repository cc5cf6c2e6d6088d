//! Kayenta's judge, `NetflixACAJudge-v1.0`, and the stage of Spinnaker around it:
//! points at a step, judged at an interval over a window that grows or slides,
//! into a score that passes or does not.
//!
//! A score at or below the marginal one fails at once; only the last must also
//! reach the passing one.

pub mod classify;
pub mod clean;
pub mod root;
pub mod score;
pub mod shift;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::checks::millis;
use super::samples::Arm;
use super::samples::Measure;
use super::samples::Number;
use super::samples::Sample;
use super::samples::Samples;
use classify::Asked;
use classify::Finding;
use classify::Strictness;
use classify::classify;
use score::Score;
use score::Scored;
use score::Thresholds;
use score::score;

/// Points of one metric and side that are kept.
pub const POINTS: u64 = 1_440;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// One point is of this long.
    pub step: Duration,
    /// Judgements; none is one at the end.
    pub interval: Option<Duration>,
    /// Before the first point.
    pub delay: Duration,
    /// Each judgement sees only so much; none sees all since the start.
    pub lookback: Option<Duration>,
    pub thresholds: Thresholds,
    pub weights: BTreeMap<String, f64>,
    pub metrics: Vec<Metric>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub measure: Measure,
    pub groups: Vec<String>,
    /// Shown, not scored.
    pub muted: bool,
    pub asked: Asked,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    terms: Terms,
    schedule: Schedule,
    series: Vec<Series>,
    judged: u64,
    last: Option<Judgement>,
    failure: Option<String>,
}

/// How many judgements there are, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub judgements: u64,
    pub interval_ms: u64,
    pub delay_ms: u64,
    pub lookback_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    canary: Vec<Number>,
    primary: Vec<Number>,
    /// Which of the canary's points nobody can know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub score: Score,
    pub findings: Vec<(String, Finding)>,
}

impl Schedule {
    pub fn of(terms: &Terms, lifetime: Duration) -> Schedule {
        let lifetime = millis(lifetime).max(1);
        let interval = terms.interval.map_or(0, millis);
        let interval_ms = if interval == 0 || interval > lifetime { lifetime } else { interval };
        Schedule {
            judgements: lifetime / interval_ms,
            interval_ms,
            delay_ms: millis(terms.delay),
            lookback_ms: terms.lookback.map(millis).filter(|ms| *ms > 0),
        }
    }

    /// The window of the judgement of this number, from 1, and so its time, too.
    pub fn window(&self, number: u64) -> (u64, u64) {
        let end = self.delay_ms + number * self.interval_ms;
        let from = self.lookback_ms.map_or(self.delay_ms, |lookback| end.saturating_sub(lookback));
        (from, end)
    }
}

impl Terms {
    /// Where only these metrics have a say: what a group weighed that has none left
    /// goes to the others.
    fn weights_without(&self, metrics: &[Metric]) -> BTreeMap<String, f64> {
        let has_say = |metrics: &[Metric], group: &String| {
            metrics.iter().any(|metric| !metric.muted && metric.groups.contains(group))
        };
        let is_left = |group: &String| has_say(metrics, group) || !has_say(&self.metrics, group);
        let left: f64 =
            self.weights.iter().filter(|(group, _)| is_left(group)).map(|(_, weight)| weight).sum();
        let sum: f64 = self.weights.values().sum();
        let scale = if left > 0.0 { sum / left } else { 0.0 };
        let kept = self.weights.iter().filter(|(group, _)| is_left(group));
        kept.map(|(group, weight)| (group.clone(), weight * scale)).collect()
    }
}

impl Stage {
    pub fn new(terms: &Terms, lifetime: Duration) -> Stage {
        Stage {
            schedule: Schedule::of(terms, lifetime),
            series: vec![Series::default(); terms.metrics.len()],
            terms: terms.clone(),
            judged: 0,
            last: None,
            failure: None,
        }
    }

    /// Takes the points that are complete and judges when it is time. Why the
    /// stage fails, where it does.
    pub fn look(&mut self, now_ms: u64, samples: &Samples) -> Result<(), String> {
        if self.is_over() {
            return self.failure.clone().map_or(Ok(()), Err);
        }
        self.take_points(now_ms, samples);
        let (_, due) = self.schedule.window(self.judged + 1);
        if now_ms < due {
            return Ok(());
        }
        self.judged += 1;
        let is_last = self.judged >= self.schedule.judgements;
        if let Some(judgement) = self.judge(self.judged) {
            self.failure = self.verdict(&judgement.score, is_last).err();
            self.last = Some(judgement);
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    pub fn is_over(&self) -> bool {
        self.failure.is_some() || self.judged >= self.schedule.judgements
    }

    pub fn judged(&self) -> (u64, u64) {
        (self.judged, self.schedule.judgements)
    }

    pub fn last(&self) -> Option<&Judgement> {
        self.last.as_ref()
    }

    fn take_points(&mut self, now_ms: u64, samples: &Samples) {
        let step = millis(self.terms.step).max(1);
        for (metric, series) in self.terms.metrics.iter().zip(&mut self.series) {
            loop {
                let from = self.schedule.delay_ms + series.canary.len() as u64 * step;
                if from + step > now_ms || series.canary.len() as u64 >= POINTS {
                    break;
                }
                let canary = samples.measure(&metric.measure, Arm::Canary, from, from + step);
                if canary == Sample::Unknown {
                    series.unknown.push(series.canary.len() as u32);
                }
                series.canary.push(canary.number().into());
                series.primary.push(samples.control(&metric.measure, from, from + step).number().into());
            }
        }
    }

    /// None where nothing that has a say can be known.
    fn judge(&self, number: u64) -> Option<Judgement> {
        let (from, to) = self.schedule.window(number);
        let step = millis(self.terms.step).max(1);
        let index = |at: u64| (at.saturating_sub(self.schedule.delay_ms) / step) as usize;
        let (from, to) = (index(from), index(to));
        let within = |points: &[Number]| -> Vec<f64> {
            let to = to.min(points.len());
            points[from.min(to)..to].iter().map(|number| number.value()).collect()
        };
        let mut terms = self.terms.clone();
        let mut pairs = Vec::new();
        for (metric, series) in terms.metrics.iter_mut().zip(&self.series) {
            let canary = within(&series.canary);
            let hides = series.unknown.iter().any(|at| (from..to).contains(&(*at as usize)));
            // Shown without a say: that nobody can know it speaks neither for nor against.
            metric.muted |= hides && canary.iter().all(|point| point.is_nan());
            pairs.push((canary, within(&series.primary)));
        }
        let were_muted = self.terms.metrics.iter().all(|metric| metric.muted);
        let has_say = were_muted || terms.metrics.iter().any(|metric| !metric.muted);
        terms.weights = self.terms.weights_without(&terms.metrics);
        has_say.then(|| judge(&terms, pairs.into_iter()))
    }

    fn verdict(&self, score: &Score, is_last: bool) -> Result<(), String> {
        let Thresholds { pass, marginal } = self.terms.thresholds;
        let why = |text: String| match score.reason.as_str() {
            "" => Err(text),
            reason => Err(format!("{text}: {reason}")),
        };
        if score.score <= marginal {
            return why(format!("score {} is not above the marginal {marginal}", score.score));
        }
        if is_last && score.score < pass {
            return why(format!("the last score {} is below {pass}", score.score));
        }
        Ok(())
    }
}

/// One judgement over the points of each metric, canary's and primary's.
pub fn judge(terms: &Terms, points: impl Iterator<Item = (Vec<f64>, Vec<f64>)>) -> Judgement {
    let findings: Vec<Finding> = terms
        .metrics
        .iter()
        .zip(points)
        .map(|(metric, (canary, primary))| classify(&metric.asked, &canary, &primary, Strictness::JUDGE))
        .collect();
    let named: Vec<String> = terms
        .metrics
        .iter()
        .zip(&findings)
        .map(|(metric, finding)| format!("{} is {}", metric.name, finding.reason))
        .collect();
    let scored: Vec<Scored> = terms
        .metrics
        .iter()
        .zip(findings.iter().zip(&named))
        .filter(|(metric, _)| !metric.muted)
        .map(|(metric, (finding, reason))| Scored {
            groups: &metric.groups,
            label: finding.label,
            critical: finding.critical,
            reason,
        })
        .collect();
    let score = score(&scored, &terms.weights, terms.thresholds);
    let names = terms.metrics.iter().map(|metric| metric.name.clone());
    Judgement { score, findings: names.zip(findings).collect() }
}
