//! How connections to the endpoints of a version are kept.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Keeping {
    /// A connection unused for longer is closed. By default 4 s for HTTP/1,
    /// before even a server that keeps one for five closes it under a request;
    /// an hour for HTTP/2, whose end is announced.
    pub idle_timeout: Option<Duration>,
    /// After so long it takes no further request.
    pub max_age: Option<Duration>,
    /// After so many requests it takes no further one.
    pub max_requests: Option<u32>,
    /// Per worker and endpoint; more requests wait.
    pub max_per_endpoint: Option<u32>,
    /// Requests at once on an HTTP/2 connection before another is opened; the
    /// endpoint's own bound counts where it is smaller.
    pub max_streams: Option<u32>,
}

impl Keeping {
    pub fn is_default(&self) -> bool {
        *self == Keeping::default()
    }
}
