//! Judged as another tool would: what the engine does about the advice of the
//! judges for compatibility. They speak at their own pace, and while they do our
//! own judge only counts. Nothing is watched after the promotion, as with them.

use super::EventKind;
use super::Rollout;
use super::event::Event;
use super::phase::Place;
use super::spec::Step;
use crate::clock::Moment;
use crate::judge::checks::Advice;
use crate::judge::checks::Checks;
use crate::judge::evidence::Evidence;

impl Rollout {
    /// At the start. What judged the release before is what this one may be
    /// compared with.
    pub(super) fn seat_checks(&mut self, now: Moment) {
        let before = self.state.checks.take();
        let planned = self.spec.planned();
        let terms = self.state.terms.checks.as_ref();
        self.state.checks = terms.map(|terms| Checks::new(terms, planned, before.as_ref(), now));
        // What failed before it was there counts, too.
        let failed = self.state.gates.strikes;
        if let Some(checks) = &mut self.state.checks {
            checks.charge(failed);
        }
    }

    /// Those that judge this release, once they do.
    pub(super) fn checks(&self) -> Option<&Checks> {
        self.state.checks.as_ref().filter(|_| self.state.judge.is_some())
    }

    /// The step that was come to is one of its own for them.
    pub(super) fn begin_checks_of_step(&mut self) {
        let Place::Step(at) = self.state.place else { return };
        if self.checks().is_none() {
            return;
        }
        if let (Some(Step::Weight { hold, .. } | Step::Trial { hold, .. }), Some(checks)) =
            (self.spec.steps.get(at), &mut self.state.checks)
        {
            checks.arrive(*hold);
        }
    }

    /// Whether they are asked in place of our own judge.
    pub(super) fn is_judged_by_checks(&self) -> bool {
        self.checks().is_some() && self.state.place.is_active()
    }

    pub(super) fn consult(&mut self, now: Moment, evidence: &Evidence, events: &mut Vec<Event>) {
        let judges = matches!(self.state.place, Place::Step(_)) && self.checks().is_some();
        if !judges || self.state.frozen {
            return;
        }
        let Some(checks) = &mut self.state.checks else { return };
        match checks.look(now, evidence, &[]) {
            Advice::Wait | Advice::Advance => {}
            Advice::Hold(why) => self.tell(now, EventKind::Halted, why, events),
            Advice::Pause(why) => {
                self.state.paused = true;
                let text = format!("inconclusive: {why}; resume, promote or abort");
                self.tell(now, EventKind::Paused, text, events);
            }
            Advice::RollBack(why) => {
                let why = format!("ROLLBACK ({}): {why}", self.judge_name());
                self.roll_back(now, why, events);
            }
        }
    }

    /// Time is no matter where each passed check is a step.
    pub(super) fn is_paced_by_checks(&self) -> bool {
        self.checks().is_some_and(Checks::paces)
    }

    pub(super) fn checks_let_pass(&self, at: usize) -> bool {
        let Some(checks) = self.checks() else { return true };
        let weighs = matches!(self.spec.steps.get(at), Some(Step::Weight { .. } | Step::Trial { .. }));
        let is_last = at + 1 >= self.spec.steps.len();
        (!weighs || checks.lets_step_pass()) && (!is_last || checks.lets_promote())
    }

    /// What they waited for has been said.
    pub(super) fn resume_checks(&mut self) {
        if let Some(checks) = &mut self.state.checks {
            checks.resumed();
        }
    }

    fn judge_name(&self) -> &'static str {
        self.state.terms.checks.as_ref().map_or("checks", |terms| terms.judge_name())
    }
    /// A webhook's failed check is one of theirs, where they count them.
    pub(super) fn counts_as_check(&mut self, why: &str) -> bool {
        self.checks().is_some() && self.state.checks.as_mut().is_some_and(|checks| checks.refuse(why))
    }

    /// How many failed checks roll back, whoever has made them; nothing where those of
    /// webhooks are counted by themselves.
    pub(super) fn failed_checks_in_all(&self) -> Option<u32> {
        self.state.terms.checks.as_ref().and_then(|terms| terms.threshold())
    }
}
