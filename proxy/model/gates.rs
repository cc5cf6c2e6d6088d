//! What may stop a request of a route before any version is chosen for it: the
//! answers of CORS, a rate limit, injected faults.

use std::time::Duration;

use serde::Serialize;

use super::Predicate;
use super::TextMatch;

/// Which scripts of other origins may use a route, as their browsers ask.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cors {
    /// An exact `*` stands for any.
    pub origins: Vec<TextMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    pub max_age: Option<Duration>,
    pub credentials: bool,
    pub private_network: bool,
    /// Preflights of other origins go to the service, as if they were none.
    pub forward_other_preflights: bool,
}

/// A bucket of tokens; a request without one is refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateLimit {
    /// Tokens that come in each `per`, evenly.
    pub requests: u32,
    pub per: Duration,
    /// Tokens that the bucket holds.
    pub burst: u32,
    pub status: u16,
    /// `x-ratelimit-*` fields tell the client where it stands.
    pub tell: bool,
    /// Of all requests so many in a million need a token.
    pub per_million: u32,
    /// Of those without one so many in a million are refused.
    pub enforced_per_million: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faults {
    /// Only for requests of which all of these hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Predicate>,
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
    /// Faults under way; past it none is injected.
    pub max_active: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delay {
    /// `None`: as long as the request's `x-envoy-fault-delay-request` says, in
    /// milliseconds.
    pub time: Option<Duration>,
    pub per_million: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Abort {
    pub with: AbortWith,
    pub per_million: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AbortWith {
    Status(u16),
    Grpc(u32),
    /// What the request's `x-envoy-fault-abort-request` or
    /// `x-envoy-fault-abort-grpc-request` says.
    Header,
}
