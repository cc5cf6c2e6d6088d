//! How connections to a version's endpoints are opened, kept and retired.

use std::sync::Arc;

use crate::breaker::Breaker;
use crate::clock;
use crate::model::Version;

/// An HTTP/1 connection unused for longer is closed, before even a server that
/// keeps one for no more than five seconds would do it under a request of ours.
const IDLE_US: u64 = 4_000_000;
/// The end of an HTTP/2 connection is announced.
const HTTP2_IDLE_US: u64 = 3_600_000_000;

pub struct Rules {
    pub breaker: Breaker,
    idle_us: u64,
    http2_idle_us: u64,
    pub max_age_us: u64,
    pub max_requests: u32,
    /// Connections of one worker to one endpoint, where it is said.
    pub per_endpoint: Option<u32>,
    /// Requests at once on an HTTP/2 connection, whatever the endpoint allows.
    pub max_streams: usize,
    /// Nothing was asked for: versions may share their connections.
    pub usual: bool,
}

impl Rules {
    pub fn new(version: &Version, breaker: Breaker) -> Arc<Rules> {
        let keeping = &version.keeping;
        Arc::new(Rules {
            breaker,
            idle_us: keeping.idle_timeout.map_or(IDLE_US, clock::us),
            http2_idle_us: keeping.idle_timeout.map_or(HTTP2_IDLE_US, clock::us),
            max_age_us: keeping.max_age.map_or(u64::MAX, clock::us),
            max_requests: keeping.max_requests.unwrap_or(u32::MAX),
            per_endpoint: keeping.max_per_endpoint,
            max_streams: keeping.max_streams.map_or(usize::MAX, |most| most as usize),
            usual: version.breaker.is_default() && keeping.is_default(),
        })
    }

    /// Has a connection done all it may?
    pub fn is_spent(&self, served: u32, born_us: u64, now_us: u64) -> bool {
        served >= self.max_requests || now_us.saturating_sub(born_us) >= self.max_age_us
    }

    pub fn is_stale(&self, since_us: u64, now_us: u64) -> bool {
        now_us.saturating_sub(since_us) >= self.idle_us
    }

    /// The same of a connection that speaks HTTP/2.
    pub fn is_quiet_for_too_long(&self, since_us: u64, now_us: u64) -> bool {
        now_us.saturating_sub(since_us) >= self.http2_idle_us
    }
}
