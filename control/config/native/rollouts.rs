//! Which version is brought in, over which steps.

use std::time::Duration;

use serin_proxy::model::Role;
use serin_proxy::weights::WHOLE;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::fields::nearest;
use crate::rollout::Spec;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::Step;

use super::analysis;
use super::checks;
use super::hooks;
use super::site::Site;
use super::units;

const FIELDS: [&str; 9] =
    ["service", "canary", "steps", "stepWeight", "maxWeight", "interval", "bake", "analysis", "webhooks"];
const STEP: [&str; 3] = ["weight", "for", "pause"];
const BAKE: Duration = Duration::from_secs(600);

pub fn read(spot: &Spot, sites: &[Site]) -> Vec<Spec> {
    let mut rollouts: Vec<Spec> = Vec::new();
    for (name, spot) in spot.entries() {
        let Some(rollout) = rollout(name, &spot, sites) else { continue };
        if let Some(other) = rollouts.iter().find(|other| other.split == rollout.split) {
            spot.error(format!(
                "rollout `{}` already moves service `{}`; a service has one rollout",
                other.name, other.split
            ));
        }
        rollouts.push(rollout);
    }
    rollouts
}

fn rollout(name: &str, spot: &Spot, sites: &[Site]) -> Option<Spec> {
    if let Err(text) = units::name(name) {
        spot.error(text);
    }
    let fields = spot.fields(&FIELDS)?;
    let site = site(name, &fields, sites);
    let versions = site.and_then(|site| versions(&fields, site));
    let steps = steps(&fields);
    let mut analysis = fields.get("analysis").map(|spot| analysis::read(&spot)).unwrap_or_default();
    let hooks = hooks::read(&fields);
    // The tools that others judge like watch nothing after a promotion.
    let bake = if analysis.checks.is_some() { Duration::ZERO } else { BAKE };
    let bake = fields.get("bake").and_then(|spot| spot.parsed(units::duration)).unwrap_or(bake);
    warn_blind_steps(&fields, &steps, &analysis);
    if let Some(spot) = fields.get("analysis") {
        checks::warn(&spot, &steps, &analysis);
    }
    let site = site?;
    warn_site(spot, site, &analysis);
    let (primary, canary) = versions?;
    // Copies that the canary fails are held against it like its own requests.
    if site.split.mirror.as_ref().is_some_and(|mirror| mirror.version == canary) {
        analysis.mirrored = analysis.relative_failures;
    }
    Some(Spec {
        name: name.to_owned(),
        split: site.split.name.clone(),
        primary,
        canary,
        steps,
        bake,
        analysis,
        hooks,
    })
}

fn site<'s, 't>(name: &str, fields: &Fields, sites: &'s [Site<'t>]) -> Option<&'s Site<'t>> {
    let given = fields.get("service");
    let wanted = match &given {
        Some(spot) => spot.text()?,
        None if fields.has("service") => return None,
        None => name,
    };
    let found = sites.iter().find(|site| site.split.name == wanted);
    if found.is_none() {
        let names: Vec<&str> = sites.iter().map(|site| site.split.name.as_str()).collect();
        let hint = match nearest(wanted, names.iter().copied()) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None if given.is_none() => "; name the service with `service`".to_owned(),
            None => format!("; services are {}", names.join(", ")),
        };
        given.as_ref().unwrap_or(fields.spot()).error(format!("there is no service `{wanted}`{hint}"));
    }
    found
}

/// Names of primary and canary.
fn versions(fields: &Fields, site: &Site) -> Option<(String, String)> {
    if site.broken {
        return None;
    }
    let primary = (*site.of_role(Role::Primary).first()?).to_owned();
    if fields.has("canary") {
        let spot = fields.get("canary")?;
        let canary = site.version(spot.text()?, &spot)?;
        if canary == primary {
            spot.error(format!("`{canary}` is the primary; a rollout brings in another version"));
        }
        return Some((primary, canary));
    }
    match site.of_role(Role::Canary)[..] {
        [canary] => Some((primary, canary.to_owned())),
        [] => {
            fields.spot().error(format!("service `{}` has no version of role canary", site.split.name));
            None
        }
        ref several => {
            fields.spot().error(format!(
                "service `{}` has several canaries ({}); say which with `canary`",
                site.split.name,
                several.join(", ")
            ));
            None
        }
    }
}

fn steps(fields: &Fields) -> Vec<Step> {
    let even = ["stepWeight", "maxWeight", "interval"];
    let given: Vec<&str> = even.into_iter().filter(|name| fields.has(name)).collect();
    match (fields.has("steps"), given.is_empty()) {
        (true, true) => listed(fields),
        (false, false) => evenly(fields),
        (true, false) => {
            fields.spot().error(format!("give either `steps` or {}, not both", given.join(", ")));
            Vec::new()
        }
        (false, true) => {
            fields.spot().error("`steps` is missing, or `stepWeight`, `maxWeight` and `interval` instead");
            Vec::new()
        }
    }
}

