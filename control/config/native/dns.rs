//! How names of endpoints are resolved. What a version leaves unsaid its service
//! says, and after that the document.

use serin_proxy::model::{Dns, DnsFamily, DnsMode};

use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 4] = ["mode", "family", "refresh", "servers"];
const MODES: [(&str, DnsMode); 2] = [("strict", DnsMode::Strict), ("logical", DnsMode::Logical)];
const FAMILIES: [(&str, DnsFamily); 5] = [
    ("v4", DnsFamily::V4),
    ("v6", DnsFamily::V6),
    ("preferV4", DnsFamily::PreferV4),
    ("preferV6", DnsFamily::PreferV6),
    ("all", DnsFamily::All),
];

pub fn read(spot: Option<Spot>, before: &Dns) -> Dns {
    let mut dns = before.clone();
    let Some(fields) = spot.and_then(|spot| spot.fields(&FIELDS)) else { return dns };
    dns.mode = fields.get("mode").and_then(|spot| spot.word(&MODES)).unwrap_or(dns.mode);
    dns.family = fields.get("family").and_then(|spot| spot.word(&FAMILIES)).unwrap_or(dns.family);
    if let Some(time) = fields.get("refresh").and_then(|spot| spot.parsed(units::some_time)) {
        dns.refresh = time;
    }
    if let Some(servers) = fields.get("servers") {
        let servers = servers.one_or_more();
        dns.servers = servers.iter().filter_map(|spot| spot.parsed(units::endpoint)).collect();
    }
    dns
}
