//! Weights set by hand, where no rollout holds them.

use std::collections::BTreeMap;

use serin_proxy::Weights;
use serin_proxy::weights::{WHOLE, percent};

use super::Tick;
use super::ask::Refusal;
use super::view::{SplitView, unknown};
use crate::act;
use crate::journal::{Entry, Manual};

impl Tick {
    pub(super) fn set_weights(
        &mut self,
        split: &str,
        shares: &BTreeMap<String, f64>,
    ) -> Result<SplitView, Refusal> {
        let modelled = self.model.splits.iter().find(|modelled| modelled.name == split);
        let service = modelled.map(|modelled| modelled.service.clone());
        let service = service.ok_or_else(|| unknown("split", split))?;
        if let Some(governed) = self.fleet.governing(split)
            && governed.is_active()
        {
            let name = &governed.spec().name;
            return Err(Refusal::Conflict(format!("rollout {name:?} holds the weights of {split:?}")));
        }
        let versions = self.versions_of(&service);
        let weights = weights(&versions, shares)?;
        self.put_by_hand(split, &versions, weights)?;
        let view = self.splits().into_iter().find(|view| view.name == split);
        view.ok_or_else(|| unknown("split", split))
    }

    /// The same law as for a rollout: less for other versions at once, more only
    /// after it is written.
    fn put_by_hand(&mut self, split: &str, versions: &[String], weights: Weights) -> Result<(), Refusal> {
        let reading = self.handle.readings();
        let live = reading.splits.iter().find(|reading| reading.split == split);
        let in_force = live.map(|live| live.weights.clone());
        let rises = in_force.as_ref().is_none_or(|in_force| {
            versions.iter().skip(1).any(|version| act::rises(version, in_force, &weights))
        });
        if !rises {
            self.shift(split, &weights)?;
        }
        let asked = self.fleet.asked(split).cloned().unwrap_or_else(|| weights.clone());
        let entry = Entry::Weights { at: self.clock.now(), split, asked: &asked, weights: Some(&weights) };
        let written = self.journal.append(&[entry]).and_then(|()| self.journal.sync());
        if let Err(cause) = written {
            self.journal_failed(&cause);
            if rises {
                return Err(Refusal::Unavailable(format!("the journal cannot be written: {cause}")));
            }
        }
        if rises {
            self.shift(split, &weights)?;
        }
        tracing::info!(split, ?weights, "weights set by hand");
        self.fleet.manual.insert(split.to_owned(), Manual { asked, weights });
        Ok(())
    }

    fn shift(&self, split: &str, weights: &Weights) -> Result<(), Refusal> {
        let shifted = self.handle.shift(split, weights);
        shifted.map(|_| ()).map_err(|cause| Refusal::Invalid(cause.to_string()))
    }

    /// Names of a service's versions, primary first.
    fn versions_of(&self, service: &str) -> Vec<String> {
        let service = self.model.services.iter().find(|modelled| modelled.name == service);
        let mut versions = service.map(|service| service.versions.clone()).unwrap_or_default();
        versions.sort_by_key(|version| version.role);
        versions.into_iter().map(|version| version.name).collect()
    }
}

/// Percent by version into weights; versions that are not named get none.
fn weights(versions: &[String], shares: &BTreeMap<String, f64>) -> Result<Weights, Refusal> {
    if let Some(stranger) = shares.keys().find(|name| !versions.contains(name)) {
        let known = versions.join(", ");
        return Err(Refusal::Invalid(format!("there is no version {stranger:?}; there are {known}")));
    }
    let mut parts = Vec::new();
    for version in versions {
        let share = shares.get(version).copied().unwrap_or(0.0);
        let exact = share * 100.0;
        let rounded = exact.round();
        if !(0.0..=f64::from(WHOLE)).contains(&rounded) || (exact - rounded).abs() > 1e-6 {
            let limits = "a percentage from 0 to 100 with at most two decimals";
            return Err(Refusal::Invalid(format!("weight of {version:?} is {share}, not {limits}")));
        }
        parts.push((version.clone(), rounded as u32));
    }
    let sum: u32 = parts.iter().map(|(_, parts)| parts).sum();
    Weights::new(parts).map_err(|_| Refusal::Invalid(format!("weights sum to {}, not to 100", percent(sum))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shares: &[(&str, f64)]) -> Result<Weights, String> {
        let versions = ["primary".to_owned(), "canary".to_owned()];
        let shares = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        weights(&versions, &shares).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn versions_left_out_get_nothing() {
        assert_eq!(set(&[("canary", 100.0)]).unwrap().of("primary"), 0);
        assert_eq!(set(&[("primary", 99.99), ("canary", 0.01)]).unwrap().of("canary"), 1);
    }

    #[test]
    fn weights_that_mean_nothing_are_refused_with_the_reason() {
        assert_eq!(set(&[("primary", 90.0)]).unwrap_err(), "weights sum to 90, not to 100");
        assert!(set(&[("primary", 90.0), ("v2", 10.0)]).unwrap_err().contains("no version \"v2\""));
        for share in [-1.0, 101.0, 0.001, f64::NAN, f64::INFINITY] {
            assert!(set(&[("primary", 100.0), ("canary", share)]).unwrap_err().contains("at most two"));
        }
    }
}
