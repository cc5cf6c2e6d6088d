//! The way up: steps, pauses, promotion, bake. A step passes when its time is
//! over, nothing speaks against it, and enough canary requests of its own have
//! ended. No data is never success.

use std::time::Duration;

use super::Checkpoint;
use super::EventKind;
use super::Flow;
use super::Rollout;
use super::answers::Compared;
use super::event::Event;
use super::phase::Place;
use super::spec::Step;
use crate::clock::Moment;
use crate::judge::Judge;
use crate::judge::Verdict;
use crate::judge::history::History;
use serin_proxy::weights::WHOLE;
use serin_proxy::weights::percent;

impl Rollout {
    /// At once, or when its turn has come and its hours allow.
    pub(super) fn ask_to_begin(&mut self, now: Moment, events: &mut Vec<Event>) {
        if !self.spec.takes_turns() && self.is_open(now) {
            return self.begin(now, events);
        }
        self.forget_the_last();
        // What is in force stays so until it begins.
        let Checkpoint { parts, matched, copied, .. } = self.state;
        self.arrive(Place::Queued, Flow { parts, matched, copied }, now);
        self.tell(now, EventKind::Queued, self.waits_for(now), events);
    }

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
        self.forget_the_last();
        self.arrive(Place::Step(0), Flow::NONE, now);
        if self.spec.skip_analysis {
            // Beyond the last step, where nothing but a promotion is to come.
            self.arrive(Place::Step(self.spec.steps.len()), Flow::NONE, now);
            self.tell(now, EventKind::Started, self.describe(), events);
            return self.climb(now, events);
        }
        self.enter(0, now);
        self.tell(now, EventKind::Started, self.describe(), events);
    }

    pub(super) fn forget_the_last(&mut self) {
        let state = &mut self.state;
        state.terms = self.spec.analysis.clone();
        state.judge = None;
        state.verdict = Verdict::Continue;
        state.last_words = String::new();
        state.guard = None;
        state.paused = false;
        state.frozen = false;
        state.old_kept = true;
        state.turned_back = false;
        state.successor = None;
        state.answers = Compared::default();
    }

    /// Takes a step's place, its share of the traffic, and its judge.
    fn enter(&mut self, at: usize, now: Moment) {
        let Checkpoint { parts, matched, copied, .. } = self.state;
        let present = Flow { parts, matched, copied };
        let flow = match self.spec.steps.get(at) {
            Some(Step::Weight { parts, .. }) => Flow { parts: *parts, ..Flow::NONE },
            Some(Step::Trial { matched, copied, .. }) => {
                Flow { parts: 0, matched: *matched, copied: *copied }
            }
            Some(Step::Pause { .. }) | None => present,
        };
        self.arrive(Place::Step(at), flow, now);
        if at >= self.spec.judged_from {
            self.seat_judge(now);
        }
        self.begin_checks_of_step();
    }

    fn seat_judge(&mut self, now: Moment) {
        let planned = self.spec.planned() + self.spec.bake;
        let state = &mut self.state;
        if state.judge.is_none() && !self.spec.skip_analysis {
            let mut judge = Judge::new(&state.terms, planned, &state.history, now);
            judge.begin_stage(now, &state.history, state.copied > 0);
            state.judge = Some(judge);
            self.seat_checks(now);
        }
    }

    pub(super) fn progress(&mut self, now: Moment, passed: Duration, events: &mut Vec<Event>) {
        let waits = self.state.guard.is_some() || self.state.paused;
        if waits || !self.state.place.is_active() {
            self.state.gates.forget();
        }
        if waits && self.state.place.is_under_way() {
            return;
        }
        self.state.elapsed_ms += passed.as_millis() as u64;
        match self.state.place {
            Place::Queued if !self.spec.takes_turns() && self.is_open(now) => self.begin(now, events),
            Place::Step(_) if self.is_opening() && self.is_open(now) => self.climb(now, events),
            Place::Step(_) if self.is_opening() => {}
            Place::Step(at) if self.step_is_over(at) && self.is_open(now) => self.pass(now, events),
            Place::Bake if self.bake_is_over() => self.succeed(now, events),
            Place::Return if self.portion_is_over() => self.return_more(now, events),
            Place::Succeeded if self.old_is_done(now) => self.retire(now, events),
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
            Some(step) => {
                let pauses = matches!(step, Step::Pause { .. });
                self.enter(next, now);
                let kind = if pauses { EventKind::Paused } else { EventKind::Step };
                self.tell(now, kind, self.describe(), events);
            }
            None => self.promote(now, events),
        }
    }

    /// All traffic to the canary, whichever step it was at.
    pub(super) fn promote(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.seat_judge(now);
        if self.spec.way_back.is_some() {
            self.state.successor = Some(History::default());
        }
        self.arrive(Place::Bake, Flow::ALL, now);
        self.begin_checks_of_bake();
        let text = format!("promoted: all traffic to the canary, {}", self.watches());
        self.tell(now, EventKind::Promoted, text, events);
    }

    pub(super) fn succeed(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.spec.way_back.is_some() {
            return self.hand_over(now, events);
        }
        let judged = self.explain();
        let mut text = "the canary has all traffic for good".to_owned();
        if !judged.is_empty() {
            text.push_str(&format!("; {judged}"));
        }
        if !self.spec.keep_old.is_zero() {
            text.push_str(&format!("; the old version is kept for {:?}", self.spec.keep_old));
        }
        self.end(Place::Succeeded, Flow::ALL, now, text.clone());
        self.tell(now, EventKind::Baked, text, events);
    }

    pub(super) fn end(&mut self, place: Place, flow: Flow, now: Moment, why: String) {
        self.arrive(place, flow, now);
        self.state.guard = None;
        self.state.paused = false;
        self.state.frozen = false;
        self.state.last_words = why;
    }

    /// It waits for nothing but to be told that its turn has come.
    pub fn may_be_admitted(&self, now: Moment) -> bool {
        self.state.place == Place::Queued && self.spec.takes_turns() && self.is_open(now)
    }

    /// Whether anything may come of a look now without a command.
    pub fn may_decide(&self, now: Moment) -> bool {
        match self.state.place {
            Place::Queued => !self.spec.takes_turns() && self.is_open(now),
            Place::Succeeded => self.old_is_done(now),
            place => place.is_active(),
        }
    }

    /// Whether more may go to the canary by itself just now.
    pub(super) fn is_open(&self, now: Moment) -> bool {
        self.spec.hours.as_ref().is_none_or(|hours| hours.is_open(now))
    }

    /// Why nothing happens though it has been asked for, as far as it is known here.
    pub(super) fn waits_for(&self, now: Moment) -> String {
        match self.spec.hours.as_ref().filter(|_| !self.is_open(now)) {
            Some(hours) => format!("outside its hours, it is {}", hours.clock(now)),
            None => "waits for its turn".to_owned(),
        }
    }

    fn old_is_done(&self, now: Moment) -> bool {
        self.state.old_kept && now.since(self.state.since) >= self.spec.keep_old
    }

    fn retire(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.state.old_kept = false;
        if !self.spec.keep_old.is_zero() {
            let text = "the old version may go; it is kept no longer".to_owned();
            self.tell(now, EventKind::Retired, text, events);
        }
    }

    /// Canary requests that have to end before this place can pass.
    pub(super) fn missing(&self) -> u64 {
        let asked = match self.state.place {
            Place::Step(at) => match self.spec.steps.get(at) {
                Some(Step::Weight { .. }) | None if self.state.parts > 0 => self.spec.analysis.min_requests,
                Some(Step::Trial { .. }) => self.spec.analysis.min_requests,
                _ => 0,
            },
            Place::Bake if self.spec.skip_analysis => 0,
            Place::Bake if !self.spec.bake.is_zero() => self.spec.analysis.min_requests,
            Place::Return => self.spec.analysis.min_requests,
            _ => 0,
        };
        asked.saturating_sub(self.state.ended)
    }

    /// How long this place lasts; `None` when only a command ends it.
    pub(super) fn lasts(&self) -> Option<Duration> {
        match self.state.place {
            Place::Step(at) => self.spec.steps.get(at).map_or(Some(Duration::ZERO), Step::hold),
            Place::Bake => Some(self.spec.bake),
            Place::Return => self.spec.way_back.map(|way_back| way_back.every),
            _ => None,
        }
    }

    /// A step that a changed spec no longer has: the last one, from its start,
    /// at the weight that is in force.
    pub(super) fn fit_to_spec(&mut self) {
        if let Place::Step(at) = self.state.place
            && at >= self.spec.steps.len()
            && !self.spec.skip_analysis
        {
            self.state.place = Place::Step(self.spec.steps.len().saturating_sub(1));
            self.state.elapsed_ms = 0;
            self.state.ended = 0;
        }
    }

    pub(super) fn arrive(&mut self, place: Place, flow: Flow, now: Moment) {
        let state = &mut self.state;
        let Flow { parts, matched, copied } = flow;
        let parts = parts.min(WHOLE);
        // Equal weights make no new generation: requests go on being of the present one.
        if (parts, matched, copied) != (state.parts, state.matched, state.copied) {
            state.floor = state.newest;
            if let Some(judge) = &mut state.judge {
                judge.begin_stage(now, &state.history, copied > 0);
            }
        }
        state.place = place;
        (state.parts, state.matched, state.copied) = (parts, matched, copied);
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
            Some(Step::Weight { .. } | Step::Trial { .. }) | None => {
                let is_time = self.is_paced_by_checks() || self.time_is_over();
                is_time && self.missing() == 0 && !self.is_troubled()
            }
        };
        is_over && self.checks_let_pass(at)
    }

    fn bake_is_over(&self) -> bool {
        self.checks_let_succeed() && self.missing() == 0 && !self.is_troubled()
    }

    pub(super) fn time_is_over(&self) -> bool {
        self.lasts().is_some_and(|lasts| u128::from(self.state.elapsed_ms) >= lasts.as_millis())
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.state.judge.as_ref().is_some_and(Judge::is_troubled)
    }

    pub(super) fn describe(&self) -> String {
        let Place::Step(at) = self.state.place else { return String::new() };
        let (number, all) = (at + 1, self.spec.steps.len());
        let share = percent(self.state.parts);
        match self.spec.steps.get(at) {
            Some(Step::Weight { hold, .. }) => {
                format!("step {number} of {all}: {share} % to the canary for {hold:?}")
            }
            Some(Step::Trial { hold, .. }) => {
                format!("step {number} of {all}: {} for {hold:?}", self.on_trial())
            }
            Some(Step::Pause { hold: Some(hold) }) => {
                format!("step {number} of {all}: pause for {hold:?} at {share} %")
            }
            Some(Step::Pause { hold: None }) => {
                format!("step {number} of {all}: pause at {share} % until resumed or promoted")
            }
            None if self.spec.skip_analysis => "analysis is skipped: straight to promotion".to_owned(),
            None => "no steps: straight to promotion".to_owned(),
        }
    }

    /// What of the traffic the trial gives to the canary, in words.
    pub(super) fn on_trial(&self) -> String {
        let matched = match self.state.matched {
            0 => None,
            WHOLE => Some("requests that match go to the canary".to_owned()),
            parts => Some(format!("{} % of the requests that match go to the canary", percent(parts))),
        };
        let copied = match self.state.copied {
            0 => None,
            parts => Some(format!("{} % are copied to the canary", percent(parts))),
        };
        let told: Vec<String> = [matched, copied].into_iter().flatten().collect();
        if told.is_empty() { "nothing goes to the canary".to_owned() } else { told.join(", ") }
    }
}
