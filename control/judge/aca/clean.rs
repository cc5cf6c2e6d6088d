//! A series before it is judged: what is no number goes or becomes zero, and
//! outliers go where that is asked. And what a report says of the rest.

use serde::Deserialize;
use serde::Serialize;

/// What becomes of points that are not a number, and of a side without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    #[default]
    Remove,
    /// Becomes zero; a side without points then passes.
    Replace,
}

/// Of one side of one metric, as it was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub count: usize,
    pub least: f64,
    pub most: f64,
    pub mean: f64,
    /// Of the sample, with n - 1.
    pub deviation: f64,
}

/// `outliers` is how many interquartile ranges beyond the quartiles a point may lie.
pub fn clean(points: &[f64], missing: Missing, outliers: Option<f64>) -> Vec<f64> {
    let numbers: Vec<f64> = match missing {
        Missing::Remove => points.iter().copied().filter(|point| !point.is_nan()).collect(),
        Missing::Replace => points.iter().map(|point| if point.is_nan() { 0.0 } else { *point }).collect(),
    };
    match outliers {
        Some(factor) if !numbers.is_empty() => without_outliers(numbers, factor),
        _ => numbers,
    }
}

/// Never stricter than the first and the ninety-ninth percentile.
fn without_outliers(numbers: Vec<f64>, factor: f64) -> Vec<f64> {
    let mut sorted = numbers.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let [p1, q1, q3, p99] = [1.0, 25.0, 75.0, 99.0].map(|percent| percentile(&sorted, percent));
    let reach = factor * (q3 - q1);
    let (low, high) = (p1.min(q1 - reach), p99.max(q3 + reach));
    numbers.into_iter().filter(|number| (low..=high).contains(number)).collect()
}

/// By linear interpolation between the two nearest of the sorted values.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = (sorted.len() - 1) as f64 * percent / 100.0;
    let below = sorted[at.floor() as usize];
    let above = sorted[at.ceil() as usize];
    below + at.fract() * (above - below)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Summary {
    pub fn of(values: &[f64]) -> Summary {
        let count = values.len();
        if count == 0 {
            return Summary::default();
        }
        let mean = mean(values);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if count == 1 { 0.0 } else { (squares / (count - 1) as f64).sqrt() };
        Summary {
            count,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean,
            deviation,
        }
    }
}
