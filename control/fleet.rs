//! All rollouts, and which weights each split should have when the process starts
//! or the file changes.
//!
//! Three voices can speak for a split: a rollout that has begun, an operator who
//! set weights by hand, and the file. The latest word wins, and the file's word is
//! only new when it changed. A rollout is about one release: when the canary
//! answers at none of the addresses it had before, it is another release, and what
//! was decided about the old one does not count for it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serin_proxy::model::{Model, Split, Version};
use serin_proxy::reading::{SplitReading, State};
use serin_proxy::{Reading, Weights};

use crate::answers::Standing;
use crate::clock::Moment;
use crate::config::Loaded;
use crate::falls::Fall;
use crate::journal::looks::Looks;
use crate::journal::{Manual, Past, PastRollout};
use crate::judge::evidence::{Answers, Evidence};
use crate::judge::samples::Outside;
use crate::outside::hook::Word;
use crate::rollout::spec::Site;
use crate::rollout::{Command, Phase, Rollout, Spec};
use crate::window::Window;

/// A rollout on whose split nothing moves is asked this often what time has brought.
const QUIET: Duration = Duration::from_millis(500);

/// A rollout and what the shell keeps beside it.
pub struct Governed {
    pub rollout: Rollout,
    /// For each split that it moves.
    windows_of: Vec<(String, Window)>,
    /// For each of them, where the comparison of its answers stood.
    compared: Vec<Option<Arc<Standing>>>,
    /// What webhooks have answered and the rollout has not yet heard.
    pub words: Vec<Word>,
    /// What others have said who were asked for a number, and the rollout has not yet
    /// heard; of each the newest.
    pub outside: Vec<Outside>,
    /// What the file says of the release under judgement: where it answers.
    pub canary: Vec<String>,
    /// The file says that the primary has become that release.
    primary_is_new: bool,
    /// The release has come since serin last knew, and starts by itself.
    due: bool,
    /// What it was given and the journal has not got yet.
    pub looks: Looks,
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
    /// Names that were under way when another release came.
    pub superseded: Vec<String>,
}

