//! By what a route hashes its requests, so that alike ones go to one endpoint.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashPolicy {
    pub by: HashBy,
    /// If there is a hash after this, the policies behind it are not asked.
    pub terminal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashBy {
    Header(String),
    /// With a `ttl` a request without the cookie gets one; zero seconds for as
    /// long as the browser is open.
    Cookie {
        name: String,
        ttl: Option<Duration>,
        path: Option<String>,
    },
    SourceIp,
    Query(String),
}
