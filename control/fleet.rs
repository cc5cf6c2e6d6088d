//! All rollouts, and which weights each split should have when the process starts
//! or the file changes.
//!
//! Three voices can speak for a split: a rollout that has begun, an operator who
//! set weights by hand, and the file. The latest word wins, and the file's word is
//! only new when it changed. A rollout is about one release: when the canary
//! answers at none of the addresses it had before, it is another release, and what
//! was decided about the old one does not count for it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serin_proxy::model::{Model, Split, Version};
use serin_proxy::reading::{SplitReading, State};
use serin_proxy::{Reading, Weights};

use crate::clock::Moment;
use crate::config::Loaded;
use crate::falls::Fall;
use crate::journal::{Manual, Past, PastRollout};
use crate::outside::hook::Word;
use crate::rollout::{Phase, Rollout, Spec};
use crate::window::Window;

/// A rollout on whose split nothing moves is asked this often what time has brought.
const QUIET: Duration = Duration::from_millis(500);

/// A rollout and what the shell keeps beside it.
pub struct Governed {
    pub rollout: Rollout,
    pub window: Window,
    /// What webhooks have answered and the rollout has not yet heard.
    pub words: Vec<Word>,
    /// What the file says of the release under judgement: where it answers.
    pub canary: Vec<String>,
    /// When the journal last got a checkpoint, and how many of the judge's
    /// windows that one knew.
    pub kept: Moment,
    pub windows: u64,
    /// A rise was decided that the journal could not take, so it is not in force.
    pub withheld: bool,
    /// Paused for that reason and not by an operator.
    pub paused_by_us: bool,
}

#[derive(Default)]
pub struct Fleet {
    pub rollouts: Vec<Governed>,
    /// Weights set by hand, by split.
    pub manual: BTreeMap<String, Manual>,
    /// What the file asks for, by split.
    asked: BTreeMap<String, Weights>,
}

/// What a new file means for a rollout that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    /// The same release under new terms.
    Respec,
    Begin,
}

/// What adopting a file did to the rollouts.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Names that are gone.
    pub dropped: Vec<String>,
    /// Names whose spec or release is new: the journal has to hear of them.
    pub changed: Vec<String>,
}

impl Governed {
    fn begin(spec: &Spec, canary: Vec<String>) -> Governed {
        let window = Window::new(&spec.primary, &spec.canary);
        let rollout = Rollout::new(spec.clone());
        Governed {
            rollout,
            window,
            words: Vec::new(),
            canary,
            kept: Moment::default(),
            windows: 0,
            withheld: false,
            paused_by_us: false,
        }
    }

    /// `fall` was in force and is perhaps not in `past`.
    fn restore(
        spec: &Spec,
        canary: Vec<String>,
        past: &PastRollout,
        fall: Option<&Fall>,
        now: Moment,
    ) -> Governed {
        let mut governed = Governed::begin(spec, canary);
        let Some(checkpoint) = past.checkpoint.clone() else { return governed };
        if !is_same_release(&past.canary, &governed.canary) {
            tracing::warn!(rollout = spec.name, "the canary is another release than before; starting anew");
            return governed;
        }
        match serde_json::from_value(checkpoint) {
            Ok(checkpoint) => {
                governed.rollout = Rollout::restore(spec.clone(), checkpoint, now);
                if let Some(fall) = fall.filter(|fall| fall.at >= past.at)
                    && governed.rollout.fall_again(now, fall.kind, fall.parts)
                {
                    let percent = serin_proxy::weights::percent(fall.parts);
                    tracing::warn!(
                        rollout = spec.name,
                        canary_percent = percent,
                        "its weight had fallen when the process was killed, and the journal did not say so yet"
                    );
                }
            }
            Err(cause) => {
                tracing::error!(rollout = spec.name, %cause, "checkpoint is not readable; starting anew");
            }
        }
        governed
    }

    pub fn spec(&self) -> &Spec {
        self.rollout.spec()
    }

    pub fn phase(&self) -> Phase {
        self.rollout.phase()
    }

    /// Whether it is to be asked although nothing has moved: time passes for it too.
    pub fn is_due(&self, now: Moment) -> bool {
        !self.words.is_empty() || now.since(self.rollout.at()) >= QUIET
    }

