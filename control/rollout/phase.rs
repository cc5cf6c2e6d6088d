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
    Running,
    Paused,
    Suspended,
    Held,
    Baking,
    Succeeded,
    RolledBack,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Idle,
    Step(usize),
    /// Promoted: the canary has all traffic, the old version is still there.
    Bake,
    Succeeded,
    RolledBack,
    Aborted,
}

impl Place {
    pub fn is_active(self) -> bool {
        matches!(self, Place::Step(_) | Place::Bake)
    }

    pub fn phase(self, guard: Option<&Guard>, waits: bool) -> Phase {
        match self {
            Place::Idle => Phase::Idle,
            Place::Succeeded => Phase::Succeeded,
            Place::RolledBack => Phase::RolledBack,
            Place::Aborted => Phase::Aborted,
            Place::Step(_) | Place::Bake => match guard.map(|guard| guard.why) {
                Some(Why::Suspicion) => Phase::Suspended,
                Some(Why::Hold(_) | Why::Unproved) => Phase::Held,
                None if waits => Phase::Paused,
                None if self == Place::Bake => Phase::Baking,
                None => Phase::Running,
            },
        }
    }
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Suspended => "suspended",
            Phase::Held => "held",
            Phase::Baking => "baking",
            Phase::Succeeded => "succeeded",
            Phase::RolledBack => "rolled back",
            Phase::Aborted => "aborted",
        }
    }

    /// Nothing more happens without a command.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::RolledBack | Phase::Aborted)
    }
}
