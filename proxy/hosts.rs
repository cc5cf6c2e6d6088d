//! The live endpoints of one version: who they are, how they fare, and which of
//! them may be asked.
//!
//! [`Hosts`] belongs to a table, as the list of endpoints in the file does, so
//! that a new list comes into force with the table it stands in, not a moment
//! sooner. What must outlive a reload is carried over by [`Hosts::new`]: the
//! [`Vitals`] of every endpoint, by location, and what names resolved to. Where
//! the file says the same as before, the whole `Hosts` is kept.
//!
//! Out of all this comes one immutable [`Lineup`]: the endpoints in order, their
//! tiers by priority, and for hashing algorithms the table. It is made on the
//! thread that changed something (the control side or upkeep, never a worker)
//! and swapped whole. A worker compares one pointer per request
//! and makes its picker anew when the lineup is another.
//!
//! To add a flag to an endpoint: give [`Flag`] a bit, say in
//! [`Flag::KEEPS_OUT`] whether it keeps the endpoint from being picked, and set
//! it with [`Hosts::mark`] from an upkeep task. `mark` makes the lineup anew if
//! any flag changed; there is nothing else to tell the pickers. Numbers that
//! workers count (for outliers, say) belong into [`Vitals`], one [`Count`] per
//! worker.

#![expect(
    clippy::disallowed_types,
    reason = "its lock is the control side's and upkeep's; no request waits for it"
)]

mod care;
mod course;
mod lineup;
mod outlier;
mod vitals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::clock;
use crate::kept::Kept;
use crate::location::Location;
use crate::model::Address;
use crate::model::Balance;
use crate::model::Dns;
use crate::model::Endpoint;
use crate::model::Version;
use crate::reading::EndpointsReading;
use crate::reading::HealthReading;

pub use care::Care;
pub use course::{Course, Finding, first_wait, wait};
pub use lineup::{Lineup, Tier};
pub use outlier::Lesson;
pub use vitals::{Flag, Vitals};

/// One endpoint that can be dialled.
pub struct Host {
    pub location: Location,
    pub weight: u32,
    pub priority: u32,
    pub hostname: Option<Arc<str>>,
    pub vitals: Arc<Vitals>,
    pub care: Arc<Care>,
}

impl Host {
    /// The hostname, or the location: what stands in `host` if the client gave none.
    pub fn authority(&self) -> String {
        self.hostname.as_ref().map_or_else(|| self.location.authority(), |name| name.to_string())
    }
}

/// A name that stands for endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub host: String,
    pub port: u16,
}

pub struct Hosts {
    pub service: String,
    pub version: String,
    endpoints: Vec<Endpoint>,
    pub balance: Balance,
    pub dns: Dns,
    counts: Arc<HostsCounts>,
    pub care: Arc<Care>,
    workers: usize,
    lineup: Arc<ArcSwap<Lineup>>,
    known: Mutex<Known>,
    /// Grows with all that is found out, but for what workers count.
    news: AtomicU64,
    kept_endpoints: Kept<[u64; 2], EndpointsReading>,
    kept_health: Kept<[u64; 2], HealthReading>,
}

/// What was learned while running.
#[derive(Default)]
struct Known {
    vitals: HashMap<Location, Arc<Vitals>>,
    names: HashMap<Name, Answers>,
}

/// What was heard of a name.
#[derive(Clone, Default)]
struct Answers {
    /// The last good ones.
    addresses: Vec<SocketAddr>,
    /// Why the latest question got none.
    error: Option<String>,
}

/// What happened since the process began.
#[derive(Default)]
struct HostsCounts {
    resolved: AtomicU64,
    failed: AtomicU64,
    changes: AtomicU64,
}

