//! By how much the experiment lies above the control: an interval and an
//! estimate of the shift, by the ranks of Mann and Whitney and always with the
//! normal curve.
//!
//! The estimate is corrected for continuity like the bounds, which R's
//! `wilcox.test` does not do: Kayenta does.

use std::cell::Cell;

use statrs::distribution::ContinuousCDF;
use statrs::distribution::Normal;

use super::root::root;
use crate::judge::ranks::Ranks;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    pub low: f64,
    pub high: f64,
    pub estimate: f64,
}

/// At some shift all values are one, and ranks say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllTied;

impl Shift {
    /// Neither side may be empty. `confidence` is two-sided, such as 0.98.
    pub fn of(experiment: &[f64], control: &[f64], confidence: f64) -> Result<Shift, AllTied> {
        let spread = Spread::of(experiment, control);
        let z = -Normal::standard().inverse_cdf((1.0 - confidence) / 2.0);
        let met = Cell::new(false);
        let excess = |mu: f64, q: f64| match spread.excess(mu) {
            Some(excess) => excess - q,
            None => {
                met.set(true);
                0.0
            }
        };
        let cross = |q: f64| root(spread.least, spread.most, |mu| excess(mu, q));
        let bound = |q: f64| {
            if excess(spread.least, q) <= 0.0 {
                spread.least
            } else if excess(spread.most, q) >= 0.0 {
                spread.most
            } else {
                cross(q)
            }
        };
        let shift = Shift { low: bound(z), high: bound(-z), estimate: cross(0.0) };
        if met.get() { Err(AllTied) } else { Ok(shift) }
    }
}

/// Two samples, and the least and the most that one can be shifted against the
/// other and still overlap it.
pub struct Spread<'s> {
    experiment: &'s [f64],
    control: &'s [f64],
    pub least: f64,
    pub most: f64,
}

impl Spread<'_> {
    pub fn of<'s>(experiment: &'s [f64], control: &'s [f64]) -> Spread<'s> {
        let least_of = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        let most_of = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Spread {
            experiment,
            control,
            least: least_of(experiment) - most_of(control),
            most: most_of(experiment) - least_of(control),
        }
    }

    /// How many standard deviations the experiment's ranks lie above what chance
    /// gives, once it is shifted down by `mu`.
    pub fn excess(&self, mu: f64) -> Option<f64> {
        let shifted: Vec<f64> = self.experiment.iter().map(|value| value - mu).collect();
        let ranks = Ranks::of(&shifted, self.control);
        let (n, m) = (shifted.len() as f64, self.control.len() as f64);
        let above = ranks.first_sum - n * (n + 1.0) / 2.0 - n * m / 2.0;
        let correction = if above == 0.0 { 0.0 } else { 0.5 * above.signum() };
        let all = n + m;
        let sigma = (n * m / 12.0 * (all + 1.0 - ranks.tie_term() / (all * (all - 1.0)))).sqrt();
        // Not a number counts as no spread, too.
        (sigma > 0.0).then(|| (above - correction) / sigma)
    }
}
