//! What an operator may ask, and when. A command that does not fit changes
//! nothing and is answered with the reason.

use serde::Deserialize;
use serde::Serialize;

use super::EventKind;
use super::Phase;
use super::Rollout;
use super::event::Event;
use super::guard::Why;
use super::phase::Place;
use super::spec::Step;
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
            Command::Start | Command::Retry => self.begin(now, events),
            Command::Abort => {
                let text = "aborted by command: all traffic to the primary".to_owned();
                self.end(Place::Aborted, 0, now, text.clone());
                self.tell(now, EventKind::Aborted, text, events);
            }
            Command::Pause => {
                self.state.paused = true;
                let text = "paused by command; the judge goes on watching".to_owned();
                self.tell(now, EventKind::Paused, text, events);
            }
            Command::Resume => self.resume(now, events),
            Command::Promote => {
                if self.state.guard.is_some_and(|guard| guard.why == Why::Unproved) {
                    self.state.guard = None;
                }
                self.lift_hold(now, events);
                self.state.paused = false;
                self.resume_checks();
                match self.state.place {
                    Place::Bake => self.succeed(now, events),
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
            self.tell(now, EventKind::Resumed, "resumed by command".to_owned(), events);
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
            Some(Why::Suspicion) | None => {}
        }
    }

    /// Why not, where not.
    fn allows(&self, command: Command) -> Result<(), String> {
        let phase = self.phase();
        let active = self.state.place.is_active();
        let at_pause = !self.waiting().is_empty()
            || matches!(
                self.state.place,
                Place::Step(at) if matches!(self.spec.steps.get(at), Some(Step::Pause { .. }))
            );
        match command {
            Command::Start if active => Err(format!("it is {} already", phase.name())),
            Command::Retry if !matches!(phase, Phase::RolledBack | Phase::Aborted) => Err(format!(
                "it is {}; only what was rolled back or aborted can be tried again",
                phase.name()
            )),
            Command::Start | Command::Retry => Ok(()),
            _ if !active => Err(format!("it is {}", phase.name())),
            Command::Pause if self.state.paused => Err("it is paused already".to_owned()),
            Command::Promote | Command::Resume if phase == Phase::Suspended && !self.state.paused => {
                Err("it is suspended until the judge is sure; wait, or abort".to_owned())
            }
            Command::Promote if phase == Phase::Suspended => {
                Err("it is suspended until the judge is sure; wait, or abort".to_owned())
            }
            Command::Resume if !self.state.paused && phase != Phase::Held && !at_pause => {
                Err(format!("it is {}, not paused", phase.name()))
            }
            Command::Abort | Command::Pause | Command::Promote | Command::Resume => Ok(()),
        }
    }
}
