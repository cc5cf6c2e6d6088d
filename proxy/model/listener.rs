//! Where the proxy accepts connections, and what one connection may ask of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::Forwarded;
use super::Http2;
use super::Paths;
use super::ProxyProtocol;
use super::RateLimit;
use super::ServerField;
use super::ServerTls;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    pub name: String,
    /// Port 0 asks the kernel for a free one; [`crate::Bound`] tells which.
    pub address: SocketAddr,
    pub limits: Limits,
    /// Clients speak TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Somebody before us says who the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    #[serde(skip_serializing_if = "Forwarded::is_default")]
    pub forwarded: Forwarded,
    #[serde(skip_serializing_if = "Paths::is_default")]
    pub paths: Paths,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerField>,
    /// Over all routes and workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

impl Listener {
    /// With Envoy's limits and nothing else asked for.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Listener {
        Listener {
            name: name.into(),
            address,
            limits: Limits::default(),
            tls: None,
            proxy_protocol: None,
            forwarded: Forwarded::default(),
            paths: Paths::default(),
            server: None,
            rate_limit: None,
        }
    }
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

fn is_usual_write_timeout(time: &Duration) -> bool {
    *time == WRITE_TIMEOUT
}

/// Bounds on what a client may make us hold or wait for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    pub max_header_bytes: usize,
    pub max_headers: usize,
    /// A client that has begun a request head must end it within this time.
    pub header_timeout: Duration,
    /// A connection with no request under way is closed after this time.
    pub idle_timeout: Duration,
    /// Over all workers; past it a new connection is accepted and closed at once.
    pub max_connections: usize,
    /// A request, body and all, must be here within this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Duration>,
    /// A client that takes none of what we sent for this long is given up.
    #[serde(skip_serializing_if = "is_usual_write_timeout")]
    pub write_timeout: Duration,
    /// A connection ends with the answer to this many requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// A connection older than this ends with what is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    #[serde(skip_serializing_if = "Http2::is_default")]
    pub http2: Http2,
}

impl Default for Limits {
    /// Envoy's values where Envoy has the same limit.
    fn default() -> Self {
        Limits {
            max_header_bytes: 60 * 1024,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            max_connections: 50_000,
            request_timeout: None,
            write_timeout: WRITE_TIMEOUT,
            max_requests: None,
            max_duration: None,
            http2: Http2::default(),
        }
    }
}
