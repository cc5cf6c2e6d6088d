//! Where versions answer: addresses, Unix sockets, names, lists in files of
//! their own, and the choice of some of them by their labels.

use std::net::SocketAddr;
use std::path::PathBuf;

use serin_proxy::model::{Address, Endpoint, Labels, Listener};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const ENDPOINT: [&str; 5] = ["address", "weight", "priority", "labels", "hostname"];
const FILE: [&str; 1] = ["file"];
const LISTED: [&str; 1] = ["endpoints"];
/// Of one version.
const MOST: usize = 10_000;
/// Envoy's bounds.
const MOST_WEIGHT: u64 = 1_000_000;
const MOST_PRIORITY: u64 = 127;

/// A list of endpoints as it was read.
#[derive(Default)]
pub struct Listed {
    pub endpoints: Vec<Endpoint>,
    /// The files that some of them stand in, as they are named.
    files: Vec<String>,
    /// How many stand in the configuration itself: these come first.
    inline: usize,
}

/// Endpoints alone, in a list, or as files.
pub fn read(spot: &Spot, listeners: &[Listener]) -> Listed {
    let mut listed = Listed::default();
    let mut from_files = Vec::new();
    for item in spot.one_or_more() {
        if item.has("file") {
            let Some(fields) = item.fields(&FILE) else { continue };
            let Some(file) = fields.need("file") else { continue };
            let read = file.document(|root| Some(in_file(root, listeners)));
            from_files.extend(read.unwrap_or_default());
            listed.files.extend(file.text().map(str::to_owned));
        } else {
            let endpoint = one(&item, listeners);
            add(endpoint, &item, &mut listed.endpoints);
        }
    }
    listed.inline = listed.endpoints.len();
    for endpoint in from_files {
        if listed.endpoints.iter().any(|other| other.address == endpoint.address) {
            spot.error(format!("{} is listed twice", endpoint.address));
        }
        listed.endpoints.push(endpoint);
    }
    if listed.endpoints.len() > MOST {
        spot.error(format!("{} endpoints are more than {MOST}", listed.endpoints.len()));
    }
    listed
}

/// A file holds a list, or `endpoints` with one. It may be empty: there is none
/// at the moment.
fn in_file(root: &Spot, listeners: &[Listener]) -> Vec<Endpoint> {
    let spot = if root.is_map() {
        root.fields(&LISTED).and_then(|fields| fields.need("endpoints"))
    } else {
        Some(root.clone())
    };
    let mut endpoints = Vec::new();
    for item in spot.filter(|spot| !spot.is_empty_list()).and_then(|spot| spot.list()).unwrap_or_default() {
        let endpoint = one(&item, listeners);
        add(endpoint, &item, &mut endpoints);
    }
    endpoints
}

fn add(endpoint: Option<Endpoint>, spot: &Spot, endpoints: &mut Vec<Endpoint>) {
    let Some(endpoint) = endpoint else { return };
    if endpoints.iter().any(|other| other.address == endpoint.address) {
        spot.error(format!("{} is listed twice", endpoint.address));
    }
    endpoints.push(endpoint);
}

fn one(spot: &Spot, listeners: &[Listener]) -> Option<Endpoint> {
    if !spot.is_map() {
        return address(spot, listeners).map(Endpoint::new);
    }
    let fields = spot.fields(&ENDPOINT)?;
    let mut endpoint = Endpoint::new(fields.need("address").and_then(|spot| address(&spot, listeners))?);
    let number = |field: &str, least, most| {
        let given = fields.get(field)?.whole(least, most)?;
        u32::try_from(given).ok()
    };
    endpoint.weight = number("weight", 1, MOST_WEIGHT).unwrap_or(endpoint.weight);
    endpoint.priority = number("priority", 0, MOST_PRIORITY).unwrap_or(endpoint.priority);
    endpoint.labels = fields.get("labels").map(|spot| labels(&spot)).unwrap_or_default();
    endpoint.hostname = fields.get("hostname").and_then(|spot| spot.parsed(units::host_name));
    Some(endpoint)
}

pub fn labels(spot: &Spot) -> Labels {
    let entries = spot.entries().into_iter();
    entries.filter_map(|(name, spot)| Some((name.to_owned(), spot.text()?.to_owned()))).collect()
}

