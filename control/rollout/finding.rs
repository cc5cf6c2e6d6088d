//! What a judge finds that looks once in an interval, as the rules of other tools
//! do. The judge of our own looks at every failure and speaks in verdicts; this is
//! where the others are heard. Whoever hears one asks at its own pace, in steps
//! that are judged, and hands each finding on.

use serde::Deserialize;
use serde::Serialize;

use super::EventKind;
use super::Rollout;
use super::event::Event;
use crate::clock::Moment;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing against the canary. Time passes the step.
    Pass,
    /// It is rolled back, for this reason.
    Fail(String),
    /// A person has to decide.
    Inconclusive(String),
}

impl Rollout {
    pub(super) fn hear(&mut self, now: Moment, finding: Finding, events: &mut Vec<Event>) {
        if !self.is_judged() || self.state.frozen {
            return;
        }
        match finding {
            Finding::Pass => {}
            Finding::Fail(why) => self.roll_back(now, why, events),
            Finding::Inconclusive(_) if self.state.paused => {}
            Finding::Inconclusive(why) => {
                self.state.paused = true;
                let text = format!("inconclusive: {why}; resume, promote or abort");
                self.tell(now, EventKind::Paused, text, events);
            }
        }
    }

    /// Whether this place is one that a judge may end.
    pub(super) fn is_judged(&self) -> bool {
        use super::phase::Place;
        match self.state.place {
            Place::Step(at) => at >= self.spec.judged_from && !self.spec.skip_analysis,
            Place::Bake => !self.spec.skip_analysis,
            _ => false,
        }
    }
}
