//! Mirrored traffic: the same request answered by both versions. What both failed
//! says nothing, however much of it there is. A pair that only one failed is a toss
//! of a fair coin while the versions are alike, and it is bet on like any failure
//! that a fair coin assigned; no user was exposed to it.
//!
//! For proof the question is another: of all copies, does the canary alone fail fewer
//! than the margin? It then fails no more than the primary plus the margin, whatever
//! the primary's rate is.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::evidence::Evidence;
use super::evidence::Pairs;
use super::failures::Failed;
use crate::clock::Moment;

/// Copies wait together for this part of the patience.
const PART: u32 = 32;

/// The tosses, and how many requests the canary answered well.
pub fn asked(evidence: &Evidence) -> (Vec<Failed>, i64) {
    let pairs = evidence.pairs;
    let tosses = Failed { canary: pairs.canary_only, primary: pairs.primary_only, w: 0.5 };
    (vec![tosses], (pairs.neither + pairs.primary_only) as i64)
}

/// Pairs on their way into a proof. One that ends well is heard of before one that
/// began with it and hangs, so it waits for as long as that could take; what the canary
/// failed counts at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copies {
    waiting: VecDeque<(Moment, u64)>,
}

impl Copies {
    /// Those that count from now on: failed by the canary alone, and others.
    pub fn take(&mut self, now: Moment, pairs: Pairs, patience: Duration) -> (u64, u64) {
        let part = patience / PART;
        let others = pairs.all() - pairs.canary_only;
        match self.waiting.back_mut() {
            Some((since, count)) if now.since(*since) < part => *count += others,
            _ if others > 0 => self.waiting.push_back((now, others)),
            _ => {}
        }
        let mut ripe = 0;
        while let Some((since, count)) = self.waiting.front().copied()
            && now.since(since) >= patience + part
        {
            ripe += count;
            self.waiting.pop_front();
        }
        (pairs.canary_only, ripe)
    }

    pub fn waiting(&self) -> u64 {
        self.waiting.iter().map(|(_, count)| count).sum()
    }

    /// How long the last of them has yet to wait.
    pub fn delay(patience: Duration) -> Duration {
        patience + patience / PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_copies_wait_for_bad_ones_that_began_with_them() {
        let (mut copies, patience) = (Copies::default(), Duration::from_secs(32));
        let pairs = |neither, canary_only| Pairs { neither, canary_only, ..Pairs::default() };
        assert_eq!(copies.take(Moment(0), pairs(100, 1), patience), (1, 0));
        assert_eq!(copies.take(Moment(900), pairs(10, 0), patience), (0, 0));
        assert_eq!(copies.take(Moment(1_000), pairs(7, 0), patience), (0, 0));
        assert_eq!(copies.waiting(), 117);
        assert_eq!(copies.take(Moment(32_999), pairs(0, 0), patience), (0, 0));
        assert_eq!(copies.take(Moment(33_000), pairs(0, 2), patience), (2, 110));
        assert_eq!(copies.take(Moment(34_000), pairs(0, 0), patience), (0, 7));
        assert_eq!(copies.waiting(), 0);
        for ms in 0..1_000_000 {
            copies.take(Moment(ms), pairs(1, 0), patience);
        }
        assert!(copies.waiting.len() <= PART as usize + 2, "{}", copies.waiting.len());
    }
}
