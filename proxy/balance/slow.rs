//! Slow start: what a new endpoint's weight counts for.

use std::time::Duration;

use crate::model::SlowStart;

/// Envoy's: the share of the window that has passed, to the power of one over
/// the aggression, and never below the least.
pub fn slowed(weight: f64, age: Duration, slow: &SlowStart) -> f64 {
    if age >= slow.window {
        return weight;
    }
    let passed = age.max(Duration::from_millis(1)).as_secs_f64() / slow.window.as_secs_f64();
    weight * passed.powf(1.0 / slow.aggression).max(slow.min_weight).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_grows_through_the_window() {
        let slow = |aggression| SlowStart { window: Duration::from_secs(60), aggression, min_weight: 0.1 };
        let at = |seconds, aggression| slowed(100.0, Duration::from_secs(seconds), &slow(aggression));
        assert_eq!(at(0, 1.0), 10.0, "the least");
        assert_eq!(at(30, 1.0), 50.0);
        assert_eq!(at(60, 1.0), 100.0);
        assert_eq!(at(15, 2.0), 50.0, "a quicker rise at first");
    }
}
