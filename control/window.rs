//! Turns the proxy's cumulative counters into what is new since the last look.
//!
//! It remembers, per generation and arm, what it has counted already. Absence is
//! never evidence: an arm whose counters went back is counted afresh from there
//! and adds nothing now, a generation that is missing adds nothing, and one that
//! comes back adds only what is new.

use std::collections::BTreeMap;

use serin_proxy::reading::{ArmReading, GenerationReading, SplitReading, Way};
use serin_proxy::weights::WHOLE;

use crate::judge::evidence::{ArmDelta, Evidence, GenerationDelta};

/// Generations remembered; the proxy lists far fewer at once.
const GENERATIONS: usize = 256;

pub struct Window {
    primary: String,
    canary: String,
    /// Compared with the canary instead of the primary where it has a share.
    baseline: Option<String>,
    seen: BTreeMap<u64, Seen>,
    /// The newest generation that was forgotten to stay within the bound. It and
    /// older ones are ignored: counting one again would count it twice.
    forgotten: Option<u64>,
}

/// The last reading of the arms that matter.
#[derive(Default)]
struct Seen {
    canary: Option<ArmReading>,
    primary: Option<ArmReading>,
    canary_forced: Option<ArmReading>,
    matched: [Option<ArmReading>; 2],
    copied: [Option<ArmReading>; 2],
    /// Dispatched to versions that are not compared.
    others: u64,
}

/// What one generation has that is new.
struct News {
    tossed: GenerationDelta,
    matched: GenerationDelta,
    pair: GenerationDelta,
    others: u64,
}

impl Window {
    pub fn new(primary: &str, canary: &str, baseline: Option<&str>) -> Window {
        Window {
            primary: primary.to_owned(),
            canary: canary.to_owned(),
            baseline: baseline.map(str::to_owned),
            seen: BTreeMap::new(),
            forgotten: None,
        }
    }

    /// What came in since the last call. A generation with nothing new is left out.
    pub fn take(&mut self, reading: &SplitReading) -> Evidence {
        let mut evidence = Evidence { sticky: reading.sticky, ..Evidence::default() };
        for generation in &reading.generations {
            if self.forgotten.is_some_and(|forgotten| generation.id <= forgotten) {
                continue;
            }
            let News { tossed, matched, pair, others } = self.news_of(generation);
            evidence.generations.extend([tossed, matched].into_iter().filter(has_news));
            evidence.pairs.extend(Some(pair).filter(has_news));
            evidence.others += others;
        }
        while self.seen.len() > GENERATIONS {
            self.forgotten = self.seen.pop_first().map(|(id, _)| id).max(self.forgotten);
        }
        evidence
    }

    fn news_of(&mut self, generation: &GenerationReading) -> News {
        let arm = |version: &str, way: Way| {
            generation.arms.iter().find(|arm| arm.version == version && arm.way == way)
        };
        let weights = &generation.weights;
        let baseline = self.baseline.as_deref().filter(|baseline| weights.of(baseline) > 0);
        let against = baseline.unwrap_or(&self.primary);
        let canary = weights.of(&self.canary);
        let both = canary + weights.of(against);
        let share = |of: u32, all: u32| if all == 0 { 0.0 } else { f64::from(of) / f64::from(all) };
        let id = generation.id;
        let seen = self.seen.entry(id).or_default();
        let two = |seen: &mut [Option<ArmReading>; 2], way, w| {
            let [canary, primary] = seen;
            GenerationDelta {
                id,
                w,
                canary: advance(canary, arm(&self.canary, way)),
                primary: advance(primary, arm(&self.primary, way)),
                canary_forced: ArmDelta::default(),
            }
        };
        let others = generation
            .arms
            .iter()
            .filter(|arm| arm.way == Way::Tossed && arm.version != self.canary && arm.version != against);
        let others: u64 = others.map(|arm| arm.dispatched).sum();
        News {
            matched: two(&mut seen.matched, Way::Matched, share(weights.matched(), WHOLE)),
            pair: two(&mut seen.copied, Way::Copied, 0.5),
            tossed: GenerationDelta {
                id,
                w: share(canary, both),
                canary: advance(&mut seen.canary, arm(&self.canary, Way::Tossed)),
                primary: advance(&mut seen.primary, arm(against, Way::Tossed)),
                canary_forced: advance(&mut seen.canary_forced, arm(&self.canary, Way::Forced)),
            },
            others: others.saturating_sub(std::mem::replace(&mut seen.others, others)),
        }
    }
}

