//! Where to accept requests, and the bounds on what a client may ask.

use serin_proxy::model::{Limits, Listener};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::forwarded;
use super::http2;
use super::manners;
use super::tls;
use super::units;

const FIELDS: [&str; 10] = [
    "name",
    "address",
    "limits",
    "http2",
    "tls",
    "proxyProtocol",
    "forwarded",
    "paths",
    "server",
    "rateLimit",
];
const LIMITS: [&str; 9] = [
    "maxHeaderBytes",
    "maxHeaders",
    "headerTimeout",
    "requestTimeout",
    "writeTimeout",
    "idleTimeout",
    "maxDuration",
    "maxRequests",
    "maxConnections",
];

/// `listen` is short for one listener named `default`.
pub fn read(document: &Fields) -> Vec<Listener> {
    match document.one_of(&["listen", "listeners"]) {
        Some(("listen", spot)) => match spot.parsed(units::address) {
            Some(address) => {
                vec![Listener::new("default", address)]
            }
            None => Vec::new(),
        },
        Some((_, spot)) => {
            let mut listeners = Vec::new();
            for item in spot.list().unwrap_or_default() {
                if let Some(listener) = listener(&item, &listeners) {
                    listeners.push(listener);
                }
            }
            listeners
        }
        None => Vec::new(),
    }
}

fn listener(spot: &Spot, before: &[Listener]) -> Option<Listener> {
    let fields = spot.fields(&FIELDS)?;
    let name = fields.need("name").and_then(|spot| {
        let name = spot.parsed(units::name)?;
        if before.iter().any(|other| other.name == name) {
            spot.error(format!("a listener named `{name}` stands above"));
        }
        Some(name)
    });
    let address = fields.need("address").and_then(|spot| {
        let address = spot.parsed(units::address)?;
        if address.port() != 0 && before.iter().any(|other| other.address == address) {
            spot.error(format!("{address} is already another listener's address"));
        }
        Some(address)
    });
    let mut listener = Listener::new(name?, address?);
    if let Some(spot) = fields.get("limits") {
        listener.limits = limits(&spot);
    }
    if let Some(spot) = fields.get("http2") {
        listener.limits.http2 = http2::read(&spot);
    }
    listener.tls = fields.get("tls").and_then(|spot| tls::server(&spot));
    listener.proxy_protocol = fields.get("proxyProtocol").and_then(|spot| forwarded::proxy_protocol(&spot));
    if let Some(spot) = fields.get("forwarded") {
        listener.forwarded = forwarded::read(&spot);
    }
    manners::read(&fields, &mut listener);
    Some(listener)
}

fn limits(spot: &Spot) -> Limits {
    let mut limits = Limits::default();
    let Some(fields) = spot.fields(&LIMITS) else {
        return limits;
    };
    if let Some(spot) = fields.get("maxHeaderBytes") {
        let bytes = spot.parsed(units::size).unwrap_or(limits.max_header_bytes);
        if !(8 * 1024..=16 * 1024 * 1024).contains(&bytes) {
            spot.error("must be from 8KiB to 16MiB");
        }
        limits.max_header_bytes = bytes;
    }
    if let Some(headers) = fields.get("maxHeaders").and_then(|spot| spot.whole(1, 10_000)) {
        limits.max_headers = usize::try_from(headers).unwrap_or(limits.max_headers);
    }
    if let Some(time) = fields.get("headerTimeout").and_then(|spot| spot.parsed(units::some_time)) {
        limits.header_timeout = time;
    }
    if let Some(time) = fields.get("idleTimeout").and_then(|spot| spot.parsed(units::some_time)) {
        limits.idle_timeout = time;
    }
    if let Some(time) = fields.get("requestTimeout").and_then(|spot| spot.parsed(units::timeout)) {
        limits.request_timeout = time;
    }
    if let Some(time) = fields.get("writeTimeout").and_then(|spot| spot.parsed(units::some_time)) {
        limits.write_timeout = time;
    }
    limits.max_requests = fields.get("maxRequests").and_then(|spot| spot.whole(1, u64::MAX));
    if let Some(time) = fields.get("maxDuration").and_then(|spot| spot.parsed(units::timeout)) {
        limits.max_duration = time;
    }
    if let Some(most) = fields.get("maxConnections").and_then(|spot| spot.whole(1, 10_000_000)) {
        limits.max_connections = usize::try_from(most).unwrap_or(limits.max_connections);
    }
    limits
}
