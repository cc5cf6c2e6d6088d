//! Where a rollout stands, as far as questions follow from it.

use crate::outside::hook::HookType;
use crate::rollout::Phase;
use crate::tick::view::Detail;

#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub phase: Phase,
    active: bool,
    pub step: usize,
    steps: usize,
    /// Whose agreement it waits for.
    waiting: Vec<HookType>,
    /// Nothing has gone to the canary yet.
    pub opening: bool,
}

impl Default for Standing {
    fn default() -> Standing {
        let waiting = Vec::new();
        Standing { phase: Phase::Idle, active: false, step: 0, steps: 0, waiting, opening: false }
    }
}

impl Standing {
    pub fn of(detail: &Detail) -> Standing {
        let status = &detail.status;
        Standing {
            phase: status.phase,
            active: detail.active,
            step: status.step,
            steps: status.steps,
            waiting: status.waiting.clone(),
            opening: status.opening,
        }
    }

    /// Whether this is the time to ask.
    pub fn asks(&self, on: HookType) -> bool {
        match on {
            HookType::ConfirmRollout
            | HookType::PreRollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion => self.waiting.contains(&on),
            HookType::Rollout => self.active && self.step < self.steps && !self.opening,
            HookType::Rollback => self.active,
            HookType::PostRollout | HookType::Event => false,
        }
    }

    /// Whether somebody looks at the canary, and so at numbers about it.
    pub fn is_looked_at(&self) -> bool {
        self.active && !self.opening
    }

    /// What Flagger says to those whom it asks: that it goes on, also where it waits
    /// for them. Who may stop it is told where it stands.
    pub fn phase_for(&self, on: HookType) -> &'static str {
        match on {
            HookType::PreRollout
            | HookType::Rollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion => "Progressing",
            HookType::ConfirmRollout | HookType::Rollback | HookType::PostRollout | HookType::Event => {
                self.phase_name()
            }
        }
    }

    /// The phase as Flagger names it.
    pub fn phase_name(&self) -> &'static str {
        if self.waiting.contains(&HookType::ConfirmRollout) {
            return "Waiting";
        }
        if self.waiting.contains(&HookType::ConfirmPromotion) {
            return "WaitingPromotion";
        }
        match self.phase {
            Phase::Idle => "Initialized",
            Phase::Queued => "Waiting",
            Phase::Baking | Phase::Promoting => "Promoting",
            Phase::Succeeded => "Succeeded",
            Phase::RolledBack | Phase::Aborted => "Failed",
            _ => "Progressing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_asked_in_their_time_only() {
        let mut standing = Standing { active: true, phase: Phase::Paused, steps: 2, ..Standing::default() };
        standing.waiting = vec![HookType::ConfirmRollout];
        standing.opening = true;
        assert!(standing.asks(HookType::ConfirmRollout) && standing.asks(HookType::Rollback));
        assert!(!standing.asks(HookType::Rollout), "nothing runs yet");
        assert_eq!(standing.phase_name(), "Waiting");
        assert_eq!(standing.phase_for(HookType::ConfirmRollout), "Waiting");
        standing.waiting = vec![HookType::PreRollout, HookType::ConfirmTrafficIncrease];
        assert!(!standing.asks(HookType::Rollout), "nothing runs yet");
        standing.opening = false;
        standing.waiting = vec![HookType::ConfirmTrafficIncrease, HookType::ConfirmPromotion];
        assert!(standing.asks(HookType::Rollout) && standing.asks(HookType::ConfirmPromotion));
        assert_eq!(standing.phase_name(), "WaitingPromotion");
        let told = [HookType::Rollout, HookType::ConfirmPromotion, HookType::Rollback, HookType::Event];
        let phases = told.map(|on| standing.phase_for(on));
        assert_eq!(phases, ["Progressing", "Progressing", "WaitingPromotion", "WaitingPromotion"]);
        let over = Standing { phase: Phase::RolledBack, ..Standing::default() };
        assert!(HookType::ALL.into_iter().all(|on| !over.asks(on)));
        assert_eq!(over.phase_name(), "Failed");
    }
}
