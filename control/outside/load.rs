//! Requests that serin sends by itself, for a service whose users send too few.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Text;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// What the service should get in all: what its users send is taken off.
    pub per_second: f64,
    pub during: During,
    /// By whose rules it comes in.
    pub listener: String,
    /// What the requests name as their host.
    pub host: String,
    /// One after the other.
    pub requests: Vec<Asked>,
    /// Of every request.
    pub headers: BTreeMap<String, Text>,
    pub most_at_once: usize,
    /// To the end of an answer; one that takes longer is broken off.
    pub timeout: Duration,
    /// So many bytes of an answer are read before it is broken off.
    pub most_bytes: usize,
}

/// When it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum During {
    /// While a step runs, a suspicion is looked into, or the canary bakes: no bake
    /// ends without requests.
    Judged,
    /// While the rollout is active: in pauses and holds, too.
    Rollout,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub method: String,
    /// The path, with a query if any.
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}
