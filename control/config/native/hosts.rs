//! Virtual hosts out of routes, so that "the first route in the file that
//! matches wins" holds over hosts as well.
//!
//! The model asks its most specific host only. So each host here holds every
//! route whose domains cover it, in the order of the file.

use std::collections::HashMap;

use serin_proxy::model::{Edits, Host, Route};

/// One of a route's `hosts`. Lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    Any,
    Exact(String),
    /// `*.example.com` as `.example.com`: any host that ends so.
    Ending(String),
    /// `api.*` as `api.`: any host that begins so.
    Beginning(String),
}

/// Two domains of which neither holds the other, though a host may be in both,
/// under different routes: no order of the file can be kept for such a host.
pub struct Crossing {
    pub ending: Domain,
    pub beginning: Domain,
}

impl Domain {
    pub fn parse(text: &str) -> Result<Domain, String> {
        let wrong =
            || format!("expects a host such as api.example.com, *.example.com, api.* or *, not {text:?}");
        if text.len() > 253 {
            return Err(format!("{text:?} is too long for a host"));
        }
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Ok(Domain::Any);
        }
        if let Some(address) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
            return Ok(Domain::Exact(format!("[{address}]")));
        }
        if let Some((host, port)) = lower.rsplit_once(':')
            && port.parse::<u16>().is_ok()
        {
            return Err(format!("hosts are matched without their port; give {host}"));
        }
        if let Some(rest) = lower.strip_prefix("*.") {
            return if is_host(rest) { Ok(Domain::Ending(format!(".{rest}"))) } else { Err(wrong()) };
        }
        if let Some(rest) = lower.strip_suffix(".*") {
            return if is_host(rest) { Ok(Domain::Beginning(format!("{rest}."))) } else { Err(wrong()) };
        }
        if is_host(&lower) { Ok(Domain::Exact(lower)) } else { Err(wrong()) }
    }

    /// Every host of `other` is one of ours.
    pub fn covers(&self, other: &Domain) -> bool {
        match (self, other) {
            (Domain::Any, _) => true,
            (Domain::Exact(host), Domain::Exact(other)) => host == other,
            (Domain::Ending(end), Domain::Exact(host)) => host.len() > end.len() && host.ends_with(end),
            (Domain::Ending(end), Domain::Ending(other)) => other.ends_with(end),
            (Domain::Beginning(start), Domain::Exact(host)) => {
                host.len() > start.len() && host.starts_with(start)
            }
            (Domain::Beginning(start), Domain::Beginning(other)) => other.starts_with(start),
            _ => false,
        }
    }

    pub fn text(&self) -> String {
        match self {
            Domain::Any => "*".to_owned(),
            Domain::Exact(host) => host.clone(),
            Domain::Ending(end) => format!("*{end}"),
            Domain::Beginning(start) => format!("{start}*"),
        }
    }
}

/// Hosts in the order in which the file first names them; those with the same
/// routes are one.
pub fn build(routes: &[(Vec<Domain>, Route)]) -> (Vec<Host>, Vec<Crossing>) {
    let mut domains: Vec<(&Domain, Vec<usize>)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for domain in routes.iter().flat_map(|(domains, _)| domains) {
        if seen.insert(domain) {
            let covering = |(_, (domains, _)): &(usize, &(Vec<Domain>, Route))| {
                domains.iter().any(|other| other.covers(domain))
            };
            let taken = routes.iter().enumerate().filter(covering).map(|(i, _)| i).collect();
            domains.push((domain, taken));
        }
    }
    let crossings = crossings(&domains);
    let mut places: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut hosts: Vec<Host> = Vec::new();
    for (domain, taken) in domains {
        if let Some(&place) = places.get(&taken) {
            hosts[place].domains.push(domain.text());
            continue;
        }
        hosts.push(Host {
            domains: vec![domain.text()],
            routes: taken.iter().map(|&i| routes[i].1.clone()).collect(),
            edits: Edits::default(),
        });
        places.insert(taken, hosts.len() - 1);
    }
    (hosts, crossings)
}

fn crossings(domains: &[(&Domain, Vec<usize>)]) -> Vec<Crossing> {
    let mut crossings = Vec::new();
    for (ending, taken) in domains.iter().filter(|(domain, _)| matches!(domain, Domain::Ending(_))) {
        for (beginning, other) in domains {
            if matches!(beginning, Domain::Beginning(_)) && taken != other {
                crossings.push(Crossing { ending: (*ending).clone(), beginning: (*beginning).clone() });
            }
        }
    }
    crossings
}

fn is_host(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_proxy::model::Target;

    fn route(name: &str, hosts: &[&str]) -> (Vec<Domain>, Route) {
        let domains = hosts.iter().map(|host| Domain::parse(host).expect("a host")).collect();
        (domains, Route::new(name, Target::Split("web".to_owned())))
    }

    fn names(hosts: &[Host], domain: &str) -> Vec<String> {
        let host = hosts.iter().find(|host| host.domains.iter().any(|d| d == domain)).expect(domain);
        host.routes.iter().map(|route| route.name.clone()).collect()
    }

    #[test]
    fn first_route_of_the_file_wins_though_a_later_one_names_the_host_better() {
        let routes = [
            route("all", &["*"]),
            route("sub", &["*.example.com"]),
            route("one", &["a.example.com"]),
            route("deep", &["*.b.example.com"]),
            route("bare", &["example.com"]),
        ];
        let (hosts, crossings) = build(&routes);
        assert!(crossings.is_empty());
        assert_eq!(names(&hosts, "a.example.com"), ["all", "sub", "one"]);
        assert_eq!(names(&hosts, "*.b.example.com"), ["all", "sub", "deep"]);
        assert_eq!(names(&hosts, "*.example.com"), ["all", "sub"]);
        assert_eq!(names(&hosts, "example.com"), ["all", "bare"]);
        assert_eq!(names(&hosts, "*"), ["all"]);
    }

    #[test]
    fn crossing_domains_are_told_unless_they_lead_to_the_same_routes() {
        assert_eq!(build(&[route("a", &["api.*", "*.org"])]).1.len(), 0);
        assert_eq!(build(&[route("a", &["api.*"]), route("b", &["*.org"])]).1.len(), 1);
    }

    #[test]
    fn hosts_are_checked() {
        for wrong in ["", "*.", "a..b", "*.*", "a.*.b", "*a.b", "a b", "a.com:80", "http://a", "[1]", "a*"] {
            assert!(Domain::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Domain::parse("A.Example.COM"), Ok(Domain::Exact("a.example.com".to_owned())));
        assert_eq!(Domain::parse("[::1]").map(|d| d.text()), Ok("[::1]".to_owned()));
    }
}