fn has_news(delta: &GenerationDelta) -> bool {
    [&delta.canary, &delta.primary, &delta.canary_forced].into_iter().any(|arm| !is_empty(arm))
}

/// Moves `last` on to `now` and answers with the difference.
fn advance(last: &mut Option<ArmReading>, now: Option<&ArmReading>) -> ArmDelta {
    let Some(now) = now else { return ArmDelta::default() };
    let delta = match last.as_ref() {
        None => Some(difference(now, None)),
        Some(before) if went_back(now, before) => None,
        Some(before) => Some(difference(now, Some(before))),
    };
    match delta {
        Some(delta) if is_empty(&delta) && last.is_some() => delta,
        delta => {
            *last = Some(now.clone());
            delta.unwrap_or_default()
        }
    }
}

fn columns(arm: &ArmReading) -> [u64; 6] {
    [arm.dispatched, arm.ok, arm.failed, arm.aborted, arm.slow, arm.failed_revealed]
}

fn went_back(now: &ArmReading, before: &ArmReading) -> bool {
    let fell = |(now, before): (&u64, &u64)| now < before;
    columns(now).iter().zip(&columns(before)).any(fell)
        || now.latency.counts().iter().zip(before.latency.counts()).any(fell)
}

/// Callers have checked that nothing went back.
fn difference(now: &ArmReading, before: Option<&ArmReading>) -> ArmDelta {
    let zero = [0; 6];
    let earlier = before.map_or(zero, columns);
    let [dispatched, ok, failed, aborted, slow, failed_revealed] =
        std::array::from_fn(|i| columns(now)[i] - earlier[i]);
    let mut latency = Vec::new();
    for (bucket, count) in now.latency.counts().iter().enumerate() {
        let new = count - before.map_or(0, |before| before.latency.counts()[bucket]);
        if new > 0 {
            latency.push((u32::try_from(bucket).expect("there are under a thousand buckets"), new));
        }
    }
    ArmDelta { dispatched, ok, failed, aborted, slow, failed_revealed, latency }
}

fn is_empty(delta: &ArmDelta) -> bool {
    *delta == ArmDelta::default()
}

#[cfg(test)]
mod tests {
    use serin_proxy::Weights;
    use serin_proxy::histogram::{Histogram, index};

    use super::*;

    fn arm(version: &str, forced: bool, dispatched: u64, ok: u64, failed: u64) -> ArmReading {
        of_way(version, if forced { Way::Forced } else { Way::Tossed }, dispatched, ok, failed)
    }

    fn of_way(version: &str, way: Way, dispatched: u64, ok: u64, failed: u64) -> ArmReading {
        let mut latency = Histogram::default();
        latency.add_count(index(1000), ok);
        let version = version.to_owned();
        ArmReading { version, way, dispatched, ok, failed, aborted: 0, slow: 0, failed_revealed: 0, latency }
    }

    fn split(generations: Vec<(u64, u32, Vec<ArmReading>)>) -> SplitReading {
        SplitReading {
            split: "web".into(),
            service: "web".into(),
            current: 0,
            weights: Weights::pair("primary", "canary", 0),
            generations: generations
                .into_iter()
                .map(|(id, parts, arms)| GenerationReading {
                    id,
                    weights: Weights::pair("primary", "canary", parts),
                    arms,
                })
                .collect(),
            sticky: false,
        }
    }

    #[test]
    fn sum_of_deltas_is_the_whole() {
        let mut window = Window::new("primary", "canary", None);
        let first =
            split(vec![(7, 2500, vec![arm("canary", false, 10, 6, 3), arm("primary", false, 30, 29, 0)])]);
        let second =
            split(vec![(7, 2500, vec![arm("canary", false, 15, 10, 5), arm("primary", false, 30, 30, 0)])]);
        let a = window.take(&first);
        let b = window.take(&second);
        assert_eq!(a.generations[0].w, 0.25);
        assert_eq!((a.generations[0].canary.failed, b.generations[0].canary.failed), (3, 2));
        assert_eq!((a.generations[0].primary.ok, b.generations[0].primary.ok), (29, 1));
        assert_eq!(b.generations[0].canary.latency, vec![(index(1000) as u32, 4)]);
        assert!(window.take(&second).generations.is_empty(), "nothing new is no evidence");
    }

