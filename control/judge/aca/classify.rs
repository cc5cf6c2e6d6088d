//! One metric of the canary against the same one of the primary: higher, lower,
//! or not told apart.
//!
//! A test that cannot be made is an error here, as with Kayenta, and an error
//! speaks neither for nor against the canary. That is how one point a side passes.

use serde::Deserialize;
use serde::Serialize;
use statrs::distribution::ContinuousCDF;
use statrs::distribution::Normal;

use super::clean::Missing;
use super::clean::Summary;
use super::clean::clean;
use super::clean::mean;
use super::shift::Shift;
use crate::judge::ranks::Ranks;

/// What is asked of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub direction: Direction,
    pub missing: Missing,
    /// Where it fails, or has no data, the whole judgement fails.
    pub critical: bool,
    pub must_have_data: bool,
    /// Points further than so many interquartile ranges beyond the quartiles go.
    pub outliers: Option<f64>,
    pub effect: Effect,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Increase,
    Decrease,
    #[default]
    Either,
}

/// A difference counts only from here on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub measure: EffectMeasure,
    pub allowed_increase: f64,
    pub allowed_decrease: f64,
    pub critical_increase: f64,
    pub critical_decrease: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectMeasure {
    /// The canary's mean over the primary's.
    #[default]
    MeanRatio,
    /// The chance that a point of the canary's is above one of the primary's.
    Cles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    Pass,
    High,
    Low,
    NoData,
    /// Data was a must.
    NoDataFails,
    Error,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub label: Label,
    pub critical: bool,
    pub reason: String,
    pub canary: Summary,
    pub primary: Summary,
    /// The ratio of means; none where one of them is zero.
    pub ratio: Option<f64>,
}

/// How sure the interval is, and by how much of the estimated shift it has to
/// clear zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strictness {
    pub confidence: f64,
    pub tolerance: f64,
}

impl Strictness {
    /// As the judge of Kayenta has them, whatever its properties say.
    pub const JUDGE: Strictness = Strictness { confidence: 0.98, tolerance: 0.25 };
}

impl Effect {
    /// With Kayenta's defaults, which are the measure's "no difference".
    pub fn of(measure: EffectMeasure) -> Effect {
        let none = match measure {
            EffectMeasure::MeanRatio => 1.0,
            EffectMeasure::Cles => 0.5,
        };
        Effect {
            measure,
            allowed_increase: none,
            allowed_decrease: none,
            critical_increase: none,
            critical_decrease: none,
        }
    }
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            direction: Direction::Either,
            missing: Missing::Remove,
            critical: false,
            must_have_data: false,
            outliers: None,
            effect: Effect::of(EffectMeasure::MeanRatio),
        }
    }
}

/// Points that are missing are not a number.
pub fn classify(asked: &Asked, canary: &[f64], primary: &[f64], strictness: Strictness) -> Finding {
    let canary = clean(canary, asked.missing, asked.outliers);
    let primary = clean(primary, asked.missing, asked.outliers);
    let (label, critical, reason, ratio) = match early(asked, &canary, &primary) {
        Some((label, critical, reason)) => (label, critical, reason, Some(1.0)),
        None => {
            let (canary, primary) = with_noise(&canary, &primary);
            let (label, critical, reason) = compare(asked, &canary, &primary, strictness);
            let ratio = if label == Label::Error { None } else { number(mean_ratio(&canary, &primary)) };
            (label, critical, reason, ratio)
        }
    };
    let (canary, primary) = (Summary::of(&canary), Summary::of(&primary));
    Finding { label, critical, reason, canary, primary, ratio }
}

/// What needs no test.
fn early(asked: &Asked, canary: &[f64], primary: &[f64]) -> Option<(Label, bool, String)> {
    let said = |label, reason: &str| Some((label, false, reason.to_owned()));
    if canary.is_empty() || primary.is_empty() {
        return match (asked.missing, asked.must_have_data, asked.critical) {
            (Missing::Replace, _, _) => said(Label::Pass, "no data, which counts as zeros"),
            (Missing::Remove, true, false) => said(Label::NoDataFails, "no data, and it must have some"),
            (Missing::Remove, _, critical) => Some((Label::NoData, critical, "no data".to_owned())),
        };
    }
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    };
    if sorted(canary) == sorted(primary) {
        return said(Label::Pass, "both sides are identical");
    }
    if canary.iter().chain(primary).all(|value| *value == canary[0]) {
        return said(Label::Pass, "all values are one");
    }
    None
}

/// Where each side is one value over and over, the ranks of a shifted side would
/// all tie: a little noise, in proportion, keeps them apart. Kayenta draws it; here
/// it is the normal curve's quantiles, so that the same data gives the same verdict.
fn with_noise(canary: &[f64], primary: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let flat = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if !flat(canary) || !flat(primary) {
        return (canary.to_vec(), primary.to_vec());
    }
    let normal = Normal::standard();
    let noisy = |values: &[f64]| -> Vec<f64> {
        let quantile = |i: usize| normal.inverse_cdf((i as f64 + 0.5) / values.len() as f64);
        values.iter().enumerate().map(|(i, value)| value + 1e-5 * value * quantile(i)).collect()
    };
    (noisy(canary), noisy(primary))
}

fn compare(asked: &Asked, canary: &[f64], primary: &[f64], by: Strictness) -> (Label, bool, String) {
    let Ok(shift) = Shift::of(canary, primary, by.confidence) else {
        return (
            Label::Error,
            false,
            "all values tie once one side is shifted; nothing is tested".to_owned(),
        );
    };
    let effect = &asked.effect;
    let size = match effect.measure {
        EffectMeasure::MeanRatio => mean_ratio(canary, primary),
        EffectMeasure::Cles => cles(canary, primary),
    };
    let bound = by.tolerance * shift.estimate.abs();
    let unsized_or = |fits: bool| size.is_nan() || fits;
    let high = asked.direction != Direction::Decrease
        && shift.low > bound
        && unsized_or(size >= effect.allowed_increase);
    let low = asked.direction != Direction::Increase
        && shift.high < -bound
        && unsized_or(size <= effect.allowed_decrease);
    let between = format!("the shift lies between {} and {}", shift.low, shift.high);
    if high {
        let critical = asked.critical && unsized_or(size >= effect.critical_increase);
        (Label::High, critical, format!("higher than the primary: {between}"))
    } else if low {
        let critical = asked.critical && unsized_or(size <= effect.critical_decrease);
        (Label::Low, critical, format!("lower than the primary: {between}"))
    } else {
        (Label::Pass, false, format!("not told apart: {between}"))
    }
}

/// Not a number where a mean is zero.
pub fn mean_ratio(canary: &[f64], primary: &[f64]) -> f64 {
    let (canary, primary) = (mean(canary), mean(primary));
    if canary == 0.0 || primary == 0.0 { f64::NAN } else { canary / primary }
}

pub fn cles(canary: &[f64], primary: &[f64]) -> f64 {
    let (m, n) = (canary.len() as f64, primary.len() as f64);
    (2.0 * Ranks::of(canary, primary).first_sum - m * (m + 1.0)) / (2.0 * n * m)
}

fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
