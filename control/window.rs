//! Turns the proxy's cumulative counters into what is new since the last look.
//!
//! It remembers, per generation and arm, what it has counted already. Absence is
//! never evidence: an arm whose counters went back is counted afresh from there
//! and adds nothing now, a generation that is missing adds nothing, and one that
//! comes back adds only what is new.

use std::collections::BTreeMap;

use serin_proxy::Weights;
use serin_proxy::histogram::Histogram;
use serin_proxy::reading::{
    ArmReading, GenerationReading, PairsReading, SplitReading, State, StratumReading, Way,
};
use serin_proxy::weights::WHOLE;

use crate::judge::evidence::{ArmDelta, Evidence, GenerationDelta, Pairs, StratumDelta};

/// Generations remembered; the proxy lists far fewer at once.
const GENERATIONS: usize = 256;

pub struct Window {
    primary: String,
    canary: String,
    /// Compared with the canary instead of the primary where it has a share.
    baseline: Option<String>,
    seen: BTreeMap<u64, Seen>,
    /// What the mirror stood at.
    pairs: Option<PairsReading>,
    /// Of the last reading: what tells it from a later one, and what is true of the
    /// split for as long as there is none.
    state: Option<State>,
    weights: Option<Weights>,
    sticky: bool,
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
    /// The same of the parts that are counted apart: tossed, and matched.
    strata: [BTreeMap<String, [Option<ArmReading>; 2]>; 2],
    /// Dispatched to versions that are not compared.
    others: u64,
}

/// What one generation has that is new.
struct News {
    tossed: GenerationDelta,
    matched: GenerationDelta,
    others: u64,
}

impl Window {
    pub fn new(primary: &str, canary: &str, baseline: Option<&str>) -> Window {
        Window {
            primary: primary.to_owned(),
            canary: canary.to_owned(),
            baseline: baseline.map(str::to_owned),
            seen: BTreeMap::new(),
            pairs: None,
            state: None,
            weights: None,
            sticky: false,
            forgotten: None,
        }
    }

    /// The state of the last reading; one of the same state would tell nothing.
    pub fn state(&self) -> Option<State> {
        self.state
    }

    /// The weights that were in force at the last reading.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// What a reading would tell of a split in which nothing has moved.
    pub fn nothing_new(&self) -> Evidence {
        Evidence { sticky: self.sticky, ..Evidence::default() }
    }

    /// What came in since the last call. A generation with nothing new is left out.
    pub fn take(&mut self, reading: &SplitReading) -> Evidence {
        // One without a state is another process's: what came since cannot be told by it.
        self.state = Some(reading.state).filter(|state| *state != State::default());
        self.sticky = reading.sticky;
        if self.weights.as_ref() != Some(&reading.weights) {
            self.weights = Some(reading.weights.clone());
        }
        let mut evidence = self.nothing_new();
        for generation in &reading.generations {
            if self.forgotten.is_some_and(|forgotten| generation.id <= forgotten) {
                continue;
            }
            let News { tossed, matched, others } = self.news_of(generation);
            evidence.generations.extend([tossed, matched].into_iter().filter(has_news));
            evidence.others += others;
        }
        while self.seen.len() > GENERATIONS {
            self.forgotten = self.seen.pop_first().map(|(id, _)| id).max(self.forgotten);
        }
        evidence.pairs = self.pairs_of(reading);
        evidence
    }

