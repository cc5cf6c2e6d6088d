//! How the names of a version's endpoints are resolved.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dns {
    pub mode: DnsMode,
    pub family: DnsFamily,
    /// How often a name is asked for whose answer says not for how long it holds.
    pub refresh: Duration,
    /// Whom to ask; empty for those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsMode {
    /// Every address is an endpoint.
    Strict,
    /// One address at a time, kept as long as the name still has it.
    Logical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsFamily {
    V4,
    V6,
    /// IPv6 where there is no IPv4.
    PreferV4,
    /// IPv4 where there is no IPv6; Envoy's `AUTO`.
    PreferV6,
    All,
}

impl Default for Dns {
    /// Envoy's but for the family: an IPv6 address that no route leads to is
    /// common, a name without any IPv4 address is not.
    fn default() -> Self {
        Dns {
            mode: DnsMode::Strict,
            family: DnsFamily::PreferV4,
            refresh: Duration::from_secs(5),
            servers: Vec::new(),
        }
    }
}

impl Dns {
    /// For `skip_serializing_if`.
    pub fn is_default(&self) -> bool {
        *self == Dns::default()
    }
}
