//! The shield's budget: how many failures of a split's canaries the primary may
//! answer.

use std::cell::Cell;

use crate::model::Shield;

/// Repeats allowed: a share of all requests, and a burst beyond it. Keeps a
/// canary that fails whole from doubling the primary's load.
#[derive(Default)]
pub struct Budget {
    /// In hundredths of a repeat.
    tokens: Cell<u64>,
    share: u64,
    most: u64,
}

const REPEAT: u64 = 100;

impl Budget {
    pub fn new(shield: &Shield) -> Budget {
        let most = u64::from(shield.burst).max(1) * REPEAT;
        let burst = u64::from(shield.burst) * REPEAT;
        Budget { tokens: Cell::new(burst), share: u64::from(shield.budget_percent), most }
    }

    /// Called once for every request of the split.
    pub fn earn(&self) {
        self.tokens.set((self.tokens.get() + self.share).min(self.most));
    }

    pub fn spend(&self) -> bool {
        let enough = self.tokens.get() >= REPEAT;
        if enough {
            self.tokens.set(self.tokens.get() - REPEAT);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_stay_within_burst_and_share() {
        let budget = Budget::new(&Shield { max_body: 0, budget_percent: 20, burst: 3 });
        let spent = (0..10).filter(|_| budget.spend()).count();
        assert_eq!(spent, 3, "the burst");
        let mut spent = 0;
        for _ in 0..100 {
            budget.earn();
            spent += usize::from(budget.spend());
        }
        assert_eq!(spent, 20, "a fifth of all requests");
    }
}