    /// Whether it holds the weights of its split.
    pub fn is_active(&self) -> bool {
        is_active(self.phase())
    }
}

fn is_active(phase: Phase) -> bool {
    match phase {
        Phase::Running | Phase::Paused | Phase::Suspended | Phase::Held | Phase::Baking => true,
        Phase::Idle | Phase::Succeeded | Phase::RolledBack | Phase::Aborted => false,
    }
}

impl Fleet {
    /// Goes on from the journal with the rollouts that the file names.
    pub fn restore(loaded: &Loaded, past: Past, now: Moment) -> Fleet {
        let rollouts = loaded
            .rollouts
            .iter()
            .map(|spec| {
                let canary = endpoints(&loaded.model, spec);
                match past.rollouts.get(&spec.name) {
                    Some(rollout) => {
                        Governed::restore(spec, canary, rollout, past.falls.get(&spec.name), now)
                    }
                    None => Governed::begin(spec, canary),
                }
            })
            .collect();
        let asked = asked(&loaded.model);
        let mut manual = past.weights;
        manual.retain(|split, manual| asked.get(split) == Some(&manual.asked));
        for spec in &loaded.rollouts {
            let before = past.rollouts.get(&spec.name);
            if before.is_some_and(|past| !is_same_release(&past.canary, &endpoints(&loaded.model, spec))) {
                manual.remove(&spec.split);
            }
        }
        Fleet { rollouts, manual, asked }
    }

    /// The evidence that these rollouts' checkpoints contain already.
    pub fn has_seen(&mut self, splits: &[SplitReading]) {
        for governed in &mut self.rollouts {
            if let Some(split) = splits.iter().find(|split| split.split == governed.spec().split) {
                governed.window.take(split);
            }
        }
    }

    /// The loaded model with the weights that should be in force from the start.
    pub fn model_at_start(&self, loaded: &Loaded) -> Model {
        with_weights(
            &loaded.model,
            |split| {
                self.governing(&split.name)
                    .filter(|governed| governed.phase() != Phase::Idle)
                    .filter(|_| !self.manual.contains_key(&split.name))
                    .map(|governed| governed.rollout.weights())
            },
            &self.manual,
        )
    }

    /// The loaded model with the weights that should be in force after a change
    /// of the file; nothing has changed yet.
    pub fn model_after(&self, loaded: &Loaded, reading: &Reading) -> Model {
        with_weights(
            &loaded.model,
            |split| {
                let old = self.governing(&split.name)?;
                let phase = old.phase();
                let goes_on = loaded.rollouts.iter().any(|spec| {
                    spec.name == old.spec().name && self.fate(spec, &loaded.model) != Fate::Begin
                });
                if goes_on {
                    let governs = phase != Phase::Idle && !self.manual.contains_key(&split.name);
                    governs.then(|| {
                        live(reading, &split.name).map_or(old.rollout.weights(), |s| s.weights.clone())
                    })
                } else {
                    is_active(phase).then(|| Weights::pair(&old.spec().primary, &old.spec().canary, 0))
                }
            },
            &self.manual_after(loaded),
        )
    }

    /// Weights set by hand were meant for the release that was there.
    fn manual_after(&self, loaded: &Loaded) -> BTreeMap<String, Manual> {
        let mut manual = self.manual.clone();
        for spec in &loaded.rollouts {
            let is_known = self.rollouts.iter().any(|governed| governed.spec().name == spec.name);
            if is_known && self.fate(spec, &loaded.model) == Fate::Begin {
                manual.remove(&spec.split);
            }
        }
        manual
    }

