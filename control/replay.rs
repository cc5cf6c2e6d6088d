//! Decides again what was decided, from the record of what the engine was given:
//! the same engine, the same looks, no clock. What it says again is compared with
//! what was said then, to the bit; what another policy would have said is told
//! beside it.
//!
//! It only trusts what it can follow: where the record is broken it says so, and
//! goes on from the next state that was written.

mod course;
pub mod report;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Moment;
use crate::journal::coded::Decoder;
use crate::journal::saved::Saved;
use crate::judge::evidence::Evidence;
use crate::rollout::{Action, Checkpoint, Command, Rollout, Spec};
use course::Course;
use report::{Again, Break, Decided, Report, Supposed};

pub struct Replay {
    /// Other policies, by the name of their rollout.
    policies: BTreeMap<String, Spec>,
    tracks: BTreeMap<String, Track>,
}

/// One rollout, followed through the record.
#[derive(Default)]
struct Track {
    spec: Option<Spec>,
    /// As it was; none where its state is not known.
    exact: Option<Rollout>,
    /// Who governs was said anew: what it goes on from may be another state.
    is_announced: bool,
    report: Report,
    recorded: Course,
    policy: Option<Spec>,
    supposed: Course,
}

impl Replay {
    pub fn new(policies: Vec<Spec>) -> Replay {
        let policies = policies.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        Replay { policies, tracks: BTreeMap::new() }
    }

    pub fn take(&mut self, line: Saved) {
        match line {
            Saved::Journal { .. } | Saved::Weights {} => {}
            Saved::Governs { at, rollout, spec } => self.track(rollout, at).govern(*spec),
            Saved::Dropped { at, rollout } => self.track(rollout, at).drop_it(),
            Saved::Looks { at, rollout, after, lost, base, looks } => {
                let track = self.track(rollout, at);
                if let Some(base) = base {
                    track.begin_from(at, *base, lost);
                }
                track.look_through(after, &looks);
            }
            Saved::Decision { at, rollout, after, evidence, commands, actions, checkpoint } => {
                let track = self.track(rollout, at);
                let again = track.decide(at, after, &evidence, &commands, &actions, &checkpoint);
                track.recorded.did(at, &actions);
                track.report.decisions.push(Decided { at, commands, actions, again });
            }
            Saved::Checkpoint { at, rollout, checkpoint } => self.track(rollout, at).check(at, *checkpoint),
        }
    }

    pub fn end(self) -> Vec<Report> {
        self.tracks.into_values().map(Track::end).collect()
    }

    fn track(&mut self, rollout: String, at: Moment) -> &mut Track {
        let policies = &self.policies;
        let track = self.tracks.entry(rollout).or_insert_with_key(|name| Track {
            policy: policies.get(name).cloned(),
            report: Report { rollout: name.clone(), ..Report::default() },
            ..Track::default()
        });
        track.report.until = at;
        track
    }
}

impl Track {
    fn govern(&mut self, spec: Spec) {
        let same = |exact: Rollout| Rollout::exactly(spec.clone(), exact.checkpoint());
        self.exact = self.exact.take().map(same);
        (self.spec, self.is_announced) = (Some(spec), true);
    }

    /// What comes under its name is another one.
    fn drop_it(&mut self) {
        (self.spec, self.exact) = (None, None);
        self.supposed.leave(self.report.until);
    }

    /// Looks that follow this state.
    fn begin_from(&mut self, at: Moment, base: Checkpoint, lost: u64) {
        if !self.exact.as_ref().is_some_and(|exact| exact.is_at(&base)) {
            self.go_on_from(at, base, Some(lost));
        }
    }

    fn look_through(&mut self, after: Moment, looks: &str) {
        let Ok(bytes) = STANDARD.decode(looks) else { return self.lose("its looks are not in base64") };
        if self.exact.as_ref().is_some_and(|exact| exact.at() != after) {
            return self.lose("looks before it are missing");
        }
        for look in Decoder::new(&bytes) {
            match look {
                Ok((at, evidence)) => self.look(at, &evidence),
                Err(cause) => return self.lose(&cause),
            }
        }
    }

    /// Nothing was decided here.
    fn look(&mut self, at: Moment, evidence: &Evidence) {
        let Some(again) = self.step(at, evidence, &[]) else { return };
        self.report.looks += 1;
        if !again.is_empty() {
            let again = Again::Different { actions: again };
            self.report.decisions.push(Decided { at, commands: Vec::new(), actions: Vec::new(), again });
        }
    }

