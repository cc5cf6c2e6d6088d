//! What a rollout tells the world, one fact at a time.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Moment;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub at: Moment,
    pub rollout: String,
    pub kind: EventKind,
    /// One sentence for the operator: what, and why.
    pub text: String,
    /// The canary's weight from then on, in hundredths of a percent.
    pub canary_parts: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Queued,
    Started,
    Step,
    Paused,
    Resumed,
    /// Somebody has to agree before it goes on.
    Waiting,
    Suspended,
    Probed,
    Held,
    /// A check failed: the rollout stays where it is.
    Halted,
    Released,
    /// The canary was shown to be good enough.
    Proved,
    /// That could not be shown in time, nor the opposite.
    Inconclusive,
    /// Answers of the canary differ from the primary's.
    Differs,
    Promoted,
    Baked,
    /// The canary is good for good, and the primary is to become it.
    HandedOver,
    /// Traffic goes back to the primary, or a further portion of it.
    Returning,
    /// The primary was worse with the new version: all traffic to the canary.
    TurnedBack,
    /// The old version is needed no more.
    Retired,
    /// Another release came while this one was under way.
    Superseded,
    RolledBack,
    Aborted,
    Refused,
}
