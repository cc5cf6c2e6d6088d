//! Which request goes where.

use std::collections::HashSet;

use serin_proxy::model::{Edits, HashPolicy, Host, Match, PathMatch, Route, Target};

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::fields::nearest;

use super::edits;
use super::gates;
use super::hashing;
use super::hosts;
use super::hosts::Domain;
use super::matching;
use super::outcome;
use super::retry;
use super::rewrites;
use super::site::Site;
use super::timeouts;
use super::timeouts::Waits;
use super::units;
use super::upgrades;

const FIELDS: [&str; 23] = [
    "name",
    "hosts",
    "match",
    "service",
    "direct",
    "redirect",
    "timeout",
    "idleTimeout",
    "totalTimeout",
    "maxDuration",
    "grpcTimeout",
    "tell",
    "retry",
    "upgrade",
    "connect",
    "rewrite",
    "requestHeaders",
    "responseHeaders",
    "cors",
    "rateLimit",
    "faults",
    "hash",
    "outcome",
];
const DIRECT: [&str; 3] = ["status", "body", "bodyFile"];
/// Of an answer of our own that comes from a file.
const MOST_BODY: usize = 1024 * 1024;

/// Routes of one file.
const MOST: usize = 10_000;

pub fn read(document: &Fields, sites: &[Site]) -> Vec<Host> {
    if !document.has("routes") {
        return only_service(document, sites);
    }
    let Some(spot) = document.get("routes") else {
        return Vec::new();
    };
    let items = spot.list().unwrap_or_default();
    if items.len() > MOST {
        spot.error(format!("{} routes are more than the {MOST} that a file may have", items.len()));
        return Vec::new();
    }
    let mut names = HashSet::new();
    let mut routes = Vec::new();
    let mut complete = true;
    for (i, item) in items.iter().enumerate() {
        match route(item, i, sites, &mut names) {
            Some(route) => routes.push(route),
            None => complete = false,
        }
    }
    if complete {
        warn_unreached(&items, &routes);
        warn_unrouted(&routes, sites);
    }
    let (hosts, crossings) = hosts::build(&routes);
    for crossing in crossings {
        spot.error(format!(
            "hosts {} and {} overlap and lead to different routes, so the order of routes cannot be kept \
             for a host that is in both; name such hosts in full",
            crossing.ending.text(),
            crossing.beginning.text()
        ));
    }
    hosts
}

/// Without routes every request goes to the only service.
fn only_service(document: &Fields, sites: &[Site]) -> Vec<Host> {
    let [site] = sites else {
        let text = match sites.len() {
            _ if document.has("services") && sites.is_empty() => return Vec::new(),
            0 => "`services` is missing: what to send requests to".to_owned(),
            n => format!("`routes` is missing: with {n} services it must say which request goes where"),
        };
        document.spot().error(text);
        return Vec::new();
    };
    let mut route = Route::new(&site.service.name, Target::Split(site.split.name.clone()));
    Waits::usual().put_into(&mut route);
    route.retry = site.retry.clone();
    route.outcome = site.outcome.clone();
    vec![Host { domains: vec!["*".to_owned()], routes: vec![route], edits: Edits::default() }]
}

fn route(
    spot: &Spot,
    index: usize,
    sites: &[Site],
    names: &mut HashSet<String>,
) -> Option<(Vec<Domain>, Route)> {
    let fields = spot.fields(&FIELDS)?;
    let named = fields.get("name");
    let name = match &named {
        Some(spot) => spot.parsed(units::name),
        None => Some(format!("route-{}", index + 1)),
    };
    if let Some(name) = &name
        && !names.insert(name.clone())
    {
        named.as_ref().unwrap_or(spot).error(format!("a route named `{name}` stands above"));
    }
    let domains = match fields.get("hosts") {
        Some(spot) => spot.one_or_more().iter().filter_map(|spot| spot.parsed(Domain::parse)).collect(),
        None => vec![Domain::Any],
    };
    let mut matches = Vec::new();
    for spot in fields.get("match").map(|spot| spot.one_or_more()).unwrap_or_default() {
        matches.extend(matching::one(&spot));
    }
    let target = fields.one_of(&["service", "direct", "redirect"]).and_then(|(kind, spot)| match kind {
        "service" => service(&spot, sites),
        "redirect" => rewrites::redirect(&spot).map(Target::Redirect),
        _ => direct(&spot),
    });
    let own_answer = fields.has("direct") || fields.has("redirect");
    let waits = timeouts::read(&fields, own_answer);
    let upgrades = upgrades::read(&fields, &matches);
    let meant = match &target {
        Some(Target::Split(name)) => sites.iter().find(|site| site.split.name == *name),
        _ => None,
    };
    for field in ["rewrite", "requestHeaders", "retry", "outcome"] {
        if let Some(spot) = fields.get(field).filter(|_| own_answer) {
            spot.error("an answer of serin's own sends no request on; drop this");
        }
    }
    let policy = match fields.get("retry") {
        Some(_) if own_answer => None,
        Some(spot) => retry::read(&spot, meant),
        None => meant.and_then(|site| site.retry.clone()),
    };
    let outcome = match fields.get("outcome") {
        Some(spot) => outcome::read(&spot),
        None => meant.and_then(|site| site.outcome.clone()),
    };
    let edits = edits::read(&fields);
    let rewrite = fields.get("rewrite").map(|spot| rewrites::rewrite(&spot)).unwrap_or_default();
    let target = target?;
    let hash = fields.get("hash").map(|spot| hash(&spot, &target, sites)).unwrap_or_default();
    let route = Route::new(name?, target);
    let mut route = Route { matches, upgrades, hash, retry: policy, outcome, edits, rewrite, ..route };
    waits.put_into(&mut route);
    gates::read(&fields, &mut route);
    Some((domains, route))
}

