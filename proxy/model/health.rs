//! How a version is asked whether it is well: actively, by questions of our own.

use std::time::Duration;

use serde::Serialize;

/// Questions put to every endpoint of a version, whether it has traffic or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthCheck {
    pub probe: Probe,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    pub interval: Duration,
    /// As long as the version has had no traffic.
    pub no_traffic_interval: Duration,
    /// The same while the endpoint is well.
    pub no_traffic_healthy_interval: Duration,
    /// While the endpoint is failed.
    pub unhealthy_interval: Duration,
    /// After a failure that was not yet enough.
    pub unhealthy_edge_interval: Duration,
    /// After a success that was not yet enough.
    pub healthy_edge_interval: Duration,
    /// The first check waits up to this long.
    pub initial_jitter: Duration,
    /// Every wait is longer by up to this.
    pub interval_jitter: Duration,
    /// And by up to this share of itself.
    pub interval_jitter_percent: u32,
    /// Checks in a row that got no answer, or a retriable one, until the endpoint
    /// is failed. An answer that says no fails it at once.
    pub unhealthy_threshold: u32,
    /// Good answers in a row until a failed endpoint is back. The first answer
    /// ever decides alone.
    pub healthy_threshold: u32,
    /// One connection for all checks of an endpoint, as long as it lasts.
    pub reuse_connection: bool,
    /// Asked here instead of at the endpoint's own port.
    pub port: Option<u16>,
}

impl HealthCheck {
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// All intervals alike, thresholds two and three.
    pub fn new(probe: Probe) -> HealthCheck {
        HealthCheck {
            probe,
            timeout: HealthCheck::TIMEOUT,
            interval: Duration::ZERO,
            no_traffic_interval: Duration::ZERO,
            no_traffic_healthy_interval: Duration::ZERO,
            unhealthy_interval: Duration::ZERO,
            unhealthy_edge_interval: Duration::ZERO,
            healthy_edge_interval: Duration::ZERO,
            initial_jitter: Duration::ZERO,
            interval_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            reuse_connection: true,
            port: None,
        }
        .every(HealthCheck::INTERVAL)
    }

    /// Sets all intervals.
    pub fn every(self, interval: Duration) -> HealthCheck {
        HealthCheck {
            interval,
            no_traffic_interval: interval,
            no_traffic_healthy_interval: interval,
            unhealthy_interval: interval,
            unhealthy_edge_interval: interval,
            healthy_edge_interval: interval,
            ..self
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    Http(HttpProbe),
    Tcp(TcpProbe),
    Grpc(GrpcProbe),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpProbe {
    pub path: String,
    pub method: String,
    /// Default: the endpoint's host name, or else the version's name.
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
    /// Statuses that mean well, each from the first to the last.
    pub expected: Vec<(u16, u16)>,
    /// Statuses that count towards the threshold instead of failing at once.
    pub retriable: Vec<(u16, u16)>,
}

impl HttpProbe {
    pub fn new(path: impl Into<String>) -> HttpProbe {
        HttpProbe {
            path: path.into(),
            method: "GET".to_owned(),
            host: None,
            headers: Vec::new(),
            expected: vec![(200, 200)],
            retriable: Vec::new(),
        }
    }
}

/// Connecting is enough where nothing is to be sent or received.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TcpProbe {
    pub send: Vec<u8>,
    /// Found in the answer in this order, with anything between.
    pub receive: Vec<Vec<u8>>,
}

/// `grpc.health.v1.Health/Check`, over HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GrpcProbe {
    /// Empty asks for the server as a whole.
    pub service: String,
    pub authority: Option<String>,
    pub metadata: Vec<(String, String)>,
}
