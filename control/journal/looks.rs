//! The looks of one rollout that the journal has not got yet: what the engine was
//! given, so that it can be given again.
//!
//! The state that they follow is the last one that was written of the rollout, or
//! stands before them where there is none: after rest, after a time of which
//! nothing could be kept. At rest, where nothing can come of a look, none is kept.

use super::Entry;
use super::coded::Coder;
use crate::clock::Moment;
use crate::judge::evidence::Evidence;
use crate::rollout::{Checkpoint, Command, Rollout};

/// Bytes of looks that are kept between two checkpoints, of all rollouts and of one.
const ROOM: usize = 512 << 10;
const ROOM_EACH: usize = 64 << 10;

#[derive(Default)]
pub struct Looks {
    coder: Coder,
    /// The state before the first of them, where the journal does not end with it.
    base: Option<Box<Checkpoint>>,
    /// Before the first of them the rollout had last looked at this moment.
    after: Moment,
    /// The journal's last word on the rollout, with these looks, is its present state.
    follows: bool,
    /// Looks that were not kept since the last that were.
    lost: u64,
}

/// How much each of so many rollouts may keep.
pub fn room(rollouts: usize) -> usize {
    (ROOM / rollouts.max(1)).min(ROOM_EACH)
}

impl Looks {
    /// Somebody is about to look. `false` where the look need not be kept.
    pub fn before(&mut self, rollout: &Rollout, now: Moment, commands: &[Command]) -> bool {
        if commands.is_empty() && !rollout.may_decide(now) {
            self.clear();
            self.follows = false;
            return false;
        }
        if !self.follows {
            self.base = Some(Box::new(rollout.checkpoint()));
            self.follows = true;
        }
        if self.coder.looks() == 0 {
            self.after = rollout.at();
        }
        true
    }

    /// Nothing was decided on it. What does not fit into `room` is lost: `rollout`
    /// is what is gone on from then.
    pub fn add(&mut self, rollout: &Rollout, now: Moment, evidence: &Evidence, room: usize) {
        self.coder.push(now, evidence);
        if self.coder.bytes().len() > room {
            self.lost += self.coder.looks();
            self.coder = Coder::default();
            (self.base, self.after) = (Some(Box::new(rollout.checkpoint())), rollout.at());
        }
    }

    /// What is to be written, if anything.
    pub fn entry<'a>(&'a self, at: Moment, rollout: &'a str) -> Option<Entry<'a>> {
        let base = self.base.as_deref();
        let is_any = self.coder.looks() > 0 || base.is_some() || self.lost > 0;
        let (after, lost, looks) = (self.after, self.lost, self.coder.bytes());
        is_any.then_some(Entry::Looks { at, rollout, after, lost, base, looks })
    }

    /// That was written.
    pub fn kept(&mut self) {
        self.clear();
        self.lost = 0;
    }

    /// It was written, and the present state after it.
    pub fn kept_with_state(&mut self) {
        self.kept();
        self.follows = true;
    }

    /// Nothing could be written, neither these nor what came of the last look.
    pub fn missed(&mut self) {
        self.lost += self.coder.looks() + 1;
        self.clear();
        self.follows = false;
    }

    fn clear(&mut self) {
        self.base = None;
        if self.coder.looks() > 0 {
            self.coder = Coder::default();
        }
    }
}