impl Governed {
    fn begin(spec: &Spec, canary: Vec<String>) -> Governed {
        let window = |site: Site| {
            let window = Window::new(&site.primary, &site.canary, spec.baseline.as_deref());
            (site.split, window)
        };
        Governed {
            compared: spec.sites().map(|_| None).collect(),
            windows_of: spec.sites().map(window).collect(),
            rollout: Rollout::new(spec.clone()),
            words: Vec::new(),
            outside: Vec::new(),
            canary,
            primary_is_new: false,
            due: false,
            looks: Looks::default(),
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
        if !is_same_release(spec, &past.canary, &governed.canary) {
            tracing::warn!(rollout = spec.name, "the canary is another release than before; starting anew");
            governed.due = spec.auto_start;
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

    /// What came in since the last time, of all its splits. One of which there is no
    /// reading has not moved.
    pub fn take<'r>(&mut self, live: impl Fn(&str) -> Option<&'r SplitReading>) -> Evidence {
        let mut taken = self.windows_of.iter_mut().map(|(split, window)| match live(split) {
            Some(live) => window.take(live),
            None => window.nothing_new(),
        });
        let mut all = taken.next().unwrap_or_default();
        taken.for_each(|evidence| all.add(&evidence));
        all
    }

    /// What comparing answers has brought since the last time, of all its splits. The
    /// first look only says where it stands.
    pub fn take_answers(&mut self, standing: impl Fn(&str) -> Option<Arc<Standing>>) -> Option<Answers> {
        let (mut all, mut moved, several) = (Answers::default(), false, self.windows_of.len() > 1);
        for ((split, _), before) in self.windows_of.iter().zip(&mut self.compared) {
            let Some(now) = standing(split) else { continue };
            let then = before.replace(now.clone());
            let (compared, canary_only, log_e) = match then {
                Some(then) if then.life == now.life => (then.compared, then.canary_only, then.log_e),
                Some(_) => (0, 0, 0.0),
                None => (now.compared, now.canary_only, now.log_e),
            };
            moved |= now.compared != compared;
            let named = |place: &String| if several { format!("{split}: {place}") } else { place.clone() };
            all.add(&Answers {
                compared: now.compared.saturating_sub(compared),
                canary_only: now.canary_only.saturating_sub(canary_only),
                log_factor: now.log_e - log_e,
                differing: now.differing,
                places: now.places.iter().map(named).collect(),
            });
        }
        moved.then_some(all)
    }

    /// The splits that it moves.
    pub fn splits(&self) -> impl Iterator<Item = &str> {
        self.windows_of.iter().map(|(split, _)| split.as_str())
    }

    /// The weights that were in force at the last reading.
    pub fn in_force(&self, split: &str) -> Option<&Weights> {
        self.windows_of.iter().find(|(name, _)| name == split).and_then(|(_, window)| window.weights())
    }

    /// What tells the last readings from later ones.
    pub fn states(&self) -> Vec<Option<State>> {
        self.windows_of.iter().map(|(_, window)| window.state()).collect()
    }

    pub fn spec(&self) -> &Spec {
        self.rollout.spec()
    }

    pub fn phase(&self) -> Phase {
        self.rollout.phase()
    }

    /// An answer that somebody has given takes the place of the one before.
    pub fn hear_figure(&mut self, figure: Outside) {
        let is_same = |heard: &Outside| (&heard.name, heard.arm) == (&figure.name, figure.arm);
        self.outside.retain(|heard| !is_same(heard));
        self.outside.push(figure);
    }

    /// Whether it is to be asked although nothing has moved: time passes for it too.
    pub fn is_due(&self, now: Moment) -> bool {
        !self.words.is_empty() || !self.outside.is_empty() || now.since(self.rollout.at()) >= QUIET
    }

    /// Whether it holds the weights of its split.
    pub fn is_active(&self) -> bool {
        self.phase().is_active()
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
                let mut governed = match past.rollouts.get(&spec.name) {
                    Some(rollout) => {
                        Governed::restore(spec, canary, rollout, past.falls.get(&spec.name), now)
                    }
                    None => Governed::begin(spec, canary),
                };
                governed.primary_is_new = primary_is_new(&loaded.model, spec);
                governed
            })
            .collect();
        let asked = asked(&loaded.model);
        let mut manual = past.weights;
        manual.retain(|split, manual| asked.get(split) == Some(&manual.asked));
        for spec in &loaded.rollouts {
            let before = past.rollouts.get(&spec.name);
            let now = endpoints(&loaded.model, spec);
            if before.is_some_and(|past| !is_same_release(spec, &past.canary, &now)) {
                manual.retain(|split, _| !spec.moves(split));
            }
        }
        Fleet { rollouts, manual, asked }
    }

    /// The evidence that these rollouts' checkpoints contain already.
    pub fn has_seen(&mut self, splits: &[SplitReading]) {
        for governed in &mut self.rollouts {
            governed.take(|split| splits.iter().find(|live| live.split == split));
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
                    .and_then(|governed| weights_of(&governed.rollout, &split.name))
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
                    let live = || live(reading, &split.name).map(|live| live.weights.clone());
                    governs.then(|| live().or_else(|| weights_of(&old.rollout, &split.name)))?
                } else {
                    let site = old.spec().sites().find(|site| site.split == split.name)?;
                    phase.is_active().then(|| Weights::pair(&site.primary, &site.canary, 0))
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
                manual.retain(|split, _| !spec.moves(split));
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
                    let mut governed = begin_now(spec, canary.clone(), reading);
                    if let Some(before) = before {
                        governed.due = spec.auto_start && are_same_sites(before.spec(), spec);
                        let under_way = before.is_active() || before.phase() == Phase::Queued;
                        adopted.superseded.extend(under_way.then(|| spec.name.clone()));
                        adopted.dropped.push(spec.name.clone());
                    }
                    governed
                }
            };
            governed.primary_is_new = primary_is_new(&loaded.model, spec);
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

    /// The splits whose evidence some rollout wants to hear of.
    pub fn watched(&self) -> HashSet<&str> {
        self.rollouts.iter().flat_map(Governed::splits).collect()
    }

    pub fn governing(&self, split: &str) -> Option<&Governed> {
        self.rollouts.iter().find(|governed| governed.spec().moves(split))
    }

    /// Those whose new release starts by itself, once.
    pub fn take_due(&mut self) -> Vec<String> {
        let take =
            |governed: &mut Governed| std::mem::take(&mut governed.due).then(|| governed.spec().name.clone());
        self.rollouts.iter_mut().filter_map(take).collect()
    }

