//! Which defects a test bets on: grids of rates beyond a boundary, and how the
//! stake is spread over them.

use super::logs::clamp_rate;
use super::logs::from_odds;
use super::logs::odds;

/// How many rates above a boundary an absolute test bets on.
pub const WORSE: usize = 12;

/// Rates above boundary `b`, geometric in odds, from twice its odds to 90 %
/// or to eight times its odds, whichever is more.
pub fn worse(b: f64) -> Vec<f64> {
    let first = 2.0 * odds(clamp_estimate(b));
    let last = odds(0.9).max(4.0 * first);
    let step = (last / first).ln() / (WORSE - 1) as f64;
    (0..WORSE).map(|j| clamp_rate(from_odds(first * (step * j as f64).exp()))).collect()
}

/// Rates below boundary `b` for the question "good enough?": the primary's
/// own, half way in log odds to the boundary, and half the primary's.
pub fn better(b: f64, primary: f64) -> [f64; 3] {
    let b = clamp_estimate(b);
    let primary = clamp_estimate(primary).min(from_odds(odds(b) / 1.5));
    let between = from_odds((0.5 * (odds(primary).ln() + odds(b).ln())).exp());
    [primary, between, from_odds(0.5 * odds(primary))]
}

/// `n` weights that sum to one, each 1.2 times the next: small defects, which
/// need the most requests, get the most stake.
pub fn skewed(n: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..n).map(|j| 1.2_f64.powi(-(j as i32))).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

/// An estimated rate, kept off the ends.
pub fn clamp_estimate(rate: f64) -> f64 {
    rate.clamp(1e-7, 0.99)
}
