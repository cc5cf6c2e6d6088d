//! What came in since the last evaluation, as exact integers.

use serde::{Deserialize, Serialize};

/// New evidence of one split between two evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub generations: Vec<GenerationDelta>,
    /// Requests are pinned to users, so they are not independent tosses.
    #[serde(default)]
    pub sticky: bool,
    /// Requests of the primary whose copies went to the canary: each of the two
    /// was asked, so the chance that an answer is the canary's is one half.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<GenerationDelta>,
    /// Requests that the coin gave to versions which are not compared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
}

impl Evidence {
    /// The pairs among the rest. The primary's answers are in them once more, so
    /// those that no coin was tossed for are left out: they say nothing.
    pub fn with_pairs(&self) -> Evidence {
        let mut generations = self.generations.clone();
        for delta in generations.iter_mut().filter(|delta| delta.w == 0.0) {
            delta.primary = ArmDelta::default();
        }
        generations.extend(self.pairs.iter().cloned());
        Evidence { generations, sticky: self.sticky, pairs: Vec::new(), others: self.others }
    }

    /// The same with the two versions in each other's place.
    pub fn swapped(&self) -> Evidence {
        let swap = |delta: &GenerationDelta| GenerationDelta {
            id: delta.id,
            w: 1.0 - delta.w,
            canary: delta.primary.clone(),
            primary: delta.canary.clone(),
            canary_forced: ArmDelta::default(),
        };
        let generations = self.generations.iter().map(swap).collect();
        Evidence { generations, sticky: self.sticky, pairs: Vec::new(), others: self.others }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationDelta {
    pub id: u64,
    /// Of the traffic that primary and canary share, the canary's probability:
    /// w_c / (w_c + w_p).
    pub w: f64,
    pub canary: ArmDelta,
    pub primary: ArmDelta,
    /// Canary requests sent there by rule; no coin, so only absolute tests.
    pub canary_forced: ArmDelta,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmDelta {
    pub dispatched: u64,
    pub ok: u64,
    pub failed: u64,
    pub aborted: u64,
    pub slow: u64,
    pub failed_revealed: u64,
    /// New observations per bucket of `serin_proxy::histogram`: (bucket, count),
    /// only buckets that changed. See `ArmReading::latency` for what is in it.
    pub latency: Vec<(u32, u64)>,
}