fn listed(fields: &Fields) -> Vec<Step> {
    let Some(spot) = fields.get("steps") else {
        return Vec::new();
    };
    let items = spot.list().unwrap_or_default();
    let mut last = 0;
    let steps: Vec<Step> = items.iter().filter_map(|spot| step(spot, &mut last)).collect();
    let weighs = |step: &Step| matches!(step, Step::Weight { .. });
    if !steps.is_empty() && steps.len() == items.len() && !steps.iter().any(weighs) {
        spot.error("no step gives the canary a weight");
    }
    steps
}

/// `last` is the weight of the step before, and then of this one.
fn step(spot: &Spot, last: &mut u32) -> Option<Step> {
    let fields = spot.fields(&STEP)?;
    match fields.one_of(&["weight", "pause"])? {
        ("weight", weight) => {
            let parts = weight.parsed(units::parts);
            if let Some(parts) = parts {
                rises(&weight, *last, parts);
                *last = parts.max(*last);
            }
            let hold = fields.need("for").and_then(|spot| spot.parsed(units::duration));
            Some(Step::Weight { parts: parts?, hold: hold? })
        }
        (_, pause) => {
            if let Some(spot) = fields.get("for") {
                spot.error("a pause has its time itself: `pause: 1m`");
            }
            Some(Step::Pause { hold: pause_time(&pause)? })
        }
    }
}

fn rises(spot: &Spot, last: u32, parts: u32) {
    match (last, parts) {
        (_, 0) => spot.error("a step gives the canary more than 0"),
        _ if parts <= last => {
            spot.error(format!("weights rise from step to step; the last was {}", percent(last)));
        }
        _ => {}
    }
}

/// `Some(None)` is a pause without an end.
fn pause_time(spot: &Spot) -> Option<Option<Duration>> {
    match spot.as_bool() {
        Some(true) => Some(None),
        Some(false) => {
            spot.error("expects a duration, or true to wait for a resume or promote");
            None
        }
        None => Some(Some(spot.parsed(units::some_time)?)),
    }
}

/// `stepWeight` at a time up to `maxWeight`, each for `interval`.
fn evenly(fields: &Fields) -> Vec<Step> {
    let size = fields.need("stepWeight").and_then(|spot| {
        let parts = spot.parsed(units::parts)?;
        if parts == 0 {
            spot.error("a step gives the canary more than 0");
            return None;
        }
        Some(parts)
    });
    let most = fields.need("maxWeight").and_then(|spot| {
        let parts = spot.parsed(units::parts)?;
        if parts < size? {
            spot.error(format!("is less than one step of {}", percent(size?)));
        }
        Some(parts)
    });
    let hold = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    let (Some(size), Some(most), Some(hold)) = (size, most, hold) else {
        return Vec::new();
    };
    // At least one hundredth of a percent a step, so at most ten thousand steps.
    let count = most.min(WHOLE).div_ceil(size);
    (1..=count).map(|n| Step::Weight { parts: most.min(n.saturating_mul(size)), hold }).collect()
}

fn percent(parts: u32) -> String {
    format!("{}%", serin_proxy::weights::percent(parts))
}

fn warn_site(spot: &Spot, site: &Site, analysis: &Analysis) {
    if site.split.sticky.is_some() && (analysis.relative_latency.is_some() || analysis.promotion.is_some()) {
        spot.warn(format!(
            "service `{}` is sticky: the requests of one user share a version and are no independent tosses; \
             failures count once per user, but `slowdown` and `promotion` count requests, so \
             `falseRollbacks` and `falsePromotions` are not guaranteed for these",
            site.split.name
        ));
    }
    if site.shared_out {
        spot.warn(format!(
            "this rollout sets the weights of service `{}` and starts with everything on the primary; \
             the `weights` there have no effect",
            site.split.name
        ));
    }
}

/// A step that ends before an answer can be too slow sees nothing slow of its own.
fn warn_blind_steps(fields: &Fields, steps: &[Step], analysis: &Analysis) {
    let Some(objective) = &analysis.latency else { return };
    let short = |step: &Step| matches!(step, Step::Weight { hold, .. } if *hold < objective.threshold);
    if steps.iter().any(short) {
        let spot = fields.get("steps").or_else(|| fields.get("interval"));
        spot.as_ref().unwrap_or(fields.spot()).warn(format!(
            "a step is shorter than the latency objective of {:?} and ends before an answer can be too slow",
            objective.threshold
        ));
    }
}
