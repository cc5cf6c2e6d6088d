//! The money of one test. Its evidence is what a gambler would own who started
//! with 1 and bet against "the canary is fine": each component bets on one
//! defect, part of the money waits in cash for defects that show later, and
//! within one window no component may win more than the cap.
//!
//! It knows nothing of what is bet on. Every rule here (stakes known in advance,
//! caps that only lower the value) keeps the expectation at most 1 while the
//! canary is fine, so the chance of ever owning 1000 is at most 1 in 1000.

use serde::Deserialize;
use serde::Serialize;

use super::logs::log_add;
use super::logs::log_sum;

/// Share of the money that plays from the start, and of that paid in over the
/// planned time; the rest is paid in ever smaller parts after it.
const AT_START: f64 = 0.6;
const AS_PLANNED: f64 = 0.3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purse {
    /// Logarithm of each component's part of every stake.
    parts: Vec<f64>,
    /// Logarithm of each component's value when the window began.
    base: Vec<f64>,
    /// Logarithm of its factor within the window.
    window: Vec<f64>,
    cash: f64,
    /// What it began with: stakes are shares of this.
    began_with: f64,
    top_ups: u32,
    planned: u32,
    shares: Shares,
    cap: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Shares {
    planned: f64,
    tail: f64,
}

impl Purse {
    /// For rollback tests: top-ups are planned, windows capped at `cap`.
    pub fn new(parts: &[f64], planned: u32, cap: Option<f64>) -> Purse {
        Purse::staked(parts, AT_START, planned, cap)
    }

    /// With a share `at_start` of the money in play from the start.
    pub fn staked(parts: &[f64], at_start: f64, planned: u32, cap: Option<f64>) -> Purse {
        let parts: Vec<f64> = parts.iter().map(|part| part.ln()).collect();
        Purse {
            base: parts.iter().map(|part| at_start.ln() + part).collect(),
            window: vec![0.0; parts.len()],
            parts,
            cash: 1.0 - at_start,
            began_with: 1.0,
            top_ups: 0,
            planned,
            shares: Shares { planned: AS_PLANNED, tail: 1.0 - at_start - AS_PLANNED },
            cap,
        }
    }

    /// Multiplies component j by `e^factors[j]`.
    pub fn bet(&mut self, factors: impl IntoIterator<Item = f64>) {
        for (sum, factor) in self.window.iter_mut().zip(factors) {
            debug_assert!(factor.is_finite(), "a bet won {factor}");
            // What is no number says nothing; it must not pass for a win at the cap.
            *sum += if factor.is_finite() { factor } else { 0.0 };
        }
    }

    pub fn close_window(&mut self) {
        for j in 0..self.base.len() {
            self.base[j] = self.value(j);
            self.window[j] = 0.0;
        }
    }

    /// Pays the next part of the cash in. Also ends the window.
    pub fn top_up(&mut self) {
        self.close_window();
        self.top_ups += 1;
        let stake = (self.stake(self.top_ups) * self.began_with).min(self.cash);
        if stake > 0.0 {
            self.cash -= stake;
            for (base, part) in self.base.iter_mut().zip(&self.parts) {
                *base = log_add(*base, stake.ln() + part);
            }
        }
    }

    fn stake(&self, k: u32) -> f64 {
        let (k, planned) = (f64::from(k), f64::from(self.planned));
        if k <= planned {
            self.shares.planned / planned
        } else if planned > 0.0 {
            self.shares.tail * planned / (k * (k - 1.0))
        } else {
            self.shares.tail / (k * (k + 1.0))
        }
    }

    /// Goes on with `n` components that bet on something else. What is owned is
    /// spread evenly over them, which no bet of the past can profit from.
    pub fn spread(&mut self, n: usize) {
        self.close_window();
        let even = -(n as f64).ln();
        let each = log_sum(&self.base) + even;
        self.base = vec![each; n];
        self.window = vec![0.0; n];
        self.parts = vec![even; n];
    }

    /// Goes on with what another purse owned, in place of 1.
    pub fn inherit(&mut self, log_e: f64) {
        self.cash *= log_e.exp();
        self.began_with *= log_e.exp();
        for base in &mut self.base {
            *base += log_e;
        }
    }

    /// Gives up what was won, so that no more than 1 is owned.
    pub fn forgive(&mut self) {
        self.close_window();
        let won = self.log_e().max(0.0);
        self.cash *= (-won).exp();
        self.began_with *= (-won).exp();
        for base in &mut self.base {
            *base -= won;
        }
    }

    /// Logarithm of what is owned: the evidence.
    pub fn log_e(&self) -> f64 {
        self.owned(|j| self.value(j))
    }

    /// The same without the cap on the present window.
    pub fn log_raw(&self) -> f64 {
        self.owned(|j| self.base[j] + self.window[j])
    }

    fn owned(&self, value: impl Fn(usize) -> f64) -> f64 {
        let mut values: Vec<f64> = (0..self.base.len()).map(value).collect();
        if self.cash > 0.0 {
            values.push(self.cash.ln());
        }
        log_sum(&values)
    }

    fn value(&self, j: usize) -> f64 {
        self.base[j] + self.cap.map_or(self.window[j], |cap| self.window[j].min(cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_never_exceed_the_money() {
        for planned in [0, 1, 7, 60] {
            let mut purse = Purse::new(&[0.5, 0.5], planned, None);
            for _ in 0..10_000 {
                purse.top_up();
                assert!(purse.cash >= 0.0 && purse.log_e() <= 1e-9, "planned {planned}: {purse:?}");
            }
        }
    }

    #[test]
    fn forgiving_leaves_one_and_never_adds() {
        let mut purse = Purse::new(&[0.5, 0.5], 60, None);
        purse.bet([9.0, -2.0]);
        purse.forgive();
        assert!(purse.log_e().abs() < 1e-12);
        purse.bet([-3.0, -3.0]);
        let poor = purse.log_e();
        purse.forgive();
        assert_eq!(purse.log_e(), poor);
    }

    #[test]
    fn spreading_keeps_what_is_owned() {
        let mut purse = Purse::new(&[0.5, 0.3, 0.2], 60, Some(10_f64.ln()));
        purse.bet([1.0, 2.0, 5.0]);
        let before = purse.log_e();
        purse.spread(16);
        assert!((purse.log_e() - before).abs() < 1e-12);
        assert_eq!(purse.base.len(), 16);
    }
}
