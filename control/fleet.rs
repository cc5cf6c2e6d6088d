//! All rollouts, and which weights each split should have when the process starts
//! or the file changes.
//!
//! Three voices can speak for a split: a rollout that has begun, an operator who
//! set weights by hand, and the file. The latest word wins, and the file's word is
//! only new when it changed. A rollout is about one release: when the canary
//! answers at none of the addresses it had before, it is another release, and what
//! was decided about the old one does not count for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serin_proxy::model::{Model, Split};
use serin_proxy::reading::SplitReading;
use serin_proxy::{Reading, Weights};

use crate::clock::Moment;
use crate::config::Loaded;
use crate::journal::{Manual, Past, PastRollout};
use crate::rollout::{Phase, Rollout, Spec};
use crate::window::Window;

/// A rollout and what the shell keeps beside it.
pub struct Governed {
    pub rollout: Rollout,
    pub window: Window,
    /// Where the release under judgement answers.
    pub canary: Vec<SocketAddr>,
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
    fn begin(spec: &Spec, canary: Vec<SocketAddr>) -> Governed {
        let window = Window::new(&spec.primary, &spec.canary);
        let rollout = Rollout::new(spec.clone());
        Governed {
            rollout,
            window,
            canary,
            kept: Moment::default(),
            windows: 0,
            withheld: false,
            paused_by_us: false,
        }
    }

    fn restore(spec: &Spec, canary: Vec<SocketAddr>, past: &PastRollout, now: Moment) -> Governed {
        let mut governed = Governed::begin(spec, canary);
        let Some(checkpoint) = past.checkpoint.clone() else { return governed };
        if !is_same_release(&past.canary, &governed.canary) {
            tracing::warn!(rollout = spec.name, "the canary is another release than before; starting anew");
            return governed;
        }
        match serde_json::from_value(checkpoint) {
            Ok(checkpoint) => governed.rollout = Rollout::restore(spec.clone(), checkpoint, now),
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
                    Some(past) => Governed::restore(spec, canary, past, now),
                    None => Governed::begin(spec, canary),
                }
            })
            .collect();
        let asked = asked(&loaded.model);
        let mut manual = past.weights;
        manual.retain(|split, manual| asked.get(split) == Some(&manual.asked));
        Fleet { rollouts, manual, asked }
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
            &self.manual,
        )
    }

    /// Takes over the rollouts of a file that the proxy has accepted.
    pub fn adopt(&mut self, loaded: &Loaded, reading: &Reading, now: Moment) -> Adopted {
        let mut adopted = Adopted::default();
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
fn begin_now(spec: &Spec, canary: Vec<SocketAddr>, reading: &Reading) -> Governed {
    let mut governed = Governed::begin(spec, canary);
    if let Some(split) = live(reading, &spec.split) {
        governed.window.take(split);
    }
    governed
}

/// Scaling a release leaves at least one of its addresses.
fn is_same_release(before: &[SocketAddr], now: &[SocketAddr]) -> bool {
    before == now || before.iter().any(|address| now.contains(address))
}

fn live<'a>(reading: &'a Reading, split: &str) -> Option<&'a SplitReading> {
    reading.splits.iter().find(|reading| reading.split == split)
}

fn endpoints(model: &Model, spec: &Spec) -> Vec<SocketAddr> {
    let split = model.splits.iter().find(|split| split.name == spec.split);
    let service = split.and_then(|split| model.services.iter().find(|service| service.name == split.service));
    service
        .and_then(|service| service.versions.iter().find(|version| version.name == spec.canary))
        .map(|version| version.endpoints.clone())
        .unwrap_or_default()
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
