//! The routing model: what an operator asked for, as plain data.
//!
//! Every dialect is translated into this and nothing else enters the proxy. It
//! knows no file format and no origin of its parts. It may still be wrong (a
//! route can name a split that does not exist); [`crate::table`] compiles it
//! and answers with all its problems at once.

mod balance;
mod breaker;
mod dns;
mod edit;
mod endpoint;
mod forwarded;
mod gates;
mod hashing;
mod health;
mod http2;
mod keeping;
mod listener;
mod manners;
mod outcome;
mod outlier;
mod overload;
mod preamble;
mod retry;
mod rewrite;
mod route;
mod service;
mod split;
mod timeouts;
mod tls;
mod upgrade;

pub use balance::{Algorithm, Balance, HashFunction, SlowStart};
pub use breaker::{Breaker, RetryBound};
pub use dns::{Dns, DnsFamily, DnsMode};
pub use edit::{Edits, HeaderEdits, HeaderPut, Put};
pub use endpoint::{Address, Endpoint, Labels};
pub use forwarded::{ClientCertificateField, ClientCertificateMode, Forwarded};
pub use gates::{Abort, AbortWith, Cors, Delay, Faults, RateLimit};
pub use hashing::{HashBy, HashPolicy};
pub use health::{GrpcProbe, HealthCheck, HttpProbe, Probe, TcpProbe};
pub use http2::{Http2, KeepAlive};
pub use keeping::Keeping;
pub use listener::{Limits, Listener};
pub use manners::{EscapedSlashes, Paths, ServerField};
pub use outcome::{AnswerSigns, OutcomeRules};
pub use outlier::{FailurePercentage, Outlier, SuccessRate, Threshold};
pub use overload::Overload;
pub use preamble::{ProxyHeader, ProxyProtocol};
pub use retry::{RateLimited, ResetFormat, ResetHeader, Retry, RetryOn};
pub use rewrite::{HostRewrite, PathRewrite, Redirect, Rewrite, Substitution};
pub use route::{Host, Match, PathMatch, Predicate, PredicateOn, Route, Target, TextMatch};
pub use service::{Protocol, Role, Service, Version};
pub use split::{
    Compare, Force, ForceOn, Mirror, Rule, Shield, Split, Sticky, StickyKey, Stratum, StratumOn, Trial,
};
pub use timeouts::{Tell, Timeouts};
pub use tls::{
    Alpn, Certificate, ClientCertificates, ClientDetail, ClientTls, Resumption, Secret, ServerName,
    ServerTls, Subject, SubjectKind, TlsVersion, TlsVersions, Trust,
};
pub use upgrade::{Connect, Upgrades};

use serde::Serialize;

/// Everything the proxy is told; compiled whole and swapped whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Model {
    pub listeners: Vec<Listener>,
    /// Virtual hosts. The most specific domain wins; inside a host the first
    /// route in order that matches wins.
    pub hosts: Vec<Host>,
    pub splits: Vec<Split>,
    pub services: Vec<Service>,
    /// Made after those of versions, routes and hosts.
    #[serde(skip_serializing_if = "Edits::is_empty")]
    pub edits: Edits,
    /// Edits are made from the least to the most specific, whose word is then
    /// the last. A version's come first either way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub most_specific_edits_win: bool,
    #[serde(skip_serializing_if = "Overload::is_default")]
    pub overload: Overload,
}
