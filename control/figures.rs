//! Live figures for people: requests per second and quantiles of the last seconds.
//!
//! Decisions never use these. A bounded ring of past readings, one a second, is
//! subtracted from the present one.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_proxy::histogram::Histogram;
use serin_proxy::reading::{Counts, Sent, VersionReading};

use crate::clock::Moment;

/// The quantiles are over at least this long.
const QUANTILES: Duration = Duration::from_secs(10);
/// The rate is over at least this long.
const RATE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(500);
/// Readings kept: as far back as the quantiles reach and one more.
const KEPT: usize = QUANTILES.as_millis() as usize / INTERVAL.as_millis() as usize + 1;

/// Figures of one version: totals since the process began, rates of now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Figures {
    pub requests: u64,
    pub failures: u64,
    /// Failures that the primary answered instead: no user saw them.
    pub shielded: u64,
    pub in_flight: u64,
    /// Requests per second over the last second or two.
    pub rps: f64,
    /// Share of the last ten seconds' requests that failed, 0 to 1.
    #[schema(required = true)]
    pub failure_share: Option<f64>,
    /// Over the last ten seconds; none without requests.
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

/// Past readings of the versions that have traffic.
#[derive(Default)]
pub struct Ring {
    past: VecDeque<(Moment, Samples)>,
}

/// By service and version. Of one that had no traffic meanwhile the sample before
/// is kept once more, not a copy of it.
type Samples = BTreeMap<(Arc<str>, Arc<str>), Arc<Sample>>;

#[derive(Debug, Default, PartialEq)]
struct Sample {
    counts: Counts,
    latency: Histogram,
}

impl Ring {
    /// Whether the last kept reading is old enough for another.
    pub fn is_due(&self, now: Moment) -> bool {
        self.past.back().is_none_or(|(at, _)| now.since(*at) >= INTERVAL)
    }

    pub fn keep(&mut self, now: Moment, versions: &[Arc<VersionReading>]) {
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        let before = self.past.back().map(|(_, samples)| samples);
        let mut samples = Samples::new();
        for version in versions.iter().filter(|version| version.sent == Sent::ByUsers) {
            let name = (Arc::from(version.service.as_str()), Arc::from(version.version.as_str()));
            let known = before.and_then(|before| before.get_key_value(&name));
            let (name, sample) = match known {
                Some((name, sample)) if sample.counts == version.counts => (name.clone(), sample.clone()),
                _ => {
                    let latency = version.latency.clone();
                    (name, Arc::new(Sample { counts: version.counts, latency }))
                }
            };
            samples.insert(name, sample);
        }
        self.past.push_back((now, samples));
    }

    pub fn of(&self, now: Moment, version: &VersionReading) -> Figures {
        let counts = &version.counts;
        let mut figures = Figures {
            requests: total(counts),
            failures: counts.failure,
            shielded: counts.shielded,
            in_flight: counts.in_flight,
            ..Figures::default()
        };
        if let Some((at, sample)) = self.before(now, RATE, version) {
            let seconds = now.since(at).as_secs_f64();
            figures.rps = total(counts).saturating_sub(total(&sample.counts)) as f64 / seconds;
        }
        if let Some((_, sample)) = self.before(now, QUANTILES, version) {
            let requests = total(counts).saturating_sub(total(&sample.counts));
            let failures = counts.failure.saturating_sub(sample.counts.failure);
            figures.failure_share = (requests > 0).then(|| failures as f64 / requests as f64);
            let recent = version.latency.since(&sample.latency);
            figures.p50_ms = recent.quantile_us(0.5).map(|us| us as f64 / 1000.0);
            figures.p99_ms = recent.quantile_us(0.99).map(|us| us as f64 / 1000.0);
        }
        figures
    }

    /// The youngest sample that is at least `age` old, or else the oldest. One that
    /// is not there was of a version without traffic.
    fn before(&self, now: Moment, age: Duration, version: &VersionReading) -> Option<(Moment, Arc<Sample>)> {
        let past = self.past.iter().filter(|(at, _)| *at < now);
        let (at, samples) =
            past.clone().rev().find(|(at, _)| now.since(*at) >= age).or_else(|| past.clone().next())?;
        let name = (Arc::from(version.service.as_str()), Arc::from(version.version.as_str()));
        Some((*at, samples.get(&name).cloned().unwrap_or_default()))
    }
}

fn total(counts: &Counts) -> u64 {
    counts.success + counts.failure + counts.uncounted
}

#[cfg(test)]
mod tests {
    use serin_proxy::model::Role;

    use super::*;

    fn reading(success: u64, failure: u64, us: u64) -> Vec<Arc<VersionReading>> {
        let mut latency = Histogram::default();
        for _ in 0..success {
            latency.record(us);
        }
        let version = VersionReading {
            service: "web".into(),
            version: "canary".into(),
            role: Role::Canary,
            sent: Sent::ByUsers,
            counts: Counts { success, failure, ..Counts::default() },
            latency,
            codes: Vec::new(),
            exemplars: Vec::new(),
        };
        vec![Arc::new(version)]
    }

    #[test]
    fn rate_and_quantiles_are_of_the_last_seconds_only() {
        let mut ring = Ring::default();
        for second in 0..60 {
            ring.keep(Moment(second * 1000), &reading(100 * second, 0, 1000));
        }
        let figures = ring.of(Moment(60_000), &reading(5900, 100, 1000)[0]);
        assert_eq!(figures.requests, 6000);
        assert!((figures.rps - 100.0).abs() < 1.0, "{figures:?}");
        assert!((figures.failure_share.unwrap() - 0.1).abs() < 0.01, "{figures:?}");
        assert!((figures.p99_ms.unwrap() - 1.0).abs() < 0.03, "{figures:?}");
        assert!(ring.past.len() <= KEPT);
    }

    #[test]
    fn without_requests_there_is_no_quantile() {
        let mut ring = Ring::default();
        ring.keep(Moment(0), &reading(5, 0, 10));
        let figures = ring.of(Moment(1000), &reading(5, 0, 10)[0]);
        assert_eq!((figures.p50_ms, figures.failure_share, figures.rps), (None, None, 0.0));
    }
}
