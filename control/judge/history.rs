//! What is known of the primary, before a rollout and during it: its failure
//! rate, its latencies, how much traffic there is. All of it fades with a
//! half-life of ten minutes. It sets tolerances, cuts and the trickle, and never
//! counts as evidence.

use serde::Deserialize;
use serde::Serialize;

use serin_proxy::histogram::BUCKETS;

use super::alternatives::clamp_estimate;
use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::evidence::add_sparse;
use super::interval::rate_interval;
use crate::clock::Moment;

const HALF_LIFE_SECONDS: f64 = 600.0;

/// A weak belief to start from: ten requests at one percent.
const PRIOR_REQUESTS: f64 = 10.0;
const PRIOR_RATE: f64 = 0.01;

/// What is believed of a share of bad requests, from counts that fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    bad: f64,
    requests: f64,
}

impl Belief {
    pub fn of(bad: f64, requests: f64) -> Belief {
        Belief { bad, requests }
    }

    pub fn rate(self) -> f64 {
        clamp_estimate((self.bad + PRIOR_REQUESTS * PRIOR_RATE) / (self.requests + PRIOR_REQUESTS))
    }

    /// So many more, after some time.
    pub fn observe(&mut self, bad: u64, requests: u64, seconds: f64) {
        let keeps = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        self.bad = self.bad * keeps + bad as f64;
        self.requests = self.requests * keeps + requests as f64;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    at: Option<Moment>,
    requests: f64,
    failed: f64,
    slow: f64,
    latency: Fading,
    pace: Pace,
}

impl History {
    /// As if so many requests of the primary had been seen just now.
    pub fn of(failed: f64, requests: f64) -> History {
        History { failed, requests, ..History::default() }
    }

    /// Time that passes from here on counts from `now`: after a restart, the
    /// time in between was not watched.
    pub fn resume(&mut self, now: Moment) {
        if let Some(at) = self.at {
            self.latency.faded = self.latency.faded.after(now.since(at));
            self.at = Some(now);
        }
    }

    pub fn observe(&mut self, now: Moment, evidence: &Evidence) {
        let at = *self.at.get_or_insert(now);
        let seconds = now.since(at).as_secs_f64();
        self.at = Some(at.max(now));
        let keeps = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        for count in [&mut self.requests, &mut self.failed, &mut self.slow] {
            *count *= keeps;
        }
        self.latency.fade(now);
        let mut tossed = evidence.others;
        for delta in &evidence.generations {
            let primary = &delta.primary;
            self.requests += (primary.ok + primary.failed) as f64;
            self.failed += primary.failed as f64;
            self.slow += primary.slow as f64;
            self.latency.add(primary);
            tossed += primary.dispatched + delta.canary.dispatched;
        }
        self.pace.observe(seconds, tossed);
    }

    /// The primary's failure rate, believed before the next look.
    pub fn failure_rate(&self) -> f64 {
        self.failures().rate()
    }

    /// Between which shares it lies, with 95 % confidence.
    pub fn failures_within(&self) -> (f64, f64) {
        rate_interval(self.failed, self.requests, 0.05)
    }

    pub fn failures(&self) -> Belief {
        Belief::of(self.failed, self.requests)
    }

    /// Did the primary certainly fail more than a share `q` of its requests?
    pub fn fails_more_than(&self, q: f64) -> bool {
        self.failures_within().0 > q
    }

    /// The same for requests slower than the split's mark.
    pub fn slow_more_than(&self, q: f64) -> bool {
        rate_interval(self.slow.min(self.requests), self.requests, 0.05).0 > q
    }

    /// Requests per second that the coin is tossed for.
    pub fn requests_per_second(&self) -> f64 {
        self.pace.per_second()
    }

    pub fn latency(&self) -> &Fading {
        &self.latency
    }
}

/// Latencies that fade: counts per bucket in sixteenths, sparse and whole, so
/// that a checkpoint stays short and comes back exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fading {
    buckets: Vec<(u32, u64)>,
    /// Ended in failure: slower than anything.
    failed: u64,
    faded: Moment,
}

