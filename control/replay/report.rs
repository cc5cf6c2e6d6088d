//! What came of deciding again, for people and scripts.

use serde::Serialize;

pub use super::course::{Done, End, Run, told};
use crate::clock::Moment;
use crate::rollout::{Action, Command, Phase};

/// Of one rollout.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub rollout: String,
    /// From when on its state is known.
    pub since: Option<Moment>,
    /// It had begun before that.
    pub was_under_way: bool,
    /// The last line about it.
    pub until: Moment,
    pub stands: Option<Phase>,
    /// Looks that were looked again.
    pub looks: u64,
    pub decisions: Vec<Decided>,
    pub breaks: Vec<Break>,
    /// States that were written on the way and compared, and those that were others.
    pub states: u64,
    pub states_differ: u64,
    pub differs_from: Option<Moment>,
    /// Under another policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supposed: Option<Supposed>,
}

/// What was decided at a moment, and what is decided when it is decided again.
#[derive(Debug, Serialize)]
pub struct Decided {
    pub at: Moment,
    pub commands: Vec<Command>,
    pub actions: Vec<Action>,
    pub again: Again,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Again {
    Same,
    Different {
        actions: Vec<Action>,
    },
    /// What it was decided from is not recorded.
    Unknown {
        why: String,
    },
}

/// A time of which the record does not tell what a rollout under way was given.
#[derive(Debug, Serialize)]
pub struct Break {
    pub from: Moment,
    /// Where its state is known again.
    pub to: Option<Moment>,
    pub lost: Option<u64>,
    pub why: String,
    /// As what it goes on.
    pub phase: Phase,
}

/// What another policy would have made of the same evidence.
#[derive(Debug, Serialize)]
pub struct Supposed {
    pub decisions: Vec<Done>,
    /// How it went, and how it would have gone.
    pub recorded: Vec<Run>,
    pub runs: Vec<Run>,
}

/// Decisions by what came of them: the same, different, unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub same: usize,
    pub different: usize,
    pub unknown: usize,
}

impl Report {
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for decided in &self.decisions {
            match decided.again {
                Again::Same => tally.same += 1,
                Again::Different { .. } => tally.different += 1,
                Again::Unknown { .. } => tally.unknown += 1,
            }
        }
        tally
    }
}
