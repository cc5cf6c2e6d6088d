//! When a request that failed is sent again, and how often.
//!
//! The words of `on` are Envoy's and mean what they mean there; none of this is
//! told by clients.

use std::time::Duration;

use serde::Serialize;

use super::Predicate;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retry {
    pub on: Vec<RetryOn>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Before the n-th retry a random time up to this, doubled n-1 times.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// Each attempt must bring its answer's head within this time.
    pub per_try_timeout: Option<Duration>,
    /// Longest silence of an attempt before its answer's head.
    pub per_try_idle_timeout: Option<Duration>,
    /// What `retriable-status-codes` asks for.
    pub statuses: Vec<u16>,
    /// What `retriable-headers` asks for: any of these in the answer.
    pub headers: Vec<Predicate>,
    /// Only requests with any of these are sent again; empty for all.
    pub request_headers: Vec<Predicate>,
    /// Pick an endpoint that has not failed this request yet, if so many picks
    /// find one; zero to take whichever comes.
    pub host_attempts: u32,
    /// A request whose body is longer is not sent again.
    pub max_body: usize,
    pub rate_limited: Option<RateLimited>,
    /// The version that is asked when this one has failed for good.
    pub then: Option<String>,
}

impl Retry {
    /// Envoy's bounds.
    pub fn new(on: Vec<RetryOn>) -> Retry {
        Retry {
            on,
            retries: 1,
            backoff: Retry::BACKOFF,
            max_backoff: Retry::BACKOFF * 10,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            statuses: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            host_attempts: Retry::HOST_ATTEMPTS,
            max_body: Retry::MAX_BODY,
            rate_limited: None,
            then: None,
        }
    }

    /// What Istio gives every route that says nothing.
    pub fn istio() -> Retry {
        let on = [
            RetryOn::ConnectFailure,
            RetryOn::RefusedStream,
            RetryOn::Unavailable,
            RetryOn::Cancelled,
            RetryOn::RetriableStatusCodes,
        ];
        Retry { retries: 2, statuses: vec![503], ..Retry::new(on.to_vec()) }
    }

    pub const BACKOFF: Duration = Duration::from_millis(25);
    /// As many picks as Istio allows.
    pub const HOST_ATTEMPTS: u32 = 5;
    pub const MAX_BODY: usize = 1024 * 1024;
}

/// What makes an attempt worth another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// A status of 500 and above, or no answer at all.
    #[serde(rename = "5xx")]
    Status5xx,
    /// 502, 503 or 504, or no answer at all.
    GatewayError,
    /// No answer at all.
    Reset,
    /// No answer, and nothing of the request had gone out.
    ResetBeforeRequest,
    ConnectFailure,
    /// An answer with `x-envoy-ratelimited`, which is never retried otherwise.
    EnvoyRatelimited,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// HTTP/2 refused the stream, or closed before it was taken.
    RefusedStream,
    RetriableStatusCodes,
    RetriableHeaders,
    /// These five are gRPC statuses, heard where they stand in the head.
    Cancelled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
}

impl RetryOn {
    pub const ALL: [(&'static str, RetryOn); 15] = [
        ("5xx", RetryOn::Status5xx),
        ("gateway-error", RetryOn::GatewayError),
        ("reset", RetryOn::Reset),
        ("reset-before-request", RetryOn::ResetBeforeRequest),
        ("connect-failure", RetryOn::ConnectFailure),
        ("envoy-ratelimited", RetryOn::EnvoyRatelimited),
        ("retriable-4xx", RetryOn::Retriable4xx),
        ("refused-stream", RetryOn::RefusedStream),
        ("retriable-status-codes", RetryOn::RetriableStatusCodes),
        ("retriable-headers", RetryOn::RetriableHeaders),
        ("cancelled", RetryOn::Cancelled),
        ("deadline-exceeded", RetryOn::DeadlineExceeded),
        ("internal", RetryOn::Internal),
        ("resource-exhausted", RetryOn::ResourceExhausted),
        ("unavailable", RetryOn::Unavailable),
    ];
}

/// An answer may say when it is worth asking again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateLimited {
    /// The first of these that an answer has is believed.
    pub headers: Vec<ResetHeader>,
    /// A longer wait than this is not waited for: the usual back-off is used.
    pub max: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResetHeader {
    pub name: String,
    pub format: ResetFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetFormat {
    /// From now, as in `retry-after`.
    Seconds,
    /// Since 1970.
    Unix,
}
