//! Which version is brought in, over which steps.

mod hours;
mod steps;
mod trial;

use std::time::Duration;

use serin_proxy::model::{Mirror, Role, Trial};

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::fields::nearest;
use crate::rollout::Spec;
use crate::rollout::spec;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::OnDifference;
use crate::rollout::spec::Step;
use crate::rollout::spec::WayBack;

use super::alerts;
use super::analysis;
use super::checks;
use super::hooks;
use super::load;
use super::site::Site;
use super::splits;
use super::strata;
use super::units;

const FIELDS: [&str; 22] = [
    "service",
    "services",
    "canary",
    "baseline",
    "match",
    "steps",
    "stepWeight",
    "maxWeight",
    "interval",
    "bake",
    "judgeFrom",
    "skipAnalysis",
    "autoStart",
    "wayBack",
    "keepOld",
    "after",
    "hours",
    "analysis",
    "webhooks",
    "load",
    "environment",
    "labels",
];
const WAY_BACK: [&str; 2] = ["weight", "interval"];
const BAKE: Duration = Duration::from_secs(600);

/// A rollout, and what its splits need for it.
pub struct Read {
    pub spec: Spec,
    trial: Option<Trial>,
    copies: bool,
}

pub fn read(spot: &Spot, sites: &[Site], at_once: Option<usize>) -> Vec<Read> {
    let mut rollouts: Vec<Read> = Vec::new();
    let mut waits: Vec<(Spot, String)> = Vec::new();
    for (name, spot) in spot.entries() {
        let Some(mut rollout) = rollout(name, &spot, sites, &mut waits) else { continue };
        for split in rollout.spec.sites().map(|site| site.split) {
            if let Some(other) = rollouts.iter().find(|other| other.spec.moves(&split)) {
                spot.error(format!(
                    "rollout `{}` already moves service `{split}`; a service has one rollout",
                    other.spec.name,
                ));
            }
        }
        rollout.spec.at_once = at_once;
        rollouts.push(rollout);
    }
    let names: Vec<&str> = rollouts.iter().map(|rollout| rollout.spec.name.as_str()).collect();
    for (spot, name) in waits.iter().filter(|(_, name)| !names.contains(&name.as_str())) {
        spot.error(match nearest(name, names.iter().copied()) {
            Some(meant) => format!("there is no rollout `{name}`, did you mean `{meant}`?"),
            None => format!("there is no rollout `{name}`; rollouts are {}", names.join(", ")),
        });
    }
    if let Some((spot, name)) = waits.iter().find(|(_, name)| waits_for_itself(name, &rollouts)) {
        spot.error(format!("`{name}` would wait for itself"));
    }
    rollouts
}

/// Does following `after` from this rollout lead back to it?
fn waits_for_itself(name: &str, rollouts: &[Read]) -> bool {
    let after = |name: &str| {
        let found = rollouts.iter().find(|rollout| rollout.spec.name == name);
        found.map(|rollout| rollout.spec.after.clone()).unwrap_or_default()
    };
    let mut seen = after(name);
    let mut next = 0;
    while let Some(other) = seen.get(next).cloned() {
        let more = after(&other).into_iter().filter(|more| !seen.contains(more)).collect::<Vec<_>>();
        seen.extend(more);
        next += 1;
    }
    seen.iter().any(|other| other == name)
}

/// Puts into a rollout's splits what its steps need.
pub fn prepare(sites: &mut [Site], rollouts: &[Read]) {
    for rollout in rollouts {
        for place in rollout.spec.sites() {
            let Some(site) = sites.iter_mut().find(|site| site.split.name == place.split) else { continue };
            site.split.strata = strata::told_apart(&rollout.spec.analysis.strata);
            site.split.trial =
                rollout.trial.clone().map(|trial| Trial { version: place.canary.clone(), ..trial });
            if rollout.copies {
                let given = site.split.mirror.take().filter(|mirror| mirror.version == place.canary);
                let mirror = given.unwrap_or(Mirror {
                    version: place.canary,
                    parts: 0,
                    on_trial: true,
                    max_body: splits::MIRROR_BODY,
                    max_in_flight: splits::MIRRORS_IN_FLIGHT,
                    compare: None,
                });
                site.split.mirror = Some(Mirror { parts: 0, on_trial: true, ..mirror });
            }
        }
    }
}

