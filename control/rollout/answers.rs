//! What follows where the canary's answers to copied requests differ from the primary's:
//! it is told, or the rollout stays until somebody has decided. That they are held
//! against the canary is the judge's to do.

use serde::Deserialize;
use serde::Serialize;

use super::EventKind;
use super::Rollout;
use super::event::Event;
use super::guard::Why;
use super::phase::Place;
use super::spec::OnDifference;
use crate::clock::Moment;
use crate::judge::evidence::Answers;

/// What is known of answers that were compared since the rollout began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Compared {
    pub compared: u64,
    /// Places that differ beyond doubt, and the names of some.
    pub differing: u64,
    pub places: Vec<String>,
    /// How many of them were told, and how many somebody has accepted.
    told: u64,
    accepted: u64,
}

impl Compared {
    pub fn observe(&mut self, new: &Answers) {
        self.compared += new.compared;
        self.differing = new.differing;
        self.places.clone_from(&new.places);
    }
}

impl Rollout {
    pub(super) fn heed_answers(&mut self, now: Moment, events: &mut Vec<Event>) {
        let Compared { differing, told, accepted, .. } = self.state.answers;
        if self.state.frozen || !matches!(self.state.place, Place::Step(_)) {
            return;
        }
        let holds = self.state.terms.answers == OnDifference::Hold;
        if holds && differing > accepted && self.state.guard.is_none() {
            self.stop(Why::Differs, self.parts());
            let text = format!("HOLD (answers differ): {}; held until somebody decides", self.differences());
            self.state.answers.told = differing;
            self.tell(now, EventKind::Held, text, events);
        } else if differing > told {
            self.state.answers.told = differing;
            self.tell(now, EventKind::Differs, self.differences(), events);
        }
    }

    /// Somebody has seen them and goes on.
    pub(super) fn accept_answers(&mut self) {
        self.state.answers.accepted = self.state.answers.differing;
        if self.state.guard.is_some_and(|guard| guard.why == Why::Differs) {
            self.state.guard = None;
        }
    }

    /// Where answers differ, in words; of nothing compared there is nothing to say.
    pub(super) fn compared(&self) -> Option<String> {
        match self.state.answers {
            Compared { compared: 0, .. } => None,
            Compared { differing: 0, compared, .. } => {
                Some(format!("{compared} answers compared, none differs by the canary"))
            }
            _ => Some(self.differences()),
        }
    }

    fn differences(&self) -> String {
        let Compared { compared, differing, places, .. } = &self.state.answers;
        let named = places.join(", ");
        let more = match differing.saturating_sub(places.len() as u64) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("of {compared} answers compared the canary's differ at {named}{more}; `serin diff` shows how")
    }
}
