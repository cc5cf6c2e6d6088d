//! What the story came to, in figures. All are measured by the origins and the
//! users of the demo, but one, which is computed from them and says so.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::Tally;
use super::origin::Ledger;
use super::origin::Release;
use super::view;
use crate::clock::Moment;
use crate::rollout::Phase;

/// The check that serin is compared with: the success rate, once a minute, and
/// a rollback when it was under this in five checks in a row. The first check
/// comes after a minute, the rollback with the tick after the fifth.
const CHECKED_SUCCESS: f64 = 0.99;
const CHECKED_SECONDS: f64 = 360.0;
/// The usual limit of the check of latency that goes with it.
const CHECKED_P99_US: u64 = 500_000;

/// What is wrong with a release, and so what its first bad answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Errors,
    Slowness,
}

/// One rollout of the story, over.
pub struct Outcome {
    /// The name that scripts read it by.
    pub key: &'static str,
    pub release: Release,
    pub fault: Fault,
    pub phase: Phase,
    /// From its start to its end.
    pub took: Duration,
    /// From its start until its last answers had come.
    pub watched: Duration,
    /// What users saw while it was watched.
    pub users: Tally,
    /// What the canary's origin answered in that time.
    pub ledger: Ledger,
    /// When serin says that it put the weight to zero.
    pub zero_at: Option<Moment>,
    /// The canary's last weight above zero.
    pub parts: u32,
    pub sentence: String,
}

impl Outcome {
    pub fn as_it_should(&self) -> bool {
        match self.fault {
            Fault::None => self.phase == Phase::Succeeded,
            Fault::Errors | Fault::Slowness => self.phase == Phase::RolledBack,
        }
    }

    fn first_bad(&self) -> Option<Moment> {
        match self.fault {
            Fault::None => None,
            Fault::Errors => self.ledger.first_failed,
            Fault::Slowness => self.ledger.first_slowed,
        }
    }

    /// From the first bad answer, as the origin gave it, until serin said zero
    /// or the last request reached the canary, whichever was later.
    fn seconds_to_zero(&self) -> Option<f64> {
        let zero = self.zero_at?.max(self.ledger.last_arrival?);
        Some(seconds(zero.since(self.first_bad()?)))
    }

    /// Failures that users got from the canary, or that nobody signed.
    fn user_failures(&self) -> u64 {
        self.users.canary.failures + self.users.unsigned.failures
    }

    fn requests(&self) -> u64 {
        self.users.primary.requests + self.users.canary.requests + self.users.unsigned.requests
    }

    /// At the rate of the users and the weight when it ended.
    fn canary_per_second(&self) -> f64 {
        self.requests() as f64 / self.watched.as_secs_f64() * f64::from(self.parts) / 10_000.0
    }
}

/// What the same release would have cost under the check above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinuteCheck {
    pub rolls_back: bool,
    /// Requests to the canary in the time the check takes.
    pub requests: f64,
    pub failures: f64,
}

impl MinuteCheck {
    /// At the measured rate of requests, and with the share of failures that
    /// the release is made to have: what was measured of that ended when the
    /// judge had seen enough, so it is few and too high.
    fn of(outcome: &Outcome) -> MinuteCheck {
        let requests = outcome.canary_per_second() * CHECKED_SECONDS;
        let failing = outcome.release.failing;
        MinuteCheck { rolls_back: 1.0 - failing < CHECKED_SUCCESS, requests, failures: requests * failing }
    }
}

pub struct Summary {
    pub outcomes: Vec<Outcome>,
    pub took: Duration,
}

impl Summary {
    pub fn as_it_should(&self) -> bool {
        self.outcomes.iter().all(Outcome::as_it_should)
    }

