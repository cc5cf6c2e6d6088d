//! Which request goes to which split.

use std::time::Duration;

use serde::Serialize;

use super::Cors;
use super::Edits;
use super::Faults;
use super::HashPolicy;
use super::OutcomeRules;
use super::RateLimit;
use super::Redirect;
use super::Retry;
use super::Rewrite;
use super::Tell;
use super::Timeouts;
use super::Upgrades;

/// A virtual host: the domains it answers for and its routes in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Host {
    /// `a.example.com`, `*.example.com`, `a.example.*` or `*`. Ports are ignored.
    pub domains: Vec<String>,
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "Edits::is_empty")]
    pub edits: Edits,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    pub name: String,
    /// The route matches when any of these does; an empty list matches all.
    pub matches: Vec<Match>,
    pub target: Target,
    /// From the end of the request to the answer's head.
    pub request_timeout: Option<Duration>,
    /// Longest silence of an answer's body.
    pub idle_timeout: Option<Duration>,
    /// For versions that choose endpoints by hash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<HashPolicy>,
    #[serde(skip_serializing_if = "Upgrades::is_default")]
    pub upgrades: Upgrades,
    #[serde(skip_serializing_if = "Timeouts::is_default")]
    pub timeouts: Timeouts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    #[serde(skip_serializing_if = "Tell::is_default")]
    pub tell: Tell,
    #[serde(skip_serializing_if = "Edits::is_empty")]
    pub edits: Edits,
    #[serde(skip_serializing_if = "Rewrite::is_empty")]
    pub rewrite: Rewrite,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<Faults>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeRules>,
}

impl Route {
    /// Matches everything and waits as long as it takes.
    pub fn new(name: impl Into<String>, target: Target) -> Route {
        Route {
            name: name.into(),
            matches: Vec::new(),
            target,
            request_timeout: None,
            idle_timeout: None,
            hash: Vec::new(),
            upgrades: Upgrades::default(),
            timeouts: Timeouts::default(),
            retry: None,
            tell: Tell::default(),
            edits: Edits::default(),
            rewrite: Rewrite::default(),
            cors: None,
            rate_limit: None,
            faults: None,
            outcome: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Target {
    Split(String),
    /// An answer of our own.
    Direct {
        status: u16,
        body: String,
    },
    Redirect(Redirect),
}

/// All parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Match {
    pub path: Option<PathMatch>,
    pub method: Option<String>,
    pub predicates: Vec<Predicate>,
    /// Asks for a plain CONNECT, which has no path and which no other match takes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connect: bool,
    /// Only gRPC requests, known by their content type.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
    /// Of the requests that fit, so many in a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_million: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum PathMatch {
    Exact(String),
    /// Plain text prefix, as Envoy's `prefix`.
    Prefix(String),
    /// A prefix of whole segments, without a `/` at its end: `/a` fits `/a` and
    /// `/a/b` but not `/ab`.
    Segments(String),
    /// Must match the whole path; the query is not part of it.
    Regex(String),
    /// A path of one of the first three kinds, whatever its case.
    IgnoreCase(Box<PathMatch>),
}

/// One thing asked of a header, query parameter or cookie.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predicate {
    pub on: PredicateOn,
    pub name: String,
    pub value: TextMatch,
    /// Turns the answer round. A missing field fails a value match both ways,
    /// as in Envoy; to ask for absence, invert `Present`.
    pub invert: bool,
    /// A missing field is taken for one with an empty value.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing_as_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PredicateOn {
    Header,
    Query,
    Cookie,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    /// Must match the whole value.
    Regex(String),
    /// A whole number from `from` on, below `to`.
    Range {
        from: i64,
        to: i64,
    },
    /// A text of one of the first four kinds, whatever its case.
    IgnoreCase(Box<TextMatch>),
    Present,
}
