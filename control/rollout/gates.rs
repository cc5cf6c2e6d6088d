//! Whom a rollout waits for: what webhooks answer, as evidence.
//!
//! An answer counts for the question that was asked: where the rollout stands and
//! what comes next. No answer is neither yes nor no; nothing rises on it, nor on a
//! yes of before. Nothing here holds up the judge, and a falling weight asks nobody.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::EventKind;
use super::Flow;
use super::Rollout;
use super::event::Event;
use super::phase::Place;
use super::spec::Step;
use crate::clock::Moment;
use crate::outside::hook::Answer;
use crate::outside::hook::HookType;
use crate::outside::hook::Word;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gates {
    /// It was asked to start, and no request goes to the canary before these agree.
    opening: bool,
    /// Who has to agree before more goes to the canary, while that is all that is
    /// missing.
    waiting: Vec<HookType>,
    /// The latest answers in this place.
    answers: BTreeMap<HookType, Answer>,
    /// Failed checks by webhooks since the start.
    pub(super) strikes: u32,
    /// When the last of them was, by what was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    struck: BTreeMap<HookType, Moment>,
}

impl Gates {
    /// What was answered was about another place or time.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.answers.clear();
    }
}

impl Rollout {
    /// Whether it has to ask before it begins; then it waits with everything on
    /// the primary.
    pub(super) fn asks_to_open(&mut self, now: Moment, events: &mut Vec<Event>) -> bool {
        self.state.gates = Gates::default();
        let first = [HookType::ConfirmRollout, HookType::PreRollout];
        let is_rise = self.begins_with_weight() && self.has_hook(HookType::ConfirmTrafficIncrease);
        if !is_rise && !first.into_iter().any(|on| self.has_hook(on)) {
            return false;
        }
        self.forget_the_last();
        self.end(Place::Step(0), Flow::NONE, now, String::new());
        self.state.gates.opening = true;
        // Nobody has been asked yet, so this tells whom it waits for.
        self.may_rise(now, events);
        true
    }

    pub(super) fn is_opening(&self) -> bool {
        self.state.gates.opening
    }

    pub(super) fn opened(&mut self) {
        self.state.gates.opening = false;
    }

    /// Whose agreement is all that is missing.
    pub(super) fn waiting(&self) -> &[HookType] {
        &self.state.gates.waiting
    }

    pub(super) fn waits_for_words(&self) -> Option<String> {
        let waits = self.state.paused || self.state.guard.is_some();
        let is_over = matches!(self.state.place, Place::Step(_)) && self.time_is_over() && !waits;
        let lacks_check = is_over && !self.is_checked();
        let checks: &[HookType] = if lacks_check { &[HookType::Rollout] } else { &[] };
        let waited = [checks, self.waiting()].concat();
        if waited.is_empty() { None } else { Some(self.waited_for(&waited)) }
    }

