//! Judged as another tool would: what the engine does about the advice of the
//! judges for compatibility. They speak at their own pace, and while they do our
//! own judge only counts. After the promotion they watch where a bake is asked for
//! and nothing of what they ask is of the primary, which has no traffic then.

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

    /// The canary has all traffic, and for how long it is watched over.
    pub(super) fn begin_checks_of_bake(&mut self) {
        if self.are_watching()
            && let Some(checks) = &mut self.state.checks
        {
            checks.watch(self.spec.bake);
        }
    }

    fn are_watching(&self) -> bool {
        !self.spec.bake.is_zero() && self.checks().is_some_and(Checks::can_watch)
    }

    /// What the bake is for, in words.
    pub(super) fn watches(&self) -> String {
        let bake = self.spec.bake;
        match (bake.is_zero(), self.checks()) {
            (true, _) => "nothing watches over it".to_owned(),
            (false, Some(checks)) if !checks.can_watch() => format!(
                "nothing watches over it for {bake:?}: {} compares with the primary, which has no traffic",
                self.judge_name()
            ),
            (false, None) if self.state.judge.is_none() => {
                format!("not judged for {bake:?}: analysis is skipped")
            }
            _ => format!("watched over for {bake:?}"),
        }
    }

    /// Whether they are asked in place of our own judge.
    pub(super) fn is_judged_by_checks(&self) -> bool {
        self.checks().is_some() && self.state.place.is_active()
    }

    pub(super) fn consult(&mut self, now: Moment, evidence: &Evidence, events: &mut Vec<Event>) {
        let judges = match self.state.place {
            Place::Step(_) => self.checks().is_some(),
            Place::Bake => self.are_watching(),
            _ => false,
        };
        let Some(checks) = self.state.checks.as_mut().filter(|_| judges) else { return };
        if self.state.frozen {
            // Nothing falls due: what was not watched is no lack of data.
            checks.resume(now);
            return;
        }
        match checks.look(now, evidence) {
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

    /// Whether the bake may end, as far as they go, and its time.
    pub(super) fn checks_let_succeed(&self) -> bool {
        match self.checks().filter(|_| self.are_watching()) {
            Some(checks) if checks.paces() => checks.lets_step_pass(),
            Some(checks) => self.time_is_over() && checks.lets_step_pass(),
            None => self.time_is_over(),
        }
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
