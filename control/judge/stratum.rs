//! Failures of one part of the traffic, a route or a header's value: the relative
//! failure test over again, on that part alone. A canary that breaks a small route is
//! seen here while all requests together look fine.
//!
//! It knows the primary by that part, too: what is usual elsewhere is no measure.

use serde::Deserialize;
use serde::Serialize;

use super::analysis::RelativeFailures;
use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::failures::Failed;
use super::failures::Failures;
use super::history::Belief;
use super::tally::Arm;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stratum {
    pub name: String,
    pub test: Failures,
    primary_rate: Belief,
    /// For sentences.
    pub canary: Arm,
    pub primary: Arm,
    pub explained: f64,
}

impl Stratum {
    pub fn new(name: String, asked: RelativeFailures, planned: u32, cap: Option<f64>) -> Stratum {
        let test = Failures::new(asked.rho, asked.delta, planned, cap);
        let (canary, primary) = (Arm::default(), Arm::default());
        Stratum { name, test, primary_rate: Belief::default(), canary, primary, explained: 0.0 }
    }

    pub fn tick(&mut self, evidence: &Evidence) {
        let (mut failed, mut good) = (Vec::new(), 0);
        let rate = self.primary_rate.rate();
        for delta in &evidence.generations {
            for part in delta.strata.iter().filter(|part| part.name == self.name) {
                let (canary, primary) = (&part.canary, &part.primary);
                let of = |arm: &ArmDelta| if evidence.sticky { arm.failed_units } else { arm.failed };
                failed.push(Failed { canary: of(canary), primary: of(primary), w: delta.w });
                good += canary.dispatched as i64 - canary.aborted as i64 - canary.failed as i64;
                self.primary_rate.observe(primary.failed, primary.ok + primary.failed, 0.0);
                self.canary.add(canary);
                // Where there is no canary there is nothing beside it.
                if delta.w > 0.0 {
                    self.primary.add(primary);
                }
                self.explained += delta.w * (canary.failed + primary.failed) as f64;
            }
        }
        self.test.count_per(evidence.per());
        self.test.tick(&failed, good, rate);
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;
    use crate::judge::analysis;
    use crate::judge::analysis::Analysis;
    use crate::judge::evidence::GenerationDelta;
    use crate::judge::evidence::StratumDelta;
    use crate::judge::history::History;
    use crate::judge::panel::Panel;
    use crate::judge::panel::View;

    const PARTS: usize = 8;

    /// The looks until the canary is certainly worse, and by what test: a hundredth of
    /// all requests is of each part, and the canary fails one in ten of all and of the
    /// first part so many.
    fn seen(seed: u64, first: f64, looks: usize) -> Option<(usize, String)> {
        let strata: Vec<_> = (0..PARTS).map(|at| analysis::Stratum::Route(at.to_string())).collect();
        let asked = Analysis { strata, relative_latency: None, ..Analysis::default() };
        let mut panel = Panel::new(&asked, 60, None);
        let history = History::of(1_000.0, 10_000.0);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        for look in 0..looks {
            let mut delta = GenerationDelta { id: 1, w: 0.1, ..GenerationDelta::default() };
            delta.strata = (0..PARTS)
                .map(|at| StratumDelta { name: format!("route {at}"), ..StratumDelta::default() })
                .collect();
            for _ in 0..1_000 {
                let canary = random.random::<f64>() < 0.1;
                let at = random.random_range(0..100);
                let rate = if canary && at == 0 { first } else { 0.1 };
                let failed = u64::from(random.random::<f64>() < rate);
                let count = |arm: &mut ArmDelta| {
                    arm.dispatched += 1;
                    arm.failed += failed;
                    arm.ok += 1 - failed;
                };
                count(if canary { &mut delta.canary } else { &mut delta.primary });
                if let Some(part) = delta.strata.get_mut(at) {
                    count(if canary { &mut part.canary } else { &mut part.primary });
                }
            }
            let evidence = Evidence { generations: vec![delta], ..Evidence::default() };
            panel.tick(&evidence, &history);
            if panel.log_e(View::Capped) >= 1_000_f64.ln() {
                let loudest = panel.loudest(View::Capped).expect("there are tests");
                return Some((look, loudest.name()));
            }
        }
        None
    }

    #[test]
    fn a_part_that_breaks_is_named_and_alike_parts_are_left_alone() {
        let blamed = (0..100).filter(|seed| seen(*seed, 0.1, 60).is_some()).count();
        assert_eq!(blamed, 0, "the budget is one in a thousand for all parts together");
        for seed in 0..20 {
            let (looks, by) = seen(seed, 0.9, 60).expect("sixty canary requests of it");
            assert_eq!(by, "stratum route 0", "seed {seed}, {looks} looks");
        }
    }
}
