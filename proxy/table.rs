//! The routing table: a model compiled for lookup, immutable, swapped whole.
//!
//! Compiling carries over by name what must outlive a reload: the counters of
//! every version and the weights and evidence of every split.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gates;
mod host;
mod listener;
mod path;
mod versions;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::breaker::Breaker;
use crate::clock;
use crate::counting::Counting;
use crate::edit::Answered;
use crate::edit::Edits;
use crate::edit::InForce;
use crate::edit::Matched;
use crate::edit::Scene;
use crate::hashing::Hashed;
use crate::hashing::Hashing;
use crate::head::Head;
use crate::hosts::Hosts;
use crate::limit::Bucket;
use crate::model;
use crate::model::Host;
use crate::model::Match;
use crate::model::Mirror;
use crate::model::Model;
use crate::model::RateLimit;
use crate::model::Rewrite;
use crate::model::Role;
use crate::model::Route;
use crate::model::Service;
use crate::model::Shield;
use crate::model::Split;
use crate::model::Target;
use crate::model::Tell;
use crate::model::Upgrades;
use crate::redirect::Redirect;
use crate::reply::Reply;
use crate::retry::Plan;
use crate::rewrite::Peer;
use crate::split::ForceRule;
use crate::split::Rules;
use crate::split::SplitCell;
use crate::split::Sticky;
use crate::split::Strata;
use crate::split::Trial;
use crate::tally::Slot;
use crate::tally::SlotKey;
use crate::timeouts::Timeouts;

pub use listener::ListenerPlan;

use crate::predicate::Conditions;
pub use gates::Gates;
use host::HostIndex;
use path::PathIndex;
pub use versions::{Bounds, VersionPlan};

/// Something wrong with a model: where in it, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A path into the model, e.g. `splits[web].weights`.
    pub path: String,
    pub text: String,
}

pub struct Table {
    pub model: Model,
    pub listeners: Vec<Arc<ListenerPlan>>,
    hosts: HostIndex,
    /// By host of the model: its paths, and the routes these stand for.
    routes: Vec<HostRoutes>,
    pub splits: Vec<SplitPlan>,
    pub slots: Vec<Arc<Slot>>,
    /// The endpoints of every version that is routed.
    pub endpoints: Vec<Arc<Hosts>>,
    pub bounds: Vec<Bounds>,
}

pub struct HostRoutes {
    paths: PathIndex,
    entries: Vec<Entry>,
    plans: Vec<RoutePlan>,
    /// Which route is taken is partly chance.
    pub random: bool,
}

/// What a position of `paths` asks beyond the path, and its route.
struct Entry {
    conditions: Conditions,
    plan: usize,
    matched: Matched,
}

/// The route of a request, and what of its path led there.
pub struct Found<'t> {
    pub route: &'t RoutePlan,
    pub matched: Matched,
}

/// A route's place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId {
    host: u32,
    plan: u32,
}

pub struct RoutePlan {
    pub id: RouteId,
    pub name: String,
    pub action: Action,
    pub edits: Option<Box<Edits>>,
    pub gates: Option<Box<Gates>>,
    /// Our own HTTP/1 codec can do all that it asks for.
    pub plain: bool,
    pub upgrades: Upgrades,
    pub timeouts: Timeouts,
    /// Up to which a gRPC caller's own timeout is obeyed, if it is.
    pub grpc_timeout_us: Option<u64>,
    pub retry: Option<Plan>,
    pub tell: Tell,
    /// Its own rules of what counts as a failure.
    pub counting: Option<Arc<Counting>>,
    hashing: Hashing,
}

impl RoutePlan {
    /// The hash of a request, where some version of the split chooses by it; a
    /// cookie is handed out only where the version does that was chosen.
    pub fn hash(&self, split: &SplitPlan, version: usize, head: &Head<'_>, peer: &Peer) -> Hashed {
        if self.hashing.is_empty() || !split.versions.iter().any(VersionPlan::hashes) {
            return Hashed::default();
        }
        let issue: Option<&dyn Fn() -> u64> =
            if split.versions[version].hashes() { Some(&|| peer.number()) } else { None };
        self.hashing.hash(head, peer.client_text(head).as_bytes(), issue)
    }
}

