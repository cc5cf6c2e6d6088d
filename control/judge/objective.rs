//! An absolute objective on the canary alone: no more than a share `q` of its
//! requests may be bad (failed, or slower than a threshold).
//!
//! A request counts as good from dispatch and is turned when it goes bad. So
//! nothing waits for slow requests, and the evidence is never above that of a
//! judge who knows how each request will end.

use serde::Deserialize;
use serde::Serialize;

use super::alternatives::WORSE;
use super::alternatives::clamp_estimate;
use super::alternatives::skewed;
use super::alternatives::worse;
use super::purse::Purse;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    q: f64,
    pub purse: Purse,
}

impl Objective {
    pub fn new(q: f64, planned: u32, cap: Option<f64>) -> Objective {
        Objective { q: clamp_estimate(q), purse: Purse::new(&skewed(WORSE), planned, cap) }
    }

    /// `good` may be negative: requests that turned bad were good before.
    pub fn tick(&mut self, bad: i64, good: i64) {
        if bad == 0 && good == 0 {
            return;
        }
        let (q, bad, good) = (self.q, bad as f64, good as f64);
        self.purse
            .bet(worse(q).into_iter().map(|c| bad * (c / q).ln() + good * ((-c).ln_1p() - (-q).ln_1p())));
    }

    pub fn q(&self) -> f64 {
        self.q
    }
}
