//! A route table that both proxies can be given, and the dice that draw one.
//! It has serin's meaning: routes are asked in their order, over all hosts.

use super::change::{Edits, Level, Redirect, Rewrite};
use super::gate::Gates;
use super::request::Known;
use crate::harness::Seeded;

#[derive(Clone, Debug)]
pub struct Table {
    pub services: Vec<Service>,
    pub routes: Vec<Route>,
    /// Of every route.
    pub edits: Edits,
    /// Both ends are told how many tries there were.
    pub tells_tries: bool,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub versions: Vec<Version>,
    /// Which version the coin always names.
    pub chosen: usize,
    pub force: Vec<Force>,
    /// How the versions choose among their ends; with one there is no choice.
    pub hashing: Option<Hashing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    Ring,
    Maglev,
}

#[derive(Clone, Debug)]
pub struct Version {
    pub name: String,
    pub ends: Vec<(End, u32)>,
    /// The ends have names, by which they are placed and called.
    pub named: bool,
    pub http2: bool,
    pub edits: Edits,
}

/// What stands at one of a version's addresses, of some weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// One of the stage's origins.
    Origin(usize),
    /// Nobody listens.
    Dead,
}

impl End {
    pub fn hostname(self) -> String {
        match self {
            End::Origin(nth) => format!("o{nth}.test"),
            End::Dead => "dead.test".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Force {
    pub on: On,
    pub name: String,
    pub value: Text,
    pub version: usize,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    /// Exact names, `*.suffix` or `prefix.*`; none: any host.
    pub hosts: Vec<String>,
    /// Any of these; none: everything.
    pub matches: Vec<Match>,
    pub action: Action,
    pub timeout_ms: u64,
    /// The timeout is for the answer's end, not for its head.
    pub to_the_end: bool,
    pub retry: Option<Retry>,
    pub rewrite: Option<Rewrite>,
    pub edits: Edits,
    pub gates: Gates,
    /// For services that hash; it ends with something that every request has.
    pub hash: Vec<HashBy>,
}

#[derive(Clone, Debug)]
pub struct HashBy {
    /// `None` is the client's address.
    pub on: Option<(On, String)>,
    pub terminal: bool,
}

#[derive(Clone, Debug)]
pub struct Retry {
    pub on: Vec<&'static str>,
    pub retries: usize,
    pub statuses: Vec<u16>,
    pub per_try_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Service(usize),
    Direct { status: u16, body: String },
    Redirect(Redirect),
}

#[derive(Clone, Debug)]
pub struct Match {
    pub path: Option<Path>,
    pub method: Option<String>,
    pub asked: Vec<Condition>,
}

#[derive(Clone, Debug)]
pub enum Path {
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Header,
    Query,
    Cookie,
}

#[derive(Clone, Debug)]
pub struct Condition {
    pub on: On,
    pub name: String,
    pub value: Text,
    pub invert: bool,
}

#[derive(Clone, Debug)]
pub enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(String),
    Present,
}

pub const ORIGINS: usize = 4;
/// What an answer that is no preflight's may have of CORS.
const CORS: &[&str] =
    &["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers"];
/// What paths, names and values are made of: few, so that they meet.
pub const SEGMENTS: [&str; 8] = ["a", "b", "api", "v1", "%61", "a.b", "A", "x-y"];
pub const NAMES: [&str; 5] = ["x-a", "x-tenant", "user-agent", "accept", "x-list"];
pub const KEYS: [&str; 3] = ["q", "page", "a"];
pub const COOKIES: [&str; 3] = ["canary", "sid", "a"];
pub const VALUES: [&str; 10] = ["1", "a", "ab", "abc", "", "a,b", "a b", "Always", "always", "%31"];
pub const METHODS: [&str; 8] = ["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
const RETRY_ON: [&str; 8] = [
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "retriable-4xx",
    "retriable-status-codes",
    "refused-stream",
    "envoy-ratelimited",
];
const REGEXES: [&str; 9] =
    ["/[a-z]+", "/a|/b", "/(api|v1)/.*", "/.*", "/a/?", ".*b.*", "/v[0-9]/[^/]+", "/(?i)API", "/\\w+/\\d*"];
const VALUE_REGEXES: [&str; 6] = ["[0-9]+", "a.*", "a|b", ".*", "^ab?c?$", "(?i)ALWAYS"];
const SUFFIXES: [&str; 5] = ["*.example.com", "*.b.example.com", "*.org", "*.test", "*.com"];
const PREFIXES: [&str; 4] = ["api.*", "api.v1.*", "www.*", "a.*"];
const EXACT: [&str; 6] =
    ["a.example.com", "example.com", "api.test", "www.b.example.com", "127.0.0.1", "[::1]"];

impl Table {
    pub fn draw(dice: &mut Seeded) -> Table {
        let mut services = (0..1 + dice.below(3)).map(|n| service(dice, n)).collect::<Vec<_>>();
        // Domains that cross over are no legal file.
        let wildcards: &[&str] = if dice.chance(50) { &SUFFIXES } else { &PREFIXES };
        let count = 2 + dice.below(9);
        let mut routes: Vec<_> = (0..count).map(|n| route(dice, n, services.len(), wildcards)).collect();
        if dice.chance(60) {
            let action = Action::Service(dice.below(services.len()));
            routes.push(Route::new("rest", action, dice));
        }
        let edits = if dice.chance(15) { Edits::draw(dice) } else { Edits::default() };
        let gated = |route: &Route| route.gates.cors.is_some() || route.gates.faults.is_some();
        if routes.iter().any(gated) {
            // To Envoy a version is chosen with the route; in serin who is stopped has none.
            let versions = services.iter_mut().flat_map(|service| &mut service.versions);
            versions.for_each(|version| version.edits.response = Level::default());
        }
        Table { services, routes, edits, tells_tries: dice.chance(30) }
    }

    /// `http2` is what the client speaks.
    pub fn known(&self, http2: bool) -> Known {
        let versions = self.services.iter().flat_map(|service| &service.versions);
        let hurt = versions.filter(|version| version.ends.iter().any(|(end, _)| *end == End::Dead));
        let stand_ins = hurt.flat_map(|version| &version.ends).filter_map(|(end, _)| match end {
            End::Origin(nth) => Some(format!("o{nth}")),
            End::Dead => None,
        });
        let direct = self.routes.iter().filter_map(|route| match &route.action {
            Action::Direct { status, body } => Some((*status, body.clone(), route.gates.cors.is_some())),
            _ => None,
        });
        let redirects = self.routes.iter().filter_map(|route| match &route.action {
            Action::Redirect(to) => Some((to.status, route.gates.cors.is_some())),
            _ => None,
        });
        let answers = |route: &&Route| !matches!(route.action, Action::Service(_));
        let faulted = self.routes.iter().filter(answers).filter(|route| route.gates.faults.is_some());
        let edited = faulted.map(|route| {
            let cors = route.gates.cors.iter().flat_map(|_| CORS).copied();
            let edited = [&route.edits, &self.edits].into_iter().flat_map(|edits| edits.response.names());
            edited.chain(cors).collect()
        });
        Known {
            retries: self.retries(),
            http2,
            stand_ins: stand_ins.collect(),
            direct: direct.collect(),
            redirects: redirects.collect(),
            edited_faults: edited.collect(),
            hashes_edited: self.hashes_edited(),
        }
    }

    fn hashes_edited(&self) -> bool {
        let versions = self.services.iter().flat_map(|service| &service.versions);
        let around: Vec<_> = versions.map(|version| &version.edits).chain([&self.edits]).collect();
        self.routes.iter().any(|route| {
            let edits = around.iter().copied().chain([&route.edits]);
            let names: Vec<_> = edits.flat_map(|edits| edits.request.names()).collect();
            route.hash.iter().any(|by| match &by.on {
                Some((On::Header, name)) => names.contains(&name.as_str()),
                Some((On::Cookie, _)) => names.contains(&"cookie"),
                _ => false,
            })
        })
    }

    pub fn retries(&self) -> bool {
        self.routes.iter().any(|route| route.retry.is_some())
    }
}

impl Route {
    /// Takes every request.
    fn new(name: &str, action: Action, dice: &mut Seeded) -> Route {
        Route {
            name: name.to_owned(),
            hosts: Vec::new(),
            matches: Vec::new(),
            action,
            timeout_ms: 2_000,
            to_the_end: dice.chance(30),
            retry: dice.chance(40).then(|| retry(dice)),
            rewrite: dice.chance(20).then(|| Rewrite::draw(dice)),
            edits: if dice.chance(25) { Edits::draw(dice) } else { Edits::default() },
            gates: Gates::draw(dice, condition),
            hash: hash(dice),
        }
    }
}

fn hash(dice: &mut Seeded) -> Vec<HashBy> {
    let mut hash: Vec<_> = (0..dice.below(3))
        .map(|_| {
            let on = dice.pick(&[On::Header, On::Query, On::Cookie]);
            HashBy { on: Some((on, name(dice, on))), terminal: dice.chance(30) }
        })
        .collect();
    hash.push(HashBy { on: None, terminal: false });
    hash
}

fn retry(dice: &mut Seeded) -> Retry {
    let mut on: Vec<&str> = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let word = dice.pick(&RETRY_ON);
        if !on.contains(&word) {
            on.push(word);
        }
    }
    let coded = on.contains(&"retriable-status-codes");
    let statuses = if coded { vec![dice.pick(&[404, 429, 200, 503])] } else { Vec::new() };
    let per_try_ms = dice.chance(25).then_some(900);
    Retry { on, retries: 1 + dice.below(3), statuses, per_try_ms }
}

fn service(dice: &mut Seeded, nth: usize) -> Service {
    let count = 1 + dice.below(3);
    let hashing = dice.chance(25).then(|| dice.pick(&[Hashing::Ring, Hashing::Maglev]));
    let versions: Vec<_> = (0..count).map(|n| version(dice, n, hashing.is_some())).collect();
    let force = (0..if count > 1 { dice.below(3) } else { 0 })
        .map(|_| {
            let on = if dice.chance(60) { On::Header } else { On::Cookie };
            Force { on, name: name(dice, on), value: text(dice), version: dice.below(count) }
        })
        .collect();
    Service { name: format!("s{nth}"), chosen: dice.below(count), versions, force, hashing }
}

fn version(dice: &mut Seeded, nth: usize, hashes: bool) -> Version {
    let end = |dice: &mut Seeded| match dice.chance(8) {
        true => End::Dead,
        false => End::Origin(dice.below(ORIGINS)),
    };
    let mut ends = vec![(end(dice), 1)];
    if hashes {
        for _ in 0..dice.below(4) {
            let end = end(dice);
            if !ends.iter().any(|(known, _)| *known == end) {
                ends.push((end, 1 + dice.below(3) as u32));
            }
        }
    }
    Version {
        name: format!("v{}", nth + 1),
        ends,
        named: hashes || dice.chance(30),
        http2: dice.chance(20),
        edits: if dice.chance(15) { Edits::draw(dice) } else { Edits::default() },
    }
}

fn route(dice: &mut Seeded, nth: usize, services: usize, wildcards: &[&str]) -> Route {
    let hosts = match dice.below(3) {
        0 => Vec::new(),
        _ => {
            let mut hosts = Vec::new();
            for _ in 0..1 + dice.below(3) {
                let among = if dice.chance(50) { wildcards } else { &EXACT[..] };
                let host = dice.pick(among).to_owned();
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
            hosts
        }
    };
    let action = match dice.below(7) {
        6 => Action::Redirect(Redirect::draw(dice)),
        0 => {
            let status = dice.pick(&[200, 404, 403, 503, 418, 204]);
            let body = if status == 204 { "" } else { dice.pick(&["", "not here", "{\"a\": 1}\n"]) };
            Action::Direct { status, body: body.to_owned() }
        }
        _ => Action::Service(dice.below(services)),
    };
    let matches = (0..dice.below(3)).map(|_| one_match(dice)).collect();
    let mut route = Route { hosts, matches, ..Route::new(&format!("r{nth}"), action, dice) };
    if !matches!(route.action, Action::Service(_)) {
        // Nothing goes on that could be changed.
        route.edits.request = Level::default();
    }
    route
}

fn one_match(dice: &mut Seeded) -> Match {
    let path = match dice.below(8) {
        0 => None,
        1 | 2 => Some(Path::Exact(path(dice))),
        3 => Some(Path::Regex(dice.pick(&REGEXES).to_owned())),
        4 => Some(Path::Prefix("/".to_owned())),
        _ => {
            let path = path(dice);
            let keep = path.len() - dice.below(2).min(path.len() - 1);
            Some(Path::Prefix(path[..keep].to_owned()))
        }
    };
    let method = dice.chance(20).then(|| dice.pick(&METHODS).to_owned());
    let asked = (0..dice.below(5).saturating_sub(2)).map(|_| condition(dice)).collect();
    Match { path, method, asked }
}

/// A path without a query, such as a request may have.
pub fn path(dice: &mut Seeded) -> String {
    let mut path = String::new();
    for _ in 0..1 + dice.below(3) {
        path.push('/');
        path.push_str(dice.pick(&SEGMENTS));
    }
    if dice.chance(15) {
        path.push('/');
    }
    path
}

fn condition(dice: &mut Seeded) -> Condition {
    let on = dice.pick(&[On::Header, On::Header, On::Query, On::Cookie]);
    // Envoy has no word to invert a question about the query.
    let invert = on != On::Query && dice.chance(30);
    Condition { on, name: name(dice, on), value: text(dice), invert }
}

fn name(dice: &mut Seeded, on: On) -> String {
    let among: &[&str] = match on {
        On::Header => &NAMES,
        On::Query => &KEYS,
        On::Cookie => &COOKIES,
    };
    dice.pick(among).to_owned()
}

fn text(dice: &mut Seeded) -> Text {
    // An empty beginning or end is no question, and no legal one.
    let value = dice.pick(&VALUES).to_owned();
    let some = if value.is_empty() { "a".to_owned() } else { value.clone() };
    match dice.below(6) {
        0 => Text::Present,
        1 => Text::Prefix(some),
        2 => Text::Suffix(some),
        3 => Text::Regex(dice.pick(&VALUE_REGEXES).to_owned()),
        _ => Text::Exact(value),
    }
}