pub enum Action {
    Split(usize),
    Direct { status: StatusCode, body: Bytes },
    Redirect(Redirect),
}

pub struct SplitPlan {
    pub cell: Arc<SplitCell>,
    pub versions: Vec<VersionPlan>,
    pub primary: usize,
    pub force: Vec<ForceRule>,
    pub trial: Option<Trial>,
    pub sticky: Option<Sticky>,
    pub strata: Option<Strata>,
    pub shield: Option<Shield>,
    pub mirror: Option<(usize, Mirror)>,
    pub fallback: bool,
}

impl SplitPlan {
    /// What is asked of a request of this route before the coin is tossed.
    pub fn rules<'a>(&'a self, route: &'a str) -> Rules<'a> {
        let (trial, sticky, strata) = (self.trial.as_ref(), self.sticky.as_ref(), self.strata.as_ref());
        Rules { force: &self.force, trial, sticky, strata, route }
    }
}

impl Table {
    /// All problems at once, or a table. `previous` gives its live state.
    pub fn compile(model: &Model, previous: Option<&Table>, workers: usize) -> Result<Table, Vec<Problem>> {
        let mut compiler = Compiler {
            previous,
            workers,
            problems: Vec::new(),
            slots: Vec::new(),
            by_key: HashMap::new(),
            former: previous.map(by_key).unwrap_or_default(),
            endpoints: Vec::new(),
            breakers: Vec::new(),
            buckets: Vec::new(),
        };
        let listeners = compiler.listeners(model);
        let splits = compiler.splits(model);
        let mut hosts = HostIndex::default();
        let mut routes = Vec::new();
        for (index, host) in model.hosts.iter().enumerate() {
            for domain in &host.domains {
                if let Err(text) = hosts.insert(domain, index) {
                    compiler.problem(format!("hosts[{index}].domains"), text);
                }
            }
            routes.push(compiler.host(model, index, host));
        }
        if !compiler.problems.is_empty() {
            return Err(compiler.problems);
        }
        let (mut slots, by_key) = (compiler.slots, compiler.by_key);
        if let Some(previous) = previous {
            // Counters never go back: what is no longer routed stays readable.
            slots.extend(previous.slots.iter().filter(|slot| !by_key.contains_key(&slot.key)).cloned());
        }
        let endpoints = compiler.endpoints;
        let bounds = Bounds::of(&splits);
        Ok(Table { model: model.clone(), listeners, hosts, routes, splits, slots, endpoints, bounds })
    }

    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerPlan>> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    /// `random` decides where a match takes only a share of what fits.
    pub fn find(&self, head: &Head<'_>, random: impl FnOnce() -> u64) -> Option<Found<'_>> {
        self.host(head)?.find(head, random)
    }

    /// The routes of the host that a request names.
    pub fn host(&self, head: &Head<'_>) -> Option<&HostRoutes> {
        self.hosts.find(head.host()).map(|host| &self.routes[host])
    }

    pub fn route(&self, id: RouteId) -> &RoutePlan {
        &self.routes[id.host as usize].plans[id.plan as usize]
    }

    pub fn split(&self, name: &str) -> Option<&SplitPlan> {
        self.splits.iter().find(|split| split.cell.name == name)
    }
}

impl HostRoutes {
    pub fn find(&self, head: &Head<'_>, random: impl FnOnce() -> u64) -> Option<Found<'_>> {
        let random = if self.random { random() } else { 0 };
        let holds = |position: u32| self.entries[position as usize].conditions.hold(head, random);
        let Entry { plan, matched, .. } = self.entries[self.paths.find(head.path(), &holds)? as usize];
        Some(Found { route: &self.plans[plan], matched })
    }
}

struct Compiler<'a> {
    previous: Option<&'a Table>,
    workers: usize,
    problems: Vec<Problem>,
    /// In their order, and to be found.
    slots: Vec<Arc<Slot>>,
    by_key: HashMap<SlotKey, Arc<Slot>>,
    /// Those of the table before.
    former: HashMap<SlotKey, Arc<Slot>>,
    endpoints: Vec<Arc<Hosts>>,
    buckets: Vec<(String, RateLimit, Arc<Bucket>)>,
    breakers: Vec<((String, String), Breaker)>,
}

fn by_key(table: &Table) -> HashMap<SlotKey, Arc<Slot>> {
    table.slots.iter().map(|slot| (slot.key.clone(), slot.clone())).collect()
}

impl RoutePlan {
    /// Our own answer with the route's edits, where the route has one.
    pub fn reply(&self, head: &Head<'_>, scene: &Scene<'_>) -> Option<Reply> {
        let reply = match &self.action {
            Action::Split(_) => return None,
            Action::Direct { status, body } => Reply::new(*status, body.clone()),
            Action::Redirect(redirect) => redirect.reply(head, scene.peer.scheme(head), scene.matched),
        };
        Some(self.edited(reply, head, scene))
    }

