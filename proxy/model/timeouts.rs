//! How long a request of a route may take beyond the wait for its answer's head.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timeouts {
    /// From the end of the request to the end of the answer, all attempts and
    /// their back-off included: Envoy's route timeout.
    pub total: Option<Duration>,
    /// From the request's head to the end of the answer, whoever is slow.
    pub duration: Option<Duration>,
    /// Obey `grpc-timeout` up to this instead of the other bounds; zero for
    /// whatever it says.
    pub grpc: Option<Duration>,
}

impl Timeouts {
    pub fn is_default(&self) -> bool {
        *self == Timeouts::default()
    }
}

/// What is told of the attempts and of the time that is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tell {
    /// `x-envoy-attempt-count` to the upstream.
    pub attempts_up: bool,
    /// The same to the client.
    pub attempts_down: bool,
    /// `x-envoy-expected-rq-timeout-ms` to the upstream.
    pub time_left: bool,
}

impl Tell {
    pub fn is_default(&self) -> bool {
        *self == Tell::default()
    }
}
