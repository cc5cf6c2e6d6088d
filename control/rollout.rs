//! The rollout engine: a pure state machine over time, evidence and commands.
//!
//! It asks nobody and does nothing: it answers with actions, and repeating one
//! changes nothing. The weights in force follow from the state alone, so that
//! no path can forget to move them; a rollback is only another state.

mod answers;
mod checks;
mod command;
mod event;
mod gates;
mod guard;
mod hours;
mod ladder;
mod phase;
mod proof;
pub mod spec;
mod status;
mod way_back;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::Moment;
use crate::judge::Judge;
use crate::judge::Verdict;
use crate::judge::analysis::Analysis;
use crate::judge::checks::Checks;
use crate::judge::evidence::Evidence;
use crate::judge::history::History;
use serin_proxy::Weights;
use serin_proxy::weights::WHOLE;

pub use command::Command;
pub use event::Event;
pub use event::EventKind;
pub use phase::Phase;
pub use spec::Spec;
pub use status::Meters;
pub use status::Status;
pub use status::TestStatus;

use answers::Compared;
use gates::Gates;
use guard::Guard;
use guard::Why;
use phase::Place;

/// What the engine wants done. Repeating any of these changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Shift {
        split: String,
        weights: Weights,
    },
    /// Ages the proxy should report on (see `serin_proxy::Marks`).
    Mark {
        slow_us: Option<u64>,
        reveal_us: Option<u64>,
    },
    /// A new generation at equal weights, so that the requests of the old one all
    /// end some time.
    Renew,
    /// One fact for the journal, the event stream and the log.
    Tell {
        event: Event,
    },
}

/// The canary's weight, its share of what a trial's rules name, and that of the
/// primary's requests which are copied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    parts: u32,
    matched: u32,
    copied: u32,
}

impl Flow {
    const NONE: Flow = Flow { parts: 0, matched: 0, copied: 0 };
    const ALL: Flow = Flow { parts: WHOLE, matched: 0, copied: 0 };
}

pub struct Rollout {
    spec: Spec,
    state: Checkpoint,
}

/// Everything a rollout knows, as data: what the journal keeps and what a
/// restarted process goes on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    split: String,
    primary: String,
    canary: String,
    place: Place,
    /// Since when in this place.
    since: Moment,
    /// An operator asked to wait.
    paused: bool,
    /// The judge asked to wait.
    guard: Option<Guard>,
    #[serde(default)]
    gates: Gates,
    /// The canary's weight while no guard lowers it.
    parts: u32,
    /// The same for what a trial's rules name, and for copies.
    #[serde(default)]
    matched: u32,
    #[serde(default)]
    copied: u32,
    /// The judge is heard and not obeyed.
    #[serde(default)]
    frozen: bool,
    /// Further splits that it moves.
    #[serde(default)]
    also: Vec<spec::Site>,
    /// The old version is still to be had back.
    #[serde(default)]
    old_kept: bool,
    /// The primary's servers had the new version and were worse with it.
    #[serde(default)]
    turned_back: bool,
    /// What is known of the canary as the old version, for the way back.
    #[serde(default)]
    successor: Option<History>,
    /// Time in this place that counts, and canary requests of it that ended.
    elapsed_ms: u64,
    ended: u64,
    /// Requests of this place belong to generations after this one.
    floor: u64,
    newest: u64,
    sticky: bool,
    at: Moment,
    history: History,
    /// What the running judge was asked; a changed spec asks from the next start.
    terms: Analysis,
    judge: Option<Judge>,
    /// What judges in its place, by the rules of another tool.
    #[serde(default)]
    checks: Option<Checks>,
    verdict: Verdict,
    /// What comparing answers has brought since it began.
    #[serde(default)]
    answers: Compared,
    /// It was told that proof did not come in time.
    #[serde(default)]
    inconclusive: bool,
    /// Why it ended.
    last_words: String,
}

impl Rollout {
    /// Idle, all traffic on primary.
    pub fn new(spec: Spec) -> Rollout {
        let state = Checkpoint {
            split: spec.split.clone(),
            primary: spec.primary.clone(),
            canary: spec.canary.clone(),
            place: Place::Idle,
            since: Moment::default(),
            paused: false,
            guard: None,
            gates: Gates::default(),
            parts: 0,
            matched: 0,
            copied: 0,
            frozen: false,
            also: spec.also.clone(),
            old_kept: false,
            turned_back: false,
            successor: None,
            elapsed_ms: 0,
            ended: 0,
            floor: 0,
            newest: 0,
            sticky: false,
            at: Moment::default(),
            history: History::default(),
            terms: spec.analysis.clone(),
            judge: None,
            checks: None,
            verdict: Verdict::Continue,
            answers: Compared::default(),
            inconclusive: false,
            last_words: String::new(),
        };
        Rollout { spec, state }
    }

