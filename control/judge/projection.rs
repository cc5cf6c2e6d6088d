//! How fast any test at all could tell two versions apart: the nearest pair of
//! rates at which the canary would still be tolerable, and the information per
//! request against it. A lower bound, used for forecasts and comparisons.

use serde::Deserialize;
use serde::Serialize;

use super::logs::RATE_MIN;
use super::logs::clamp_rate;
use super::logs::divergence;

/// The line between tolerable and not: `canary = rho * primary + delta`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    pub rho: f64,
    pub delta: f64,
}

impl Boundary {
    pub fn at(self, primary: f64) -> f64 {
        self.rho * primary + self.delta
    }

    /// The point on the line nearest to the true rates, for traffic of which a
    /// share `w` goes to the canary: the minimum over x of
    /// `(1-w) KL(primary || x) + w KL(canary || rho x + delta)`.
    pub fn nearest(self, primary: f64, canary: f64, w: f64) -> (f64, f64) {
        if self.rho == 0.0 {
            return (primary, clamp_rate(self.delta));
        }
        if self.rho == 1.0 && self.delta == 0.0 {
            let pooled = (1.0 - w) * primary + w * canary;
            return (pooled, pooled);
        }
        // The minimum lies between the primary's rate and where the line meets the canary's.
        let meets = (canary - self.delta) / self.rho;
        let most = ((1.0 - self.delta) / self.rho).min(1.0) - 1e-12;
        let low = primary.min(meets).max(RATE_MIN);
        let high = primary.max(meets).min(most);
        let x = if high <= low { low.min(most) } else { self.root(primary, canary, w, low, high) };
        (x, self.at(x))
    }

    fn root(self, primary: f64, canary: f64, w: f64, mut low: f64, mut high: f64) -> f64 {
        let slope = |x: f64| {
            let y = self.at(x);
            (1.0 - w) * (x - primary) / (x * (1.0 - x)) + w * self.rho * (y - canary) / (y * (1.0 - y))
        };
        if slope(low) >= 0.0 {
            return low;
        }
        if slope(high) <= 0.0 {
            return high;
        }
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if slope(middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
            if high - low <= 1e-15 * high {
                break;
            }
        }
        0.5 * (low + high)
    }

    /// Nats per request of the split: `ln(1/alpha)` over this is the least
    /// number of requests that any test with the same guarantee needs.
    pub fn growth(self, primary: f64, canary: f64, w: f64) -> f64 {
        let (x, y) = self.nearest(primary, canary, w);
        (1.0 - w) * divergence(primary, x) + w * divergence(canary, y)
    }
}