impl Hosts {
    /// Those of a version of the model; `previous` are the ones it had before.
    pub fn new(
        service: &str,
        version: &Version,
        previous: Option<&Arc<Hosts>>,
        workers: usize,
    ) -> Arc<Hosts> {
        if let Some(previous) = previous
            && previous.endpoints == version.endpoints
            && previous.balance == version.balance
            && previous.dns == version.dns
            && previous.care.suits(version)
        {
            return previous.clone();
        }
        let known = previous.map(|previous| {
            let known = previous.known();
            Known { vitals: known.vitals.clone(), names: known.names.clone() }
        });
        let hosts = Hosts {
            service: service.to_owned(),
            version: version.name.clone(),
            endpoints: version.endpoints.clone(),
            balance: version.balance.clone(),
            dns: version.dns.clone(),
            counts: previous.map(|previous| previous.counts.clone()).unwrap_or_default(),
            care: Care::new(version, previous.map(|previous| &*previous.care)),
            workers,
            lineup: Arc::new(ArcSwap::from_pointee(Lineup::new(Vec::new(), &Balance::default()))),
            known: Mutex::new(known.unwrap_or_default()),
            news: AtomicU64::new(0),
            kept_endpoints: Kept::default(),
            kept_health: Kept::default(),
        };
        let (checks, ejections) = (version.health.is_none(), version.outliers.is_none());
        hosts.known().vitals.values().for_each(|vitals| vitals.absolve(checks, ejections));
        hosts.muster(&mut hosts.known());
        Arc::new(hosts)
    }

    /// Where workers watch for the next lineup.
    pub fn watched(&self) -> Arc<ArcSwap<Lineup>> {
        self.lineup.clone()
    }

    /// The lineup of now.
    pub fn lineup(&self) -> Arc<Lineup> {
        self.lineup.load_full()
    }

