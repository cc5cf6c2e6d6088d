//! Where a rollout stands. The phase that people see follows from the place and
//! from who asked to wait there.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use super::guard::Guard;
use super::guard::Why;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Idle,
    Queued,
    Running,
    Paused,
    Suspended,
    Held,
    Baking,
    Promoting,
    Succeeded,
    RolledBack,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Idle,
    /// Asked to start; waits for its turn or its hours.
    Queued,
    Step(usize),
    /// Promoted: the canary has all traffic, the old version is still there.
    Bake,
    /// Good for good; waits until the primary's servers have the new version.
    Handover,
    /// Traffic goes back to the primary's servers, portion by portion.
    Return,
    Succeeded,
    RolledBack,
    Aborted,
}

impl Place {
    /// Holds the weights of its splits.
    pub fn is_active(self) -> bool {
        matches!(self, Place::Step(_) | Place::Bake | Place::Handover | Place::Return)
    }

    /// On the way up or just arrived: what commands about progress are for.
    pub fn is_under_way(self) -> bool {
        self.is_active() || self == Place::Queued
    }

    pub fn phase(self, guard: Option<&Guard>, waits: bool) -> Phase {
        match self {
            Place::Idle => Phase::Idle,
            Place::Queued => Phase::Queued,
            Place::Succeeded => Phase::Succeeded,
            Place::RolledBack => Phase::RolledBack,
            Place::Aborted => Phase::Aborted,
            Place::Step(_) | Place::Bake | Place::Handover | Place::Return => {
                match guard.map(|guard| guard.why) {
                    Some(Why::Suspicion | Why::Hand) => Phase::Suspended,
                    Some(Why::Hold(_) | Why::Unproved | Why::Differs) => Phase::Held,
                    None if waits => Phase::Paused,
                    None => match self {
                        Place::Bake => Phase::Baking,
                        Place::Handover | Place::Return => Phase::Promoting,
                        _ => Phase::Running,
                    },
                }
            }
        }
    }
}

impl Phase {
    /// In the order that a rollout meets them.
    pub const ALL: [Phase; 11] = [
        Phase::Idle,
        Phase::Queued,
        Phase::Running,
        Phase::Paused,
        Phase::Suspended,
        Phase::Held,
        Phase::Baking,
        Phase::Promoting,
        Phase::Succeeded,
        Phase::RolledBack,
        Phase::Aborted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Queued => "queued",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Suspended => "suspended",
            Phase::Held => "held",
            Phase::Baking => "baking",
            Phase::Promoting => "promoting",
            Phase::Succeeded => "succeeded",
            Phase::RolledBack => "rolled back",
            Phase::Aborted => "aborted",
        }
    }

    /// Nothing more happens without a command.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::RolledBack | Phase::Aborted)
    }

    /// Whether the rollout holds the weights of its splits.
    pub fn is_active(self) -> bool {
        !self.is_final() && !matches!(self, Phase::Idle | Phase::Queued)
    }
}