    fn of(&self, fault: Fault) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.fault == fault)
    }

    fn requests(&self) -> u64 {
        self.outcomes.iter().map(Outcome::requests).sum()
    }

    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!(
                "measured in {:.0} s, by the two origins and the users of {} requests",
                self.took.as_secs_f64(),
                thousands(self.requests())
            ),
            String::new(),
        ];
        lines.extend(self.table());
        lines.push(String::new());
        lines
            .push("computed, not run: a check of the success rate once a minute, with a rollback".to_owned());
        lines.push("after five in a row under 99 %, for the same release at the same weight".to_owned());
        for outcome in self.outcomes.iter().filter(|outcome| outcome.fault != Fault::None) {
            lines.extend(Self::compared(outcome));
        }
        lines
    }

    fn table(&self) -> Vec<String> {
        let row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
            let cells: String =
                self.outcomes.iter().map(|outcome| format!("{:>14}", cell(outcome))).collect();
            format!("  {name:<34}{cells}")
        };
        let bad = |outcome: &Outcome, text: String| {
            if outcome.fault == Fault::None { "-".to_owned() } else { text }
        };
        vec![
            row("", &|outcome| format!("{} ({})", outcome.release.name, outcome.key)),
            row("ended", &|outcome| view::word(outcome.phase).to_owned()),
            row("first bad answer to weight zero", &|outcome| {
                outcome.seconds_to_zero().map_or("-".to_owned(), |seconds| format!("{seconds:.2} s"))
            }),
            row("requests to the canary", &|outcome| thousands(outcome.ledger.served)),
            row("  answered late by the release", &|outcome| {
                if outcome.fault == Fault::Slowness {
                    thousands(outcome.ledger.slowed)
                } else {
                    "-".to_owned()
                }
            }),
            row("  failed", &|outcome| thousands(outcome.ledger.failed)),
            row("    of these seen by a user", &|outcome| thousands(outcome.user_failures())),
            row("canary's last weight", &|outcome| bad(outcome, view::percent(outcome.parts))),
            row("users' requests", &|outcome| thousands(outcome.requests())),
            row("users' failures from the primary", &|outcome| thousands(outcome.users.primary.failures)),
        ]
    }

    fn compared(outcome: &Outcome) -> Vec<String> {
        let name = outcome.release.name;
        let check = MinuteCheck::of(outcome);
        let failing = outcome.release.failing * 100.0;
        if !check.rolls_back {
            let mut lines = vec![format!(
                "  {name}: never rolled back, as {:.1} % of its answers succeed",
                100.0 - failing
            )];
            let p99_us = outcome.users.canary.latency.quantile_us(0.99);
            if let Some(p99_us) = p99_us.filter(|us| *us <= CHECKED_P99_US) {
                let p99 = view::milliseconds(p99_us);
                lines.push(format!("      (its p99 of {p99} passes a check of p99 <= 500 ms, too)"));
            }
            return lines;
        }
        vec![
            format!(
                "  {name}: rolled back after {CHECKED_SECONDS:.0} s; {:.0} requests/s to the canary (measured), of",
                outcome.canary_per_second(),
            ),
            format!(
                "      which it is made to fail {failing} %, are {} failed requests; here it was {}",
                thousands(check.failures.round() as u64),
                outcome.ledger.failed
            ),
        ]
    }

    /// One object for scripts; the figures at its top are those of the release
    /// that fails.
    pub fn json(&self) -> Value {
        let errors = self.of(Fault::Errors);
        let good = self.of(Fault::None);
        let bad = || self.outcomes.iter().filter(|outcome| outcome.fault != Fault::None);
        json!({
            "promoted": good.is_some_and(Outcome::as_it_should),
            "rolled_back": bad().count() > 0 && bad().all(Outcome::as_it_should),
            "seconds_to_zero_weight": errors.and_then(Outcome::seconds_to_zero),
            "canary_failures": errors.map(|outcome| outcome.ledger.failed),
            "user_failures": errors.map(Outcome::user_failures),
            "requests": errors.map(Outcome::requests),
            "total_requests": self.requests(),
            "seconds": seconds(self.took),
            "rollouts": self.outcomes.iter().map(|outcome| (outcome.key.to_owned(), Self::detail(outcome)))
                .collect::<serde_json::Map<_, _>>(),
        })
    }

    fn detail(outcome: &Outcome) -> Value {
        let check = MinuteCheck::of(outcome);
        json!({
            "release": outcome.release.name,
            "phase": outcome.phase,
            "seconds": seconds(outcome.took),
            "seconds_to_zero_weight": outcome.seconds_to_zero(),
            "weight_percent": f64::from(outcome.parts) / 100.0,
            "requests": outcome.requests(),
            "canary_requests": outcome.ledger.served,
            "canary_failures": outcome.ledger.failed,
            "canary_slow": outcome.ledger.slowed,
            "user_failures": outcome.user_failures(),
            "user_failures_primary": outcome.users.primary.failures,
            "sentence": outcome.sentence,
            "computed_minute_check": match outcome.fault {
                Fault::None => Value::Null,
                Fault::Errors | Fault::Slowness => json!({
                    "rolls_back": check.rolls_back,
                    "failing_share": outcome.release.failing,
                    "seconds": check.rolls_back.then_some(CHECKED_SECONDS),
                    "canary_requests": check.rolls_back.then_some(check.requests.round()),
                    "canary_failures": check.rolls_back.then_some(check.failures.round()),
                }),
            },
        })
    }
}

/// To the millisecond, which is as fine as moments are.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

