//! Proof before promotion: what a step that has had its time does when the canary
//! is, or is not, shown to be good enough. Too little traffic to show anything is
//! neither; it is told with what is missing, and the spec says what follows.

use std::time::Duration;

use super::EventKind;
use super::Flow;
use super::Rollout;
use super::event::Event;
use super::guard::Why;
use super::phase::Place;
use super::spec::Inconclusive;
use super::spec::Step;
use crate::clock::Moment;
use crate::judge::Judge;
use crate::judge::stage::Outlook;
use crate::judge::stage::Promotion;
use serin_proxy::weights::WHOLE;

impl Rollout {
    /// The step's time is over and nothing speaks against the canary.
    pub(super) fn pass(&mut self, now: Moment, events: &mut Vec<Event>) {
        match self.promotion() {
            _ if !self.is_last_of_weight() => self.climb(now, events),
            Promotion::NotAsked => self.climb(now, events),
            Promotion::Proved if !self.may_rise(now, events) => {}
            Promotion::Proved => {
                self.tell(now, EventKind::Proved, self.explain_proof(), events);
                self.advance(now, events);
            }
            Promotion::Undecided(outlook) if self.may_wait(&outlook) => {}
            Promotion::Undecided(outlook) => self.end_inconclusive(now, &outlook, events),
        }
    }

    pub(super) fn promotion(&self) -> Promotion {
        let state = &self.state;
        match &state.judge {
            Some(judge) if matches!(state.place, Place::Step(_)) => {
                judge.promotion(self.share(), self.pace())
            }
            _ => Promotion::NotAsked,
        }
    }

    /// Generations are renewed only where something is to be shown of them.
    pub(super) fn renews(&mut self, now: Moment) -> bool {
        let state = &mut self.state;
        let climbs = matches!(state.place, Place::Step(_)) && state.parts + state.matched > 0;
        match state.judge.as_mut().filter(|judge| climbs && judge.wants_cohort(now)) {
            Some(judge) => {
                judge.cohort_is_asked(now);
                true
            }
            None => false,
        }
    }

    /// What is missing, in words.
    pub(super) fn explain_outlook(&self, outlook: &Outlook) -> String {
        let state = &self.state;
        let say = |judge: &Judge| judge.explain_outlook(outlook, self.share(), self.pace(), &state.history);
        state.judge.as_ref().map_or_else(String::new, say)
    }

    /// A hold that waits for somebody to decide ends by itself when proof comes.
    pub(super) fn end_hold_by_proof(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.promotion() == Promotion::Proved {
            self.state.guard = None;
            self.tell(now, EventKind::Released, "it could be shown after all".to_owned(), events);
        }
    }

    /// The step from its beginning.
    pub(super) fn try_again(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.state.elapsed_ms = 0;
        self.state.inconclusive = false;
        self.go_on(now, EventKind::Released, "hold lifted by command, the step begins again", events);
    }

    /// The canary's share of the traffic that it has with whom it is compared.
    pub(super) fn share(&self) -> f64 {
        let Flow { parts, matched, .. } = self.flow();
        if parts > 0 { self.coin_of(parts) } else { f64::from(matched) / f64::from(WHOLE) }
    }

    /// Canary requests per second. Of those that match, as this place has shown it.
    pub(super) fn pace(&self) -> f64 {
        let parts = self.parts();
        if parts > 0 || self.state.matched == 0 {
            return f64::from(parts) / f64::from(WHOLE) * self.state.history.requests_per_second();
        }
        self.state.ended as f64 * 1_000.0 / self.state.elapsed_ms.max(1_000) as f64
    }

    /// A pause goes on at the weight before it and lets more be shown of it.
    fn is_last_of_weight(&self) -> bool {
        let Place::Step(at) = self.state.place else { return true };
        !matches!(self.spec.steps.get(at + 1), Some(Step::Pause { .. }))
    }

    /// Is there time left, and can it bring the proof?
    fn may_wait(&self, outlook: &Outlook) -> bool {
        let Some(own) = self.lasts() else { return true };
        let extra = self.state.terms.promotion.and_then(|asked| asked.extra_time).unwrap_or(own);
        let passed = Duration::from_millis(self.state.elapsed_ms);
        let left = own.saturating_add(extra).saturating_sub(passed);
        let is_in_reach = outlook.eta.is_some_and(|eta| eta <= left);
        match self.state.terms.inconclusive {
            Inconclusive::Advance => !left.is_zero() && is_in_reach,
            Inconclusive::Hold | Inconclusive::Rollback | Inconclusive::Wait => !left.is_zero(),
        }
    }

    fn end_inconclusive(&mut self, now: Moment, outlook: &Outlook, events: &mut Vec<Event>) {
        let why = self.explain_outlook(outlook);
        let policy = self.state.terms.inconclusive;
        if !self.state.inconclusive {
            self.state.inconclusive = true;
            let follows = match policy {
                Inconclusive::Hold => "held until somebody decides",
                Inconclusive::Advance => "going on unproved",
                Inconclusive::Rollback => "rolling back",
                Inconclusive::Wait => "waiting for it",
            };
            self.tell(now, EventKind::Inconclusive, format!("INCONCLUSIVE: {why}; {follows}"), events);
        }
        match policy {
            Inconclusive::Hold => self.stop(Why::Unproved, self.parts()),
            Inconclusive::Advance => self.climb(now, events),
            Inconclusive::Rollback => self.roll_back(now, format!("ROLLBACK (inconclusive): {why}"), events),
            Inconclusive::Wait => {}
        }
    }

    fn explain_proof(&self) -> String {
        let judge = self.state.judge.as_ref();
        judge.map_or_else(String::new, |judge| judge.explain_promotion(self.share()))
    }
}
