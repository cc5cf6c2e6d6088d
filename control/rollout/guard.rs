//! What the engine does about verdicts. A suspicion lowers the canary to a
//! trickle and asks again; a hold freezes the weights; certainty rolls back.
//!
//! While baking all traffic is the canary's and nothing can be compared. There
//! too a suspicion lowers it to a trickle: the old version takes over, and the
//! trickle brings the coin back, which tells a bad canary from a shared cause.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::Command;
use super::EventKind;
use super::Flow;
use super::Rollout;
use super::event::Event;
use super::phase::Place;
use super::spec::OnShared;
use crate::clock::Moment;
use crate::judge::Cause;
use crate::judge::Verdict;
use crate::judge::panel::View;
use serin_proxy::weights::WHOLE;

/// Why progress stops and the canary has no more than `parts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guard {
    pub why: Why,
    pub parts: u32,
    /// The same for requests that a trial's rules name.
    #[serde(default = "whole")]
    pub matched: u32,
    pub elapsed_ms: u64,
}

fn whole() -> u32 {
    WHOLE
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    Suspicion,
    /// An operator asked for no more than a trickle.
    Hand,
    Hold(Cause),
    /// Proof did not come in time, and somebody has to decide.
    Unproved,
    /// Answers differ, and somebody has to decide.
    Differs,
}

/// A hold ends when the evidence has fallen this much below what began it, so
/// that it does not flutter.
const RELEASE: f64 = 10.0;

impl Rollout {
    /// Asks the judge and does what follows.
    pub(super) fn heed(&mut self, now: Moment, passed: Duration, events: &mut Vec<Event>) {
        if self.state.place == Place::Return {
            if !self.state.frozen {
                self.heed_return(now, events);
            }
            return;
        }
        if self.is_judged_by_checks() {
            return;
        }
        let Some(judge) = self.state.judge.as_mut().filter(|_| self.state.place.is_active()) else { return };
        let mut verdict = judge.decide();
        let still_held = self.state.guard.is_some_and(|guard| guard.why == Why::Hold(Cause::Shared))
            && judge.log_e(View::Capped) >= judge.needed() - RELEASE.ln();
        if still_held && matches!(verdict, Verdict::Continue | Verdict::Suspend) {
            verdict = Verdict::Hold(Cause::Shared);
        }
        self.state.verdict = verdict;
        if let Some(guard) = &mut self.state.guard {
            guard.elapsed_ms += passed.as_millis() as u64;
        }
        let why = self.state.guard.map(|guard| guard.why);
        if self.state.frozen || (why == Some(Why::Hand) && verdict != Verdict::Rollback) {
            return;
        }
        match verdict {
            Verdict::Rollback => self.roll_back(now, self.explain(), events),
            Verdict::Hold(cause) if why == Some(Why::Hold(cause)) => {
                self.end_hold_in_time(now, cause, events)
            }
            Verdict::Hold(cause) => {
                self.stop(Why::Hold(cause), self.parts());
                self.tell(now, EventKind::Held, self.explain(), events);
            }
            Verdict::Suspend if why == Some(Why::Suspicion) => {}
            Verdict::Suspend => self.suspend(now, events),
            Verdict::Continue => match why {
                Some(Why::Suspicion) => {
                    self.go_on(now, EventKind::Probed, "clean canary answers in a row", events)
                }
                Some(Why::Hold(_)) => {
                    self.go_on(now, EventKind::Released, "the evidence has receded", events)
                }
                Some(Why::Unproved) => self.end_hold_by_proof(now, events),
                Some(Why::Hand | Why::Differs) | None => {}
            },
        }
    }

    pub(super) fn roll_back(&mut self, now: Moment, why: String, events: &mut Vec<Event>) {
        self.end(Place::RolledBack, Flow::NONE, now, why.clone());
        self.tell(now, EventKind::RolledBack, why, events);
    }

