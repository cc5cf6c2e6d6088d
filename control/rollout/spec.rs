//! What a rollout is asked to do: one spec that every dialect is translated into.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

pub use crate::judge::analysis::Analysis;
pub use crate::judge::analysis::Inconclusive;
pub use crate::judge::analysis::LatencyObjective;
pub use crate::judge::analysis::OnShared;
pub use crate::judge::analysis::Promotion;
pub use crate::judge::analysis::RelativeFailures;
pub use crate::judge::analysis::RelativeLatency;
pub use crate::judge::analysis::SuccessObjective;
use crate::outside::hook::Hook;

/// A rollout moves the traffic of one split from its primary to its canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub name: String,
    pub split: String,
    pub primary: String,
    pub canary: String,
    pub steps: Vec<Step>,
    /// How long the old version is watched over after promotion.
    pub bake: Duration,
    pub analysis: Analysis,
    /// Who is asked before it goes on, and who is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Canary's share in hundredths of a percent, kept at least this long.
    Weight { parts: u32, hold: Duration },
    /// Waits for the time, or for a resume or promote where there is none.
    Pause { hold: Option<Duration> },
}

impl Spec {
    /// Time from start to promotion when nothing speaks against it; pauses
    /// without an end count as nothing.
    pub fn planned(&self) -> Duration {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Weight { hold, .. } => *hold,
                Step::Pause { hold } => hold.unwrap_or_default(),
            })
            .sum()
    }
}