    /// Goes on from a checkpoint. A spec that differs from the checkpoint's
    /// takes effect for what is still to come: later steps, and the next start's
    /// analysis. One about other versions is another rollout and starts idle.
    pub fn restore(spec: Spec, checkpoint: Checkpoint, now: Moment) -> Rollout {
        let same = (&spec.split, &spec.primary, &spec.canary, &spec.also)
            == (&checkpoint.split, &checkpoint.primary, &checkpoint.canary, &checkpoint.also);
        if !same {
            return Rollout::new(spec);
        }
        let mut rollout = Rollout { spec, state: checkpoint };
        let now = now.max(rollout.state.at);
        rollout.state.history.resume(now);
        if let Some(judge) = &mut rollout.state.judge {
            judge.resume(now);
        }
        if let Some(checks) = &mut rollout.state.checks {
            checks.resume(now);
        }
        rollout.state.at = now;
        rollout.state.floor = 0;
        rollout.state.newest = 0;
        rollout.state.gates.forget();
        rollout.fit_to_spec();
        rollout
    }

    /// At exactly this point, as if no time had passed since.
    pub fn exactly(spec: Spec, checkpoint: Checkpoint) -> Rollout {
        Rollout { spec, state: checkpoint }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        self.state.clone()
    }

    pub fn is_at(&self, checkpoint: &Checkpoint) -> bool {
        self.state == *checkpoint
    }

    /// One evaluation. Called every 100 ms, less often while nothing moves, at once
    /// after a canary failure and after each command; also while idle, so that the judge knows the
    /// primary's history before a start.
    pub fn step(&mut self, now: Moment, evidence: &Evidence, commands: &[Command]) -> Vec<Action> {
        let (before, marks) = (self.flow(), self.marks());
        let now = now.max(self.state.at);
        // Before the first look there was nothing to wait through.
        let passed =
            if self.state.at == Moment::default() { Duration::ZERO } else { now.since(self.state.at) };
        let mut events = Vec::new();
        self.observe(now, evidence);
        self.hear(now, &evidence.words, &mut events);
        self.consult(now, evidence, &mut events);
        self.heed(now, passed, &mut events);
        self.heed_answers(now, &mut events);
        self.progress(now, passed, &mut events);
        for command in commands {
            self.obey(now, *command, &mut events);
        }
        let renewed = self.flow() == before && self.renews(now);
        let mut actions = self.conclude(before, marks, events);
        if renewed {
            actions.insert(0, Action::Renew);
        }
        actions
    }

    /// What has changed, as actions.
    fn conclude(&self, before: Flow, marks: (Option<u64>, Option<u64>), events: Vec<Event>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.flow() != before {
            actions.extend(self.shifts());
        }
        if self.marks() != marks {
            let (slow_us, reveal_us) = self.marks();
            actions.push(Action::Mark { slow_us, reveal_us });
        }
        actions.extend(events.into_iter().map(|event| Action::Tell { event }));
        actions
    }

    /// The weights that should be in force now, of the first of its splits.
    pub fn weights(&self) -> Weights {
        self.weights_of(&self.spec.primary, &self.spec.canary)
    }

