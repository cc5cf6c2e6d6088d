//! Which setting to change when a fault would slip through: each candidate is
//! played, and the smallest that catches it is told with what it costs.

use std::time::Duration;

use serde::Serialize;

use super::report::Report;
use super::scenario::Scenario;
use crate::rollout::Spec;
use crate::rollout::spec::Step;
use serin_proxy::weights::WHOLE;
use serin_proxy::weights::percent;

/// A fault that is caught less often than this is worth a change.
pub const OFTEN_ENOUGH: f64 = 0.9;

/// A change of the plan, and how often it would catch the fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    pub scenario: String,
    /// What to change; `None` where nothing that was tried suffices.
    pub change: Option<String>,
    /// Share of runs that would be rolled back.
    pub caught: f64,
    /// How long the whole plan would then take.
    pub planned_seconds: f64,
}

/// Tries the candidates in the order of what they cost the user.
pub fn advise(spec: &Spec, scenario: &Scenario, runs: u32, seed: u64, played: &dyn Fn()) -> Advice {
    let mut best = Advice {
        scenario: scenario.describe(),
        change: None,
        caught: 0.0,
        planned_seconds: length(spec).as_secs_f64(),
    };
    for (change, changed) in candidates(spec) {
        let caught = Report::watched(&changed, scenario, runs, seed, played).caught();
        let planned_seconds = length(&changed).as_secs_f64();
        if caught >= OFTEN_ENOUGH {
            return Advice { change: Some(change), caught, planned_seconds, ..best };
        }
        best.caught = best.caught.max(caught);
    }
    best
}

fn length(spec: &Spec) -> Duration {
    spec.planned() + spec.bake
}

fn candidates(spec: &Spec) -> Vec<(String, Spec)> {
    let mut found = Vec::new();
    for factor in [2, 5, 10] {
        found.push((format!("make each step last {factor} times as long"), longer(spec, factor)));
        if let Some((text, heavier)) = heavier(spec, factor) {
            found.push((text, heavier));
        }
    }
    found
}

fn longer(spec: &Spec, factor: u32) -> Spec {
    let mut changed = spec.clone();
    for step in &mut changed.steps {
        if let Step::Weight { hold, .. } | Step::Trial { hold, .. } = step {
            *hold *= factor;
        }
    }
    changed
}

/// A first weight with more traffic, where that is still a canary and not half of
/// all users.
fn heavier(spec: &Spec, factor: u32) -> Option<(String, Spec)> {
    let mut changed = spec.clone();
    let parts = changed.steps.iter_mut().find_map(|step| match step {
        Step::Weight { parts, .. } => Some(parts),
        Step::Trial { .. } | Step::Pause { .. } => None,
    })?;
    let before = *parts;
    *parts = parts.checked_mul(factor).filter(|parts| *parts <= WHOLE / 4)?;
    let text = format!("begin with {} % instead of {} %", percent(*parts), percent(before));
    Some((text, changed))
}
