//! What the tick shows of itself: plain answers, ready to be written as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_proxy::reading::{EndpointsReading, Sent, State};
use serin_proxy::weights::percent;
use serin_proxy::{Model, Reading, Weights};
use utoipa::ToSchema;

use super::Tick;
use super::ask::Refusal;
use crate::certificates::Certificate;
use crate::clock::Moment;
use crate::config::Metrics;
use crate::figures::Figures;
use crate::fleet::Governed;
use crate::outside::alert::Alerts;
use crate::outside::hook::Hook;
use crate::outside::load::Load;
use crate::outside::provider::Provider;
use crate::rollout::{Meters, Phase, Spec, Status};
use crate::secret;

/// A rollout as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Detail {
    #[serde(flatten)]
    pub status: Status,
    /// Whether it holds the weights of its split now.
    pub active: bool,
    /// Live figures by version.
    pub versions: BTreeMap<String, Figures>,
    /// Percent in force by version.
    pub weights: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SplitView {
    pub name: String,
    pub service: String,
    /// Percent in force by version.
    pub weights: BTreeMap<String, f64>,
    /// Grows with every change of the weights.
    pub generation: u64,
    /// The rollout that may govern this split.
    #[schema(required = true)]
    pub rollout: Option<String>,
    /// Whether that rollout holds the weights now.
    pub governed: bool,
    /// Whether the weights were set by hand.
    pub manual: bool,
    pub versions: BTreeMap<String, Figures>,
    /// Who could answer, by version.
    pub endpoints: BTreeMap<String, Members>,
}

/// The endpoints of one version.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Members {
    pub total: usize,
    pub healthy: usize,
    /// Names that could not be resolved when last asked for, and why.
    pub unresolved: Vec<String>,
}

/// How the last reading of the configuration went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Reload {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub accepted: bool,
    /// One line each, with file, line and field.
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Reloads {
    pub accepted: u64,
    pub rejected: u64,
}

/// The meters of a rollout as they were told last.
pub struct Known {
    at: Moment,
    states: Vec<Option<State>>,
    meters: Arc<Meters>,
}

/// Meters are taken anew after this long although nothing has moved.
const FRESH: Duration = Duration::from_secs(10);

/// What `/metrics` shows besides the proxy's counters.
pub struct MetricsView {
    /// Shared: of one on whose split nothing moves they are those of before.
    pub rollouts: Vec<Arc<Meters>>,
    pub reloads: Reloads,
    pub is_journal_writable: bool,
    pub certificates: Vec<Certificate>,
    pub metrics: Metrics,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Dump {
    #[schema(value_type = Object)]
    pub model: Model,
    #[schema(value_type = Vec<Object>)]
    pub rollouts: Vec<Spec>,
    #[schema(value_type = Object)]
    pub alerts: Alerts,
    #[schema(value_type = Vec<Object>)]
    pub providers: Vec<Provider>,
    pub last_reload: Reload,
}

/// Every phase, in the order that a rollout meets them.
pub const PHASES: [Phase; 11] = Phase::ALL;

/// A phase as JSON and metrics write it.
pub fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::RolledBack => "rolled_back",
        phase => phase.name(),
    }
}

impl Tick {
    pub(super) fn detail(&self, governed: &Governed, reading: &Reading, now: Moment) -> Detail {
        let mut status = governed.rollout.status(now);
        if status.phase == Phase::Queued
            && let Some(why) = self.fleet.waits_for(&status.name)
        {
            status.sentence = format!("queued: {why}");
        }
        let split = reading.splits.iter().find(|split| split.split == status.split);
        Detail {
            active: governed.is_active(),
            versions: split.map(|split| self.versions(&split.service, reading, now)).unwrap_or_default(),
            weights: split.map(|split| percents(&split.weights)).unwrap_or_default(),
            status,
        }
    }

    pub(super) fn details(&self) -> Vec<Detail> {
        let (reading, now) = (self.handle.traffic(), self.clock.now());
        self.fleet.rollouts.iter().map(|governed| self.detail(governed, &reading, now)).collect()
    }