fn rollout<'t>(
    name: &str,
    spot: &Spot<'t>,
    sites: &[Site],
    waits: &mut Vec<(Spot<'t>, String)>,
) -> Option<Read> {
    if let Err(text) = units::name(name) {
        spot.error(text);
    }
    let fields = spot.fields(&FIELDS)?;
    let places = places(name, &fields, sites);
    let rules = fields.get("match").map(|spot| trial::rules(&spot));
    let steps = steps::read(&fields);
    let mut analysis = fields.get("analysis").map(|spot| analysis::read(&spot)).unwrap_or_default();
    let hooks = hooks::read(&fields);
    let load = load::read(&fields);
    let bake = bake(&fields, &analysis);
    steps::warn_blind(&fields, &steps, &analysis);
    trial::check(&fields, &steps, &analysis);
    if let Some(spot) = fields.get("analysis") {
        checks::warn(&spot, &steps, &analysis);
    }
    let way_back = fields.get("wayBack").and_then(|spot| way_back(&spot));
    let keep_old = fields.get("keepOld").and_then(|spot| keep_old(&spot, way_back));
    let auto_start = auto_start(&fields, way_back);
    let judged_from = fields.get("judgeFrom").and_then(|spot| spot.whole(1, steps.len().max(1) as u64));
    let after = after(&fields, waits);
    let places = places?;
    for (site, _) in &places {
        warn_site(spot, site, &analysis);
    }
    let baseline = fields.get("baseline").and_then(|spot| baseline(&spot, &places));
    let (_, first) = places.first()?.clone();
    let copies = steps.iter().any(|step| matches!(step, Step::Trial { copied: 1.., .. }));
    if copies {
        places.iter().for_each(|(site, place)| trial::check_mirror(spot, site, &place.canary));
    }
    // Copies that the canary fails are held against it like its own requests.
    if copies || places.iter().any(|(site, place)| is_copied_to(site, &place.canary)) {
        analysis.mirrored = analysis.relative_failures;
    }
    check_answers(&fields, &analysis, &places);
    let spec = Spec {
        name: name.to_owned(),
        split: first.split,
        primary: first.primary,
        canary: first.canary,
        also: places.into_iter().skip(1).map(|(_, place)| place).collect(),
        baseline,
        bake,
        judged_from: judged_from.map_or(0, |number| number as usize - 1),
        skip_analysis: fields.get("skipAnalysis").and_then(|spot| spot.bool()).unwrap_or(false),
        auto_start,
        way_back,
        keep_old: keep_old.unwrap_or_default(),
        after,
        at_once: None,
        hours: fields.get("hours").and_then(|spot| hours::read(&spot)),
        analysis,
        hooks,
        about: alerts::about(&fields),
        load,
        steps,
    };
    let trial = rules.map(|rules| Trial { version: spec.canary.clone(), rules });
    Some(Read { spec, trial, copies })
}

fn is_copied_to(site: &Site, version: &str) -> bool {
    site.split.mirror.as_ref().is_some_and(|mirror| mirror.version == version)
}

/// What follows from differences takes somebody who finds them.
fn check_answers(fields: &Fields, analysis: &Analysis, places: &[(&Site, spec::Site)]) {
    let is_compared =
        |(site, place): &(&Site, spec::Site)| site.compared.is_some() && is_copied_to(site, &place.canary);
    if analysis.answers != OnDifference::Report
        && !places.iter().any(is_compared)
        && let Some(spot) = fields.get("analysis")
    {
        spot.error(
            "`answers` says what follows where they differ, and no mirror of this rollout's services \
             to its canary compares them; set `mirror: {version: ..., compare: true}`",
        );
    }
}

/// The services that it moves, with their versions, the first one first.
fn places<'s, 't>(
    name: &str,
    fields: &Fields,
    sites: &'s [Site<'t>],
) -> Option<Vec<(&'s Site<'t>, spec::Site)>> {
    let found: Vec<&Site> = match fields.get("services") {
        Some(spot) if fields.has("service") => {
            spot.error("give either `service` or `services`, not both");
            return None;
        }
        Some(spot) => {
            let named = spot.list()?;
            let found: Vec<&Site> =
                named.iter().filter_map(|spot| site_of(spot.text()?, Some(spot), fields, sites)).collect();
            if found.len() < named.len() {
                return None;
            }
            found
        }
        None if fields.has("services") => return None,
        None => vec![site(name, fields, sites)?],
    };
    if let (Some(spot), true) = (fields.get("baseline"), found.len() > 1) {
        spot.error("only a rollout of one service has a baseline");
    }
    let place = |site: &'s Site<'t>| {
        let (primary, canary) = versions(fields, site)?;
        Some((site, spec::Site { split: site.split.name.clone(), primary, canary }))
    };
    found.into_iter().map(place).collect()
}

