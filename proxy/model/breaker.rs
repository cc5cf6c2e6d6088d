//! How much may be under way to one version at once.

use serde::Serialize;

/// `None` is no bound, and costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Breaker {
    /// Open to all endpoints together. An endpoint that a worker has no
    /// connection to may always be given one.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests that have a connection and no whole answer yet.
    pub requests: Option<u32>,
    pub retries: RetryBound,
}

/// Retries under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RetryBound {
    Most(u32),
    /// A share of the version's requests under way, but always so many.
    Budget {
        percent: u32,
        least: u32,
    },
}

impl Default for RetryBound {
    /// Envoy's retry budget.
    fn default() -> Self {
        RetryBound::Budget { percent: 20, least: 3 }
    }
}

impl Breaker {
    pub fn is_default(&self) -> bool {
        *self == Breaker::default()
    }
}
