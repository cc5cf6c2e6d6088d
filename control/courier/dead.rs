//! Letters that could not be delivered, for who looks and sends them again. Bounded:
//! the oldest go first.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Letter;
use crate::clock::Moment;

const KEPT: usize = 1_000;

/// One of them as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Dead {
    pub id: u64,
    pub at: Moment,
    pub receiver: String,
    pub attempts: u32,
    /// Why it was given up.
    pub cause: String,
    /// What it would have said.
    #[schema(value_type = Object)]
    pub about: Value,
}

#[derive(Default)]
pub struct DeadLetters {
    kept: VecDeque<(Dead, Letter)>,
    next: u64,
}

impl DeadLetters {
    pub fn bury(&mut self, at: Moment, letter: Letter, attempts: u32, cause: String) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.next += 1;
        let (receiver, about) = (letter.lane.clone(), letter.about.clone());
        let dead = Dead { id: self.next, at, receiver, attempts, cause, about };
        self.kept.push_back((dead, letter));
    }

    pub fn list(&self) -> Vec<Dead> {
        self.kept.iter().map(|(dead, _)| dead.clone()).collect()
    }

    pub fn take(&mut self, id: u64) -> Option<Letter> {
        let at = self.kept.iter().position(|(dead, _)| dead.id == id)?;
        self.kept.remove(at).map(|(_, letter)| letter)
    }

    /// How many there ever were.
    pub fn ever(&self) -> u64 {
        self.next
    }
}
