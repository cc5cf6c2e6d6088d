//! The versions of a service, compiled: their endpoints, how these are reached,
//! what is counted of them, and what may be under way to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker::Breaker;
use crate::carriage::Carriage;
use crate::edit::Edits;
use crate::hosts::Hosts;
use crate::kept::Kept;
use crate::model::ClientTls;
use crate::model::Protocol;
use crate::model::Rewrite;
use crate::model::Role;
use crate::model::Service;
use crate::model::Version;
use crate::reading::BreakerReading;
use crate::reading::BreakersReading;
use crate::reading::Sent;
use crate::rules::Rules;
use crate::table::Compiler;
use crate::table::SplitPlan;
use crate::tally::Slot;
use crate::tally::SlotKey;
use crate::tls;

pub struct VersionPlan {
    /// `service/version`.
    pub label: String,
    pub role: Role,
    pub edits: Option<Box<Edits>>,
    pub hosts: Arc<Hosts>,
    pub protocol: Protocol,
    pub carriage: Carriage,
    /// What its TLS was made of.
    wanted_tls: Option<ClientTls>,
    pub connect_timeout: Duration,
    pub rules: Arc<Rules>,
    pub slot: Arc<Slot>,
    pub shadow: Arc<Slot>,
    pub load: Arc<Slot>,
}

impl VersionPlan {
    pub fn hashes(&self) -> bool {
        self.hosts.balance.algorithm.hashes()
    }

    /// Where a request of users is counted, or of our own load.
    pub fn asked(&self, as_load: bool) -> &Slot {
        if as_load { &self.load } else { &self.slot }
    }

    /// The same of a copy. That of our own load is our own, too.
    pub fn copied(&self, as_load: bool) -> &Slot {
        if as_load { &self.load } else { &self.shadow }
    }

    /// Requests under way, whoever has sent them.
    pub fn in_flight(&self) -> u64 {
        self.slot.in_flight() + self.load.in_flight()
    }
}

/// The bounds that one version has, in whatever splits it is.
pub struct Bounds {
    slots: [Arc<Slot>; 2],
    breaker: Breaker,
    kept: Kept<[Option<BreakerReading>; 4], BreakersReading>,
}

impl Bounds {
    /// Those of all versions, once for each.
    pub fn of(splits: &[SplitPlan]) -> Vec<Bounds> {
        let mut known = HashSet::new();
        let plans = splits.iter().flat_map(|split| &split.versions);
        let plans = plans.filter(|plan| known.insert(plan.rules.breaker.identity()));
        let of = |plan: &VersionPlan| Bounds {
            slots: [plan.slot.clone(), plan.load.clone()],
            breaker: plan.rules.breaker.clone(),
            kept: Kept::default(),
        };
        plans.map(of).collect()
    }

    pub fn read(&self) -> Arc<BreakersReading> {
        let breakers = self.breaker.read(|| self.slots.iter().map(|slot| slot.in_flight()).sum());
        let SlotKey { service, version, .. } = &self.slots[0].key;
        self.kept.of(breakers, || BreakersReading {
            service: service.clone(),
            version: version.clone(),
            breakers: breakers.into_iter().flatten().collect(),
        })
    }
}

impl Compiler<'_> {
    pub fn versions(&mut self, service: &Service) -> Vec<VersionPlan> {
        service
            .versions
            .iter()
            .map(|version| VersionPlan {
                label: format!("{}/{}", service.name, version.name),
                edits: self.edits(
                    &[&version.edits],
                    &Rewrite::default(),
                    &format!("services[{}].versions[{}]", service.name, version.name),
                ),
                role: version.role,
                hosts: self.hosts(service, version),
                protocol: version.protocol,
                carriage: self.carriage(service, version),
                wanted_tls: version.tls.clone(),
                connect_timeout: version.connect_timeout,
                rules: Rules::new(version, self.breaker(service, version)),
                slot: self.slot(service, &version.name, version.role, Sent::ByUsers),
                shadow: self.slot(service, &version.name, version.role, Sent::AsCopy),
                load: self.slot(service, &version.name, version.role, Sent::AsLoad),
            })
            .collect()
    }

    /// The same settings as before are the same carriage, with its connections.
    fn carriage(&mut self, service: &Service, version: &Version) -> Carriage {
        let path = format!("services[{}].versions[{}]", service.name, version.name);
        let is_meant =
            |plan: &&VersionPlan| plan.hosts.service == service.name && plan.hosts.version == version.name;
        let versions =
            self.previous.iter().flat_map(|table| table.splits.iter().flat_map(|split| &split.versions));
        let before = versions.into_iter().find(is_meant);
        let before =
            before.filter(|plan| plan.wanted_tls == version.tls && plan.protocol == version.protocol);
        let known = before.and_then(|plan| plan.carriage.tls.clone());
        let tls = match (&version.tls, known) {
            (None, _) => None,
            (Some(_), Some(known)) => Some(known),
            (Some(asked), None) => match tls::ClientPlan::new(asked, version.protocol) {
                Ok(plan) => Some(Arc::new(plan)),
                Err(faults) => {
                    for (place, text) in faults {
                        self.problem(format!("{path}.tls.{place}"), text);
                    }
                    None
                }
            },
        };
        if version.protocol == Protocol::Auto && version.tls.is_none() {
            self.problem(format!("{path}.protocol"), "without TLS there is nobody to choose");
        }
        if version.proxy_header.is_some() && version.protocol != Protocol::Http1 {
            let text = "HTTP/2 connections are shared by clients, so they cannot speak for one; use http1";
            self.problem(format!("{path}.proxy_header"), text);
        }
        Carriage { protocol: version.protocol, tls, proxy_header: version.proxy_header }
    }

    /// What is known of the version's endpoints goes on.
    fn hosts(&mut self, service: &Service, version: &Version) -> Arc<Hosts> {
        let is_meant = |hosts: &&Arc<Hosts>| hosts.service == service.name && hosts.version == version.name;
        if let Some(hosts) = self.endpoints.iter().find(is_meant) {
            return hosts.clone();
        }
        let previous = self.previous.and_then(|table| table.endpoints.iter().find(is_meant));
        let hosts = Hosts::new(&service.name, version, previous, self.workers);
        self.endpoints.push(hosts.clone());
        hosts
    }

    /// One for each version, whichever splits it is in; goes on from what the
    /// version has taken so far.
    fn breaker(&mut self, service: &Service, version: &Version) -> Breaker {
        let key = (service.name.clone(), version.name.clone());
        if let Some((_, known)) = self.breakers.iter().find(|(other, _)| *other == key) {
            return known.clone();
        }
        let plans = self.previous.iter().flat_map(|table| &table.splits).flat_map(|split| &split.versions);
        let before = plans
            .into_iter()
            .find(|plan| (&plan.slot.key.service, &plan.slot.key.version) == (&service.name, &version.name));
        let breaker = Breaker::new(&version.breaker, before.map(|plan| &plan.rules.breaker));
        self.breakers.push((key, breaker.clone()));
        breaker
    }

    fn slot(&mut self, service: &Service, version: &str, role: Role, sent: Sent) -> Arc<Slot> {
        let key = SlotKey { service: service.name.clone(), version: version.to_owned(), role, sent };
        if let Some(slot) = self.by_key.get(&key) {
            return slot.clone();
        }
        let slot = self.former.get(&key).cloned().unwrap_or_else(|| Slot::new(key.clone(), self.workers));
        self.by_key.insert(key, slot.clone());
        self.slots.push(slot.clone());
        slot
    }
}
