//! How the traffic of one service is shared out among its versions.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::Predicate;
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
    /// Asked after `force`, and only while the weights have it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Parts of the traffic that are counted apart; the first that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<Stratum>,
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
    /// A parameter of the query.
    Query(String),
    /// The client's address, by network; `value` is not asked.
    Source(Vec<IpNet>),
}

/// Whom a version is tried on while a rollout has it so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    pub version: String,
    /// Requests that fit any of these.
    pub rules: Vec<Rule>,
}

/// A part of the traffic whose failures are counted apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stratum {
    pub name: String,
    pub on: StratumOn,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StratumOn {
    /// Requests of the route of this name.
    Route(String),
    /// Requests that give a header this value, to the byte.
    Header { name: String, value: String },
}

/// Everything that a rule asks has to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rule {
    pub predicates: Vec<Predicate>,
    /// Networks that the client may come from; none: any.
    pub sources: Vec<IpNet>,
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
    /// The share is what the weights have it to be, and only requests to the
    /// primary are copied: both answers are evidence.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// A copy whose unread body outgrows this is abandoned.
    pub max_body: usize,
    /// Copies under way per worker; past it a request is not copied.
    pub max_in_flight: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
}

/// Of the primary's requests that are copied, a few are asked three times more so that
/// their answers can be compared: GET and HEAD without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compare {
    /// At most, per worker.
    pub per_second: u32,
    /// Of a longer body no more is kept than that it is longer.
    pub max_body: usize,
}
