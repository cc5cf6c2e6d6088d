//! When the journal fails, and when it is whole again.
//!
//! While nothing can be written, weights may fall but not rise: a rollout whose
//! rise was withheld is paused until the journal takes its checkpoint.

use super::{Down, Tick};
use crate::clock::Moment;
use crate::fleet::Fleet;
use crate::journal::Entry;
use crate::rollout::{Checkpoint, Command, Event, EventKind, Phase};

impl Tick {
    pub(super) fn journal_failed(&mut self, cause: &std::io::Error) {
        let (cause, retried) = (cause.to_string(), self.clock.now());
        if self.down.is_none() {
            tracing::error!(cause, "the journal cannot be written; no weight rises until it can");
        }
        self.down = Some(Down { cause, retried });
    }

    /// Pauses the rollouts whose rise was just withheld.
    pub(super) fn hold_withheld(&mut self) {
        let Some(cause) = self.down.as_ref().map(|down| down.cause.clone()) else { return };
        let mut held = Vec::new();
        for governed in &mut self.fleet.rollouts {
            if governed.withheld && !governed.paused_by_us && governed.phase() == Phase::Running {
                governed.paused_by_us = true;
                held.push(governed.spec().name.clone());
            }
        }
        for rollout in held {
            let text = format!("the journal cannot be written ({cause}); the canary's weight does not rise");
            self.evaluate(Some((&rollout, Command::Pause)));
            self.tell_of(rollout, EventKind::Held, text);
        }
    }

    /// Tries to write where everything stands; then what was withheld may happen.
    pub(super) fn retry_journal(&mut self) {
        if let Err(cause) = self.keep_everything() {
            return self.journal_failed(&cause);
        }
        self.down = None;
        tracing::info!("the journal can be written again");
        let mut resumed = Vec::new();
        for governed in &mut self.fleet.rollouts {
            if std::mem::take(&mut governed.withheld) {
                let (split, weights) = (governed.spec().split.clone(), governed.rollout.weights());
                super::put_in_force(&self.handle, &split, &weights, tokio::time::Instant::now());
            }
            if std::mem::take(&mut governed.paused_by_us) && governed.phase() == Phase::Paused {
                resumed.push(governed.spec().name.clone());
            }
        }
        for rollout in resumed {
            self.evaluate(Some((&rollout, Command::Resume)));
            self.tell_of(rollout, EventKind::Released, "the journal can be written again".to_owned());
        }
    }

    /// Appends the last word on everything, to outlive the machine.
    pub(super) fn keep_everything(&mut self) -> std::io::Result<()> {
        let now = self.clock.now();
        let checkpoints = checkpoints(&self.fleet);
        self.journal.append(&everything(&self.fleet, &checkpoints, now))?;
        self.journal.sync()?;
        for governed in &mut self.fleet.rollouts {
            governed.kept = now;
        }
        if self.journal.is_oversized() {
            self.rewrite_journal();
        }
        Ok(())
    }

    pub(super) fn rewrite_journal(&mut self) {
        let checkpoints = checkpoints(&self.fleet);
        let entries = everything(&self.fleet, &checkpoints, self.clock.now());
        if let Err(cause) = self.journal.rewrite(&entries) {
            tracing::warn!(%cause, "the journal stays oversized");
        }
    }

    fn tell_of(&mut self, rollout: String, kind: EventKind, text: String) {
        let at = self.clock.now();
        let governed = self.fleet.rollouts.iter().find(|governed| governed.spec().name == rollout);
        let reading = self.handle.readings();
        let canary_parts = governed.map_or(0, |governed| {
            let spec = governed.spec();
            let live = reading.splits.iter().find(|reading| reading.split == spec.split);
            live.map_or(0, |live| live.weights.of(&spec.canary))
        });
        self.tell(Event { at, rollout, kind, text, canary_parts }, None);
    }
}

fn checkpoints(fleet: &Fleet) -> Vec<Checkpoint> {
    fleet.rollouts.iter().map(|governed| governed.rollout.checkpoint()).collect()
}

fn everything<'a>(fleet: &'a Fleet, checkpoints: &'a [Checkpoint], at: Moment) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for (governed, checkpoint) in fleet.rollouts.iter().zip(checkpoints) {
        let spec = governed.spec();
        entries.push(Entry::Governs { at, rollout: &spec.name, spec, canary: &governed.canary });
        entries.push(Entry::Checkpoint { at, rollout: &spec.name, checkpoint });
    }
    for (split, manual) in &fleet.manual {
        entries.push(Entry::Weights { at, split, asked: &manual.asked, weights: Some(&manual.weights) });
    }
    entries
}