    /// The weights that should be in force now, by split.
    pub fn all_weights(&self) -> impl Iterator<Item = (String, Weights)> + '_ {
        self.spec.sites().map(|site| (site.split, self.weights_of(&site.primary, &site.canary)))
    }

    /// Puts everything that should be in force in force.
    pub fn shifts(&self) -> impl Iterator<Item = Action> + '_ {
        self.all_weights().map(|(split, weights)| Action::Shift { split, weights })
    }

    fn weights_of(&self, primary: &str, canary: &str) -> Weights {
        let Flow { parts, matched, copied } = self.flow();
        let beside = match self.state.place {
            // A guard lowers the canary alone: what it is compared with stays.
            Place::Step(_) => self.spec.baseline_parts(self.state.parts).min(WHOLE - parts),
            _ => 0,
        };
        let weights = match &self.spec.baseline {
            Some(baseline) if beside > 0 => {
                let shares = [(primary, WHOLE - parts - beside), (canary, parts), (baseline, beside)];
                Weights::new(shares.map(|(name, parts)| (name.to_owned(), parts)).into())
                    .expect("they sum to the whole, and a baseline is another version")
            }
            _ => Weights::pair(primary, canary, parts),
        };
        weights.on_trial(matched, copied)
    }

    /// The ages that the proxy should report on: slow, and revealed.
    pub fn marks(&self) -> (Option<u64>, Option<u64>) {
        let active = self.state.place.is_active();
        let analysis = if active { &self.state.terms } else { &self.spec.analysis };
        let slow_us =
            analysis.latency.map(|asked| u64::try_from(asked.threshold.as_micros()).unwrap_or(u64::MAX));
        let reveal_us = self.state.judge.as_ref().filter(|_| active).and_then(Judge::reveal_us);
        (slow_us, reveal_us)
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The last evaluation.
    pub fn at(&self) -> Moment {
        self.state.at
    }

    pub fn phase(&self) -> Phase {
        let Checkpoint { place, guard, paused, .. } = &self.state;
        let waits = self.stands();
        place.phase(guard.as_ref(), *paused || waits)
    }

    /// Burst windows that have ended so far. When this changes, a checkpoint is
    /// worth writing.
    pub fn windows(&self) -> u64 {
        self.state.judge.as_ref().map_or(0, Judge::windows)
    }

    /// What of the traffic is the canary's just now.
    fn flow(&self) -> Flow {
        let Checkpoint { parts, matched, copied, guard, .. } = &self.state;
        let most = guard.as_ref().map_or((WHOLE, WHOLE), |guard| (guard.parts, guard.matched));
        // What only the judge suspects copies can still answer; a hand stops them, too.
        let by_hand = guard.is_some_and(|guard| guard.why == Why::Hand);
        let copied = if by_hand { 0 } else { *copied };
        Flow { parts: most.0.min(*parts), matched: most.1.min(*matched), copied }
    }

    /// The canary's weight in force.
    fn parts(&self) -> u32 {
        self.flow().parts
    }

    /// It waits for somebody to say so.
    fn stands(&self) -> bool {
        self.at_pause() || self.is_opening() || !self.waiting().is_empty()
    }

    fn at_pause(&self) -> bool {
        matches!(self.state.place, Place::Step(at) if matches!(self.spec.steps.get(at), Some(spec::Step::Pause { .. })))
    }

    fn observe(&mut self, now: Moment, evidence: &Evidence) {
        let share = self.expected_share();
        let state = &mut self.state;
        state.at = now;
        state.sticky = evidence.sticky;
        match state.judge.as_mut().filter(|_| state.place.is_active()) {
            Some(judge) if state.place == Place::Return => {
                let known = state.successor.get_or_insert_default();
                judge.observe(now, &evidence.swapped(), known);
            }
            Some(judge) => judge.observe(now, evidence, &state.history),
            None => {}
        }
        state.history.observe(now, evidence);
        if let Some(known) = state.successor.as_mut() {
            known.observe(now, &evidence.swapped());
        }
        for delta in &evidence.generations {
            if delta.id > state.floor && (delta.w - share).abs() < 1e-6 {
                // On the way back it is the primary that has to show something.
                let arm = if state.place == Place::Return { &delta.primary } else { &delta.canary };
                state.ended += arm.ok + arm.failed;
            }
            state.newest = state.newest.max(delta.id);
        }
        if let Some(answers) = &evidence.answers {
            state.answers.observe(answers);
        }
        if state.copied > 0 {
            state.ended += evidence.pairs.all();
        }
    }

    /// The chance with which the coin gives a request to the canary in this place:
    /// what a request's generation has to say for it to count as the place's own.
    fn expected_share(&self) -> f64 {
        let Checkpoint { parts, matched, .. } = self.state;
        if parts == 0 {
            return f64::from(matched) / f64::from(WHOLE);
        }
        self.coin_of(parts)
    }

    /// The same where the canary has so much.
    fn coin_of(&self, parts: u32) -> f64 {
        let in_step = matches!(self.state.place, Place::Step(_));
        let beside = if in_step { self.spec.baseline_parts(parts) } else { 0 };
        let against = if beside > 0 { beside } else { WHOLE - parts };
        f64::from(parts) / f64::from(parts + against)
    }

    fn tell(&self, now: Moment, kind: EventKind, text: String, events: &mut Vec<Event>) {
        let rollout = self.spec.name.clone();
        events.push(Event { at: now, rollout, kind, text, canary_parts: self.parts() });
    }
}
