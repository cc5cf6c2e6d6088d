//! serin's own format, `serin.yaml`. Its reference with every field is
//! `deploy/examples/full.yaml`.

mod rollouts;

mod hooks;

mod alerts;

mod providers;

mod secrets;

mod analysis;

mod strata;

mod checks;

mod routes;

mod retry;

mod breaker;

mod timeouts;

mod hosts;

mod services;

mod endpoints;

mod balance;

mod dns;

mod hashing;

mod splits;

mod compare;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod site;

mod health;

mod outcome;
mod outliers;

mod listeners;
mod manners;

mod upgrades;
mod tls;

mod forwarded;

mod http2;

mod matching;

mod drain;
mod metrics;
mod gates;

mod edits;

mod rewrites;

mod overload;

mod load;

mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serin_proxy::Model;
use serin_proxy::model::{Dns, Shield};

use crate::answers::Settings;
use crate::config::fields::Spot;
use crate::config::loaded::Loaded;
use crate::rollout::Spec;
use site::Site;

const FIELDS: [&str; 17] = [
    "alerts",
    "providers",
    "listen",
    "listeners",
    "admin",
    "workers",
    "state",
    "drain",
    "overload",
    "metrics",
    "dns",
    "services",
    "routes",
    "rollouts",
    "rolloutsAtOnce",
    "requestHeaders",
    "responseHeaders",
];

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 9901);

/// What the document says; worth something only if no error was reported.
pub fn read(root: &Spot) -> Option<Loaded> {
    let fields = root.fields(&FIELDS)?;
    let listeners = listeners::read(&fields);
    let admin = fields.get("admin").and_then(|spot| {
        let address = spot.parsed(units::address)?;
        if address.port() != 0 && listeners.iter().any(|listener| listener.address == address) {
            spot.error(format!("{address} is already a listener's address"));
        }
        Some(address)
    });
    let workers = fields.get("workers").and_then(|spot| spot.whole(1, 1024));
    let mut sites = match fields.get("services") {
        Some(spot) => services::read(&spot, &listeners, &dns::read(fields.get("dns"), &Dns::default())),
        None => Vec::new(),
    };
    let at_once = fields.get("rolloutsAtOnce").and_then(|spot| spot.whole(1, 1_000_000));
    let at_once = at_once.and_then(|most| usize::try_from(most).ok());
    let rollouts = match fields.get("rollouts") {
        Some(spot) => rollouts::read(&spot, &sites, at_once),
        None => Vec::new(),
    };
    rollouts::prepare(&mut sites, &rollouts);
    let mut rollouts: Vec<Spec> = rollouts.into_iter().map(|rollout| rollout.spec).collect();
    let providers = providers::read(&fields);
    providers::check(&fields, &providers, &rollouts);
    shield_governed(&mut sites, &rollouts);
    let hosts = routes::read(&fields, &sites);
    let compared = compared(&sites);
    let (services, splits) = sites.into_iter().map(|site| (site.service, site.split)).unzip();
    let model = Model {
        listeners,
        hosts,
        splits,
        services,
        edits: edits::read(&fields),
        overload: overload::read(&fields),
        ..Model::default()
    };
    load::settle(&fields, &model, &mut rollouts);
    strata::settle(&fields, &model, &rollouts);
    Some(Loaded {
        model,
        rollouts,
        compared,
        admin: admin.unwrap_or(ADMIN),
        workers: workers.and_then(|workers| usize::try_from(workers).ok()),
        state: fields.get("state").and_then(|spot| spot.parsed(units::directory)),
        drain: drain::read(&fields),
        metrics: metrics::read(&fields),
        alerts: alerts::read(&fields),
        providers,
        warnings: Vec::new(),
    })
}

/// The splits whose mirrors compare answers, and how.
fn compared(sites: &[Site]) -> BTreeMap<String, Settings> {
    let of = |site: &Site| Some((site.split.name.clone(), site.compared.clone()?));
    sites.iter().filter_map(of).collect()
}

/// Users of a service under a rollout are shielded unless the file says otherwise.
fn shield_governed(sites: &mut [Site], rollouts: &[Spec]) {
    for site in sites.iter_mut().filter(|site| !site.shield_said) {
        if rollouts.iter().any(|rollout| rollout.moves(&site.split.name)) {
            site.split.shield = Some(Shield::default());
        }
    }
}
