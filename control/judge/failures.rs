//! The relative failure test. Given that a request failed: whose was it? If
//! the canary is no worse, the answer is "the canary's" with at most the
//! probability that the coin gave it, whatever else goes on. No success counts,
//! no baseline: a shared outage or a swing in traffic says nothing here, and
//! neither does a canary whose good answers merely come later.
//!
//! A tolerance in absolute terms ("plus 0.05 percentage points") has to be told
//! as a multiple of the primary's rate. Where the primary hardly ever fails that
//! multiple is huge: nearly every failure may then be the canary's, and the
//! question has no power left. There the test asks two questions that have, each
//! with its own purse, and believes the poorer: is the canary worse than `rho`
//! times the primary, and does it fail more than `delta` at all? What is owned
//! moves along when the mode changes, which is decided before the next failure.
//!
//! Of a user who keeps a version only the first failure counts. A canary that is
//! better has more users left who have not failed, so of the late ones most are its
//! own. Money that was in play when the others failed has lost more by them than it
//! can win back by these: who fails later wins no more by it. Money paid in late would
//! win by these alone, so none is.

use serde::Deserialize;
use serde::Serialize;

use super::alternatives::skewed;
use super::evidence::Per;
use super::objective::Objective;
use super::panel::View;
use super::purse::Purse;

/// How many odds are bet on: 2, 4, ... 1024 times the tolerable ones.
const ODDS: i32 = 10;

/// The primary hardly ever fails when its rate is below this share of `delta`,
/// and does so again above all of it.
const RARE: f64 = 0.5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    rho: f64,
    delta: f64,
    planned: u32,
    cap: Option<f64>,
    /// What is one toss.
    #[serde(default)]
    per: Per,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asks {
    /// Whose, tolerating `rho` times the primary's rate plus `delta`.
    Whose(Purse),
    /// Whose, tolerating `rho` times; and more than `delta` at all?
    WhoseAndHowMany(Purse, Objective),
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
        let asks = Asks::Whose(purse(planned, cap));
        Failures { rho, delta, planned, cap, per: Per::Request, asks }
    }

    /// What is one toss from here on.
    pub fn count_per(&mut self, per: Per) {
        self.per = per;
    }

    /// The primary's estimated rate, from before these failures, decides what is
    /// asked and sizes `delta`. `good` is by how many the canary's good requests
    /// grew, one being good until it fails.
    pub fn tick(&mut self, failed: &[Failed], good: i64, primary_rate: f64) {
        self.choose(primary_rate);
        let tolerated = self.tolerated(primary_rate);
        match &mut self.asks {
            Asks::Whose(purse) => {
                for failed in failed {
                    bet(purse, *failed, tolerated);
                }
            }
            Asks::WhoseAndHowMany(purse, objective) => {
                for failed in failed {
                    bet(purse, *failed, self.rho);
                }
                let bad: u64 = failed.iter().map(|failed| failed.canary).sum();
                objective.tick(bad as i64, good);
            }
        }
    }

    pub fn close_window(&mut self) {
        match &mut self.asks {
            Asks::Whose(purse) => purse.close_window(),
            Asks::WhoseAndHowMany(purse, objective) => {
                purse.close_window();
                objective.purse.close_window();
            }
        }
    }

    pub fn top_up(&mut self) {
        let pay = match self.per {
            Per::Request => Purse::top_up,
            Per::User => Purse::close_window,
        };
        match &mut self.asks {
            Asks::Whose(purse) => pay(purse),
            Asks::WhoseAndHowMany(purse, objective) => {
                pay(purse);
                objective.purse.top_up();
            }
        }
    }

    pub fn log_e(&self, view: View) -> f64 {
        match &self.asks {
            Asks::Whose(purse) => view.of(purse),
            Asks::WhoseAndHowMany(purse, objective) => view.of(purse).min(view.of(&objective.purse)),
        }
    }

    pub fn limits(&self) -> (f64, f64) {
        (self.rho, self.delta)
    }

    fn choose(&mut self, primary_rate: f64) {
        let fails_rarely = match &self.asks {
            Asks::Whose(_) => primary_rate < RARE * self.delta,
            Asks::WhoseAndHowMany(..) => primary_rate <= self.delta,
        };
        if fails_rarely == matches!(self.asks, Asks::WhoseAndHowMany(..)) {
            return;
        }
        let owned = self.log_e(View::Capped);
        let whose = match (&self.asks, self.per) {
            (Asks::Whose(purse) | Asks::WhoseAndHowMany(purse, _), Per::User) => {
                // Laid out anew, what has not played yet would come in late.
                let mut whose = purse.clone();
                whose.inherit(owned - purse.log_e());
                whose
            }
            (_, Per::Request) => {
                let mut whose = purse(self.planned, self.cap);
                whose.inherit(owned);
                whose
            }
        };
        self.asks = if fails_rarely {
            let mut how_many = Objective::new(self.delta, self.planned, self.cap);
            how_many.purse.inherit(owned);
            Asks::WhoseAndHowMany(whose, how_many)
        } else {
            Asks::Whose(whose)
        };
    }

    /// How many times the primary's rate the canary's may be.
    fn tolerated(&self, primary_rate: f64) -> f64 {
        if self.delta == 0.0 { self.rho } else { self.rho + self.delta / primary_rate.max(1e-6) }
    }
}

fn purse(planned: u32, cap: Option<f64>) -> Purse {
    Purse::new(&skewed(ODDS as usize), planned, cap)
}

/// Bets on what each failure's label should be; fixed before it is looked at.
fn bet(purse: &mut Purse, failed: Failed, tolerated: f64) {
    let Failed { canary, primary, w } = failed;
    if canary + primary == 0 || !(w > 0.0 && w < 1.0) {
        return;
    }
    purse.bet((1..=ODDS).map(|j| factor(failed, tolerated, 2.0_f64.powi(j))));
}

/// What a bet wins on the canary being so many times likelier to fail than is
/// tolerated.
pub fn factor(failed: Failed, tolerated: f64, odds: f64) -> f64 {
    let Failed { canary, primary, w } = failed;
    let blames_primary = ((tolerated * w + 1.0 - w) / (tolerated * odds * w + 1.0 - w)).ln();
    canary as f64 * (odds.ln() + blames_primary) + primary as f64 * blames_primary
}