/// `12345` is `12,345`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(primary: (u64, u64), canary: (u64, u64)) -> Tally {
        let mut tally = Tally::default();
        (tally.primary.requests, tally.primary.failures) = primary;
        (tally.canary.requests, tally.canary.failures) = canary;
        tally
    }

    fn good() -> Outcome {
        Outcome {
            key: "good",
            release: Release::good("v2"),
            fault: Fault::None,
            phase: Phase::Succeeded,
            took: Duration::from_secs(10),
            watched: Duration::from_secs(10),
            users: tally((6000, 6), (2000, 1)),
            ledger: Ledger { served: 2000, failed: 2, ..Ledger::default() },
            zero_at: None,
            parts: 10_000,
            sentence: String::new(),
        }
    }

    /// 4 of 100 canary requests failed in 2.5 s at 40 canary requests/s.
    fn errors() -> Outcome {
        Outcome {
            key: "errors",
            release: Release::failing("v3", 0.05),
            fault: Fault::Errors,
            phase: Phase::RolledBack,
            took: Duration::from_millis(1700),
            watched: Duration::from_millis(2500),
            users: tally((1903, 2), (97, 1)),
            ledger: Ledger {
                served: 100,
                failed: 4,
                first_failed: Some(Moment(10_000)),
                last_arrival: Some(Moment(11_700)),
                ..Ledger::default()
            },
            zero_at: Some(Moment(11_650)),
            parts: 500,
            ..good()
        }
    }

    fn slow() -> Outcome {
        Outcome {
            key: "slow",
            release: Release::slow("v4", 0.1, Duration::from_millis(120)),
            fault: Fault::Slowness,
            ledger: Ledger {
                served: 40,
                failed: 1,
                slowed: 5,
                first_failed: Some(Moment(20_900)),
                first_slowed: Some(Moment(20_000)),
                last_arrival: Some(Moment(20_690)),
            },
            zero_at: Some(Moment(20_700)),
            ..errors()
        }
    }

    fn summary(outcomes: Vec<Outcome>) -> Summary {
        Summary { outcomes, took: Duration::from_secs(25) }
    }

    #[test]
    fn top_of_the_object_is_the_failing_release() {
        let json = summary(vec![good(), errors(), slow()]).json();
        assert_eq!(json["promoted"], true);
        assert_eq!(json["rolled_back"], true);
        assert_eq!(json["canary_failures"], 4);
        assert_eq!(json["user_failures"], 1);
        assert_eq!(json["requests"], 2000);
        assert_eq!(json["total_requests"], 12_000);
        assert_eq!(json["rollouts"]["slow"]["canary_slow"], 5);
    }

    #[test]
    fn time_to_zero_runs_from_the_first_bad_answer_to_the_later_of_word_and_last_request() {
        let seconds = |outcome: Outcome| outcome.seconds_to_zero();
        assert_eq!(seconds(Outcome { zero_at: Some(Moment(11_816)), ..errors() }), Some(1.816));
        assert_eq!(seconds(errors()), Some(1.7));
        assert_eq!(seconds(slow()), Some(0.7));
        assert_eq!(seconds(good()), None);
        assert_eq!(seconds(Outcome { zero_at: None, ..errors() }), None);
    }

    #[test]
    fn wrong_end_of_any_rollout_is_told() {
        assert!(summary(vec![good(), errors(), slow()]).as_it_should());
        for phase in [Phase::Running, Phase::Succeeded, Phase::Aborted, Phase::Held] {
            let missed = summary(vec![good(), errors(), Outcome { phase, ..slow() }]);
            assert!(!missed.as_it_should());
            assert_eq!(missed.json()["rolled_back"], false);
        }
        let harsh = summary(vec![Outcome { phase: Phase::RolledBack, ..good() }, errors(), slow()]);
        assert!(!harsh.as_it_should());
        assert_eq!(harsh.json()["promoted"], false);
    }

    #[test]
    fn minute_check_costs_six_minutes_of_the_measured_traffic() {
        let json = summary(vec![good(), errors(), slow()]).json();
        let check = &json["rollouts"]["errors"]["computed_minute_check"];
        // 800 requests/s at 5 % are 40, for 360 s, 5 % of them.
        assert_eq!(check["rolls_back"], true);
        assert_eq!(check["canary_requests"], 14_400.0);
        assert_eq!(check["canary_failures"], 720.0);
    }

    #[test]
    fn minute_check_never_sees_a_slow_release_even_when_one_of_its_few_answers_failed() {
        let json = summary(vec![good(), errors(), slow()]).json();
        let check = &json["rollouts"]["slow"]["computed_minute_check"];
        assert_eq!(check["rolls_back"], false);
        assert!(check["canary_failures"].is_null());
    }

    #[test]
    fn text_says_what_is_measured_and_what_is_computed() {
        let text = summary(vec![good(), errors(), slow()]).lines().join("\n");
        for part in ["measured", "12,000", "1.70 s", "0.70 s", "rolled back", "computed, not run", "720"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