const UNIT: u64 = 16;
const FADE_MS: u64 = 60_000;

impl Fading {
    fn fade(&mut self, now: Moment) {
        if self.faded == Moment(0) {
            self.faded = now;
        }
        while now.0 >= self.faded.0 + FADE_MS {
            self.faded.0 += FADE_MS;
            let keeps = 0.5_f64.powf(FADE_MS as f64 / 1000.0 / HALF_LIFE_SECONDS);
            let fade = |count: u64| (count as f64 * keeps) as u64;
            for (_, count) in &mut self.buckets {
                *count = fade(*count);
            }
            self.failed = fade(self.failed);
            self.buckets.retain(|(_, count)| *count > 0);
            if self.buckets.is_empty() && self.failed == 0 {
                self.faded = now;
            }
        }
    }

    fn add(&mut self, arm: &ArmDelta) {
        for (bucket, n) in &arm.latency {
            add_sparse(&mut self.buckets, (*bucket).min(BUCKETS as u32 - 1), n * UNIT);
        }
        self.failed += late_failures(arm) * UNIT;
    }

    /// Counts per bucket; failures lie in the last one.
    pub fn counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; BUCKETS];
        for (bucket, count) in &self.buckets {
            counts[*bucket as usize] += *count as f64 / UNIT as f64;
        }
        counts[BUCKETS - 1] += self.failed as f64 / UNIT as f64;
        counts
    }

    pub fn buckets(&self) -> &[(u32, u64)] {
        &self.buckets
    }

    /// How many there are, in all buckets.
    pub fn total(&self) -> f64 {
        let answered: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        (answered + self.failed) as f64 / UNIT as f64
    }
}

/// Failures that the latencies do not hold yet.
pub fn late_failures(arm: &ArmDelta) -> u64 {
    arm.failed.saturating_sub(arm.failed_revealed)
}

/// How fast requests come, over the last ten seconds or so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pace {
    requests: f64,
    seconds: f64,
}

impl Pace {
    const HALF_LIFE_SECONDS: f64 = 10.0;

    fn observe(&mut self, seconds: f64, requests: u64) {
        let keeps = 0.5_f64.powf(seconds / Pace::HALF_LIFE_SECONDS);
        self.requests = self.requests * keeps + requests as f64;
        self.seconds = self.seconds * keeps + seconds;
    }

    fn per_second(self) -> f64 {
        if self.seconds > 0.0 { self.requests / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::judge::evidence::GenerationDelta;

    fn primary(ok: u64, failed: u64) -> Evidence {
        let arm =
            ArmDelta { dispatched: ok + failed, ok, failed, latency: vec![(40, ok)], ..ArmDelta::default() };
        let delta = GenerationDelta { id: 1, w: 0.0, primary: arm, ..GenerationDelta::default() };
        Evidence { generations: vec![delta], ..Evidence::default() }
    }

    #[test]
    fn history_halves_in_ten_minutes() {
        let mut history = History::default();
        history.observe(Moment(1_000), &primary(1_000, 10));
        let before = (history.requests, history.latency.counts()[40]);
        let mut now = Moment(1_000);
        for _ in 0..6_000 {
            now = now.after(Duration::from_millis(100));
            history.observe(now, &Evidence::default());
        }
        assert!((history.requests / before.0 - 0.5).abs() < 1e-9);
        assert!((history.latency.counts()[40] / before.1 - 0.5).abs() < 1e-3);
    }

    #[test]
    fn pace_is_right_from_the_second_look_on() {
        let mut history = History::default();
        history.observe(Moment(0), &Evidence::default());
        history.observe(Moment(100), &primary(50, 0));
        assert!((history.requests_per_second() - 500.0).abs() < 1e-9);
    }
}