    /// Takes over the rollouts of a file that the proxy has accepted.
    pub fn adopt(&mut self, loaded: &Loaded, reading: &Reading, now: Moment) -> Adopted {
        let mut adopted = Adopted::default();
        self.manual = self.manual_after(loaded);
        let fates: Vec<Fate> = loaded.rollouts.iter().map(|spec| self.fate(spec, &loaded.model)).collect();
        let mut old = std::mem::take(&mut self.rollouts);
        for (spec, fate) in loaded.rollouts.iter().zip(fates) {
            let canary = endpoints(&loaded.model, spec);
            let before = old.iter().position(|governed| governed.spec().name == spec.name);
            let before = before.map(|index| old.swap_remove(index));
            let mut governed = match before {
                Some(governed) if fate == Fate::Keep => governed,
                Some(mut governed) if fate == Fate::Respec => {
                    let checkpoint = governed.rollout.checkpoint();
                    governed.rollout = Rollout::restore(spec.clone(), checkpoint, now);
                    governed
                }
                before => {
                    adopted.dropped.extend(before.map(|governed| governed.spec().name.clone()));
                    begin_now(spec, canary.clone(), reading)
                }
            };
            if fate != Fate::Keep || governed.canary != canary {
                adopted.changed.push(spec.name.clone());
            }
            governed.canary = canary;
            self.rollouts.push(governed);
        }
        adopted.dropped.extend(old.into_iter().map(|governed| governed.spec().name.clone()));
        self.asked = asked(&loaded.model);
        self.manual.retain(|split, manual| self.asked.get(split) == Some(&manual.asked));
        adopted
    }

    /// The splits whose evidence some rollout wants to hear of, with what it knows.
    pub fn watched(&self) -> HashMap<&str, Option<State>> {
        let known = |governed: &Governed| governed.window.state();
        self.rollouts.iter().map(|governed| (governed.spec().split.as_str(), known(governed))).collect()
    }

    pub fn governing(&self, split: &str) -> Option<&Governed> {
        self.rollouts.iter().find(|governed| governed.spec().split == split)
    }

    pub fn asked(&self, split: &str) -> Option<&Weights> {
        self.asked.get(split)
    }

    fn fate(&self, spec: &Spec, model: &Model) -> Fate {
        let Some(old) = self.rollouts.iter().find(|governed| governed.spec().name == spec.name) else {
            return Fate::Begin;
        };
        let of = |spec: &Spec| (spec.split.clone(), spec.primary.clone(), spec.canary.clone());
        if of(old.spec()) != of(spec) || !is_same_release(&old.canary, &endpoints(model, spec)) {
            Fate::Begin
        } else if old.spec() == spec {
            Fate::Keep
        } else {
            Fate::Respec
        }
    }
}

/// A rollout that begins while the process runs: what the counters hold already
/// is about another release.
fn begin_now(spec: &Spec, canary: Vec<String>, reading: &Reading) -> Governed {
    let mut governed = Governed::begin(spec, canary);
    if let Some(split) = live(reading, &spec.split) {
        governed.window.take(split);
    }
    governed
}

/// Scaling a release leaves at least one of its addresses.
fn is_same_release(before: &[String], now: &[String]) -> bool {
    before == now || before.iter().any(|address| now.contains(address))
}

fn live<'a>(reading: &'a Reading, split: &str) -> Option<&'a SplitReading> {
    reading.splits.iter().find(|reading| reading.split == split)
}

fn endpoints(model: &Model, spec: &Spec) -> Vec<String> {
    let split = model.splits.iter().find(|split| split.name == spec.split);
    let service = split.and_then(|split| model.services.iter().find(|service| service.name == split.service));
    service
        .and_then(|service| service.versions.iter().find(|version| version.name == spec.canary))
        .map(release_of)
        .unwrap_or_default()
}

/// The words of the file, whatever its names resolve to at the moment.
fn release_of(version: &Version) -> Vec<String> {
    if version.release.is_empty() {
        version.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    } else {
        version.release.clone()
    }
}

fn asked(model: &Model) -> BTreeMap<String, Weights> {
    model.splits.iter().map(|split| (split.name.clone(), split.weights.clone())).collect()
}

