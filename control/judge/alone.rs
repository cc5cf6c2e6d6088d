//! A canary with no primary beside it: after the promotion, or where all of a
//! trial's requests are its. No coin is tossed and nothing can be compared, but
//! what the primary was like is known. A canary that does much worse than that is
//! under suspicion, and no more: traffic changes with the hour, so this alone never
//! rolls back. The suspicion brings a primary back beside it, and then the coin says
//! whose it is.

use serde::Deserialize;
use serde::Serialize;

use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::lower_us;

use super::analysis::Slack;
use super::evidence::Evidence;
use super::evidence::Per;
use super::history::History;
use super::objective::Objective;
use super::slowness::Hundredth;
use super::slowness::beyond;

/// Suspected beyond so many times the primary's share, and so much more.
const FAILURES: (f64, f64) = (2.0, 0.005);
const SLOWEST: (f64, f64) = (3.0, 0.005);
/// A primary of which as little is known as this is no measure.
const MOST: f64 = 0.5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    failures: Option<Watch>,
    slowest: Option<Watch>,
    /// The first bucket beyond the primary's slowest hundredth, for the canary.
    edge: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Watch {
    test: Objective,
    /// The primary's share, as far as it is known.
    primary: f64,
    bad: u64,
    requests: u64,
}

/// What a canary by itself is suspected of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    slow: bool,
    bad: u64,
    requests: u64,
    primary: f64,
}

impl Alone {
    /// Of failures and slowness, what is compared while there is a primary; nothing
    /// where too little of one is known.
    pub fn new(failures: bool, slowness: Option<Slack>, history: &History) -> Alone {
        let (_, most) = history.failures_within();
        let failures = if failures { Watch::new(history.failure_rate(), most, FAILURES) } else { None };
        let hundredth = slowness.and_then(|slack| Hundredth::of(history.latency(), slack));
        let (edge, slowest) = match hundredth {
            Some((edges, share)) => (edges.canary, Watch::new(share.rate(), share.rate(), SLOWEST)),
            None => (0, None),
        };
        Alone { failures, slowest, edge }
    }

    pub fn observe(&mut self, evidence: &Evidence) {
        for canary in evidence.generations.iter().filter(|delta| delta.w >= 1.0).map(|delta| &delta.canary) {
            if let Some(watch) = &mut self.failures {
                watch.tick(canary.failed, canary.ok + canary.failed);
            }
            if let Some(watch) = &mut self.slowest {
                let (bad, all) = beyond(canary, self.edge, Per::Request);
                watch.tick(bad, all);
            }
        }
    }

    /// The age from which on an answer is among the slowest.
    pub fn reveal_us(&self) -> Option<u64> {
        self.slowest.as_ref().map(|_| lower_us(self.edge.min(BUCKETS - 1)))
    }

    /// What it is suspected of, at so much evidence.
    pub fn suspects(&self, log_e: f64) -> Option<Suspicion> {
        let of = |watch: &Option<Watch>, slow| {
            let Watch { bad, requests, primary, .. } =
                *watch.as_ref().filter(|watch| watch.test.purse.log_e() >= log_e)?;
            Some(Suspicion { slow, bad, requests, primary })
        };
        of(&self.failures, false).or_else(|| of(&self.slowest, true))
    }
}

impl Watch {
    fn new(primary: f64, at_most: f64, (times, more): (f64, f64)) -> Option<Watch> {
        let q = times * at_most + more;
        let test = (q <= MOST).then(|| Objective::new(q, 0, None))?;
        Some(Watch { test, primary, bad: 0, requests: 0 })
    }

    fn tick(&mut self, bad: u64, all: u64) {
        self.bad += bad;
        self.requests += all;
        self.test.tick(bad as i64, all as i64 - bad as i64);
    }
}

impl Suspicion {
    pub fn told(&self) -> String {
        let Suspicion { slow, bad, requests, primary } = *self;
        let did = if slow { "took longer than nearly all of the primary's did" } else { "failed" };
        let share = 100.0 * primary;
        format!(
            "with no primary beside it {bad} of the canary's {requests} {did}, where the primary had {share:.2} %"
        )
    }
}

#[cfg(test)]
mod tests {
    use serin_proxy::histogram::index;

    use super::*;
    use crate::clock::Moment;
    use crate::judge::evidence::ArmDelta;
    use crate::judge::evidence::GenerationDelta;

    const SLACK: Slack = Slack { margin: 0.1, least_us: 1_000 };

    fn look(w: f64, ok: u64, failed: u64, us: u64) -> Evidence {
        let arm = ArmDelta {
            dispatched: ok + failed,
            ok,
            failed,
            latency: vec![(index(us) as u32, ok)],
            ..ArmDelta::default()
        };
        let mut delta = GenerationDelta { id: 1, w, ..GenerationDelta::default() };
        *if w > 0.0 { &mut delta.canary } else { &mut delta.primary } = arm;
        Evidence { generations: vec![delta], ..Evidence::default() }
    }

    /// Of a primary that fails one in a thousand, and takes 10 to 20 ms.
    fn known() -> History {
        let mut history = History::default();
        history.observe(Moment(1_000), &look(0.0, 9_990, 10, 10_000));
        history.observe(Moment(2_000), &look(0.0, 50, 0, 20_000));
        history
    }

    fn answered(looks: &[Evidence]) -> Option<Suspicion> {
        let mut alone = Alone::new(true, Some(SLACK), &known());
        looks.iter().for_each(|evidence| alone.observe(evidence));
        alone.suspects(1000_f64.ln())
    }

    #[test]
    fn much_worse_than_the_primary_was_is_suspicious() {
        let suspicion = answered(&[look(1.0, 0, 5, 10_000)]).expect("five of five failed");
        assert_eq!((suspicion.slow, suspicion.bad), (false, 5));
        let suspicion = answered(&[look(1.0, 380, 20, 10_000)]).expect("a twentieth failed");
        assert!(suspicion.told().contains("20 of the canary's 400 failed"), "{}", suspicion.told());
        let suspicion = answered(&[look(1.0, 100, 0, 10_000), look(1.0, 30, 0, 60_000)]);
        assert!(suspicion.expect("many took 60 ms").slow);
    }

    #[test]
    fn what_may_be_the_hour_is_not() {
        // Twice the failures, and all somewhat slower.
        assert_eq!(answered(&vec![look(1.0, 998, 2, 10_500); 100]), None);
        // Others have a coin.
        assert_eq!(answered(&[look(0.5, 0, 100, 10_000)]), None);
    }

    #[test]
    fn of_an_unknown_primary_nothing_follows() {
        let mut alone = Alone::new(true, Some(SLACK), &History::default());
        alone.observe(&look(1.0, 0, 1_000, 10_000));
        assert_eq!(alone.suspects(1000_f64.ln()), None);
    }
}
