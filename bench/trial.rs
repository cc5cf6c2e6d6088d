//! One rollout in one step on synthetic traffic, request by request through the real engine, and what it
//! had cost when something happened.

use std::time::Duration;

use serin::judge::analysis::Analysis;
use serin::rehearse::Rehearsal;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rollout::Command;
use serin::rollout::Rollout;
use serin::rollout::Spec;
use serin::rollout::spec::Step;

/// Watching the primary before the start.
const HISTORY_SECONDS: f64 = 60.0;

pub struct Trial {
    pub percent: u32,
    pub rps: f64,
    pub primary: Version,
    pub canary: Version,
    pub analysis: Analysis,
    /// The step's own time.
    pub hold: Duration,
}

/// What had happened since the start when something did.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub seconds: f64,
    /// Sent to the canary; and those of them that had been answered, or revealed as slow.
    pub requests: f64,
    pub known: f64,
    pub failures: f64,
}

impl Trial {
    pub fn w(&self) -> f64 {
        f64::from(self.percent) / 100.0
    }

    pub fn parts(&self) -> u32 {
        self.percent * 100
    }

    pub fn spec(&self) -> Spec {
        Spec {
            name: "bench".to_owned(),
            split: "bench".to_owned(),
            primary: "primary".to_owned(),
            canary: "canary".to_owned(),
            steps: vec![Step::Weight { parts: self.parts(), hold: self.hold }],
            bake: Duration::ZERO,
            analysis: self.analysis.clone(),
            ..Spec::default()
        }
    }

    /// Before the start.
    pub fn rehearsal(&self, seed: u64) -> Rehearsal<impl Fn(f64) -> World + use<>> {
        let (requests_per_second, primary, canary) = (self.rps, self.primary, self.canary);
        let world = move |_| World { requests_per_second, primary, canary };
        Rehearsal::new(Rollout::new(self.spec()), seed, world)
    }

    pub fn started(&self, seed: u64) -> Rehearsal<impl Fn(f64) -> World + use<>> {
        let mut rehearsal = self.rehearsal(seed);
        start(&mut rehearsal);
        rehearsal
    }

    /// What it had cost when the canary's weight first fell, and how long after its first failed answer that
    /// was; none where it did not within so many seconds.
    pub fn cut(&self, seed: u64, most_seconds: f64) -> Option<(Cost, f64)> {
        let mut rehearsal = self.started(seed);
        let mut first_failure = None;
        while seconds(&rehearsal) < most_seconds && !rehearsal.rollout.phase().is_final() {
            rehearsal.look(&[]);
            if rehearsal.totals.canary_failures > 0 {
                first_failure.get_or_insert(rehearsal.seconds());
            }
            if rehearsal.parts() < self.parts() {
                let now = rehearsal.seconds();
                return Some((cost(&rehearsal), now - first_failure.unwrap_or(now)));
            }
        }
        None
    }
}

/// Watches the primary for a while, and begins.
pub fn start(rehearsal: &mut Rehearsal<impl Fn(f64) -> World>) {
    while rehearsal.seconds() < HISTORY_SECONDS {
        rehearsal.look(&[]);
    }
    rehearsal.look(&[Command::Start]);
}

/// Since the start.
pub fn seconds(rehearsal: &Rehearsal<impl Fn(f64) -> World>) -> f64 {
    rehearsal.seconds() - HISTORY_SECONDS
}

pub fn cost(rehearsal: &Rehearsal<impl Fn(f64) -> World>) -> Cost {
    let totals = rehearsal.totals;
    Cost {
        seconds: seconds(rehearsal),
        requests: totals.canary_requests as f64,
        known: totals.canary_known as f64,
        failures: totals.canary_failures as f64,
    }
}
