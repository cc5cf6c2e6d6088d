//! How the traffic of one service is shared out among its versions.

use std::time::Duration;

use serde::Serialize;

use super::TextMatch;
use crate::weights::Weights;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Split {
    pub name: String,
    /// The service whose versions are the arms of this split.
    pub service: String,
    pub weights: Weights,
    pub sticky: Option<Sticky>,
    /// Tried in order; the first that matches names the version.
    pub force: Vec<Force>,
    pub shield: Option<Shield>,
    pub mirror: Option<Mirror>,
    /// Requests of a version without a healthy endpoint are answered by another.
    #[serde(skip_serializing_if = "is_on")]
    pub fallback: bool,
}

/// For `skip_serializing_if`.
fn is_on(fallback: &bool) -> bool {
    *fallback
}

/// Keeps a user on one version while weights stand, and moves as few as
/// possible when they change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sticky {
    pub key: StickyKey,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StickyKey {
    /// Hash of a request header; without the header the coin decides.
    Header(String),
    /// Hash of a cookie that the service issues; without it the coin decides.
    Cookie(String),
    /// A cookie that serin issues when the request has none.
    Issue { cookie: String, max_age: Option<Duration>, path: String },
}

/// Testers and A/B groups go to a named version whatever the weights say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Force {
    pub on: ForceOn,
    pub value: TextMatch,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum ForceOn {
    Header(String),
    Cookie(String),
}

/// Answer from the primary where a canary fails a repeatable request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shield {
    /// A request body up to this size is kept for the second try.
    pub max_body: usize,
    /// Of all requests of the split, how many may be repeated, in percent.
    pub budget_percent: u32,
    /// Repeats allowed at once beyond the percentage, per worker.
    pub burst: u32,
}

impl Default for Shield {
    fn default() -> Self {
        Shield { max_body: 64 * 1024, budget_percent: 20, burst: 100 }
    }
}

/// A copy of some requests to another version; its answer is thrown away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mirror {
    pub version: String,
    /// Share of requests copied, in hundredths of a percent.
    pub parts: u32,
    /// A copy whose unread body outgrows this is abandoned.
    pub max_body: usize,
    /// Copies under way per worker; past it a request is not copied.
    pub max_in_flight: usize,
}