    /// An answer of our own, given before any version was chosen.
    pub fn edited(&self, mut reply: Reply, head: &Head<'_>, scene: &Scene<'_>) -> Reply {
        let edits = InForce { version: None, route: self.edits.as_deref() };
        if !edits.is_none() {
            let answered = Answered { status: reply.status.as_u16(), version: "", upstream: None };
            edits.edit_answer(&mut reply.headers, &edits.keep(head, scene), &answered);
        }
        reply
    }
}

impl Compiler<'_> {
    fn problem(&mut self, path: String, text: impl Into<String>) {
        self.problems.push(Problem { path, text: text.into() });
    }

    fn listeners(&mut self, model: &Model) -> Vec<Arc<ListenerPlan>> {
        let mut plans = Vec::new();
        for listener in &model.listeners {
            let before = self.previous.and_then(|table| table.listener(&listener.name));
            match ListenerPlan::new(listener, before, self.workers) {
                Ok(plan) => plans.push(plan),
                Err(faults) => {
                    for (place, text) in faults {
                        self.problem(format!("listeners[{}].{place}", listener.name), text);
                    }
                }
            }
        }
        plans
    }

    fn host(&mut self, model: &Model, index: usize, host: &Host) -> HostRoutes {
        let (paths, plans) = (PathIndex::default(), Vec::new());
        let mut routes = HostRoutes { paths, entries: Vec::new(), plans, random: false };
        for route in &host.routes {
            let path = format!("hosts[{index}].routes[{}]", route.name);
            let mut levels = [&route.edits, &host.edits, &model.edits];
            if model.most_specific_edits_win {
                levels.reverse();
            }
            let edits = self.edits(&levels, &route.rewrite, &path);
            let gates = self.gates(route, &path);
            let Some(action) = self.action(model, route, &path) else { continue };
            let retry = self.retry(model, route, &action, &path);
            let hashing = Hashing::new(&route.hash).unwrap_or_else(|text| {
                self.problem(format!("{path}.hash"), text);
                Hashing::default()
            });
            let counting = self.counting(route, &path);
            routes.plans.push(RoutePlan {
                id: RouteId { host: index as u32, plan: routes.plans.len() as u32 },
                name: route.name.clone(),
                action,
                plain: gates.is_none() && !edits.as_ref().is_some_and(|edits| edits.takes_endpoints_host()),
                edits,
                gates,
                hashing,
                upgrades: route.upgrades.clone(),
                timeouts: Timeouts::of(route),
                grpc_timeout_us: route.timeouts.grpc.map(clock::us),
                retry,
                tell: route.tell,
                counting,
            });
            let all = [Match::default()];
            let matches = if route.matches.is_empty() { &all[..] } else { &route.matches };
            for wanted in matches {
                let position = routes.entries.len() as u32;
                let added = Conditions::new(wanted).and_then(|conditions| {
                    routes.paths.insert(wanted.path.as_ref(), position).map(|()| conditions)
                });
                let (plan, matched) = (routes.plans.len() - 1, path::matched(wanted.path.as_ref()));
                match added {
                    Ok(conditions) => {
                        routes.random |= conditions.is_random();
                        routes.entries.push(Entry { conditions, plan, matched });
                    }
                    Err(text) => self.problem(format!("{path}.matches"), text),
                }
            }
        }
        routes
    }

