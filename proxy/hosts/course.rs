//! What a row of health checks says of one endpoint. Pure: it is told the result
//! of each check and answers with what changes and how long to wait; who asks
//! the questions is [`crate::upstream::Prober`].

use std::time::Duration;

use crate::model::HealthCheck;

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Well,
    /// The endpoint itself says that it is not well; no threshold is needed.
    Unwell,
    /// It says so by a status that may pass.
    Retriable,
    /// No connection, or one that broke.
    Unreachable,
    Silent,
}

impl Finding {
    pub const ALL: [Finding; 5] =
        [Finding::Well, Finding::Unwell, Finding::Retriable, Finding::Unreachable, Finding::Silent];

    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Well => "passed",
            Finding::Unwell => "refused",
            Finding::Retriable => "retriable",
            Finding::Unreachable => "network",
            Finding::Silent => "timeout",
        }
    }
}

/// What a finding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    None,
    /// Another like it, or some, and something will.
    Pending,
    Failed,
    Recovered,
}

/// One endpoint's health by active checks. It begins failed: it gets no traffic
/// before it has passed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// No check has ended yet.
    pub first: bool,
    pub failed: bool,
    /// It is failed, and last because it did not answer in time.
    pub silent: bool,
    passes: u32,
    failures: u32,
}

impl Default for Course {
    fn default() -> Course {
        Course::resume(true, true, false)
    }
}

impl Course {
    /// Goes on from what an endpoint's flags say.
    pub fn resume(first: bool, failed: bool, silent: bool) -> Course {
        Course { first, failed, silent, passes: 0, failures: 0 }
    }

    /// Takes in how a check ended, or that an answer to a user said that the
    /// endpoint wants no more.
    pub fn take(&mut self, check: &HealthCheck, finding: Finding) -> Step {
        let step = match finding {
            Finding::Well => self.pass(check),
            finding => self.fail(check, finding),
        };
        self.silent = self.failed && finding == Finding::Silent;
        self.first = false;
        step
    }

    fn pass(&mut self, check: &HealthCheck) -> Step {
        self.failures = 0;
        if !self.failed {
            return Step::None;
        }
        self.passes += 1;
        if !self.first && self.passes < check.healthy_threshold {
            return Step::Pending;
        }
        self.failed = false;
        Step::Recovered
    }

    fn fail(&mut self, check: &HealthCheck, finding: Finding) -> Step {
        self.passes = 0;
        if self.failed {
            // Nobody was told before that it is failed and not merely unknown.
            return if self.first { Step::Failed } else { Step::None };
        }
        self.failures += 1;
        if finding != Finding::Unwell && self.failures < check.unhealthy_threshold {
            return Step::Pending;
        }
        self.failures = 0;
        self.failed = true;
        Step::Failed
    }
}

/// How long until the next check. `random` is one uniform number.
pub fn wait(check: &HealthCheck, finding: Finding, step: Step, has_traffic: bool, random: u64) -> Duration {
    let well = finding == Finding::Well;
    let pending = step == Step::Pending;
    let base = match (has_traffic, well, pending) {
        (true, true, false) => check.interval,
        (true, true, true) => check.healthy_edge_interval,
        (true, false, false) => check.unhealthy_interval,
        (true, false, true) => check.unhealthy_edge_interval,
        (false, true, false) => check.no_traffic_healthy_interval,
        (false, _, _) => check.no_traffic_interval,
    };
    let share = base.mul_f64(f64::from(check.interval_jitter_percent) / 100.0);
    let (first, second) = (random & 0xffff_ffff, random >> 32);
    (base + part(share, first) + part(check.interval_jitter, second)).max(SHORTEST)
}

/// How long until the first check.
pub fn first_wait(check: &HealthCheck, random: u64) -> Duration {
    part(check.initial_jitter, random & 0xffff_ffff)
}

/// Whatever is configured, an endpoint is asked no oftener than this.
const SHORTEST: Duration = Duration::from_millis(1);

fn part(of: Duration, random: u64) -> Duration {
    of.mul_f64(random as f64 / (1u64 << 32) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Probe;
    use crate::model::TcpProbe;

    use Finding::{Retriable, Silent, Unreachable, Unwell, Well};
    use Step::{Failed, None, Pending, Recovered};

    fn check() -> HealthCheck {
        HealthCheck::new(Probe::Tcp(TcpProbe::default()))
    }

    fn steps(findings: &[Finding]) -> Vec<Step> {
        let (check, mut course) = (check(), Course::default());
        findings.iter().map(|finding| course.take(&check, *finding)).collect()
    }

    #[test]
    fn the_first_answer_decides_alone() {
        assert_eq!(steps(&[Well, Well]), [Recovered, None]);
        assert_eq!(steps(&[Silent, Well, Well]), [Failed, Pending, Recovered]);
        assert_eq!(steps(&[Unwell, Unwell]), [Failed, None]);
    }

    #[test]
    fn silence_counts_to_the_threshold_and_a_refusal_does_not() {
        assert_eq!(steps(&[Well, Silent, Unreachable, Retriable]), [Recovered, Pending, Pending, Failed]);
        assert_eq!(steps(&[Well, Unwell]), [Recovered, Failed]);
        assert_eq!(steps(&[Well, Silent, Unwell]), [Recovered, Pending, Failed]);
    }

    #[test]
    fn a_row_is_broken_by_the_opposite() {
        assert_eq!(
            steps(&[Well, Silent, Silent, Well, Silent, Silent, Silent]),
            [Recovered, Pending, Pending, None, Pending, Pending, Failed]
        );
        assert_eq!(steps(&[Unwell, Well, Unwell, Well, Well]), [Failed, Pending, None, Pending, Recovered]);
    }

    #[test]
    fn silence_is_remembered_only_while_it_is_the_reason() {
        let (check, mut course) = (check(), Course::default());
        course.take(&check, Silent);
        assert!(course.failed && course.silent);
        course.take(&check, Unwell);
        assert!(course.failed && !course.silent);
    }

    #[test]
    fn intervals_follow_state_and_traffic() {
        let seconds = Duration::from_secs;
        let check = HealthCheck {
            interval: seconds(1),
            healthy_edge_interval: seconds(2),
            unhealthy_interval: seconds(3),
            unhealthy_edge_interval: seconds(4),
            no_traffic_healthy_interval: seconds(5),
            no_traffic_interval: seconds(6),
            ..check()
        };
        let after = |finding, step, traffic| wait(&check, finding, step, traffic, 0).as_secs();
        assert_eq!(after(Well, None, true), 1);
        assert_eq!(after(Well, Recovered, true), 1);
        assert_eq!(after(Well, Pending, true), 2);
        assert_eq!(after(Silent, Failed, true), 3);
        assert_eq!(after(Silent, Pending, true), 4);
        assert_eq!(after(Well, None, false), 5);
        assert_eq!(after(Well, Pending, false), 6);
        assert_eq!(after(Silent, None, false), 6);
    }

    #[test]
    fn jitter_only_adds_and_stays_within_its_bounds() {
        let check = HealthCheck {
            interval_jitter: Duration::from_secs(1),
            interval_jitter_percent: 50,
            ..check().every(Duration::from_secs(4))
        };
        let at = |random| wait(&check, Well, None, true, random).as_secs_f64();
        assert_eq!(at(0), 4.0);
        assert!((at(u64::MAX) - 7.0).abs() < 1e-6, "{}", at(u64::MAX));
        let none = super::wait(&check.clone().every(Duration::ZERO), Well, None, true, 0);
        assert_eq!(none, SHORTEST, "never without a pause");
    }
}
