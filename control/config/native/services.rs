//! Services, their versions and where those answer.

use serin_proxy::Weights;
use serin_proxy::model::{
    Address, Balance, Dns, HealthCheck, Listener, Outlier, Protocol, ProxyHeader, Role, Service, Split,
    Version,
};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::balance;
use super::breaker;
use super::dns;
use super::edits;
use super::endpoints;
use super::endpoints::Listed;
use super::health;
use super::outcome;
use super::outliers;
use super::retry;
use super::site::Site;
use super::splits;
use super::tls;
use super::units;

const FIELDS: [&str; 16] = [
    "primary",
    "canary",
    "versions",
    "endpoints",
    "balance",
    "dns",
    "weights",
    "sticky",
    "force",
    "shield",
    "mirror",
    "retry",
    "health",
    "outliers",
    "fallback",
    "outcome",
];
const VERSION: [&str; 16] = [
    "role",
    "endpoints",
    "labels",
    "release",
    "balance",
    "dns",
    "protocol",
    "connectTimeout",
    "requestHeaders",
    "responseHeaders",
    "breaker",
    "connections",
    "tls",
    "proxyProtocol",
    "health",
    "outliers",
];
/// The same but for the role, which the short form names.
const SHORT_VERSION: &[&str] = VERSION.split_at(1).1;
const PROXY_HEADERS: [(&str, ProxyHeader); 2] = [("v1", ProxyHeader::V1), ("v2", ProxyHeader::V2)];
const ROLES: [(&str, Role); 3] =
    [("primary", Role::Primary), ("canary", Role::Canary), ("other", Role::Other)];
const PROTOCOLS: [(&str, Protocol); 3] =
    [("http1", Protocol::Http1), ("http2", Protocol::Http2), ("auto", Protocol::Auto)];

/// What is said for all versions of a service.
struct Ground<'a> {
    listeners: &'a [Listener],
    /// Endpoints that versions choose from by label.
    shared: Option<Listed>,
    balance: Balance,
    dns: Dns,
    health: Option<HealthCheck>,
    outliers: Option<Outlier>,
}

pub fn read<'t>(spot: &Spot<'t>, listeners: &[Listener], dns: &Dns) -> Vec<Site<'t>> {
    spot.entries().into_iter().map(|(name, spot)| site(name, &spot, listeners, dns)).collect()
}

/// Always a site, so that what refers to a service in trouble is not called
/// wrong as well.
fn site<'t>(name: &str, spot: &Spot<'t>, listeners: &[Listener], dns: &Dns) -> Site<'t> {
    if let Err(text) = units::name(name) {
        spot.error(text);
    }
    let fields = spot.fields(&FIELDS);
    let versions = fields.as_ref().and_then(|fields| {
        let ground = Ground {
            listeners,
            shared: fields.get("endpoints").map(|spot| endpoints::read(&spot, listeners)),
            balance: fields.get("balance").map(|spot| balance::read(&spot)).unwrap_or_default(),
            dns: dns::read(fields.get("dns"), dns),
            health: fields.get("health").and_then(|spot| health::read(&spot)),
            outliers: fields.get("outliers").and_then(|spot| outliers::read(&spot)),
        };
        versions(fields, &ground)
    });
    let broken = versions.is_none();
    let versions = versions.unwrap_or_default();
    let mut site = Site {
        at: spot.clone(),
        split: Split {
            name: name.to_owned(),
            service: name.to_owned(),
            weights: all_on_primary(&versions),
            sticky: None,
            force: Vec::new(),
            trial: None,
            strata: Vec::new(),
            shield: None,
            mirror: None,
            fallback: true,
        },
        service: Service { name: name.to_owned(), versions },
        compared: None,
        retry: None,
        outcome: None,
        shield_said: false,
        shared_out: false,
        broken,
    };
    if let Some(fields) = fields {
        splits::read(&fields, &mut site);
        site.outcome = fields.get("outcome").and_then(|spot| outcome::read(&spot));
        site.retry = fields.get("retry").and_then(|spot| retry::read(&spot, Some(&site)));
    }
    site
}

fn all_on_primary(versions: &[Version]) -> Weights {
    let primary = versions.iter().position(|version| version.role == Role::Primary).unwrap_or(0);
    let shares = versions.iter().enumerate().map(|(i, version)| {
        let parts = if i == primary { serin_proxy::weights::WHOLE } else { 0 };
        (version.name.clone(), parts)
    });
    // Only a service without versions fails here, and that is refused already.
    Weights::new(shares.collect()).unwrap_or_else(|_| Weights::pair("primary", "canary", 0))
}

