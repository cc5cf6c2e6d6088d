//! Which endpoint of a version gets a request.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    pub algorithm: Algorithm,
    /// With fewer healthy endpoints than this, in percent, all are asked; zero for never.
    pub panic_percent: u32,
    /// Only for round robin and least request.
    pub slow_start: Option<SlowStart>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    RoundRobin,
    /// The least busy of some chosen at random. Where weights differ, in turn by
    /// weight over the requests under way to the power of `bias`.
    LeastRequest {
        choices: u32,
        bias: f64,
    },
    Random,
    RingHash {
        min_size: u64,
        max_size: u64,
        function: HashFunction,
        /// By the endpoints' hostnames and not by their addresses.
        by_hostname: bool,
    },
    Maglev {
        /// A prime.
        table_size: u64,
        by_hostname: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashFunction {
    XxHash,
    MurmurHash2,
}

/// A new endpoint gets its full share only after a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlowStart {
    pub window: Duration,
    /// 1 for a straight line; above, a quicker rise at first.
    pub aggression: f64,
    /// The least share of its weight that an endpoint has, from 0 to 1.
    pub min_weight: f64,
}

impl Default for Balance {
    fn default() -> Self {
        Balance { algorithm: Algorithm::RoundRobin, panic_percent: 50, slow_start: None }
    }
}

impl Balance {
    /// For `skip_serializing_if`.
    pub fn is_default(&self) -> bool {
        *self == Balance::default()
    }
}

impl Algorithm {
    /// Whether a hash of the request decides.
    pub fn hashes(&self) -> bool {
        matches!(self, Algorithm::RingHash { .. } | Algorithm::Maglev { .. })
    }
}