    fn retry(&mut self, model: &Model, route: &Route, action: &Action, path: &str) -> Option<Plan> {
        let retry = route.retry.as_ref()?;
        let place = |name: &String| {
            let Action::Split(split) = action else { return None };
            let service = &model.splits[*split].service;
            let service = model.services.iter().find(|other| other.name == *service)?;
            service.versions.iter().position(|version| version.name == *name)
        };
        let then = retry.then.as_ref().map(|name| place(name).ok_or(name)).transpose();
        let plan = match then {
            Ok(then) => Plan::new(retry, then),
            Err(name) => Err(format!("there is no version {name:?}")),
        };
        plan.inspect_err(|text| self.problem(format!("{path}.retry"), text.clone())).ok()
    }

    fn counting(&mut self, route: &Route, path: &str) -> Option<Arc<Counting>> {
        let counting = Counting::new(route.outcome.as_ref()?).map(Arc::new);
        counting.inspect_err(|text| self.problem(format!("{path}.outcome"), text.clone())).ok()
    }

    fn action(&mut self, model: &Model, route: &Route, path: &str) -> Option<Action> {
        match &route.target {
            Target::Split(name) => {
                let found = model.splits.iter().position(|split| split.name == *name);
                if found.is_none() {
                    self.problem(format!("{path}.target"), format!("there is no split {name:?}"));
                }
                found.map(Action::Split)
            }
            Target::Direct { status, body } => match StatusCode::from_u16(*status) {
                Ok(status) => Some(Action::Direct { status, body: Bytes::from(body.clone()) }),
                Err(_) => {
                    self.problem(format!("{path}.target"), format!("{status} is no HTTP status"));
                    None
                }
            },
            Target::Redirect(redirect) => {
                let redirect = Redirect::new(redirect);
                redirect
                    .map_err(|text| self.problem(format!("{path}.target"), text))
                    .ok()
                    .map(Action::Redirect)
            }
        }
    }

    /// A limit goes on with the bucket that it had in the table before. A route
    /// that stands in several hosts has one.
    fn gates(&mut self, route: &Route, path: &str) -> Option<Box<Gates>> {
        let before = self.previous.iter().flat_map(|table| &table.routes).flat_map(|host| &host.plans);
        let known = self.buckets.iter().map(|(name, limit, bucket)| (name, limit, bucket));
        let of_plan = |plan: &RoutePlan| {
            plan.gates.as_ref()?.limit.as_ref().map(|limit| (limit.model.clone(), limit.bucket.clone()))
        };
        let bucket = |wanted: &RateLimit| {
            let here = known.into_iter().find(|(name, limit, _)| **name == route.name && *limit == wanted);
            let here = here.map(|(_, _, bucket)| bucket.clone());
            here.or_else(|| {
                let mut same = before.filter(|plan| plan.name == route.name).filter_map(of_plan);
                same.find(|(limit, _)| limit == wanted).map(|(_, bucket)| bucket)
            })
        };
        match Gates::new(route, bucket) {
            Ok(gates) => {
                if let Some(limit) = gates.as_ref().and_then(|gates| gates.limit.as_ref()) {
                    self.buckets.push((route.name.clone(), limit.model.clone(), limit.bucket.clone()));
                }
                gates
            }
            Err((place, text)) => {
                self.problem(format!("{path}.{place}"), text);
                None
            }
        }
    }

    fn edits(&mut self, levels: &[&model::Edits], rewrite: &Rewrite, path: &str) -> Option<Box<Edits>> {
        Edits::new(levels, rewrite).unwrap_or_else(|problems| {
            for (place, text) in problems {
                self.problem(format!("{path}.{place}"), text);
            }
            None
        })
    }

