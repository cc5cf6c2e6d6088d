//! Answers compared: what the version that gets mirrored requests answers otherwise than
//! the primary, by place: the status, a header, a path in a JSON body.
//!
//! The primary is asked twice, so each comparison has its own control: a place that
//! differs with the canary alone, or with the primary's second answer alone, does so by
//! the toss of a fair coin while the versions answer alike. What is bet on that coin
//! says which places differ by the version and which by themselves. It runs on a thread
//! of its own; the tick only reads where it stands.

mod board;
mod ledger;
mod look;

use serde::Serialize;

pub use board::Board;
pub use ledger::{Difference, Differences, Example, Standing};
pub use look::Ignored;

/// What is asked of the comparison of one split's answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Places that are not looked at.
    pub ignore: Vec<Ignored>,
    /// Values are kept to be shown. They are what users were answered.
    pub examples: bool,
    /// Chance that any place is ever called different while the versions are alike.
    pub alpha: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ignore: Vec::new(), examples: false, alpha: 0.001 }
    }
}
