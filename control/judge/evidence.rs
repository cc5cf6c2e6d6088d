//! What came in since the last evaluation, as exact integers.

use serde::{Deserialize, Serialize};

use crate::outside::hook::Word;

/// New evidence of one split between two evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub generations: Vec<GenerationDelta>,
    /// Requests are pinned to users, so they are not independent tosses.
    #[serde(default)]
    pub sticky: bool,
    /// What webhooks have answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
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
