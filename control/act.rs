//! Which of the wanted actions come before the journal and which after it.
//!
//! The order is law. A canary's falling weight is in force before anything is
//! written or told; a rising one is written before it is in force. So no crash
//! leaves more canary traffic than was decided.

use serin_proxy::{Marks, Weights};

use crate::rollout::{Action, Event};

/// The actions of one step of one rollout, sorted by when they may happen.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub shift: Option<Shift>,
    pub marks: Option<Marks>,
    /// A new generation at the weights in force.
    pub renew: bool,
    pub tells: Vec<Event>,
}

#[derive(Debug, PartialEq)]
pub enum Shift {
    /// Less or as much for the canary: first of all.
    Fall(Weights),
    /// More for the canary: only after the journal has it.
    Rise(Weights),
}

/// Sorts `actions` against the weights that are in force. Of several shifts the
/// last is what was decided; one that changes nothing is left out.
pub fn plan(canary: &str, in_force: &Weights, actions: &[Action]) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = None;
    for action in actions {
        match action {
            Action::Shift { weights } => wanted = Some(weights),
            Action::Mark { slow_us, reveal_us } => {
                plan.marks = Some(Marks { slow_us: *slow_us, reveal_us: *reveal_us });
            }
            Action::Renew => plan.renew = true,
            Action::Tell { event } => plan.tells.push(event.clone()),
        }
    }
    plan.shift = wanted.and_then(|weights| shift(canary, in_force, weights));
    plan
}

/// How to get from one set of weights to another; `None` when they are the same.
pub fn shift(canary: &str, in_force: &Weights, wanted: &Weights) -> Option<Shift> {
    if in_force == wanted {
        None
    } else if wanted.of(canary) > in_force.of(canary) {
        Some(Shift::Rise(wanted.clone()))
    } else {
        Some(Shift::Fall(wanted.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(parts: u32) -> Weights {
        Weights::pair("primary", "canary", parts)
    }

    fn to(parts: u32) -> Action {
        Action::Shift { weights: canary(parts) }
    }

    #[test]
    fn falling_weight_goes_first_and_rising_weight_waits() {
        assert_eq!(plan("canary", &canary(500), &[to(0)]).shift, Some(Shift::Fall(canary(0))));
        assert_eq!(plan("canary", &canary(500), &[to(501)]).shift, Some(Shift::Rise(canary(501))));
    }

    #[test]
    fn repeated_shift_changes_nothing() {
        assert_eq!(plan("canary", &canary(500), &[to(500)]).shift, None);
        let other_order = Weights::new(vec![("canary".into(), 500), ("primary".into(), 9500)]).unwrap();
        assert_eq!(plan("canary", &other_order, &[to(500)]).shift, None);
    }

    #[test]
    fn last_shift_is_the_decision() {
        assert_eq!(plan("canary", &canary(500), &[to(5000), to(0)]).shift, Some(Shift::Fall(canary(0))));
    }
}
