//! Does the routing follow the weights? Every relative test leans on the coin,
//! so the coin is tested too, and loudly distrusted when it fails.

use serde::Deserialize;
use serde::Serialize;

use super::evidence::Evidence;
use super::logs::log_beta;
use super::logs::times_log;

/// Odds against a fair coin at which nothing is believed any more: 10^6.
pub const DISTRUST: f64 = 1e6;

/// Weights remembered; each is tested by itself. Generations of the same weight
/// are the same coin.
const KEPT: usize = 8;

/// Strength of the alternative: as if a hundred tosses had been seen.
const STRENGTH: f64 = 100.0;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coin {
    generations: Vec<Tosses>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tosses {
    pub generation: u64,
    pub w: f64,
    pub canary: u64,
    pub primary: u64,
}

impl Coin {
    pub fn observe(&mut self, evidence: &Evidence) {
        for delta in &evidence.generations {
            let (canary, primary) = (delta.canary.dispatched, delta.primary.dispatched);
            if canary + primary == 0 || !(delta.w > 0.0 && delta.w < 1.0) {
                continue;
            }
            match self.generations.iter_mut().find(|tosses| tosses.w == delta.w) {
                Some(tosses) => {
                    tosses.canary += canary;
                    tosses.primary += primary;
                }
                None => {
                    if self.generations.len() == KEPT {
                        self.generations.remove(0);
                    }
                    self.generations.push(Tosses { generation: delta.id, w: delta.w, canary, primary });
                }
            }
        }
    }

    /// The tosses that no fair coin explains.
    pub fn unfair(&self) -> Option<Tosses> {
        self.generations.iter().copied().find(|tosses| tosses.log_e() >= DISTRUST.ln())
    }
}

impl Tosses {
    /// Evidence that these were not tosses of a coin with probability `w`.
    pub fn log_e(&self) -> f64 {
        let (a, b) = (STRENGTH * self.w, STRENGTH * (1.0 - self.w));
        let (canary, primary) = (self.canary as f64, self.primary as f64);
        log_beta(a + canary, b + primary)
            - log_beta(a, b)
            - times_log(canary, self.w)
            - times_log(primary, 1.0 - self.w)
    }
}