    fn step(&mut self, at: Moment, evidence: &Evidence, commands: &[Command]) -> Option<Vec<Action>> {
        self.recorded.saw(evidence);
        self.supposed.look(at, evidence, commands);
        Some(self.exact.as_mut()?.step(at, evidence, commands))
    }

    fn decide(
        &mut self,
        at: Moment,
        after: Option<Moment>,
        evidence: &Evidence,
        commands: &[Command],
        actions: &[Action],
        then: &Checkpoint,
    ) -> Again {
        let missing = match (&self.exact, after) {
            (_, None) => Some("it was written by a serin that kept no looks"),
            (None, _) => Some("the state before it is not in the record"),
            (Some(exact), Some(after)) if exact.at() != after => Some("looks before it are missing"),
            _ => None,
        };
        if let Some(why) = missing {
            self.recorded.saw(evidence);
            self.go_on_from(at, then.clone(), Some(0));
            return Again::Unknown { why: why.to_owned() };
        }
        let again = self.step(at, evidence, commands).unwrap_or_default();
        self.report.looks += 1;
        let is_same = again == actions || self.puts_back(&again, actions);
        self.compare_state(at, then);
        if is_same { Again::Same } else { Again::Different { actions: again } }
    }

    /// Weights that somebody else had moved were put back: not the engine's idea.
    fn puts_back(&self, again: &[Action], actions: &[Action]) -> bool {
        let Some(rest) = actions.strip_prefix(again) else { return false };
        self.exact.as_ref().is_some_and(|exact| exact.shifts().eq(rest.iter().cloned()))
    }

    /// Whatever it was decided from, what follows was decided from this.
    fn compare_state(&mut self, at: Moment, then: &Checkpoint) {
        let (Some(exact), Some(spec)) = (&self.exact, &self.spec) else { return };
        self.report.states += 1;
        if !exact.is_at(then) {
            self.report.states_differ += 1;
            self.report.differs_from.get_or_insert(at);
            self.exact = Some(Rollout::exactly(spec.clone(), then.clone()));
        }
    }

    fn check(&mut self, at: Moment, checkpoint: Checkpoint) {
        let was_announced = std::mem::take(&mut self.is_announced);
        let Some(spec) = &self.spec else { return };
        let written = Rollout::exactly(spec.clone(), checkpoint);
        match &self.exact {
            Some(exact) if exact.at() == written.at() && !was_announced => {
                self.compare_state(at, &written.checkpoint());
            }
            Some(exact) if exact.is_at(&written.checkpoint()) => self.report.states += 1,
            _ => self.go_on_from(at, written.checkpoint(), (!was_announced).then_some(0)),
        }
    }

    fn lose(&mut self, why: &str) {
        if let Some(exact) = self.exact.take() {
            self.report.breaks.push(Break {
                from: exact.at(),
                to: None,
                lost: None,
                why: why.to_owned(),
                phase: exact.phase(),
            });
        }
    }

    /// From a state that does not follow from what was before. `lost`: so many looks
    /// could not be kept; none where it began anew.
    fn go_on_from(&mut self, at: Moment, base: Checkpoint, lost: Option<u64>) {
        let Some(spec) = &self.spec else { return };
        let next = Rollout::exactly(spec.clone(), base);
        match &self.exact {
            None if self.report.since.is_none() => {
                self.report.since = Some(at);
                self.report.was_under_way = next.phase().is_active();
            }
            Some(exact) if exact.phase().is_active() => {
                let why = match lost {
                    None => "serin was started again, or the rollout's terms were changed",
                    Some(_) => "what it was given is not in the record",
                };
                self.report.breaks.push(Break {
                    from: exact.at(),
                    to: Some(next.at()),
                    lost: lost.filter(|lost| *lost > 0),
                    why: why.to_owned(),
                    phase: next.phase(),
                });
            }
            _ => {}
        }
        if let Some(policy) = &self.policy {
            self.supposed.go_on(policy, &next);
        }
        self.exact = Some(next);
    }

    fn end(self) -> Report {
        let Track { mut report, recorded, policy, supposed, exact, .. } = self;
        report.stands = exact.map(|exact| exact.phase());
        let (decisions, runs) = supposed.told(report.until);
        let recorded = recorded.told(report.until).1;
        report.supposed = policy.map(|_| Supposed { decisions, recorded, runs });
        report
    }
}
