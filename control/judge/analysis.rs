//! What the judge is asked: which tests, how sure, and how patient.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::checks::Terms;
use super::samples::Question;

/// What the judge looks at and how sure it has to be. Defaults are `JUDGE.md`'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Chance of a false rollback per rollout, over all tests and looks.
    pub alpha: f64,
    pub relative_failures: Option<RelativeFailures>,
    pub relative_latency: Option<RelativeLatency>,
    /// Mirrored requests of which only one version failed the copy; where the canary
    /// gets copies.
    #[serde(default)]
    pub mirrored: Option<RelativeFailures>,
    /// Parts of the traffic whose failures are judged apart, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<Stratum>,
    pub success: Option<SuccessObjective>,
    pub latency: Option<LatencyObjective>,
    /// Length of a burst window; zero switches the burst guard off.
    pub window: Duration,
    /// Canary requests per second while suspended.
    pub trickle_per_second: f64,
    /// Clean canary answers in a row that end a suspension.
    pub probes: u32,
    /// A step passes only after this many canary requests of its own have ended.
    pub min_requests: u64,
    pub hold_timeout: Duration,
    pub on_shared: OnShared,
    /// What has to be shown before a step passes; nothing where there is none.
    #[serde(default)]
    pub promotion: Option<Promotion>,
    /// What follows when it cannot be shown in time.
    #[serde(default)]
    pub inconclusive: Inconclusive,
    /// What follows where the canary's answers to copied requests differ.
    #[serde(default, skip_serializing_if = "OnDifference::is_report")]
    pub answers: OnDifference,
    /// Judged as another tool would, by its rules instead of those above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Terms>,
    /// What others are asked for that these rules look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
}

/// Proof that the canary is good enough: of each comparison with the primary, and
/// of each objective, that are asked for anyway.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    /// Chance that a canary beyond a margin passes a step.
    pub beta: f64,
    /// The margin: `ratio` times the primary's share of bad answers plus `margin`.
    pub ratio: f64,
    pub margin: f64,
    /// A request that has not failed by this age has not failed.
    pub patience: Duration,
    /// How long a step waits for proof beyond its own time; none: as long again.
    pub extra_time: Option<Duration>,
}

/// What follows when neither good nor bad could be shown in a step's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// Stay and have somebody decide.
    Hold,
    #[default]
    Advance,
    Rollback,
    /// Stay until it can be shown.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelativeFailures {
    /// Tolerated: `rho` times the primary's rate plus `delta`.
    pub rho: f64,
    pub delta: f64,
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stratum {
    Route(String),
    Header { name: String, value: String },
}

impl Stratum {
    /// Of all together, beside the other tests.
    pub const SHARES: f64 = 0.2;

    /// What operators read, and what counts are kept by.
    pub fn name(&self) -> String {
        match self {
            Stratum::Route(route) => format!("route {route}"),
            Stratum::Header { name, value } => format!("{name} {value}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelativeLatency {
    #[serde(flatten)]
    pub slack: Slack,
    pub share: f64,
}

/// How much slower an answer may be and still be as fast: the greater of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slack {
    /// 0.1 for ten percent.
    pub margin: f64,
    /// Microseconds. What no user can feel is no reason to roll back.
    #[serde(default)]
    pub least_us: u64,
}

impl Slack {
    pub const NONE: Slack = Slack { margin: 0.0, least_us: 0 };

    /// The slowest that is as fast as `us`, in microseconds.
    pub fn on(self, us: u64) -> u64 {
        ((us as f64 * (1.0 + self.margin)).ceil() as u64).max(us.saturating_add(self.least_us))
    }
}

/// At least this share of requests must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuccessObjective {
    /// 0.99 for 99 %.
    pub min: f64,
    pub share: f64,
}

/// This quantile of latency must not exceed the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyObjective {
    /// 0.99 for p99.
    pub quantile: f64,
    pub threshold: Duration,
    pub share: f64,
}

/// What ends a hold that was caused by both versions failing alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnShared {
    Hold,
    Rollback,
    Continue,
}

/// What follows where answers of the canary differ from the primary's, and not only as
/// the primary's differ from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDifference {
    /// It is told.
    #[default]
    Report,
    /// Stay and have somebody decide.
    Hold,
    /// It is held against the canary like its failures, under the same budget.
    Rollback,
}

impl OnDifference {
    /// Of the error budget, where it is asked for.
    pub const SHARE: f64 = 0.2;

    fn is_report(&self) -> bool {
        *self == OnDifference::Report
    }
}

impl Default for Analysis {
    fn default() -> Self {
        Analysis {
            alpha: 0.001,
            relative_failures: Some(RelativeFailures { rho: 1.2, delta: 0.0005, share: 0.4 }),
            relative_latency: Some(RelativeLatency {
                slack: Slack { margin: 0.1, least_us: 1000 },
                share: 0.3,
            }),
            mirrored: None,
            strata: Vec::new(),
            success: None,
            latency: None,
            window: Duration::from_secs(10),
            trickle_per_second: 1.0,
            probes: 20,
            min_requests: 10,
            hold_timeout: Duration::from_secs(600),
            on_shared: OnShared::Hold,
            promotion: Some(Promotion::default()),
            inconclusive: Inconclusive::default(),
            answers: OnDifference::default(),
            checks: None,
            questions: Vec::new(),
        }
    }
}

impl Default for Promotion {
    fn default() -> Self {
        let patience = Duration::from_secs(60);
        Promotion { beta: 0.05, ratio: 1.2, margin: 0.005, patience, extra_time: None }
    }
}

impl SuccessObjective {
    pub const SHARE: f64 = 0.15;
}

impl LatencyObjective {
    pub const SHARE: f64 = 0.15;
}
