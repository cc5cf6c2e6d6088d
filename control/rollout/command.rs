//! What an operator may ask, and when. A command that does not fit changes
//! nothing and is answered with the reason.

use serde::Deserialize;
use serde::Serialize;

use super::EventKind;
use super::Flow;
use super::Phase;
use super::Rollout;
use super::event::Event;
use super::guard::Why;
use super::phase::Place;
use crate::clock::Moment;

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
    /// All traffic to the canary at once, whatever is still to come.
    Skip,
    /// Nothing moves, whatever the judge says.
    Freeze,
    /// No more than a trickle to the canary until resumed.
    Suspend,
    /// The old version back at once, also after the end while it is kept.
    Rollback,
    /// Its turn has come. Not an operator's to say.
    Admit,
    /// The primary's servers have the new version. Known from the file.
    Arrived,
}

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Command::Start => "start",
            Command::Promote => "promote",
            Command::Abort => "abort",
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Retry => "retry",
            Command::Skip => "skip",
            Command::Freeze => "freeze",
            Command::Suspend => "suspend",
            Command::Rollback => "rollback",
            Command::Admit => "admit",
            Command::Arrived => "arrived",
        }
    }
}

impl Rollout {
    pub(super) fn obey(&mut self, now: Moment, command: Command, events: &mut Vec<Event>) {
        if let Err(reason) = self.allows(command) {
            let text = format!("cannot {}: {reason}", command.name());
            self.tell(now, EventKind::Refused, text, events);
            return;
        }
        match command {
            Command::Start | Command::Retry => self.ask_to_begin(now, events),
            Command::Admit => self.begin(now, events),
            Command::Arrived => self.begin_return(now, events),
            Command::Abort | Command::Rollback if self.state.place == Place::Return => {
                self.turn_back(now, "was left by command", events);
            }
            Command::Abort => {
                let text = "aborted by command: all traffic to the primary".to_owned();
                self.end(Place::Aborted, Flow::NONE, now, text.clone());
                self.tell(now, EventKind::Aborted, text, events);
            }
            Command::Rollback => {
                let text = "rolled back by command: all traffic to the old version".to_owned();
                self.roll_back(now, text, events);
            }
            Command::Skip => {
                self.accept_answers();
                self.lift_everything();
                self.promote(now, events);
            }
            Command::Freeze => {
                self.state.paused = true;
                self.state.frozen = true;
                let text = "frozen by command: nothing moves, whatever the judge says".to_owned();
                self.tell(now, EventKind::Paused, text, events);
            }
            Command::Suspend => {
                self.slow_down(Why::Hand);
                let text = "suspended by command: a trickle to the canary until resumed".to_owned();
                self.tell(now, EventKind::Suspended, text, events);
            }
            Command::Pause => {
                self.state.paused = true;
                let text = "paused by command; the judge goes on watching".to_owned();
                self.tell(now, EventKind::Paused, text, events);
            }
            Command::Resume => self.resume(now, events),
            Command::Promote => {
                self.accept_answers();
                if self.state.guard.is_some_and(|guard| guard.why == Why::Unproved) {
                    self.state.guard = None;
                }
                self.lift_hold(now, events);
                self.state.paused = false;
                self.state.frozen = false;
                self.resume_checks();
                match self.state.place {
                    Place::Queued => self.begin(now, events),
                    Place::Bake => self.succeed(now, events),
                    Place::Handover => self.begin_return(now, events),
                    Place::Return => self.return_more(now, events),
                    _ => self.advance(now, events),
                }
            }
        }
    }

    fn resume(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.state.paused {
            self.state.paused = false;
            self.resume_checks();
            let state = &mut self.state;
            if let Some(judge) = &mut state.judge {
                judge.begin_stage_again(now, &state.history);
            }
            self.state.frozen = false;
            self.tell(now, EventKind::Resumed, "resumed by command".to_owned(), events);
        } else if self.state.guard.is_some_and(|guard| guard.why == Why::Hand) {
            self.go_on(now, EventKind::Resumed, "resumed by command", events);
        } else if self.state.guard.is_some() {
            self.lift_hold(now, events);
        } else {
            self.tell(now, EventKind::Resumed, "pause ended by command".to_owned(), events);
            self.advance(now, events);
        }
    }

    fn lift_hold(&mut self, now: Moment, events: &mut Vec<Event>) {
        match self.state.guard.map(|guard| guard.why) {
            Some(Why::Hold(cause)) => self.release(now, cause, "hold lifted by command", events),
            Some(Why::Unproved) => self.try_again(now, events),
            Some(Why::Differs) => {
                self.accept_answers();
                self.go_on(now, EventKind::Released, "the differences are accepted by command", events);
            }
            Some(Why::Suspicion | Why::Hand) | None => {}
        }
    }

    fn lift_everything(&mut self) {
        self.opened();
        self.state.guard = None;
        self.state.paused = false;
        self.state.frozen = false;
    }

    /// Why not, where not.
    fn allows(&self, command: Command) -> Result<(), String> {
        let phase = self.phase();
        let place = self.state.place;
        let told = || Err(format!("it is {}", phase.name()));
        match command {
            Command::Start if place.is_under_way() => Err(format!("it is {} already", phase.name())),
            Command::Retry if !matches!(phase, Phase::RolledBack | Phase::Aborted) => Err(format!(
                "it is {}; only what was rolled back or aborted can be tried again",
                phase.name()
            )),
            Command::Start | Command::Retry => Ok(()),
            Command::Rollback if place == Place::Succeeded && self.state.old_kept => Ok(()),
            Command::Rollback if place == Place::Succeeded => {
                Err("it has succeeded and the old version is no longer kept".to_owned())
            }
            Command::Admit => {
                if place == Place::Queued {
                    Ok(())
                } else {
                    told()
                }
            }
            Command::Arrived => {
                if self.awaits_primary() {
                    Ok(())
                } else {
                    told()
                }
            }
            Command::Abort | Command::Promote if place == Place::Queued => Ok(()),
            _ if !place.is_active() => told(),
            _ => self.allows_under_way(command),
        }
    }

    fn allows_under_way(&self, command: Command) -> Result<(), String> {
        let phase = self.phase();
        let by_hand = self.state.guard.is_some_and(|guard| guard.why == Why::Hand);
        let suspended = phase == Phase::Suspended && !by_hand;
        match command {
            Command::Freeze if self.state.frozen => Err("it is frozen already".to_owned()),
            Command::Pause if self.state.paused => Err("it is paused already".to_owned()),
            Command::Suspend if phase == Phase::Suspended => Err("it is suspended already".to_owned()),
            Command::Suspend | Command::Skip if !matches!(self.state.place, Place::Step(_) | Place::Bake) => {
                Err(format!("it is {}", phase.name()))
            }
            Command::Skip if self.state.place == Place::Bake => Err("it is baking already".to_owned()),
            Command::Promote | Command::Skip if suspended => {
                Err("it is suspended until the judge is sure; wait, or abort".to_owned())
            }
            Command::Resume if suspended && !self.state.paused => {
                Err("it is suspended until the judge is sure; wait, or abort".to_owned())
            }
            Command::Promote if by_hand => Err("it is suspended by command; resume it first".to_owned()),
            Command::Resume if !self.state.paused && !by_hand && phase != Phase::Held && !self.stands() => {
                Err(format!("it is {}, not paused", phase.name()))
            }
            _ => Ok(()),
        }
    }
}