    /// A fall that was in force when the process was killed, before its reasons
    /// were written. Whether there was anything to do: only what is lower counts.
    pub fn fall_again(&mut self, now: Moment, kind: EventKind, parts: u32) -> bool {
        let active = self.state.place.is_active();
        let Flow { parts: present, matched, copied } = self.flow();
        // The end of a trial is no lower weight, but the end of all that it gave.
        let ends = matches!(kind, EventKind::RolledBack | EventKind::Aborted) && matched + copied > 0;
        if (parts >= present && !ends) || active == (kind == EventKind::Started) {
            return false;
        }
        let why = |what: &str| {
            format!("{what} right before the process was killed; the reasons were not written yet")
        };
        match kind {
            EventKind::RolledBack => self.end(Place::RolledBack, Flow::NONE, now, why("rolled back")),
            EventKind::Aborted => self.end(Place::Aborted, Flow::NONE, now, why("aborted")),
            EventKind::Started => self.obey(now, Command::Start, &mut Vec::new()),
            EventKind::Suspended => {
                if let Some(judge) = &mut self.state.judge {
                    judge.suspect();
                }
                self.state.verdict = Verdict::Suspend;
                self.stop(Why::Suspicion, parts);
            }
            _ => return false,
        }
        true
    }

    /// Lifts the guard; the weight it lowered comes back.
    pub(super) fn go_on(&mut self, now: Moment, kind: EventKind, why: &str, events: &mut Vec<Event>) {
        self.state.guard = None;
        let state = &mut self.state;
        if let Some(judge) = &mut state.judge {
            judge.begin_stage_again(now, &state.history);
        }
        let percent = serin_proxy::weights::percent(self.parts());
        let share = match self.state.parts {
            0 => self.on_trial(),
            _ => format!("{percent} % to the canary"),
        };
        self.tell(now, kind, format!("{why}: going on with {share}"), events);
    }

    fn suspend(&mut self, now: Moment, events: &mut Vec<Event>) {
        if !self.slow_down(Why::Suspicion)
            && let Some(judge) = &mut self.state.judge
        {
            judge.probe_same_generation();
        }
        self.tell(now, EventKind::Suspended, self.explain(), events);
    }

    /// To a trickle; answers with whether that is less than before.
    pub(super) fn slow_down(&mut self, why: Why) -> bool {
        let before = self.flow();
        let (parts, matched) = (self.trickle(), self.matched_trickle());
        self.state.guard = Some(Guard { why, parts, matched, elapsed_ms: 0 });
        self.flow() != before
    }

    pub(super) fn stop(&mut self, why: Why, parts: u32) {
        let matched = self.flow().matched;
        self.state.guard = Some(Guard { why, parts, matched, elapsed_ms: 0 });
    }

    /// The same of what a trial's rules name, whose pace this place has shown.
    fn matched_trickle(&self) -> u32 {
        let most = self.flow().matched;
        let seconds = self.state.elapsed_ms.max(1_000) as f64 / 1_000.0;
        let pace = (self.state.ended.max(1) as f64 / seconds) * f64::from(WHOLE) / f64::from(most.max(1));
        let parts = (self.spec.analysis.trickle_per_second / pace * f64::from(WHOLE)) as u32;
        parts.max(1).min(most)
    }

    /// A few canary requests per second of what there is; never none, never more
    /// than now.
    fn trickle(&self) -> u32 {
        let share = self.spec.analysis.trickle_per_second / self.state.history.requests_per_second();
        let parts = (share * f64::from(WHOLE)) as u32;
        parts.max(1).min(self.parts())
    }

    fn end_hold_in_time(&mut self, now: Moment, cause: Cause, events: &mut Vec<Event>) {
        let held = self.state.guard.map_or(0, |guard| guard.elapsed_ms);
        if u128::from(held) < self.spec.analysis.hold_timeout.as_millis() {
            return;
        }
        match (self.spec.analysis.on_shared, cause) {
            (OnShared::Hold, _) => {}
            // Without a coin there is nothing to go on with.
            (OnShared::Rollback, _) | (OnShared::Continue, Cause::Coin) => {
                let why = format!("{}; held for too long", self.explain());
                self.roll_back(now, why, events);
            }
            (OnShared::Continue, Cause::Shared) => self.release(now, cause, "held for long enough", events),
        }
    }

    /// Goes on without the tests that the hold was about.
    pub(super) fn release(&mut self, now: Moment, cause: Cause, why: &str, events: &mut Vec<Event>) {
        if let Some(judge) = &mut self.state.judge {
            judge.set_aside(cause);
        }
        self.state.verdict = Verdict::Continue;
        self.go_on(now, EventKind::Released, why, events);
    }

    /// The judge's sentence of now.
    pub(super) fn explain(&self) -> String {
        if let Some(checks) = self.checks() {
            return checks.sentence();
        }
        let judge = self.state.judge.as_ref();
        judge.map_or_else(String::new, |judge| judge.explain(self.state.verdict, &self.state.history))
    }
}