fn baseline(spot: &Spot, places: &[(&Site, spec::Site)]) -> Option<String> {
    let (site, place) = places.first()?;
    let baseline = site.version(spot.text()?, spot)?;
    if [&place.primary, &place.canary].contains(&&baseline) {
        spot.error(format!(
            "`{baseline}` has its part already; a baseline is another copy of the old version"
        ));
        return None;
    }
    Some(baseline)
}

/// The rollouts that it waits for; where each is named is added to `waits`.
fn after<'t>(fields: &Fields<'t>, waits: &mut Vec<(Spot<'t>, String)>) -> Vec<String> {
    let Some(at) = fields.get("after") else { return Vec::new() };
    let names = at.one_or_more();
    let names: Vec<String> = names.iter().filter_map(|spot| Some(spot.text()?.to_owned())).collect();
    waits.extend(names.iter().map(|name| (at.clone(), name.clone())));
    names
}

fn bake(fields: &Fields, analysis: &Analysis) -> Duration {
    // Those that others judge like watch nothing after a promotion by themselves.
    let default = if analysis.checks.is_some() { Duration::ZERO } else { BAKE };
    let Some(spot) = fields.get("bake") else { return default };
    let bake = spot.parsed(units::duration).unwrap_or(default);
    if !bake.is_zero() {
        checks::warn_bake(&spot, analysis);
    }
    bake
}

fn keep_old(spot: &Spot, way_back: Option<WayBack>) -> Option<Duration> {
    if way_back.is_some() {
        spot.error(
            "with `wayBack` the primary's servers get the new version, so there is no old one to keep",
        );
    }
    spot.parsed(units::duration)
}

fn auto_start(fields: &Fields, way_back: Option<WayBack>) -> bool {
    let Some(spot) = fields.get("autoStart") else { return false };
    let starts = spot.bool().unwrap_or(false);
    if starts && way_back.is_none() {
        spot.warn(
            "a release that starts by itself begins with everything on the primary; without `wayBack` nothing \
             sees to it that the primary has become the release before it",
        );
    }
    starts
}

fn way_back(spot: &Spot) -> Option<WayBack> {
    let fields = spot.fields(&WAY_BACK)?;
    let by = fields.get("weight").map_or(Some(serin_proxy::weights::WHOLE), |spot| {
        let parts = spot.parsed(units::parts)?;
        if parts == 0 {
            spot.error("a portion is more than 0");
        }
        Some(parts.max(1))
    });
    let every = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    Some(WayBack { by: by?, every: every? })
}

fn site<'s, 't>(name: &str, fields: &Fields, sites: &'s [Site<'t>]) -> Option<&'s Site<'t>> {
    let given = fields.get("service");
    let wanted = match &given {
        Some(spot) => spot.text()?,
        None if fields.has("service") => return None,
        None => name,
    };
    site_of(wanted, given.as_ref(), fields, sites)
}

fn site_of<'s, 't>(
    wanted: &str,
    given: Option<&Spot>,
    fields: &Fields,
    sites: &'s [Site<'t>],
) -> Option<&'s Site<'t>> {
    let found = sites.iter().find(|site| site.split.name == wanted);
    if found.is_none() {
        let names: Vec<&str> = sites.iter().map(|site| site.split.name.as_str()).collect();
        let hint = match nearest(wanted, names.iter().copied()) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None if given.is_none() => "; name the service with `service`".to_owned(),
            None => format!("; services are {}", names.join(", ")),
        };
        given.unwrap_or(fields.spot()).error(format!("there is no service `{wanted}`{hint}"));
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

fn warn_site(spot: &Spot, site: &Site, analysis: &Analysis) {
    if site.split.sticky.is_some() && analysis.promotion.is_some() && analysis.latency.is_some() {
        spot.warn(format!(
            "service `{}` is sticky: the requests of one user share a version and are no independent tosses; \
             all else counts once per user, but `promotion` counts requests where it shows the `latency` \
             objective, so `falsePromotions` is not guaranteed for that",
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
