//! Bets on "good enough", for cohorts whose every request has ended. With
//! successes counted these would mislead on live traffic, where the slower
//! version's good answers are still to come; `stage.rs` waits for them.

use super::alternatives::better;
use super::logs::times_log;
use super::projection::Boundary;

/// Requests of a cohort that one coin assigned, by arm and end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cohort {
    pub canary_failed: u64,
    pub canary_ok: u64,
    pub primary_failed: u64,
    pub primary_ok: u64,
    pub w: f64,
}

/// Parts of the stake on each of the rates of [`better`].
pub const PARTS: [f64; 3] = [0.4, 0.4, 0.2];

/// Rates, as shares of an objective, that its promotion test bets on.
pub const OBJECTIVE_SHARES: [f64; 4] = [0.5, 0.2, 0.05, 0.005];

/// What each bet against "the canary is beyond the boundary" wins, the primary's
/// rate being believed to be `primary`.
pub fn good_enough(cohort: Cohort, boundary: Boundary, primary: f64) -> Vec<f64> {
    let b = boundary.rho * primary + boundary.delta;
    better(b, primary).into_iter().map(|rate| against(cohort, boundary, primary, rate)).collect()
}

/// What each bet against "a share `q` or more is bad" wins.
pub fn inside(q: f64, bad: u64, good: u64) -> [f64; 4] {
    OBJECTIVE_SHARES.map(|share| {
        let c = share * q;
        times_log(bad as f64, share) + good as f64 * ((-c).ln_1p() - (-q).ln_1p())
    })
}

/// What a bet on `canary` as the canary's rate wins against the nearest pair of
/// rates on the boundary.
pub fn against(cohort: Cohort, boundary: Boundary, primary: f64, canary: f64) -> f64 {
    let (x, y) = boundary.nearest(primary, canary, cohort.w);
    times_log(cohort.canary_failed as f64, canary / y)
        + times_log(cohort.canary_ok as f64, (1.0 - canary) / (1.0 - y))
        + times_log(cohort.primary_failed as f64, primary / x)
        + times_log(cohort.primary_ok as f64, (1.0 - primary) / (1.0 - x))
}
