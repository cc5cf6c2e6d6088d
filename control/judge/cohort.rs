//! A cohort: all requests of one generation, counted until the last has ended.
//!
//! Where users keep a version each is one toss, so users are counted beside requests:
//! by the first answer since they were tossed for. What fails later is left to the
//! rollback tests: in time nearly every user has failed once with either version, and
//! the share of those who have would hide how much sooner the canary's did.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::evidence::ArmDelta;
use super::evidence::GenerationDelta;
use super::evidence::Per;
use super::panel::Kind;
use super::slowness::beyond;
use crate::clock::Moment;

/// A worker that has not yet seen the new generation sends its last request well
/// within this.
const SETTLE: Duration = Duration::from_millis(200);

/// A cohort that is not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub generation: u64,
    /// The canary's share of the tosses.
    pub w: f64,
    pub born: Moment,
    /// Since when a newer one was seen.
    pub closed: Option<Moment>,
    pub canary: Counts,
    pub primary: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub dispatched: u64,
    pub ok: u64,
    pub failed: u64,
    pub aborted: u64,
    pub slow: u64,
    /// Of those that were measured, the ones beyond the primary's p99.
    pub beyond: u64,
    pub measured: u64,
    #[serde(default)]
    pub users: u64,
    #[serde(default)]
    pub failed_users: u64,
}

impl Open {
    pub fn new(delta: &GenerationDelta, per: Per, now: Moment) -> Open {
        Open {
            generation: delta.id,
            w: delta.share(per),
            born: now,
            closed: None,
            canary: Counts::default(),
            primary: Counts::default(),
        }
    }

    pub fn is_complete(&self, now: Moment, patience: Duration) -> bool {
        let Some(closed) = self.closed else { return false };
        let closed_for = now.since(closed);
        let is_quiet = self.canary.under_way() == 0 && self.primary.under_way() == 0;
        closed_for >= SETTLE && (is_quiet || closed_for >= patience)
    }
}

impl Counts {
    pub fn add(&mut self, arm: &ArmDelta, slowest: Option<usize>, per: Per) {
        self.dispatched += arm.dispatched;
        self.ok += arm.ok;
        self.failed += arm.failed;
        self.aborted += arm.aborted;
        self.slow += arm.slow;
        if let Some(edge) = slowest {
            let (bad, all) = beyond(arm, edge, per);
            self.beyond += bad;
            self.measured += all;
        }
        self.users += arm.first.iter().map(|(_, count)| count).sum::<u64>();
        self.failed_users += arm.first_failed;
    }

    fn under_way(self) -> u64 {
        self.dispatched.saturating_sub(self.ok + self.failed + self.aborted)
    }

    /// Bad and good ones, as a check sees them. What a client broke off was neither
    /// a success nor a failure; that it was slow is known.
    pub fn of(self, kind: Kind, per: Per) -> (u64, u64) {
        let good = self.ok + self.under_way();
        match kind {
            Kind::RelativeFailures | Kind::Success if per == Per::User => {
                (self.failed_users, self.users.saturating_sub(self.failed_users))
            }
            Kind::RelativeFailures | Kind::Mirrored | Kind::Answers | Kind::Stratum | Kind::Success => {
                (self.failed, good)
            }
            Kind::RelativeLatency => (self.beyond, self.measured - self.beyond),
            Kind::Latency => (self.slow, (good + self.failed).saturating_sub(self.slow)),
        }
    }
}
