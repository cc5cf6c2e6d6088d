//! The relative failure test. Given that a request failed: whose was it? If
//! the canary is no worse, the answer is "the canary's" with at most the
//! probability that the coin gave it, whatever else goes on. No success counts,
//! no baseline: a shared outage or a swing in traffic says nothing here, and
//! neither does a canary whose good answers merely come later.

use serde::Deserialize;
use serde::Serialize;

use super::alternatives::skewed;
use super::purse::Purse;

/// How many odds are bet on: 2, 4, ... 1024 times the tolerable ones.
const ODDS: i32 = 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    rho: f64,
    delta: f64,
    pub purse: Purse,
}

/// New failures of requests that one coin assigned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failed {
    pub canary: u64,
    pub primary: u64,
    /// The coin's probability for the canary.
    pub w: f64,
}

impl Failures {
    /// Tolerates `rho` times the primary's rate plus `delta`.
    pub fn new(rho: f64, delta: f64, planned: u32, cap: Option<f64>) -> Failures {
        Failures { rho, delta, purse: Purse::new(&skewed(ODDS as usize), planned, cap) }
    }

    /// The primary's estimated rate, from before these failures, only sizes
    /// `delta`; the bets are fixed before the failures are looked at.
    pub fn tick(&mut self, failed: Failed, primary_rate: f64) {
        let Failed { canary, primary, w } = failed;
        if canary + primary == 0 || !(w > 0.0 && w < 1.0) {
            return;
        }
        let (canary, primary) = (canary as f64, primary as f64);
        let tolerated = self.tolerated(primary_rate);
        let fair = tolerated * w + 1.0 - w;
        self.purse.bet((1..=ODDS).map(|j| {
            let odds = 2.0_f64.powi(j);
            let blames_primary = (fair / (tolerated * odds * w + 1.0 - w)).ln();
            canary * (odds.ln() + blames_primary) + primary * blames_primary
        }));
    }

    /// How many times the primary's rate the canary's may be.
    pub fn tolerated(&self, primary_rate: f64) -> f64 {
        if self.delta == 0.0 { self.rho } else { self.rho + self.delta / primary_rate.max(1e-6) }
    }

    pub fn limits(&self) -> (f64, f64) {
        (self.rho, self.delta)
    }
}