/// `None` where not even the names of the versions are known.
fn versions(fields: &Fields, ground: &Ground) -> Option<Vec<Version>> {
    let short = fields.has("primary") || fields.has("canary");
    let versions: Vec<Version> = match (short, fields.has("versions")) {
        (true, true) => {
            fields.spot().error("give either `primary` and `canary` or `versions`, not both");
            return None;
        }
        (false, false) => {
            fields.spot().error("`primary` is missing: where the version in use answers");
            return None;
        }
        (true, false) => {
            let primary = fields.need("primary").map(|spot| short_version(&spot, Role::Primary, ground));
            let canary = fields.get("canary").map(|spot| short_version(&spot, Role::Canary, ground));
            primary.into_iter().chain(canary).collect()
        }
        (false, true) => {
            let spot = fields.get("versions")?;
            let versions: Vec<Version> = spot
                .entries()
                .into_iter()
                .filter_map(|(name, spot)| long_version(name, &spot, ground))
                .collect();
            let primaries = versions.iter().filter(|version| version.role == Role::Primary).count();
            if primaries != 1 && !versions.is_empty() {
                spot.error(format!(
                    "exactly one version has `role: primary`, here {}",
                    if primaries == 0 { "none".to_owned() } else { format!("{primaries} have") }
                ));
            }
            versions
        }
    };
    warn_shared_endpoints(fields.spot(), &versions);
    if versions.is_empty() { None } else { Some(versions) }
}

/// `primary: 127.0.0.1:9001`, a list of such, a file of such, or a mapping.
fn short_version(spot: &Spot, role: Role, ground: &Ground) -> Version {
    let mut version = Version::new(role.as_str(), role);
    if !spot.is_map() || spot.has("address") || spot.has("file") {
        (version.endpoints, version.release) = endpoints::read(spot, ground.listeners).told();
        (version.balance, version.dns) = (ground.balance.clone(), ground.dns.clone());
        (version.health, version.outliers) = (ground.health.clone(), ground.outliers.clone());
    } else if let Some(fields) = spot.fields(SHORT_VERSION) {
        fill(&mut version, &fields, ground);
    }
    version
}

fn long_version(name: &str, spot: &Spot, ground: &Ground) -> Option<Version> {
    if let Err(text) = units::name(name) {
        spot.error(text);
    }
    let fields = spot.fields(&VERSION)?;
    let said = fields.get("role").and_then(|spot| spot.word(&ROLES));
    // A version called `canary` is one, unless it says otherwise.
    let named = ROLES.iter().find(|(word, _)| *word == name).map(|(_, role)| *role);
    let mut version = Version::new(name, said.or(named).unwrap_or(Role::Other));
    fill(&mut version, &fields, ground);
    Some(version)
}

fn fill(version: &mut Version, fields: &Fields, ground: &Ground) {
    (version.endpoints, version.release) =
        endpoints::of_version(fields, ground.shared.as_ref(), ground.listeners);
    version.balance =
        fields.get("balance").map_or_else(|| ground.balance.clone(), |spot| balance::read(&spot));
    version.dns = dns::read(fields.get("dns"), &ground.dns);
    if let Some(protocol) = fields.get("protocol").and_then(|spot| spot.word(&PROTOCOLS)) {
        version.protocol = protocol;
    }
    if let Some(time) = fields.get("connectTimeout").and_then(|spot| spot.parsed(units::some_time)) {
        version.connect_timeout = time;
    }
    version.edits = edits::read(fields);
    version.breaker = fields.get("breaker").and_then(|spot| breaker::breaker(&spot)).unwrap_or_default();
    version.keeping = fields.get("connections").and_then(|spot| breaker::keeping(&spot)).unwrap_or_default();
    version.tls = fields.get("tls").and_then(|spot| tls::client(&spot));
    if let Some(spot) = fields.get("protocol").filter(|_| version.protocol == Protocol::Auto)
        && !fields.has("tls")
    {
        spot.error("an endpoint chooses in the handshake of TLS; give `tls`, or http1 or http2");
    }
    if let Some(spot) = fields.get("proxyProtocol") {
        version.proxy_header = spot.word(&PROXY_HEADERS);
        if version.protocol != Protocol::Http1 {
            spot.error("cannot be told over http2: its connections are shared by clients");
        }
    }
    version.health = match fields.get("health") {
        Some(spot) => health::read(&spot),
        None => ground.health.clone(),
    };
    version.outliers = match fields.get("outliers") {
        Some(spot) => outliers::read(&spot),
        None => ground.outliers.clone(),
    };
}

fn warn_shared_endpoints(spot: &Spot, versions: &[Version]) {
    for (i, version) in versions.iter().enumerate() {
        for other in &versions[i + 1..] {
            let shared = version.endpoints.iter().map(|endpoint| &endpoint.address);
            let is_other = |address: &&Address| other.endpoints.iter().any(|at| at.address == **address);
            if let Some(shared) = shared.clone().find(is_other) {
                spot.warn(format!(
                    "{shared} is an endpoint of both {} and {}, so they cannot differ there",
                    version.name, other.name
                ));
            }
        }
    }
}