    fn splits(&mut self, model: &Model) -> Vec<SplitPlan> {
        let mut plans = Vec::new();
        for (index, split) in model.splits.iter().enumerate() {
            let path = format!("splits[{}]", split.name);
            if model.splits[..index].iter().any(|other| other.name == split.name) {
                self.problem(path.clone(), "there are two splits of this name");
            }
            match model.services.iter().find(|service| service.name == split.service) {
                Some(service) => plans.extend(self.split(split, service, &path)),
                None => self.problem(path, format!("there is no service {:?}", split.service)),
            }
        }
        plans
    }

    fn split(&mut self, split: &Split, service: &Service, path: &str) -> Option<SplitPlan> {
        let names: Vec<_> =
            service.versions.iter().map(|version| (version.name.clone(), version.role)).collect();
        let find = |name: &str| names.iter().position(|(other, _)| other == name);
        let primaries = names.iter().filter(|(_, role)| *role == Role::Primary).count();
        if primaries != 1 {
            self.problem(
                path.to_owned(),
                format!("service {:?} has {primaries} primaries, not one", service.name),
            );
        }
        for (name, _) in split.weights.iter().filter(|(name, _)| find(name).is_none()) {
            self.problem(format!("{path}.weights"), format!("there is no version {name:?}"));
        }
        let mut force = Vec::new();
        for (index, rule) in split.force.iter().enumerate() {
            let compiled = find(&rule.version)
                .ok_or_else(|| format!("there is no version {:?}", rule.version))
                .and_then(|version| ForceRule::new(rule, version));
            match compiled {
                Ok(rule) => force.push(rule),
                Err(text) => self.problem(format!("{path}.force[{index}]"), text),
            }
        }
        let trial = split.trial.as_ref().map(|trial| {
            let version = find(&trial.version).ok_or(format!("there is no version {:?}", trial.version))?;
            Trial::new(trial, version)
        });
        let trial = trial.transpose().unwrap_or_else(|text| {
            self.problem(format!("{path}.trial"), text);
            None
        });
        let sticky = split.sticky.as_ref().map(|sticky| Sticky::new(sticky, &split.name)).transpose();
        let sticky = sticky.unwrap_or_else(|text| {
            self.problem(format!("{path}.sticky"), text);
            None
        });
        let strata = self.strata(split, path);
        let mirror = match &split.mirror {
            None => None,
            Some(mirror) => match find(&mirror.version) {
                Some(version) => Some((version, mirror.clone())),
                None => {
                    self.problem(
                        format!("{path}.mirror"),
                        format!("there is no version {:?}", mirror.version),
                    );
                    None
                }
            },
        };
        let versions = self.versions(service);
        if !self.problems.is_empty() {
            return None;
        }
        Some(SplitPlan {
            primary: names.iter().position(|(_, role)| *role == Role::Primary)?,
            cell: self.cell(split, names, &strata.names),
            versions,
            force,
            trial,
            sticky,
            strata: (!strata.names.is_empty()).then_some(strata),
            shield: split.shield.clone(),
            mirror,
            fallback: split.fallback,
        })
    }

    fn strata(&mut self, split: &Split, path: &str) -> Strata {
        Strata::new(&split.strata).unwrap_or_else(|text| {
            self.problem(format!("{path}.strata"), text);
            Strata::default()
        })
    }

    /// The live cell of the same split, or one with the model's weights that
    /// goes on from it.
    fn cell(&self, split: &Split, versions: Vec<(String, Role)>, strata: &Arc<[String]>) -> Arc<SplitCell> {
        let new = || SplitCell::new(&split.name, versions.clone(), strata, &split.weights, self.workers);
        let Some(before) = self.previous.and_then(|table| table.split(&split.name)) else {
            return Arc::new(new());
        };
        let fits = before.cell.generation.load().weights == split.weights;
        if before.cell.versions == versions && before.cell.strata == *strata && fits {
            return before.cell.clone();
        }
        // Other weights come into force with the table, not a moment later: its
        // endpoints may be what the weights were changed for.
        let cell = new().knowing(&before.cell);
        cell.inherit(&before.cell);
        Arc::new(cell)
    }
}