    pub(super) fn detail_of(&self, name: &str) -> Result<Detail, Refusal> {
        let governed = self.fleet.rollouts.iter().find(|governed| governed.spec().name == name);
        let governed = governed.ok_or_else(|| unknown("rollout", name))?;
        Ok(self.detail(governed, &self.handle.traffic(), self.clock.now()))
    }

    pub(super) fn splits(&self) -> Vec<SplitView> {
        let (reading, now) = (self.handle.counts(), self.clock.now());
        let view = |split: &serin_proxy::reading::SplitReading| {
            let governed = self.fleet.governing(&split.split);
            SplitView {
                name: split.split.clone(),
                service: split.service.clone(),
                weights: percents(&split.weights),
                generation: split.current,
                rollout: governed.map(|governed| governed.spec().name.clone()),
                governed: governed.is_some_and(|governed| governed.is_active()),
                manual: self.fleet.manual.contains_key(&split.split),
                versions: self.versions(&split.service, &reading, now),
                endpoints: members(&split.service, &reading),
            }
        };
        reading.splits.iter().map(view).collect()
    }

    pub(super) fn metrics(&mut self) -> (Reading, MetricsView) {
        let view = MetricsView {
            rollouts: self.meters(),
            reloads: self.reloads,
            is_journal_writable: self.down.is_none(),
            certificates: self.certificates.clone(),
            metrics: self.metrics.clone(),
        };
        (self.handle.counts(), view)
    }

    /// Of a rollout on whose split nothing moves they stay as they are for a while:
    /// only what is believed of the primary fades.
    fn meters(&mut self) -> Vec<Arc<Meters>> {
        let now = self.clock.now();
        self.meters.resize_with(self.fleet.rollouts.len(), || None);
        let rollouts = self.fleet.rollouts.iter().zip(&mut self.meters);
        let of = |(governed, known): (&Governed, &mut Option<Known>)| {
            let states = governed.states();
            if let Some(known) = known
                && known.meters.rollout == governed.spec().name
                && known.meters.phase == governed.phase()
                && known.states == states
                && now.since(known.at) < FRESH
            {
                return known.meters.clone();
            }
            let meters = Arc::new(governed.rollout.meters());
            *known = Some(Known { at: now, states, meters: meters.clone() });
            meters
        };
        rollouts.map(of).collect()
    }

    pub(super) fn dump(&self) -> Dump {
        Dump {
            model: self.model.clone(),
            rollouts: self.fleet.rollouts.iter().map(|governed| shown(governed.spec())).collect(),
            alerts: self.loaded.borrow().alerts.shown(),
            providers: self.loaded.borrow().providers.iter().map(Provider::shown).collect(),
            last_reload: self.last_reload.clone(),
        }
    }

    fn versions(&self, service: &str, reading: &Reading, now: Moment) -> BTreeMap<String, Figures> {
        let versions = reading
            .versions
            .iter()
            .filter(|version| version.service == service && version.sent == Sent::ByUsers);
        versions.map(|version| (version.version.clone(), self.ring.of(now, version))).collect()
    }
}

fn shown(spec: &Spec) -> Spec {
    let hooks = spec.hooks.iter().map(Hook::shown).collect();
    let load = spec.load.clone().map(|load| Load { headers: secret::shown(&load.headers), ..load });
    Spec { hooks, load, ..spec.clone() }
}

fn members(service: &str, reading: &Reading) -> BTreeMap<String, Members> {
    let of = |endpoints: &EndpointsReading| Members {
        total: endpoints.total,
        healthy: endpoints.healthy,
        unresolved: endpoints.unresolved.iter().map(|(name, why)| format!("{name}: {why}")).collect(),
    };
    let versions = reading.endpoints.iter().filter(|endpoints| endpoints.service == service);
    versions.map(|endpoints| (endpoints.version.clone(), of(endpoints))).collect()
}

pub(super) fn unknown(what: &'static str, name: &str) -> Refusal {
    Refusal::Unknown { what, name: name.to_owned() }
}

fn percents(weights: &Weights) -> BTreeMap<String, f64> {
    weights.iter().map(|(version, parts)| (version.to_owned(), percent(parts))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_all_there_and_written_as_json_writes_them() {
        for phase in PHASES {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase_word(phase));
        }
        let mut words = PHASES.map(phase_word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), PHASES.len());
    }
}