fn hash(spot: &Spot, target: &Target, sites: &[Site]) -> Vec<HashPolicy> {
    let site = match target {
        Target::Split(name) => sites.iter().find(|site| site.split.name == *name),
        Target::Direct { .. } | Target::Redirect(_) => None,
    };
    let used = site.is_some_and(|site| {
        site.broken || site.service.versions.iter().any(|version| version.balance.algorithm.hashes())
    });
    if !used {
        spot.warn("has no use here: no version balances by ringHash or maglev");
    }
    hashing::read(spot)
}

fn service(spot: &Spot, sites: &[Site]) -> Option<Target> {
    let name = spot.text()?;
    if !sites.iter().any(|site| site.split.name == name) {
        let names: Vec<&str> = sites.iter().map(|site| site.split.name.as_str()).collect();
        spot.error(match nearest(name, names.iter().copied()) {
            Some(meant) => format!("there is no service `{name}`, did you mean `{meant}`?"),
            None if names.is_empty() => format!("there is no service `{name}`; the file has none"),
            None => format!("there is no service `{name}`; services are {}", names.join(", ")),
        });
        return None;
    }
    Some(Target::Split(name.to_owned()))
}

fn direct(spot: &Spot) -> Option<Target> {
    let fields = spot.fields(&DIRECT)?;
    let status = fields.need("status").and_then(|spot| spot.whole(200, 599));
    let body = match fields.any_of(&["body", "bodyFile"]) {
        Some(("bodyFile", spot)) => {
            let text = spot.file_text()?;
            if text.len() > MOST_BODY {
                spot.error(format!("has {} bytes, more than {MOST_BODY}", text.len()));
            }
            text
        }
        Some((_, spot)) => spot.text()?.to_owned(),
        None => String::new(),
    };
    let status = u16::try_from(status?).ok()?;
    if matches!(status, 204 | 304) && !body.is_empty() {
        spot.error(format!("an answer of status {status} has no body"));
    }
    Some(Target::Direct { status, body })
}

fn warn_unreached(items: &[Spot], routes: &[(Vec<Domain>, Route)]) {
    let all = routes.iter().enumerate().filter(|(_, (_, route))| takes_all(route));
    let mut told = HashSet::new();
    for (i, (wide, first)) in all {
        for (j, (narrow, route)) in routes.iter().enumerate().skip(i + 1) {
            let apart = route.matches.iter().any(|one| one.connect);
            let covered = !apart && narrow.iter().all(|domain| wide.iter().any(|other| other.covers(domain)));
            if covered && told.insert(j) {
                items[j].warn(format!(
                    "route `{}` is never reached: `{}` above takes every request",
                    route.name, first.name
                ));
            }
        }
        if told.len() + i + 1 >= routes.len() {
            break;
        }
    }
}

fn takes_all(route: &Route) -> bool {
    let free = |one: &Match| {
        let path = match &one.path {
            None => true,
            Some(PathMatch::Prefix(prefix)) => prefix == "/",
            Some(_) => false,
        };
        *one == Match { path: one.path.clone(), ..Match::default() } && path
    };
    route.matches.is_empty() || route.matches.iter().any(free)
}

fn warn_unrouted(routes: &[(Vec<Domain>, Route)], sites: &[Site]) {
    for site in sites {
        let target = Target::Split(site.split.name.clone());
        if !routes.iter().any(|(_, route)| route.target == target) {
            site.at.warn(format!("no route leads to service `{}`", site.split.name));
        }
    }
}
