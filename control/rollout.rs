//! The rollout engine: a pure state machine over time, evidence and commands.

pub mod spec;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::judge::evidence::Evidence;
use serin_proxy::Weights;

pub use spec::Spec;

/// What an operator can ask of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Start,
    /// Pass the present pause or step; at the last step, promote.
    Promote,
    Abort,
    Pause,
    Resume,
    /// Start again after a rollback or abort.
    Retry,
}

/// What the engine wants done. Repeating any of these changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Shift {
        weights: Weights,
    },
    /// Ages the proxy should report on (see `serin_proxy::Marks`).
    Mark {
        slow_us: Option<u64>,
        reveal_us: Option<u64>,
    },
    /// One fact for the journal, the event stream and the log.
    Tell {
        event: Event,
    },
}

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

pub struct Rollout {}

/// Everything a rollout knows, as data: what the journal keeps and what a
/// restarted process goes on from. (The engine's author fills it in.)
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {}

/// What people see. (The engine's author extends it; these fields stand.)
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub name: String,
    pub split: String,
    pub primary: String,
    pub canary: String,
    pub phase: Phase,
    /// Index into the spec's steps while running, and how many there are.
    pub step: usize,
    pub steps: usize,
    /// Share of the present step's time that has passed, 0 to 1.
    pub step_progress: f64,
    pub canary_parts: u32,
    pub since: Moment,
    /// The judge's sentence of now.
    pub sentence: String,
    /// `ln E / ln(1/alpha)` clipped to 0..1.
    pub rollback_meter: f64,
    /// Per test: its name, weight, evidence as odds against the canary.
    pub tests: Vec<TestStatus>,
    pub canary_requests: u64,
    pub canary_failures: u64,
    pub primary_requests: u64,
    pub primary_failures: u64,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TestStatus {
    pub test: String,
    pub share: f64,
    pub log_e: f64,
    pub log_raw: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Rollout {
    /// Idle, all traffic on primary.
    pub fn new(spec: Spec) -> Rollout {
        unimplemented!()
    }
    /// Goes on from a checkpoint. A spec that differs from the checkpoint's
    /// takes effect for what is still to come.
    pub fn restore(spec: Spec, checkpoint: Checkpoint, now: Moment) -> Rollout {
        unimplemented!()
    }
    pub fn checkpoint(&self) -> Checkpoint {
        unimplemented!()
    }
    /// One evaluation. Called every 100 ms, at once after a canary failure and
    /// after each command; also while idle, so that the judge knows the
    /// primary's history before a start.
    pub fn step(&mut self, now: Moment, evidence: &Evidence, commands: &[Command]) -> Vec<Action> {
        unimplemented!()
    }
    /// The weights that should be in force now (used once after a restore).
    pub fn weights(&self) -> Weights {
        unimplemented!()
    }
    pub fn marks(&self) -> (Option<u64>, Option<u64>) {
        unimplemented!()
    }
    pub fn status(&self, now: Moment) -> Status {
        unimplemented!()
    }
    pub fn spec(&self) -> &Spec {
        unimplemented!()
    }
}
