//! A service and its versions: who can answer, and where.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Balance;
use super::Breaker;
use super::ClientTls;
use super::Dns;
use super::Edits;
use super::Endpoint;
use super::HealthCheck;
use super::Keeping;
use super::Outlier;
use super::ProxyHeader;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    pub name: String,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    pub name: String,
    pub role: Role,
    pub endpoints: Vec<Endpoint>,
    /// What tells this release from the next, in the words of the file. Where
    /// empty, the addresses do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<String>,
    #[serde(skip_serializing_if = "Balance::is_default")]
    pub balance: Balance,
    /// For those of its endpoints that are names.
    #[serde(skip_serializing_if = "Dns::is_default")]
    pub dns: Dns,
    pub protocol: Protocol,
    pub connect_timeout: Duration,
    #[serde(skip_serializing_if = "Breaker::is_default")]
    pub breaker: Breaker,
    #[serde(skip_serializing_if = "Keeping::is_default")]
    pub keeping: Keeping,
    /// Made before those of the route.
    #[serde(skip_serializing_if = "Edits::is_empty")]
    pub edits: Edits,
    /// Its endpoints speak TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Its endpoints are told by the PROXY protocol who the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_header: Option<ProxyHeader>,
    /// Endpoints that are not well by this get no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Endpoints that fail their users are left alone for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outliers: Option<Outlier>,
}

impl Version {
    /// Without an endpoint so far.
    pub fn new(name: impl Into<String>, role: Role) -> Version {
        Version {
            name: name.into(),
            role,
            endpoints: Vec::new(),
            release: Vec::new(),
            balance: Balance::default(),
            dns: Dns::default(),
            protocol: Protocol::Http1,
            connect_timeout: Version::CONNECT_TIMEOUT,
            breaker: Breaker::default(),
            keeping: Keeping::default(),
            edits: Edits::default(),
            tls: None,
            proxy_header: None,
            health: None,
            outliers: None,
        }
    }

    /// Envoy's, too.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// What a version is to its service. `Primary` takes what no other version
/// claims and answers where a canary fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Canary,
    Other,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Canary => "canary",
            Role::Other => "other",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Hash, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http1,
    /// In the clear with prior knowledge.
    Http2,
    /// What each endpoint chooses in the handshake of TLS.
    Auto,
}
