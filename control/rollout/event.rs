//! What a rollout tells the world, one fact at a time.

use serde::Deserialize;
use serde::Serialize;

use crate::clock::Moment;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Moment,
    pub rollout: String,
    /// A closed set of words: started, step, paused, resumed, suspended,
    /// probed, held, released, promoted, baked, rolled_back, aborted, refused.
    pub kind: EventKind,
    /// One sentence for the operator: what, and why.
    pub text: String,
    pub canary_parts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Started,
    Step,
    Paused,
    Resumed,
    Suspended,
    Probed,
    Held,
    Released,
    Promoted,
    Baked,
    RolledBack,
    Aborted,
    Refused,
}
