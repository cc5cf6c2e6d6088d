//! When the journal fails, and when it is whole again.
//!
//! While nothing can be written, weights may fall but not rise: a rollout whose
//! rise was withheld is paused until the journal takes its checkpoint.

use super::{Down, KEEP, Tick};
use crate::clock::Moment;
use crate::fleet::{Fleet, Governed};
use crate::journal::Entry;
use crate::journal::looks;
use crate::rollout::{Checkpoint, Command, Event, EventKind, Phase};

impl Tick {
    /// Where rollouts under way stand, from time to time, and what they were given
    /// to come there.
    pub(super) fn keep_active(&mut self, now: Moment) {
        let mut kept = Vec::new();
        let mut active = 0;
        for (index, governed) in self.fleet.rollouts.iter_mut().enumerate() {
            active += usize::from(governed.is_active());
            let windows = governed.rollout.windows();
            let is_due = now.since(governed.kept) >= KEEP || windows != governed.windows;
            if is_due && governed.is_active() {
                (governed.kept, governed.windows) = (now, windows);
                kept.push((index, governed.rollout.checkpoint()));
            }
        }
        self.room = looks::room(active);
        if kept.is_empty() {
            return;
        }
        let mut entries = Vec::new();
        for (index, checkpoint) in &kept {
            let governed = &self.fleet.rollouts[*index];
            let rollout = governed.spec().name.as_str();
            entries.extend(governed.looks.entry(now, rollout));
            entries.push(Entry::Checkpoint { at: now, rollout, checkpoint });
        }
        match self.journal.append(&entries) {
            Ok(()) => {
                kept.iter().for_each(|(index, _)| self.fleet.rollouts[*index].looks.kept_with_state());
            }
            Err(cause) => self.journal_failed(&cause),
        }
        if self.journal.is_oversized() {
            self.rewrite_journal();
        }
    }

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
                let generation = self.handle.next_generation();
                for (split, weights) in governed.rollout.all_weights() {
                    let now = tokio::time::Instant::now();
                    super::put_in_force(&self.handle, &split, &weights, generation, now);
                }
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
        let looks = self.fleet.rollouts.iter().filter_map(|governed| unwritten(governed, now));
        let entries: Vec<_> = looks.chain(everything(&self.fleet, &checkpoints, now)).collect();
        self.journal.append(&entries)?;
        for governed in &mut self.fleet.rollouts {
            governed.looks.kept_with_state();
        }
        self.journal.sync()?;
        self.journal.forget_falls();
        for governed in &mut self.fleet.rollouts {
            governed.kept = now;
        }
        if self.journal.is_oversized() {
            self.rewrite_journal();
        }
        Ok(())
    }

    /// What rollouts were given so far, before their terms or their file change.
    pub(super) fn keep_looks(&mut self) {
        let now = self.clock.now();
        let looks: Vec<_> =
            self.fleet.rollouts.iter().filter_map(|governed| unwritten(governed, now)).collect();
        match self.journal.append(&looks) {
            Ok(()) => self.fleet.rollouts.iter_mut().for_each(|governed| governed.looks.kept()),
            Err(cause) => self.journal_failed(&cause),
        }
    }

    /// The fresh file begins where the older one ends.
    pub(super) fn rewrite_journal(&mut self) {
        self.keep_looks();
        let checkpoints = checkpoints(&self.fleet);
        let entries = everything(&self.fleet, &checkpoints, self.clock.now());
        match self.journal.rewrite(&entries) {
            Ok(()) => self.fleet.rollouts.iter_mut().for_each(|governed| governed.looks.kept_with_state()),
            Err(cause) => tracing::warn!(%cause, "the journal stays oversized"),
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

fn unwritten(governed: &Governed, at: Moment) -> Option<Entry<'_>> {
    governed.looks.entry(at, &governed.spec().name)
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

#[cfg(test)]
mod tests {
    use serin_proxy::{Handle, Options};
    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::config::{Files, Referenced};
    use crate::events::Since;
    use crate::journal::{Journal, Past};
    use crate::source;
    use crate::tick::ask::Refusal;
    use crate::tick::{Fixed, Parts};

    const FILE: &str = "listen: 127.0.0.1:0\nservices:\n  web:\n    primary: 127.0.0.1:9\n    canary: 127.0.0.1:9\n\
                        rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 50, for: 60s}]\n";

    fn tick() -> (Tick, TempDir) {
        let loaded = config::load("test.yaml", FILE, &Files::none()).expect("the test's file is good");
        let directory = tempfile::tempdir().unwrap();
        let (journal, past) = Journal::open(directory.path()).unwrap();
        assert_eq!(past, Past::default());
        let clock = Clock::start(Moment::default());
        let fleet = Fleet::restore(&loaded, past, clock.now());
        let model = fleet.model_at_start(&loaded);
        let (handle, _) = Handle::start(&model, Options { workers: 1, ..Options::default() }).unwrap();
        let fixed = Fixed { admin: loaded.admin, workers: loaded.workers, state: loaded.state.clone() };
        let (path, text) = (directory.path().join("test.yaml"), FILE.to_owned());
        std::fs::write(&path, FILE).unwrap();
        let (noticed, _) = tokio::sync::mpsc::channel(1);
        let watch = source::file::watch(&path, text.clone(), Referenced::default(), noticed).unwrap();
        let parts = Parts {
            handle,
            clock,
            fleet,
            journal,
            model,
            path,
            text,
            referenced: Referenced::default(),
            watch,
            fixed,
            drain: tokio::sync::watch::channel(loaded.drain).0,
            metrics: loaded.metrics.clone(),
            loaded: tokio::sync::watch::channel(std::sync::Arc::new(loaded)).0,
            board: crate::answers::Board::default(),
            reloads: crate::tick::view::Reloads::default(),
            warnings: Vec::new(),
            told: Default::default(),
        };
        (Tick::new(parts), directory)
    }

    fn canary(tick: &Tick) -> u32 {
        tick.handle.evidence(|_, _, _| true)[0].weights.of("canary")
    }

    #[test]
    fn weight_does_not_rise_while_the_journal_fails_and_rises_when_it_is_whole() {
        let (mut tick, _directory) = tick();
        tick.command("web", Command::Start).unwrap();
        assert_eq!(canary(&tick), 2_000);
        tick.journal.break_down();
        tick.evaluate(Some(("web", Command::Promote)));
        assert_eq!(canary(&tick), 2_000, "the rise is withheld");
        assert_eq!(tick.fleet.rollouts[0].phase(), Phase::Paused);
        let told = tick.events.subscribe(Since::Start).missed;
        assert!(told.iter().any(|told| told.event.kind == EventKind::Held), "{told:?}");
        tick.retry_journal();
        assert_eq!(canary(&tick), 2_000, "it still fails");
        assert!(matches!(tick.command("web", Command::Promote), Err(Refusal::Unavailable(_))));
        tick.journal.mend();
        tick.retry_journal();
        assert_eq!(canary(&tick), 5_000);
        assert_eq!(tick.fleet.rollouts[0].phase(), Phase::Running);
    }

    #[test]
    fn weight_falls_while_the_journal_fails() {
        let (mut tick, _directory) = tick();
        tick.command("web", Command::Start).unwrap();
        tick.journal.break_down();
        tick.command("web", Command::Abort).unwrap();
        assert_eq!(canary(&tick), 0);
    }

    #[test]
    fn rise_is_in_the_journal_when_it_is_in_force() {
        let (mut tick, directory) = tick();
        tick.command("web", Command::Start).unwrap();
        assert_eq!(canary(&tick), 2_000);
        drop(tick);
        let (_journal, past) = Journal::reopen(directory.path()).unwrap();
        let loaded = config::load("test.yaml", FILE, &Files::none()).expect("the test's file is good");
        let fleet = Fleet::restore(&loaded, past, Moment(u64::MAX / 2));
        assert_eq!(fleet.model_at_start(&loaded).splits[0].weights.of("canary"), 2_000);
    }

    #[test]
    fn a_split_is_read_again_only_where_something_has_moved() {
        let (tick, _directory) = tick();
        let read = |known| tick.handle.evidence(|_, _, state| Some(state) != known);
        let state = read(None)[0].state;
        assert!(read(Some(state)).is_empty(), "nothing has moved");
        tick.handle.shift("web", &serin_proxy::Weights::pair("primary", "canary", 100)).unwrap();
        let shifted = read(Some(state))[0].state;
        assert!(read(Some(shifted)).is_empty());
        tick.handle.apply(&tick.model, std::time::Duration::ZERO).unwrap();
        assert_eq!(read(Some(shifted)).len(), 1, "what is mirrored or kept may be another now");
    }

    #[test]
    fn weights_that_moved_elsewhere_are_put_back_where_a_rollout_is_under_way() {
        let (mut tick, _directory) = tick();
        tick.command("web", Command::Start).unwrap();
        tick.handle.shift("web", &serin_proxy::Weights::pair("primary", "canary", 9_000)).unwrap();
        tick.evaluate(None);
        assert_eq!(canary(&tick), 2_000);
    }
}