    /// Takes in what came.
    pub(super) fn hear(&mut self, now: Moment, words: &[Word], events: &mut Vec<Event>) {
        for word in words {
            if self.state.frozen || !matches!(self.state.place, Place::Step(_) | Place::Bake) {
                return;
            }
            match (word.on, word.answer) {
                (HookType::Rollback, Answer::Open) => self.roll_back(now, word.why.clone(), events),
                (HookType::Rollback | HookType::PostRollout | HookType::Event, _) => {}
                (on, answer) if self.is_asked(on, word.step) => {
                    self.state.gates.answers.insert(on, answer);
                    let counts = matches!(on, HookType::PreRollout | HookType::Rollout);
                    if counts && answer == Answer::Closed {
                        self.strike(now, word, events);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the question is one of now. A check of a running step is always one.
    fn is_asked(&self, on: HookType, step: usize) -> bool {
        let is_checked = on == HookType::Rollout && !self.is_opening();
        step == self.step_number() && (is_checked || self.waiting().contains(&on))
    }

    /// One at most in the time between two askings: where a gate is turned they are
    /// asked at once, and whoever turns it makes no failed checks.
    fn strike(&mut self, now: Moment, word: &Word, events: &mut Vec<Event>) {
        let of_type = || self.spec.hooks.iter().filter(|hook| hook.on == word.on);
        let every = of_type().map(|hook| hook.interval).min().unwrap_or_default();
        let most = of_type().map(|hook| hook.failures).min().unwrap_or(u32::MAX);
        let last = self.state.gates.struck.get(&word.on);
        if last.is_some_and(|last| now.since(*last) < every) {
            return;
        }
        self.state.gates.struck.insert(word.on, now);
        self.state.gates.strikes += 1;
        if self.counts_as_check(&word.why) {
            return;
        }
        let most = self.failed_checks_in_all().unwrap_or(most);
        let strikes = self.state.gates.strikes;
        if strikes >= most {
            let why = format!("{} failed checks by webhooks; the last: {}", strikes, word.why);
            self.roll_back(now, why, events);
        }
    }

    /// Whether everybody agrees who has to before the next step. Where only that is
    /// missing, tells once whom it waits for.
    pub(super) fn may_rise(&mut self, now: Moment, events: &mut Vec<Event>) -> bool {
        if !self.is_checked() {
            return false;
        }
        let needed = self.needed();
        if needed.iter().all(|on| self.agrees(*on)) {
            return true;
        }
        if self.state.gates.waiting != needed {
            let text = self.waited_for(&needed);
            self.state.gates.waiting = needed;
            self.tell(now, EventKind::Waiting, text, events);
        }
        false
    }

    /// Whether the checks of the present step, where it has any, say that it may pass.
    fn is_checked(&self) -> bool {
        self.is_opening() || self.spec.skip_analysis || self.agrees(HookType::Rollout)
    }

    /// By the latest answer. Nobody to ask agrees.
    fn agrees(&self, on: HookType) -> bool {
        !self.has_hook(on) || self.state.gates.answers.get(&on) == Some(&Answer::Open)
    }

    fn needed(&self) -> Vec<HookType> {
        use HookType::{ConfirmPromotion, ConfirmRollout, ConfirmTrafficIncrease, PreRollout};
        let asked: &[HookType] = match self.state.place {
            Place::Step(_) if self.is_opening() => match self.begins_with_weight() {
                _ if !self.agrees(ConfirmRollout) => &[ConfirmRollout],
                true if self.agrees(PreRollout) => &[PreRollout, ConfirmTrafficIncrease],
                _ => &[PreRollout],
            },
            Place::Step(at) => match self.spec.steps.get(at + 1) {
                Some(Step::Weight { parts, .. }) if *parts > self.state.parts => &[ConfirmTrafficIncrease],
                Some(_) => &[],
                None if self.is_on_weight() => &[ConfirmTrafficIncrease, ConfirmPromotion],
                None => &[ConfirmPromotion],
            },
            _ => &[],
        };
        asked.iter().copied().filter(|on| self.has_hook(*on)).collect()
    }

    fn begins_with_weight(&self) -> bool {
        let first = self.spec.steps.first();
        !self.spec.skip_analysis && matches!(first, Some(Step::Weight { parts: 1.., .. }))
    }

    /// No trial, and not unjudged: these are promoted at once and by no weights.
    fn is_on_weight(&self) -> bool {
        !self.spec.skip_analysis && self.state.matched + self.state.copied == 0
    }

    fn has_hook(&self, on: HookType) -> bool {
        self.spec.hooks.iter().any(|hook| hook.on == on)
    }

    fn waited_for(&self, waited: &[HookType]) -> String {
        let of = |on: &HookType| {
            let hooks = self.spec.hooks.iter().filter(|hook| hook.on == *on);
            let names: Vec<&str> = hooks.map(|hook| hook.name.as_str()).collect();
            format!("{} ({})", on.name(), names.join(", "))
        };
        let waited: Vec<String> = waited.iter().map(of).collect();
        format!("waiting for {}", waited.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::judge::evidence::ArmDelta;
    use crate::judge::evidence::Evidence;
    use crate::judge::evidence::GenerationDelta;
    use crate::outside::hook::Hook;
    use crate::outside::hook::Where;
    use crate::rollout::Action;
    use crate::rollout::Command;
    use crate::rollout::Phase;
    use crate::rollout::Spec;
    use crate::rollout::spec::Analysis;
    use serin_proxy::weights::WHOLE;

    fn hook(on: HookType) -> Hook {
        Hook {
            name: on.name().to_owned(),
            on,
            to: Where::Gate,
            timeout: Duration::from_secs(1),
            retries: 0,
            interval: Duration::from_secs(1),
            failures: 3,
            mute_alert: false,
            namespace: "default".to_owned(),
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
            sign: None,
            tls: crate::outside::Tls::default(),
        }
    }

    /// Flagger's judge: a tick a second, so many failed checks, and no failure of its
    /// own in sight.
    fn flagger(threshold: u32) -> Analysis {
        use crate::judge::checks::{Rule, Scope, Terms};
        use crate::judge::classic::strikes::{Check, Terms as Strikes};
        use crate::judge::samples::{Arm, Measure};
        let check = Check {
            name: "successRate".to_owned(),
            measure: Measure::SuccessRate,
            arm: Arm::Canary,
            window: Duration::from_secs(1),
            min: Some(99.0),
            max: None,
        };
        let strikes = Strikes { interval: Duration::from_secs(1), threshold, checks: vec![check] };
        let checks = Some(Terms { rule: Rule::Strikes(strikes), scope: Scope::Rollout });
        Analysis { promotion: None, checks, ..Analysis::default() }
    }

    struct World {
        rollout: Rollout,
        now: Moment,
        generation: u64,
        told: Vec<EventKind>,
    }

    impl World {
        /// Two steps of a second each, and these webhooks.
        fn new(asked: &[HookType]) -> World {
            let step = |percent: u32| Step::Weight { parts: percent * 100, hold: Duration::from_secs(1) };
            let rollout = Rollout::new(Spec {
                name: "web".to_owned(),
                split: "web".to_owned(),
                primary: "old".to_owned(),
                canary: "new".to_owned(),
                steps: vec![step(10), step(50)],
                bake: Duration::from_secs(600),
                analysis: Analysis { promotion: None, ..Analysis::default() },
                hooks: asked.iter().copied().map(hook).collect(),
                ..Spec::default()
            });
            World { rollout, now: Moment(5_000), generation: 1, told: Vec::new() }
        }

        fn step(&mut self, words: &[Word], commands: &[Command]) {
            self.now = self.now.after(Duration::from_millis(100));
            let parts = u64::from(self.rollout.weights().of("new"));
            let arm = |ok| ArmDelta { dispatched: ok, ok, ..ArmDelta::default() };
            let delta = GenerationDelta {
                id: self.generation,
                w: parts as f64 / f64::from(WHOLE),
                canary: arm(parts / 100),
                primary: arm(100 - parts / 100),
                ..GenerationDelta::default()
            };
            let evidence =
                Evidence { generations: vec![delta], words: words.to_vec(), ..Evidence::default() };
            for action in self.rollout.step(self.now, &evidence, commands) {
                match action {
                    Action::Shift { .. } | Action::Renew => self.generation += 1,
                    Action::Tell { event } => self.told.push(event.kind),
                    Action::Mark { .. } => {}
                }
            }
        }

        fn wait(&mut self, ticks: u32) {
            (0..ticks).for_each(|_| self.step(&[], &[]));
        }

        fn say(&mut self, on: HookType, answer: Answer) {
            let word = Word { on, step: self.rollout.step_number(), answer, why: "so".to_owned() };
            self.step(&[word], &[]);
        }

        fn percent(&self) -> u32 {
            self.rollout.weights().of("new") / 100
        }

        fn begin_with_a_yes(&mut self) {
            self.step(&[], &[Command::Start]);
            self.wait(5);
            let waits = self.rollout.waiting();
            assert_eq!((self.percent(), waits), (0, &[HookType::ConfirmTrafficIncrease][..]));
            self.say(HookType::ConfirmTrafficIncrease, Answer::Open);
            assert_eq!(self.percent(), 10);
        }
    }

    #[test]
    fn nothing_goes_to_the_canary_before_those_agree_who_are_asked_first() {
        let mut world = World::new(&[HookType::ConfirmRollout, HookType::PreRollout]);
        world.step(&[], &[Command::Start]);
        world.wait(50);
        assert_eq!((world.percent(), world.rollout.waiting()), (0, &[HookType::ConfirmRollout][..]));
        assert_eq!(world.told, [EventKind::Waiting], "told once");
        world.say(HookType::PreRollout, Answer::Open);
        world.say(HookType::ConfirmRollout, Answer::Closed);
        assert_eq!(world.percent(), 0, "what was not asked does not count");
        world.say(HookType::ConfirmRollout, Answer::Open);
        assert_eq!((world.percent(), world.rollout.waiting()), (0, &[HookType::PreRollout][..]));
        world.say(HookType::PreRollout, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (10, Phase::Running));
    }

    #[test]
    fn no_answer_and_an_answer_about_another_step_raise_nothing() {
        let mut world = World::new(&[HookType::ConfirmTrafficIncrease]);
        world.begin_with_a_yes();
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        world.wait(50);
        assert_eq!(world.percent(), 10, "an answer before the question is none");
        let late =
            Word { on: HookType::ConfirmTrafficIncrease, step: 1, answer: Answer::Open, why: String::new() };
        world.step(&[late], &[]);
        assert_eq!(world.percent(), 10);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        assert_eq!(world.percent(), 50);
        world.wait(50);
        assert_eq!(world.percent(), 50, "each rise asks anew");
    }

    #[test]
    fn a_gate_that_closes_again_before_the_others_open_is_closed() {
        let mut world = World::new(&[HookType::ConfirmTrafficIncrease, HookType::ConfirmPromotion]);
        world.begin_with_a_yes();
        world.wait(12);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        world.wait(12);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Closed);
        world.say(HookType::ConfirmPromotion, Answer::Open);
        assert_eq!(world.percent(), 50);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (100, Phase::Baking));
    }

    #[test]
    fn a_command_needs_nobodys_agreement() {
        let mut world = World::new(&[HookType::ConfirmRollout, HookType::ConfirmPromotion]);
        world.step(&[], &[Command::Start]);
        world.step(&[], &[Command::Promote]);
        assert_eq!(world.percent(), 10);
        world.wait(30);
        assert_eq!((world.percent(), world.rollout.phase()), (50, Phase::Paused));
        world.step(&[], &[Command::Resume]);
        assert_eq!(world.percent(), 100);
    }

    #[test]
    fn a_trial_and_skipped_analysis_raise_no_weight_and_ask_before_the_promotion_alone() {
        let trial = Step::Trial { matched: WHOLE, copied: 0, hold: Duration::from_secs(1) };
        let mut world = World::new(&[HookType::ConfirmTrafficIncrease, HookType::ConfirmPromotion]);
        let spec = Spec { steps: vec![trial], ..world.rollout.spec().clone() };
        world.rollout = Rollout::new(Spec {
            analysis: Analysis { min_requests: 0, ..spec.analysis.clone() },
            ..spec.clone()
        });
        world.step(&[], &[Command::Start]);
        world.wait(30);
        assert_eq!((world.percent(), world.rollout.waiting()), (0, &[HookType::ConfirmPromotion][..]));
        world.say(HookType::ConfirmPromotion, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (100, Phase::Baking));

        let steps = vec![trial, Step::Weight { parts: 1_000, hold: Duration::from_secs(1) }];
        world.rollout = Rollout::new(Spec { steps, ..world.rollout.spec().clone() });
        world.step(&[], &[Command::Start]);
        world.wait(30);
        let waits = world.rollout.waiting();
        assert_eq!((world.percent(), waits), (0, &[HookType::ConfirmTrafficIncrease][..]), "to a weight");

        let mut world = World::new(&HookType::ALL);
        world.rollout = Rollout::new(Spec { skip_analysis: true, ..world.rollout.spec().clone() });
        world.step(&[], &[Command::Start]);
        world.say(HookType::ConfirmRollout, Answer::Open);
        world.say(HookType::PreRollout, Answer::Open);
        world.wait(30);
        assert_eq!((world.percent(), world.rollout.waiting()), (0, &[HookType::ConfirmPromotion][..]));
        world.say(HookType::ConfirmPromotion, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (100, Phase::Baking));
    }

    #[test]
    fn failing_checks_hold_the_step_and_then_roll_back() {
        let mut world = World::new(&[HookType::Rollout]);
        world.step(&[], &[Command::Start]);
        world.wait(30);
        assert_eq!(world.percent(), 10, "a check that nobody has made is not passed");
        world.say(HookType::Rollout, Answer::Closed);
        world.wait(5);
        assert_eq!(world.percent(), 10);
        world.say(HookType::Rollout, Answer::Open);
        assert_eq!(world.percent(), 50);
        world.wait(10);
        world.say(HookType::Rollout, Answer::Closed);
        world.wait(10);
        world.say(HookType::Rollout, Answer::Closed);
        assert_eq!((world.percent(), world.rollout.phase()), (0, Phase::RolledBack), "three in all");
    }

    #[test]
    fn a_yes_is_over_when_the_next_asking_brings_nothing() {
        let mut world = World::new(&[HookType::Rollout]);
        world.step(&[], &[Command::Start]);
        world.say(HookType::Rollout, Answer::Open);
        world.say(HookType::Rollout, Answer::Silent);
        world.wait(50);
        assert_eq!((world.percent(), world.rollout.phase()), (10, Phase::Running), "neither yes nor no");
        let sentence = world.rollout.status(world.now).sentence;
        assert!(sentence.contains("waiting for rollout (rollout)"), "{sentence}");
        world.say(HookType::Rollout, Answer::Open);
        assert_eq!(world.percent(), 50);
    }

    #[test]
    fn who_is_asked_more_often_than_his_interval_makes_no_more_failed_checks() {
        let mut world = World::new(&[HookType::Rollout]);
        world.step(&[], &[Command::Start]);
        (0..9).for_each(|_| world.say(HookType::Rollout, Answer::Closed));
        assert_eq!(world.rollout.phase(), Phase::Running, "nine in a second are one");
        (0..20).for_each(|_| world.say(HookType::Rollout, Answer::Closed));
        assert_eq!(world.rollout.phase(), Phase::RolledBack, "three in as many seconds are three");
    }

    #[test]
    fn flaggers_judge_has_one_count_of_failed_checks_and_goes_back_on_the_tick_after() {
        let mut world = World::new(&[HookType::PreRollout, HookType::Rollout]);
        let spec = Spec { analysis: flagger(4), ..world.rollout.spec().clone() };
        world.rollout = Rollout::new(spec);
        world.step(&[], &[Command::Start]);
        world.say(HookType::PreRollout, Answer::Closed);
        world.say(HookType::PreRollout, Answer::Open);
        assert_eq!(world.percent(), 10);
        world.wait(5);
        for failed in [2, 3, 4] {
            world.say(HookType::Rollout, Answer::Closed);
            world.say(HookType::Rollout, Answer::Open);
            world.wait(8);
            let sentence = world.rollout.status(world.now).sentence;
            let counted = format!("{failed} of 4 failed checks; so; failed check {failed} of 4");
            assert!(sentence.starts_with(&counted), "{sentence}");
            assert_eq!(world.percent(), 10, "a tick with a failed check passes no step");
        }
        world.wait(10);
        assert_eq!((world.percent(), world.rollout.phase()), (0, Phase::RolledBack));
        let halts = world.told.iter().filter(|kind| **kind == EventKind::Halted).count();
        assert_eq!(halts, 3);
    }

    #[test]
    fn the_first_weight_asks_too_after_the_checks_before_it() {
        let mut world =
            World::new(&[HookType::PreRollout, HookType::ConfirmTrafficIncrease, HookType::Rollout]);
        world.step(&[], &[Command::Start]);
        assert_eq!(world.rollout.waiting(), &[HookType::PreRollout]);
        world.say(HookType::PreRollout, Answer::Open);
        let both = [HookType::PreRollout, HookType::ConfirmTrafficIncrease];
        assert_eq!((world.percent(), world.rollout.waiting()), (0, &both[..]));
        assert!(world.rollout.status(world.now).opening);
        world.say(HookType::PreRollout, Answer::Silent);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        assert_eq!(world.percent(), 0, "the check is not what it was");
        world.say(HookType::PreRollout, Answer::Open);
        world.say(HookType::ConfirmTrafficIncrease, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (10, Phase::Running));
    }

    #[test]
    fn who_wishes_a_rollback_has_it_also_while_baking() {
        let mut world = World::new(&[HookType::Rollback]);
        world.step(&[], &[Command::Start]);
        world.wait(30);
        assert_eq!(world.percent(), 100);
        world.say(HookType::Rollback, Answer::Closed);
        assert_eq!(world.percent(), 100);
        world.say(HookType::Rollback, Answer::Open);
        assert_eq!((world.percent(), world.rollout.phase()), (0, Phase::RolledBack));
    }

    #[test]
    fn a_rollout_that_waits_for_a_gate_is_restored_waiting_and_asks_anew() {
        let mut world = World::new(&[HookType::ConfirmRollout]);
        world.step(&[], &[Command::Start]);
        let kept = serde_json::to_value(world.rollout.checkpoint()).unwrap();
        let kept = serde_json::from_value(kept).unwrap();
        world.rollout = Rollout::restore(world.rollout.spec().clone(), kept, world.now);
        world.wait(20);
        assert_eq!((world.percent(), world.rollout.phase()), (0, Phase::Paused));
        assert_eq!(world.told, [EventKind::Waiting, EventKind::Waiting]);
        world.say(HookType::ConfirmRollout, Answer::Open);
        assert_eq!(world.percent(), 10);
    }
}