/// Sets the weights of every split: a rollout's word, else a hand's, else the file's.
/// Weights that name a version which is gone are no one's word.
fn with_weights(
    model: &Model,
    decided: impl Fn(&Split) -> Option<Weights>,
    manual: &BTreeMap<String, Manual>,
) -> Model {
    let mut model = model.clone();
    for split in &mut model.splits {
        let service = model.services.iter().find(|service| service.name == split.service);
        let exists = |name: &str| {
            service.is_some_and(|service| service.versions.iter().any(|version| version.name == name))
        };
        let by_hand = || {
            let manual = manual.get(&split.name).filter(|manual| manual.asked == split.weights)?;
            Some(manual.weights.clone())
        };
        let weights = decided(split).or_else(by_hand);
        if let Some(weights) = weights.filter(|weights| weights.iter().all(|(name, _)| exists(name))) {
            split.weights = weights;
        }
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::judge::evidence::Evidence;
    use crate::rollout::{Command, EventKind};

    const ROLLOUT: &str = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 50, for: 60s}]\n";

    /// A file with these canary weights, a canary at this port, and these rollouts.
    fn file(parts: u32, port: u16, rollouts: &str) -> Loaded {
        let text = format!(
            "listen: 127.0.0.1:0\nservices:\n  web:\n    primary: 127.0.0.1:9001\n    canary: 127.0.0.1:{port}\n    \
             weights: {{primary: {}, canary: {parts}}}\n{rollouts}",
            100 - parts
        );
        config::load("test.yaml", &text, &config::Files::none()).expect("the test's file is good")
    }

    fn canary(model: &Model) -> u32 {
        model.splits[0].weights.of("canary")
    }

    fn started(loaded: &Loaded) -> Fleet {
        let mut fleet = Fleet::restore(loaded, Past::default(), Moment(1_000));
        fleet.rollouts[0].rollout.step(Moment(1_000), &Evidence::default(), &[Command::Start]);
        fleet
    }

    /// What the journal would say of a fleet.
    fn past(fleet: &Fleet) -> Past {
        let governed = &fleet.rollouts[0];
        let checkpoint = Some(serde_json::to_value(governed.rollout.checkpoint()).unwrap());
        let rollout = PastRollout { at: Moment(1_000), canary: governed.canary.clone(), checkpoint };
        Past {
            rollouts: BTreeMap::from([("web".to_owned(), rollout)]),
            weights: fleet.manual.clone(),
            ..Past::default()
        }
    }

    #[test]
    fn rollout_under_way_is_restored_with_its_weight() {
        let loaded = file(0, 9002, ROLLOUT);
        let restored = Fleet::restore(&loaded, past(&started(&loaded)), Moment(9_000));
        assert_eq!(restored.rollouts[0].phase(), Phase::Running);
        assert_eq!(canary(&restored.model_at_start(&loaded)), 2_000);
    }

    #[test]
    fn a_fall_that_was_not_written_comes_back_and_an_older_one_does_not() {
        let loaded = file(0, 9002, ROLLOUT);
        let after = |at: u64, kind: EventKind, parts: u32| {
            let mut past = past(&started(&loaded));
            past.falls.insert("web".to_owned(), Fall { at: Moment(at), kind, parts });
            let fleet = Fleet::restore(&loaded, past, Moment(9_000));
            (fleet.rollouts[0].phase(), canary(&fleet.model_at_start(&loaded)))
        };
        assert_eq!(after(1_000, EventKind::RolledBack, 0), (Phase::RolledBack, 0));
        assert_eq!(after(1_001, EventKind::Aborted, 0), (Phase::Aborted, 0));
        assert_eq!(after(1_001, EventKind::Suspended, 30), (Phase::Suspended, 30));
        for (at, kind, parts) in [
            (999, EventKind::RolledBack, 0),
            (1_001, EventKind::Suspended, 2_000),
            (1_001, EventKind::Suspended, 9_000),
            (1_001, EventKind::Started, 500),
        ] {
            assert_eq!(after(at, kind, parts), (Phase::Running, 2_000), "{at} {kind:?} {parts}");
        }
    }

    #[test]
    fn a_suspension_that_comes_back_lasts_until_clean_answers_end_it() {
        let loaded = file(0, 9002, ROLLOUT);
        let mut past = past(&started(&loaded));
        let fall = Fall { at: Moment(2_000), kind: EventKind::Suspended, parts: 30 };
        past.falls.insert("web".to_owned(), fall);
        let mut fleet = Fleet::restore(&loaded, past, Moment(9_000));
        let rollout = &mut fleet.rollouts[0].rollout;
        for tick in 1..50 {
            rollout.step(Moment(9_000 + 100 * tick), &Evidence::default(), &[]);
            assert_eq!((rollout.phase(), rollout.weights().of("canary")), (Phase::Suspended, 30));
        }
    }

    #[test]
    fn idle_rollout_leaves_the_file_its_word() {
        let loaded = file(7, 9002, ROLLOUT);
        let fleet = Fleet::restore(&loaded, Past::default(), Moment(1_000));
        assert_eq!(canary(&fleet.model_at_start(&loaded)), 700);
    }

    #[test]
    fn another_release_under_the_same_name_does_not_inherit_weight() {
        let before = file(0, 9002, ROLLOUT);
        let fleet = started(&before);
        let after = file(0, 9003, ROLLOUT);
        let restored = Fleet::restore(&after, past(&fleet), Moment(9_000));
        assert_eq!(restored.rollouts[0].phase(), Phase::Idle);
        assert_eq!(canary(&restored.model_at_start(&after)), 0);
        assert_eq!(canary(&fleet.model_after(&after, &Reading::default())), 0, "nor over a reload");
    }

    #[test]
    fn weights_set_by_hand_hold_until_the_file_changes_its_word() {
        let loaded = file(10, 9002, "");
        let asked = loaded.model.splits[0].weights.clone();
        let manual = Manual { asked, weights: Weights::pair("primary", "canary", 4_200) };
        let said =
            || Past { weights: BTreeMap::from([("web".to_owned(), manual.clone())]), ..Past::default() };
        let fleet = Fleet::restore(&loaded, said(), Moment(1));
        assert_eq!(canary(&fleet.model_at_start(&loaded)), 4_200);
        let changed = file(20, 9002, "");
        assert_eq!(canary(&Fleet::restore(&changed, said(), Moment(1)).model_at_start(&changed)), 2_000);
        assert_eq!(canary(&fleet.model_after(&changed, &Reading::default())), 2_000);
    }

    #[test]
    fn weights_set_by_hand_are_not_for_another_release() {
        let loaded = file(0, 9002, ROLLOUT);
        let asked = loaded.model.splits[0].weights.clone();
        let all = Manual { asked, weights: Weights::pair("primary", "canary", 10_000) };
        let mut fleet = Fleet::restore(&loaded, Past::default(), Moment(1));
        fleet.manual.insert("web".to_owned(), all);
        let next = file(0, 9003, ROLLOUT);
        assert_eq!(canary(&fleet.model_after(&next, &Reading::default())), 0, "over a reload");
        let restored = Fleet::restore(&next, past(&fleet), Moment(2));
        assert_eq!(canary(&restored.model_at_start(&next)), 0, "over a restart");
        fleet.adopt(&next, &Reading::default(), Moment(2));
        assert!(fleet.manual.is_empty());
    }

    #[test]
    fn rollout_dropped_under_way_gives_its_weight_back_to_the_primary() {
        let loaded = file(30, 9002, ROLLOUT);
        let mut fleet = started(&loaded);
        let without = file(30, 9002, "");
        assert_eq!(canary(&fleet.model_after(&without, &Reading::default())), 0);
        let adopted = fleet.adopt(&without, &Reading::default(), Moment(2_000));
        assert_eq!(adopted.dropped, ["web"]);
        assert!(fleet.rollouts.is_empty());
    }

    #[test]
    fn new_terms_for_the_same_release_keep_its_place() {
        let loaded = file(0, 9002, ROLLOUT);
        let mut fleet = started(&loaded);
        let longer = file(0, 9002, &ROLLOUT.replace("{weight: 50, for: 60s}", "{weight: 50, for: 90s}"));
        assert_eq!(canary(&fleet.model_after(&longer, &Reading::default())), 2_000);
        let adopted = fleet.adopt(&longer, &Reading::default(), Moment(2_000));
        assert_eq!((adopted.dropped.len(), adopted.changed.as_slice()), (0, &["web".to_owned()][..]));
        assert_eq!(fleet.rollouts[0].phase(), Phase::Running);
        assert_eq!(fleet.rollouts[0].spec(), &longer.rollouts[0]);
    }
}