    /// The names that have to be resolved, each once.
    pub fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        for endpoint in &self.endpoints {
            if let Address::Name { host, port } = &endpoint.address {
                let name = Name { host: host.clone(), port: *port };
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// What a name stands for, as was last heard.
    pub fn resolved(&self, name: &Name) -> Vec<SocketAddr> {
        self.known().names.get(name).map(|answers| answers.addresses.clone()).unwrap_or_default()
    }

    /// Takes what a name stands for now; an empty list is an answer, too. Says
    /// whether that is news.
    pub fn resolve(&self, name: &Name, addresses: Vec<SocketAddr>) -> bool {
        self.counts.resolved.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known();
        let before = known.names.insert(name.clone(), Answers { addresses: addresses.clone(), error: None });
        let is_news = before.is_none_or(|before| before.addresses != addresses);
        if is_news {
            self.muster(&mut known);
        }
        self.note();
        is_news
    }

    /// A name could not be resolved: what it stood for stays. Says whether that
    /// is news.
    pub fn unresolved(&self, name: &Name, error: &str) -> bool {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known();
        let answers = known.names.entry(name.clone()).or_default();
        let is_news = answers.error.replace(error.to_owned()).as_deref() != Some(error);
        self.note();
        is_news
    }

    /// A reading would tell something else now.
    fn note(&self) {
        self.news.fetch_add(1, Ordering::Release);
    }

    /// What readings are told apart by.
    fn state(&self) -> [u64; 2] {
        let news = self.news.load(Ordering::Acquire);
        [news, self.lineup.load().hosts.iter().map(|host| host.vitals.ends().sum()).sum()]
    }

    pub fn endpoints(&self) -> Arc<EndpointsReading> {
        self.kept_endpoints.of(self.state(), || self.read_endpoints())
    }

    pub fn health(&self) -> Arc<HealthReading> {
        self.kept_health.of(self.state(), || self.read_health())
    }

    fn read_endpoints(&self) -> EndpointsReading {
        let known = self.known();
        let lineup = self.lineup();
        let names = self.names();
        let unresolved = names.iter().filter_map(|name| match known.names.get(name) {
            Some(Answers { error: Some(error), .. }) => Some((name.host.clone(), error.clone())),
            Some(_) => None,
            None => Some((name.host.clone(), "not answered yet".to_owned())),
        });
        EndpointsReading {
            service: self.service.clone(),
            version: self.version.clone(),
            total: lineup.hosts.len(),
            healthy: lineup.healthy(),
            changes: self.counts.changes.load(Ordering::Relaxed),
            resolved: self.counts.resolved.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            has_names: !names.is_empty(),
            unresolved: unresolved.collect(),
        }
    }

    /// Sets or clears flags, and tells the pickers if that changed anything.
    pub fn mark(&self, marks: impl IntoIterator<Item = (Arc<Host>, Flag, bool)>) {
        let mut known = self.known();
        let mut changed = false;
        for (host, flag, on) in marks {
            changed |= host.vitals.mark(flag, on);
        }
        if changed {
            self.muster(&mut known);
        }
    }

    /// Makes the lineup anew.
    fn muster(&self, known: &mut Known) {
        let mut hosts: Vec<Arc<Host>> = Vec::new();
        let mut vitals = HashMap::new();
        let unchecked = self.care.health.is_some();
        for endpoint in &self.endpoints {
            for location in locations(&endpoint.address, &known.names) {
                if vitals.contains_key(&location) {
                    continue;
                }
                let kept = known.vitals.get(&location).cloned();
                let own =
                    kept.unwrap_or_else(|| Arc::new(Vitals::new(self.workers, clock::now_us(), unchecked)));
                vitals.insert(location.clone(), own.clone());
                hosts.push(Arc::new(Host {
                    location,
                    weight: endpoint.weight,
                    priority: endpoint.priority,
                    hostname: hostname(endpoint),
                    vitals: own,
                    care: self.care.clone(),
                }));
            }
        }
        let is_change =
            vitals.len() != known.vitals.len() || !vitals.keys().all(|at| known.vitals.contains_key(at));
        self.counts.changes.fetch_add(u64::from(is_change), Ordering::Relaxed);
        known.vitals = vitals;
        self.lineup.store(Arc::new(Lineup::new(hosts, &self.balance)));
        self.note();
        self.care.ring();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

fn locations(address: &Address, names: &HashMap<Name, Answers>) -> Vec<Location> {
    match address {
        Address::Socket(address) => vec![Location::Tcp(*address)],
        Address::Unix(path) => vec![Location::Unix(Arc::from(path.as_path()))],
        Address::Name { host, port } => {
            let name = Name { host: host.clone(), port: *port };
            let answers = names.get(&name).into_iter().flat_map(|answers| &answers.addresses);
            answers.copied().map(Location::Tcp).collect()
        }
    }
}

fn hostname(endpoint: &Endpoint) -> Option<Arc<str>> {
    match (&endpoint.hostname, &endpoint.address) {
        (Some(name), _) => Some(Arc::from(name.as_str())),
        (None, Address::Name { host, .. }) => Some(Arc::from(host.as_str())),
        (None, Address::Socket(_) | Address::Unix(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;

    #[test]
    fn a_reading_is_the_same_until_something_has_moved() {
        let name = Name { host: "shop".to_owned(), port: 80 };
        let mut version = Version::new("primary", Role::Primary);
        let by_name = Address::Name { host: name.host.clone(), port: name.port };
        version.endpoints = vec![SocketAddr::from(([127, 0, 0, 1], 9)).into(), Endpoint::new(by_name)];
        let hosts = Hosts::new("web", &version, None, 2);
        let mut last = (hosts.endpoints(), hosts.health());
        let mut is_news = |after: &str, expected: bool| {
            let now = (hosts.endpoints(), hosts.health());
            let is_same = Arc::ptr_eq(&last.0, &now.0) && Arc::ptr_eq(&last.1, &now.1);
            assert_eq!(!is_same, expected, "after {after}");
            last = now.clone();
            now
        };
        let host = hosts.lineup().hosts[0].clone();
        is_news("nothing", false);
        assert!(hosts.resolve(&name, vec![([127, 0, 0, 1], 10).into()]));
        assert_eq!(is_news("an answer", true).0.total, 2);
        assert!(!hosts.resolve(&name, vec![([127, 0, 0, 1], 10).into()]));
        assert_eq!(is_news("the same answer", true).0.resolved, 2);
        hosts.unresolved(&name, "nobody is there");
        assert_eq!(is_news("no answer", true).0.unresolved.len(), 1);
        host.learn(1, Lesson::Late);
        assert_eq!(is_news("an attempt", true).1.endpoints[0].late, 1);
        hosts.mark([(host.clone(), Flag::DRAINING, true)]);
        assert_eq!(is_news("a flag", true).0.healthy, 1);
        hosts.mark([(host, Flag::DRAINING, true)]);
        is_news("a flag that it had", false);
    }
}