    /// What a rollout has to be told that only others know.
    pub fn due_command(&self, index: usize, now: Moment) -> Option<Command> {
        let governed = &self.rollouts[index];
        if governed.rollout.awaits_primary() && governed.primary_is_new {
            return Some(Command::Arrived);
        }
        let admitted = governed.rollout.may_be_admitted(now) && self.turn(governed.spec()).is_ok();
        admitted.then_some(Command::Admit)
    }

    /// Why a queued rollout does not begin, where that is for others.
    pub fn waits_for(&self, name: &str) -> Option<String> {
        let governed = self.rollouts.iter().find(|governed| governed.spec().name == name)?;
        self.turn(governed.spec()).err()
    }

    fn turn(&self, spec: &Spec) -> Result<(), String> {
        for name in &spec.after {
            let other = self.rollouts.iter().find(|governed| governed.spec().name == *name);
            match other.map(Governed::phase) {
                Some(Phase::Succeeded) => {}
                Some(phase) => return Err(format!("waits for {name} to succeed, which is {}", phase.name())),
                None => return Err(format!("waits for {name}, which is no longer there")),
            }
        }
        let under_way = self.rollouts.iter().filter(|governed| governed.is_active());
        let names: Vec<&str> = under_way.map(|governed| governed.spec().name.as_str()).collect();
        match spec.at_once {
            Some(most) if names.len() >= most => {
                Err(format!("waits for its turn: {} under way, {most} at once", names.join(", ")))
            }
            _ => Ok(()),
        }
    }

    pub fn asked(&self, split: &str) -> Option<&Weights> {
        self.asked.get(split)
    }

    fn fate(&self, spec: &Spec, model: &Model) -> Fate {
        let Some(old) = self.rollouts.iter().find(|governed| governed.spec().name == spec.name) else {
            return Fate::Begin;
        };
        if !are_same_sites(old.spec(), spec) || !is_same_release(spec, &old.canary, &endpoints(model, spec)) {
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
    governed.take(|split| live(reading, split));
    governed
}

fn are_same_sites(before: &Spec, now: &Spec) -> bool {
    before.sites().eq(now.sites())
}

/// Scaling a release leaves at least one of its addresses, at each of its sites.
fn is_same_release(spec: &Spec, before: &[String], now: &[String]) -> bool {
    let at = |place: Option<&Site>, list: &[String]| -> Vec<String> {
        let others = |entry: &String| spec.also.iter().find(|site| entry.starts_with(&label(site)));
        list.iter().filter(|entry| others(entry) == place).cloned().collect()
    };
    std::iter::once(None).chain(spec.also.iter().map(Some)).all(|place| {
        let (before, now) = (at(place, before), at(place, now));
        before == now || before.iter().any(|address| now.contains(address))
    })
}

/// What the addresses of a further site begin with, where all stand in one list.
fn label(site: &Site) -> String {
    format!("{}: ", site.split)
}

/// Do the words of the file say that the primary is the release that was the canary?
fn primary_is_new(model: &Model, spec: &Spec) -> bool {
    spec.sites().all(|site| {
        let words = |version| version_of(model, &site.split, version).map(|version| &version.release);
        match (words(&site.primary), words(&site.canary)) {
            (Some(primary), Some(canary)) => !primary.is_empty() && primary == canary,
            _ => false,
        }
    })
}

fn weights_of(rollout: &Rollout, split: &str) -> Option<Weights> {
    rollout.all_weights().find(|(name, _)| name == split).map(|(_, weights)| weights)
}

fn version_of<'a>(model: &'a Model, split: &str, version: &str) -> Option<&'a Version> {
    let split = model.splits.iter().find(|other| other.name == split)?;
    let service = model.services.iter().find(|service| service.name == split.service)?;
    service.versions.iter().find(|other| other.name == version)
}

fn live<'a>(reading: &'a Reading, split: &str) -> Option<&'a SplitReading> {
    reading.splits.iter().find(|reading| reading.split == split)
}

fn endpoints(model: &Model, spec: &Spec) -> Vec<String> {
    let at = |site: &Site| version_of(model, &site.split, &site.canary).map(release_of).unwrap_or_default();
    let others = spec.also.iter().flat_map(|site| {
        let label = label(site);
        at(site).into_iter().map(move |address| format!("{label}{address}"))
    });
    let first = spec.sites().next().map(|site| at(&site)).unwrap_or_default();
    first.into_iter().chain(others).collect()
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
