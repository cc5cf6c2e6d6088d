//! What a rollout is asked to do: one spec that every dialect is translated into.
//! Canary, A/B, blue/green and mirror first are lists of steps; what goes beyond
//! steps has a field of its own, absent where nobody asked for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

pub use super::hours::Hours;
pub use super::hours::Span;
pub use crate::judge::analysis::Analysis;
pub use crate::judge::analysis::Inconclusive;
pub use crate::judge::analysis::LatencyObjective;
pub use crate::judge::analysis::OnDifference;
pub use crate::judge::analysis::OnShared;
pub use crate::judge::analysis::Promotion;
pub use crate::judge::analysis::RelativeFailures;
pub use crate::judge::analysis::RelativeLatency;
pub use crate::judge::analysis::SuccessObjective;
use crate::outside::hook::Hook;
use crate::outside::load::Load;
use serin_proxy::weights::WHOLE;

/// A rollout moves the traffic of one split, or of several together, from its
/// primary to its canary.
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
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    /// Requests that are sent where users send too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Other splits whose weights move with those of the first; the evidence of
    /// all is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Site>,
    /// A second copy of the old version, which has the canary's share and is what
    /// the canary is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The first step that is judged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub judged_from: usize,
    /// Nothing is judged: straight to promotion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_analysis: bool,
    /// A release that was not there before starts by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_start: bool,
    /// How traffic goes back to the primary's servers once they have the new
    /// version; `None`: it stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<WayBack>,
    /// After the bake the old version is kept so long for who wants it back.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub keep_old: Duration,
    /// Rollouts that have to have succeeded before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Only so many rollouts are under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<usize>,
    /// When more may go to the canary by itself; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

/// What tells it from others, for those who are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Where it stands, if not where all of this serin's do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl About {
    fn is_empty(&self) -> bool {
        *self == About::default()
    }
}

/// One split and whom its traffic goes between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub split: String,
    pub primary: String,
    pub canary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Canary's share in hundredths of a percent, kept at least this long.
    Weight { parts: u32, hold: Duration },
    /// No request of the weights is the canary's: only those that the trial's
    /// rules name, and of these a share, and copies of the primary's.
    Trial { matched: u32, copied: u32, hold: Duration },
    /// Waits for the time, or for a resume or promote where there is none.
    Pause { hold: Option<Duration> },
}

/// The way back to the primary, `by` at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    pub by: u32,
    pub every: Duration,
}

impl Step {
    /// How long it lasts at least; `None` when only a command ends it.
    pub fn hold(&self) -> Option<Duration> {
        match self {
            Step::Weight { hold, .. } | Step::Trial { hold, .. } => Some(*hold),
            Step::Pause { hold } => *hold,
        }
    }
}

impl Spec {
    /// Time from start to promotion when nothing speaks against it; pauses
    /// without an end count as nothing.
    pub fn planned(&self) -> Duration {
        self.steps.iter().filter_map(Step::hold).sum()
    }

    /// Every split with its versions, the first one first.
    pub fn sites(&self) -> impl Iterator<Item = Site> + '_ {
        let first =
            Site { split: self.split.clone(), primary: self.primary.clone(), canary: self.canary.clone() };
        std::iter::once(first).chain(self.also.iter().cloned())
    }

    pub fn moves(&self, split: &str) -> bool {
        self.split == split || self.also.iter().any(|site| site.split == split)
    }

    /// It has to be told when its turn has come.
    pub fn takes_turns(&self) -> bool {
        !self.after.is_empty() || self.at_once.is_some()
    }

    /// The baseline's weight where the canary has so much: as much, or what is left.
    pub fn baseline_parts(&self, parts: u32) -> u32 {
        if self.baseline.is_some() { parts.min(WHOLE.saturating_sub(parts)) } else { 0 }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
