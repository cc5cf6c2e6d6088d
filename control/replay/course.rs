//! How a rollout went, or would have gone: its decisions, and what it cost until
//! its end.

use serde::Serialize;

use crate::clock::Moment;
use crate::judge::evidence::Evidence;
use crate::rollout::{Action, Command, Event, EventKind, Rollout, Spec};

/// One way from a start to an end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    pub since: Moment,
    /// First cut to a trickle.
    pub cut: Option<Moment>,
    pub promoted: Option<Moment>,
    pub end: Option<End>,
    /// What went to the canary so far, until the end where there is one.
    pub requests: u64,
    pub failures: u64,
    /// Where it stood when no more was known of it, had it not ended.
    pub stands: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct End {
    pub at: Moment,
    pub kind: EventKind,
}

/// What was decided at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Done {
    pub at: Moment,
    pub events: Vec<Event>,
}

#[derive(Default)]
pub struct Course {
    /// None where it is only told what was decided.
    rollout: Option<Rollout>,
    decisions: Vec<Done>,
    runs: Vec<Run>,
}

impl Course {
    /// The state of who was recorded is another one from here on. One that has ended
    /// or never begun knows as much of the primary as that one.
    pub fn go_on(&mut self, policy: &Spec, recorded: &Rollout) {
        if !recorded.phase().is_active() {
            self.leave(recorded.at());
        }
        let next = match &self.rollout {
            Some(rollout) if recorded.phase().is_active() => {
                Rollout::restore(policy.clone(), rollout.checkpoint(), recorded.at())
            }
            None if recorded.phase().is_active() => {
                Rollout::restore(policy.clone(), recorded.checkpoint(), recorded.at())
            }
            _ => Rollout::exactly(policy.clone(), recorded.checkpoint()),
        };
        self.rollout = Some(next);
    }

    /// No more is known of it.
    pub fn leave(&mut self, at: Moment) {
        let Some(rollout) = self.rollout.take().filter(|rollout| rollout.phase().is_active()) else { return };
        if let Some(run) = self.runs.last_mut().filter(|run| run.end.is_none()) {
            let status = rollout.status(at);
            run.stands = Some(format!("{} at {}", status.phase.name(), status.doing));
        }
    }

    pub fn look(&mut self, at: Moment, evidence: &Evidence, commands: &[Command]) {
        let Some(rollout) = &mut self.rollout else { return };
        let actions = rollout.step(at, evidence, commands);
        self.saw(evidence);
        self.did(at, &actions);
    }

    pub fn saw(&mut self, evidence: &Evidence) {
        let Some(run) = self.runs.last_mut().filter(|run| run.end.is_none()) else { return };
        run.requests += evidence.generations.iter().map(|delta| delta.canary.dispatched).sum::<u64>();
        run.failures += evidence.generations.iter().map(|delta| delta.canary.failed).sum::<u64>();
    }

    pub fn did(&mut self, at: Moment, actions: &[Action]) {
        let events: Vec<Event> = told(actions).cloned().collect();
        for event in &events {
            self.heard(at, event.kind);
        }
        if !events.is_empty() {
            self.decisions.push(Done { at, events });
        }
    }

    fn heard(&mut self, at: Moment, kind: EventKind) {
        if kind == EventKind::Started {
            return self.runs.push(Run { since: at, ..Run::default() });
        }
        let Some(run) = self.runs.last_mut().filter(|run| run.end.is_none()) else { return };
        match kind {
            EventKind::Suspended => drop(run.cut.get_or_insert(at)),
            EventKind::Promoted => run.promoted = Some(at),
            EventKind::RolledBack | EventKind::Aborted | EventKind::Baked | EventKind::TurnedBack => {
                run.end = Some(End { at, kind });
            }
            _ => {}
        }
    }

    /// Its decisions and its runs, until the end of the record.
    pub fn told(mut self, at: Moment) -> (Vec<Done>, Vec<Run>) {
        self.leave(at);
        (self.decisions, self.runs)
    }
}

/// What actions tell people.
pub fn told(actions: &[Action]) -> impl Iterator<Item = &Event> {
    actions.iter().filter_map(|action| match action {
        Action::Tell { event } => Some(event),
        _ => None,
    })
}
