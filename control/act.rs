//! Which of the wanted actions come before the journal and which after it.
//!
//! The order is law. A canary's falling weight is in force before anything is
//! written or told; a rising one is written before it is in force. So no crash
//! leaves more canary traffic than was decided.

use serin_proxy::{Marks, Weights};

use crate::rollout::spec::Site;
use crate::rollout::{Action, Event};

/// The actions of one step of one rollout, sorted by when they may happen.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub shifts: Vec<Shift>,
    pub marks: Option<Marks>,
    /// A new generation at the weights in force.
    pub renew: bool,
    pub tells: Vec<Event>,
}

/// New weights of one split.
#[derive(Debug, PartialEq)]
pub struct Shift {
    pub split: String,
    pub weights: Weights,
    /// More for the canary: only after the journal has it. Otherwise first of all.
    pub rises: bool,
}

/// Sorts `actions` against the weights that are in force. Of several shifts of a
/// split the last is what was decided; one that changes nothing is left out.
pub fn plan(
    sites: impl Iterator<Item = Site>,
    in_force: impl Fn(&Site) -> Option<Weights>,
    actions: &[Action],
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: Vec<(&String, &Weights)> = Vec::new();
    for action in actions {
        match action {
            Action::Shift { split, weights } => wanted.push((split, weights)),
            Action::Mark { slow_us, reveal_us } => {
                plan.marks = Some(Marks { slow_us: *slow_us, reveal_us: *reveal_us });
            }
            Action::Renew => plan.renew = true,
            Action::Tell { event } => plan.tells.push(event.clone()),
        }
    }
    for site in sites {
        let Some((split, weights)) = wanted.iter().rev().find(|(split, _)| **split == site.split) else {
            continue;
        };
        let before = in_force(&site);
        if before.as_ref() == Some(weights) {
            continue;
        }
        let rises = before.is_some_and(|before| rises(&site.canary, &before, weights));
        plan.shifts.push(Shift { split: (*split).clone(), weights: (*weights).clone(), rises });
    }
    plan
}

/// Is there more for the canary in these weights, by whatever way?
pub fn rises(canary: &str, in_force: &Weights, wanted: &Weights) -> bool {
    wanted.of(canary) > in_force.of(canary)
        || wanted.matched() > in_force.matched()
        || wanted.copied() > in_force.copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(parts: u32) -> Weights {
        Weights::pair("primary", "canary", parts)
    }

    fn to(weights: Weights) -> Action {
        Action::Shift { split: "web".to_owned(), weights }
    }

    fn shifts(in_force: &Weights, actions: &[Action]) -> Vec<(Weights, bool)> {
        let site = |split: &str| Site {
            split: split.to_owned(),
            primary: "primary".to_owned(),
            canary: "canary".to_owned(),
        };
        let plan = plan([site("web")].into_iter(), |_| Some(in_force.clone()), actions);
        plan.shifts.into_iter().map(|shift| (shift.weights, shift.rises)).collect()
    }

    #[test]
    fn falling_weight_goes_first_and_rising_weight_waits() {
        assert_eq!(shifts(&canary(500), &[to(canary(0))]), [(canary(0), false)]);
        assert_eq!(shifts(&canary(500), &[to(canary(501))]), [(canary(501), true)]);
    }

    #[test]
    fn what_a_trial_gives_the_canary_is_a_rise_too() {
        let trial = |matched, copied| canary(0).on_trial(matched, copied);
        for (before, after, rises) in [
            (trial(0, 0), trial(100, 0), true),
            (trial(0, 0), trial(0, 100), true),
            (trial(100, 100), trial(50, 100), false),
            (trial(100, 0), canary(0), false),
            (trial(100, 0), canary(100), true),
        ] {
            assert_eq!(shifts(&before, &[to(after.clone())]), [(after, rises)]);
        }
    }

    #[test]
    fn repeated_shift_changes_nothing() {
        assert_eq!(shifts(&canary(500), &[to(canary(500))]), []);
        let other_order = Weights::new(vec![("canary".into(), 500), ("primary".into(), 9500)]).unwrap();
        assert_eq!(shifts(&other_order, &[to(canary(500))]), []);
    }

    #[test]
    fn last_shift_is_the_decision() {
        assert_eq!(shifts(&canary(500), &[to(canary(5000)), to(canary(0))]), [(canary(0), false)]);
    }
}