    /// New pairs, where the canary is who gets the copies. The first look at a
    /// mirror only says where it stands.
    fn pairs_of(&mut self, reading: &SplitReading) -> Pairs {
        let now = reading.pairs.as_ref().filter(|mirror| mirror.version == self.canary);
        let now = now.map(|mirror| mirror.pairs);
        let before = std::mem::replace(&mut self.pairs, now);
        let (Some(now), Some(before)) = (now, before) else { return Pairs::default() };
        let new = |of: fn(&PairsReading) -> u64| of(&now).checked_sub(of(&before));
        let pairs = || {
            Some(Pairs {
                canary_only: new(|pairs| pairs.copy_failed)?,
                primary_only: new(|pairs| pairs.original_failed)?,
                neither: new(|pairs| pairs.neither_failed)?,
                both: new(|pairs| pairs.both_failed)?,
            })
        };
        pairs().unwrap_or_default()
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
        // Users whose toss is fresh are those from some point on.
        let from = generation.fresh_from;
        let fresh = |of: u32, all: u32| share(of.saturating_sub(from), all.saturating_sub(from));
        let id = generation.id;
        let seen = self.seen.entry(id).or_default();
        let two = |seen: &mut [Option<ArmReading>; 2], way, w| {
            let [canary, primary] = seen;
            GenerationDelta {
                id,
                w,
                fresh: fresh(weights.matched(), WHOLE),
                canary: advance(canary, arm(&self.canary, way)),
                primary: advance(primary, arm(&self.primary, way)),
                canary_forced: ArmDelta::default(),
                strata: Vec::new(),
            }
        };
        let parts = |seen: &mut BTreeMap<String, [Option<ArmReading>; 2]>, way, against: &str| {
            let new = |part: &StratumReading| {
                let arm =
                    |version: &str| part.arms.iter().find(|arm| arm.version == version && arm.way == way);
                let [canary, primary] = seen.entry(part.name.clone()).or_default();
                let (canary, primary) = (advance(canary, arm(&self.canary)), advance(primary, arm(against)));
                let news = !is_empty(&canary) || !is_empty(&primary);
                news.then(|| StratumDelta { name: part.name.clone(), canary, primary })
            };
            generation.strata.iter().filter_map(new).collect()
        };
        let [tossed, matched] = &mut seen.strata;
        let tossed = parts(tossed, Way::Tossed, against);
        let matched = parts(matched, Way::Matched, &self.primary);
        let others = generation
            .arms
            .iter()
            .filter(|arm| arm.way == Way::Tossed && arm.version != self.canary && arm.version != against);
        let others: u64 = others.map(|arm| arm.dispatched).sum();
        News {
            matched: GenerationDelta {
                strata: matched,
                ..two(&mut seen.matched, Way::Matched, share(weights.matched(), WHOLE))
            },
            tossed: GenerationDelta {
                id,
                w: share(canary, both),
                fresh: fresh(canary, both),
                canary: advance(&mut seen.canary, arm(&self.canary, Way::Tossed)),
                primary: advance(&mut seen.primary, arm(against, Way::Tossed)),
                canary_forced: advance(&mut seen.canary_forced, arm(&self.canary, Way::Forced)),
                strata: tossed,
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

fn columns(arm: &ArmReading) -> [u64; 10] {
    [
        arm.dispatched,
        arm.ok,
        arm.failed,
        arm.aborted,
        arm.slow,
        arm.failed_revealed,
        arm.failed_units,
        arm.first_failed,
        arm.load,
        arm.load_failed,
    ]
}

fn went_back(now: &ArmReading, before: &ArmReading) -> bool {
    let fell = |(now, before): (&u64, &u64)| now < before;
    columns(now).iter().zip(&columns(before)).any(fell)
        || now.latency.counts().iter().zip(before.latency.counts()).any(fell)
        || now.first.counts().iter().zip(before.first.counts()).any(fell)
}

/// Callers have checked that nothing went back.
fn difference(now: &ArmReading, before: Option<&ArmReading>) -> ArmDelta {
    let zero = [0; 10];
    let earlier = before.map_or(zero, columns);
    let [
        dispatched,
        ok,
        failed,
        aborted,
        slow,
        failed_revealed,
        failed_units,
        first_failed,
        load,
        load_failed,
    ] = std::array::from_fn(|i| columns(now)[i] - earlier[i]);
    let latency = grown(&now.latency, before.map(|before| &before.latency));
    let first = grown(&now.first, before.map(|before| &before.first));
    ArmDelta {
        dispatched,
        ok,
        failed,
        aborted,
        slow,
        failed_revealed,
        failed_units,
        first_failed,
        load,
        load_failed,
        latency,
        first,
    }
}

/// By how much each bucket has grown, where it has.
fn grown(now: &Histogram, before: Option<&Histogram>) -> Vec<(u32, u64)> {
    if before == Some(now) {
        return Vec::new();
    }
    let new = |(bucket, count): (usize, &u64)| {
        let new = count - before.map_or(0, |before| before.counts()[bucket]);
        (u32::try_from(bucket).expect("there are under a thousand buckets"), new)
    };
    now.counts().iter().enumerate().map(new).filter(|(_, new)| *new > 0).collect()
}

fn is_empty(delta: &ArmDelta) -> bool {
    *delta == ArmDelta::default()
}

#[cfg(test)]
mod tests {
    use serin_proxy::histogram::index;
    use serin_proxy::reading::MirrorReading;

    use super::*;

    fn arm(version: &str, forced: bool, dispatched: u64, ok: u64, failed: u64) -> ArmReading {
        of_way(version, if forced { Way::Forced } else { Way::Tossed }, dispatched, ok, failed)
    }

    fn of_way(version: &str, way: Way, dispatched: u64, ok: u64, failed: u64) -> ArmReading {
        let mut latency = Histogram::default();
        latency.add_count(index(1000), ok);
        let version = version.to_owned();
        ArmReading {
            version,
            way,
            dispatched,
            ok,
            failed,
            aborted: 0,
            slow: 0,
            failed_revealed: 0,
            failed_units: 0,
            first_failed: 0,
            load: 0,
            load_failed: 0,
            latency,
            first: Histogram::default(),
        }
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
                    fresh_from: 0,
                    arms,
                    strata: Vec::new(),
                })
                .collect(),
            sticky: false,
            pairs: None,
            state: State::default(),
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
    fn what_is_true_of_a_split_is_known_between_its_readings() {
        let mut window = Window::new("primary", "canary", None);
        assert_eq!((window.state(), window.weights()), (None, None));
        let state = State { moves: 7, ..State::default() };
        window.take(&SplitReading { sticky: true, state, ..split(vec![]) });
        assert_eq!(window.state(), Some(state));
        assert_eq!(window.weights(), Some(&Weights::pair("primary", "canary", 0)));
        assert_eq!(window.nothing_new(), Evidence { sticky: true, ..Evidence::default() });
        window.take(&split(vec![]));
        assert_eq!(window.state(), None, "what a predecessor has counted is asked for again");
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

    fn mirrored(version: &str, copy_failed: u64, neither_failed: u64) -> SplitReading {
        let pairs = PairsReading { copy_failed, neither_failed, ..PairsReading::default() };
        let mirror = MirrorReading { version: version.to_owned(), pairs };
        SplitReading { pairs: Some(mirror), ..split(vec![]) }
    }

    #[test]
    fn only_new_pairs_count_and_only_the_canarys() {
        let mut window = Window::new("primary", "canary", None);
        let mut take = |version, failed, neither| {
            let pairs = window.take(&mirrored(version, failed, neither)).pairs;
            (pairs.canary_only, pairs.neither)
        };
        assert_eq!(take("canary", 7, 100), (0, 0), "from before anybody looked");
        assert_eq!(take("canary", 9, 150), (2, 50));
        assert_eq!(take("other", 20, 300), (0, 0));
        assert_eq!(take("canary", 21, 310), (0, 0), "who knows whose these were");
        assert_eq!(take("canary", 22, 320), (1, 10));
        assert_eq!(take("canary", 0, 0), (0, 0), "counters that went back are no evidence");
        assert_eq!(take("canary", 1, 0), (1, 0));
    }

    #[test]
    fn matched_requests_have_the_coin_of_their_share() {
        let mut window = Window::new("primary", "canary", None);
        let mut reading = split(vec![(
            1,
            0,
            vec![
                arm("primary", false, 50, 50, 0),
                of_way("canary", Way::Matched, 8, 6, 1),
                of_way("primary", Way::Matched, 2, 2, 0),
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
