//! Plain counts since the start of a rollout: for sentences and status, never
//! for verdicts.

use serde::Deserialize;
use serde::Serialize;

use super::evidence::Answers;
use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::evidence::Pairs;
use super::evidence::add_sparse;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub canary: Arm,
    pub primary: Arm,
    /// Failures that the canary's share of traffic explains.
    pub explained: f64,
    #[serde(default)]
    pub pairs: Pairs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    latency: Vec<(u32, u64)>,
    #[serde(default)]
    revealed_from_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    pub requests: u64,
    pub failures: u64,
    /// Of both, what serin has sent by itself.
    #[serde(default)]
    pub load: u64,
    #[serde(default)]
    pub load_failures: u64,
}

impl Tally {
    pub fn observe(&mut self, evidence: &Evidence) {
        self.pairs.add(evidence.pairs);
        if let Some(new) = &evidence.answers {
            let known = self.answers.get_or_insert_default();
            let (compared, canary_only) =
                (known.compared + new.compared, known.canary_only + new.canary_only);
            *known = Answers { compared, canary_only, log_factor: 0.0, ..new.clone() };
        }
        for delta in &evidence.generations {
            self.canary.add(&delta.canary);
            // Without a canary beside them they are not compared, as others during a trial.
            if delta.w > 0.0 {
                self.primary.add(&delta.primary);
            }
            self.explained += delta.w * (delta.canary.failed + delta.primary.failed) as f64;
            for (bucket, n) in &delta.canary.latency {
                add_sparse(&mut self.latency, *bucket, *n);
            }
        }
    }

    /// Where the answers differ that were compared.
    pub fn answers(&self) -> String {
        let Some(Answers { compared, canary_only, differing, places, .. }) = &self.answers else {
            return "no answers were compared".to_owned();
        };
        let named = match places.len() as u64 {
            0 => String::new(),
            n if n < *differing => {
                format!(", by the canary's at {} and {} more places", places.join(", "), differing - n)
            }
            _ => format!(", by the canary's at {}", places.join(", ")),
        };
        format!("of {compared} answers compared {canary_only} differ in the canary's alone{named}")
    }

    /// Requests under way are reported once they are this old.
    pub fn mark(&mut self, reveal_us: Option<u64>) {
        self.revealed_from_us = [self.revealed_from_us, reveal_us].into_iter().flatten().min();
    }

    /// Latencies from here on may be those of requests that went on.
    pub fn revealed_from_us(&self) -> Option<u64> {
        self.revealed_from_us
    }

    /// The canary's latencies per bucket.
    pub fn latency(&self) -> &[(u32, u64)] {
        &self.latency
    }
}

impl Arm {
    pub fn add(&mut self, delta: &ArmDelta) {
        self.requests = (self.requests + delta.dispatched).saturating_sub(delta.aborted);
        self.failures += delta.failed;
        self.load += delta.load;
        self.load_failures += delta.load_failed;
    }

    /// Share that failed, in percent.
    pub fn percent(&self) -> Option<f64> {
        (self.requests > 0).then(|| 100.0 * self.failures as f64 / self.requests as f64)
    }
}