fn address(spot: &Spot, listeners: &[Listener]) -> Option<Address> {
    let address = spot.parsed(parse)?;
    if let Address::Socket(address) = address
        && listeners.iter().any(|listener| reaches(address, listener.address))
    {
        spot.error(format!("{address} is serin's own listener; requests would go round in a circle"));
    }
    Some(address)
}

fn reaches(endpoint: SocketAddr, listener: SocketAddr) -> bool {
    let everywhere = listener.ip().is_unspecified() && endpoint.ip().is_loopback();
    endpoint.port() == listener.port() && (everywhere || endpoint.ip() == listener.ip())
}

/// `127.0.0.1:80`, `[::1]:80`, `web.internal:80` or `unix:/run/web.sock`.
fn parse(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') && path.len() <= 107 && !path.contains('\0') {
            Ok(Address::Unix(PathBuf::from(path)))
        } else {
            Err(format!(
                "a Unix socket is an absolute path of at most 107 bytes: unix:/run/web.sock, not {text:?}"
            ))
        };
    }
    match units::named(text)? {
        Some((host, port)) => Ok(Address::Name { host, port }),
        None => units::endpoint(text).map(Address::Socket),
    }
}

/// What a version's fields say of where it answers: its own endpoints, or those
/// of the service that bear its labels. Also what tells its release from the
/// next, where the addresses do not.
pub fn of_version(
    fields: &Fields,
    shared: Option<&Listed>,
    listeners: &[Listener],
) -> (Vec<Endpoint>, Vec<String>) {
    let wanted = fields.get("labels").map(|spot| (labels(&spot), spot));
    let (listed, wanted) = match (fields.has("endpoints"), shared) {
        (true, _) | (false, None) => {
            if let Some((_, spot)) = &wanted {
                spot.error("labels choose among `endpoints` of the service, and here are none of these");
            }
            let own = fields.need("endpoints").map(|spot| read(&spot, listeners));
            (own.unwrap_or_default(), None)
        }
        (false, Some(shared)) => (chosen(shared, wanted.as_ref()), wanted.map(|(labels, _)| labels)),
    };
    let mut release = listed.release(wanted.as_ref());
    if let Some(said) = fields.get("release").and_then(|spot| spot.text()) {
        release = vec![format!("release {said}")];
    }
    (listed.endpoints, release)
}

impl Listed {
    /// The endpoints, and what tells their release.
    pub fn told(self) -> (Vec<Endpoint>, Vec<String>) {
        let release = self.release(None);
        (self.endpoints, release)
    }

    /// Empty where the addresses say it. A file's list may change whole while its
    /// release stays the same, so the file stands for it, with the labels that
    /// choose from it.
    fn release(&self, wanted: Option<&Labels>) -> Vec<String> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let labels: String =
            wanted.into_iter().flatten().map(|(name, value)| format!(" {name}={value}")).collect();
        let inline = self.endpoints[..self.inline].iter().map(|endpoint| endpoint.address.to_string());
        inline.chain(self.files.iter().map(|file| format!("file {file}{labels}"))).collect()
    }
}

fn chosen(shared: &Listed, wanted: Option<&(Labels, Spot)>) -> Listed {
    let bears = |endpoint: &&Endpoint| wanted.is_none_or(|(wanted, _)| endpoint.bears(wanted));
    let endpoints: Vec<Endpoint> = shared.endpoints.iter().filter(bears).cloned().collect();
    if endpoints.is_empty()
        && let Some((_, spot)) = wanted
    {
        spot.warn("no endpoint of the service bears these labels, so nobody answers for this version");
    }
    let inline = shared.endpoints[..shared.inline].iter().filter(bears).count();
    Listed { endpoints, files: shared.files.clone(), inline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_three_forms() {
        assert_eq!(parse("127.0.0.1:80").map(|at| at.to_string()), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(parse("localhost:80").map(|at| at.to_string()), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(parse("unix:/run/a").map(|at| at.to_string()), Ok("unix:/run/a".to_owned()));
        let name = Address::Name { host: "web.local".to_owned(), port: 80 };
        assert_eq!(parse("Web.Local:80"), Ok(name));
        for wrong in [
            "web",
            "web:",
            "web:0",
            "a..b:80",
            "-a:80",
            "unix:run",
            "unix:",
            "::1:80",
            "http://a:80",
            "a b:80",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