    #[test]
    fn counter_that_went_back_adds_nothing_and_counts_from_there() {
        let mut window = Window::new("primary", "canary", None);
        window.take(&split(vec![(1, 5000, vec![arm("canary", false, 100, 90, 10)])]));
        let after = window.take(&split(vec![(1, 5000, vec![arm("canary", false, 40, 40, 0)])]));
        assert!(after.generations.is_empty());
        let next = window.take(&split(vec![(1, 5000, vec![arm("canary", false, 42, 40, 2)])]));
        assert_eq!(next.generations[0].canary.failed, 2);
        assert_eq!(next.generations[0].canary.ok, 0);
    }

    #[test]
    fn missing_generation_adds_nothing_and_is_not_counted_twice() {
        let mut window = Window::new("primary", "canary", None);
        let reading = split(vec![(1, 5000, vec![arm("canary", false, 9, 9, 0)])]);
        window.take(&reading);
        assert!(window.take(&split(vec![])).generations.is_empty());
        assert!(window.take(&reading).generations.is_empty(), "it came back unchanged");
    }

    #[test]
    fn missing_arm_is_no_success() {
        let mut window = Window::new("primary", "canary", None);
        window.take(&split(vec![(1, 5000, vec![arm("canary", false, 9, 5, 0)])]));
        assert!(window.take(&split(vec![(1, 5000, vec![])])).generations.is_empty());
        let back = window.take(&split(vec![(1, 5000, vec![arm("canary", false, 9, 5, 4)])]));
        assert_eq!(back.generations[0].canary, ArmDelta { failed: 4, ..ArmDelta::default() });
    }

    #[test]
    fn forced_requests_stay_out_of_the_coin_arm() {
        let mut window = Window::new("primary", "canary", None);
        let evidence = window.take(&split(vec![(1, 0, vec![arm("canary", true, 5, 4, 1)])]));
        assert_eq!(evidence.generations[0].canary, ArmDelta::default());
        assert_eq!(evidence.generations[0].canary_forced.failed, 1);
        assert_eq!(evidence.generations[0].w, 0.0);
    }

    #[test]
    fn matched_requests_have_the_coin_of_their_share_and_pairs_a_fair_one() {
        let mut window = Window::new("primary", "canary", None);
        let mut reading = split(vec![(
            1,
            0,
            vec![
                arm("primary", false, 50, 50, 0),
                of_way("canary", Way::Matched, 8, 6, 1),
                of_way("primary", Way::Matched, 2, 2, 0),
                of_way("canary", Way::Copied, 5, 3, 2),
                of_way("primary", Way::Copied, 5, 5, 0),
            ],
        )]);
        reading.generations[0].weights = Weights::pair("primary", "canary", 0).on_trial(8_000, 1_000);
        let evidence = window.take(&reading);
        let told: Vec<_> = evidence
            .generations
            .iter()
            .map(|delta| (delta.w, delta.canary.failed, delta.primary.ok))
            .collect();
        assert_eq!(told, [(0.0, 0, 50), (0.8, 1, 2)]);
        let pair = &evidence.pairs[0];
        assert_eq!((pair.w, pair.canary.failed, pair.primary.ok), (0.5, 2, 5));
        assert_eq!(window.take(&reading), Evidence::default());
    }

    #[test]
    fn a_baseline_with_a_share_is_what_the_canary_is_compared_with() {
        let mut window = Window::new("primary", "canary", Some("baseline"));
        let arms = vec![
            arm("primary", false, 80, 80, 0),
            arm("canary", false, 10, 9, 1),
            arm("baseline", false, 10, 10, 0),
        ];
        let mut reading = split(vec![(1, 0, arms.clone()), (2, 0, arms)]);
        let shares = [("primary", 8_000), ("canary", 1_000), ("baseline", 1_000)];
        let shares = shares.map(|(version, parts)| (version.to_owned(), parts));
        reading.generations[1].weights = Weights::new(shares.into()).unwrap();
        let evidence = window.take(&reading);
        let told: Vec<_> = evidence.generations.iter().map(|delta| (delta.w, delta.primary.ok)).collect();
        assert_eq!(told, [(0.0, 80), (0.5, 10)]);
        assert_eq!(evidence.others, 90);
    }

    #[test]
    fn memory_is_bounded_and_a_forgotten_generation_is_never_counted_again() {
        let mut window = Window::new("primary", "canary", None);
        for id in 0..1000 {
            window.take(&split(vec![(id, 100, vec![arm("canary", false, 1, 1, 0)])]));
        }
        assert!(window.seen.len() <= GENERATIONS);
        assert!(
            window.take(&split(vec![(3, 100, vec![arm("canary", false, 2, 2, 0)])])).generations.is_empty()
        );
    }
}
