//! The way up: steps, pauses, promotion, bake. A step passes when its time is
//! over, nothing speaks against it, and enough canary requests of its own have
//! ended. No data is never success.

use std::time::Duration;

use super::EventKind;
use super::Rollout;
use super::event::Event;
use super::phase::Place;
use super::spec::Step;
use crate::clock::Moment;
use crate::judge::Judge;
use crate::judge::Verdict;
use serin_proxy::weights::WHOLE;
use serin_proxy::weights::percent;

impl Rollout {
    /// At once, or when those agree who have to.
    pub(super) fn begin(&mut self, now: Moment, events: &mut Vec<Event>) {
        if !self.asks_to_open(now, events) {
            self.set_out(now, events);
        }
    }

    /// From the first step, with a judge who knows the primary's history and
    /// nothing else.
    fn set_out(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.opened();
        let state = &mut self.state;
        let planned = self.spec.planned() + self.spec.bake;
        state.terms = self.spec.analysis.clone();
        state.judge = Some(Judge::new(&state.terms, planned, &state.history, now));
        state.verdict = Verdict::Continue;
        state.last_words = String::new();
        state.guard = None;
        state.paused = false;
        self.arrive(Place::Step(0), 0, now);
        if let Some(Step::Weight { parts, .. }) = self.spec.steps.first() {
            self.arrive(Place::Step(0), *parts, now);
        }
        self.seat_checks(now);
        self.tell(now, EventKind::Started, self.describe(), events);
    }

    pub(super) fn progress(&mut self, now: Moment, passed: Duration, events: &mut Vec<Event>) {
        if !self.state.place.is_active() || self.state.guard.is_some() || self.state.paused {
            self.state.gates.forget();
            return;
        }
        self.state.elapsed_ms += passed.as_millis() as u64;
        match self.state.place {
            Place::Step(_) if self.is_opening() => self.climb(now, events),
            Place::Step(at) if self.step_is_over(at) => self.pass(now, events),
            Place::Bake if self.bake_is_over() => self.succeed(now, events),
            _ => {}
        }
    }

    /// To the next step, when everybody agrees who has to.
    pub(super) fn climb(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.may_rise(now, events) {
            self.advance(now, events);
        }
    }

    /// To the next step, or up to everything.
    pub(super) fn advance(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.is_opening() {
            return self.set_out(now, events);
        }
        let next = match self.state.place {
            Place::Step(at) => at + 1,
            _ => return,
        };
        match self.spec.steps.get(next) {
            Some(Step::Weight { parts, .. }) => {
                self.arrive(Place::Step(next), *parts, now);
                self.begin_checks_of_step();
                self.tell(now, EventKind::Step, self.describe(), events);
            }
            Some(Step::Pause { .. }) => {
                self.arrive(Place::Step(next), self.state.parts, now);
                self.tell(now, EventKind::Paused, self.describe(), events);
            }
            None => {
                self.arrive(Place::Bake, WHOLE, now);
                let text =
                    format!("promoted: all traffic to the canary, watched over for {:?}", self.spec.bake);
                self.tell(now, EventKind::Promoted, text, events);
            }
        }
    }

    pub(super) fn succeed(&mut self, now: Moment, events: &mut Vec<Event>) {
        let text = format!("the canary has all traffic for good; {}", self.explain());
        self.end(Place::Succeeded, WHOLE, now, text.clone());
        self.tell(now, EventKind::Baked, text, events);
    }

    pub(super) fn end(&mut self, place: Place, parts: u32, now: Moment, why: String) {
        self.arrive(place, parts, now);
        self.state.guard = None;
        self.state.paused = false;
        self.state.last_words = why;
    }

    /// Canary requests that have to end before this place can pass.
    pub(super) fn missing(&self) -> u64 {
        let asked = match self.state.place {
            Place::Step(at) => match self.spec.steps.get(at) {
                Some(Step::Weight { .. }) | None if self.state.parts > 0 => self.spec.analysis.min_requests,
                _ => 0,
            },
            Place::Bake if !self.spec.bake.is_zero() => self.spec.analysis.min_requests,
            _ => 0,
        };
        asked.saturating_sub(self.state.ended)
    }

    /// How long this place lasts; `None` when only a command ends it.
    pub(super) fn lasts(&self) -> Option<Duration> {
        match self.state.place {
            Place::Step(at) => match self.spec.steps.get(at) {
                Some(Step::Weight { hold, .. }) => Some(*hold),
                Some(Step::Pause { hold }) => *hold,
                None => Some(Duration::ZERO),
            },
            Place::Bake => Some(self.spec.bake),
            _ => None,
        }
    }

    /// A step that a changed spec no longer has: the last one, from its start,
    /// at the weight that is in force.
    pub(super) fn fit_to_spec(&mut self) {
        if let Place::Step(at) = self.state.place
            && at >= self.spec.steps.len()
        {
            self.state.place = Place::Step(self.spec.steps.len().saturating_sub(1));
            self.state.elapsed_ms = 0;
            self.state.ended = 0;
        }
    }

    fn arrive(&mut self, place: Place, parts: u32, now: Moment) {
        let state = &mut self.state;
        let parts = parts.min(WHOLE);
        // Equal weights make no new generation: requests go on being of the present one.
        if parts != state.parts {
            state.floor = state.newest;
            if let Some(judge) = &mut state.judge {
                judge.begin_stage(now, &state.history);
            }
        }
        state.place = place;
        state.parts = parts;
        state.since = now;
        state.elapsed_ms = 0;
        state.ended = 0;
        state.inconclusive = false;
        state.gates.forget();
    }

    fn step_is_over(&self, at: usize) -> bool {
        let is_over = match self.spec.steps.get(at) {
            Some(Step::Pause { hold: None }) => false,
            Some(Step::Pause { hold: Some(_) }) => self.time_is_over(),
            Some(Step::Weight { .. }) | None => {
                let is_time = self.is_paced_by_checks() || self.time_is_over();
                is_time && self.missing() == 0 && !self.is_troubled()
            }
        };
        is_over && self.checks_let_pass(at)
    }

    fn bake_is_over(&self) -> bool {
        self.time_is_over() && self.missing() == 0 && !self.is_troubled()
    }

    fn time_is_over(&self) -> bool {
        self.lasts().is_some_and(|lasts| u128::from(self.state.elapsed_ms) >= lasts.as_millis())
    }

    fn is_troubled(&self) -> bool {
        self.state.judge.as_ref().is_some_and(Judge::is_troubled)
    }

    fn describe(&self) -> String {
        let Place::Step(at) = self.state.place else { return String::new() };
        let (number, all) = (at + 1, self.spec.steps.len());
        let share = percent(self.state.parts);
        match self.spec.steps.get(at) {
            Some(Step::Weight { hold, .. }) => {
                format!("step {number} of {all}: {share} % to the canary for {hold:?}")
            }
            Some(Step::Pause { hold: Some(hold) }) => {
                format!("step {number} of {all}: pause for {hold:?} at {share} %")
            }
            Some(Step::Pause { hold: None }) => {
                format!("step {number} of {all}: pause at {share} % until resumed or promoted")
            }
            None => "no steps: straight to promotion".to_owned(),
        }
    }
}
