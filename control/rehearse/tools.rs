//! The rules of other tools, for the plan of a rollout: its steps stay, and who
//! judges them changes.
//!
//! The figures are those that a user of the tool would write first; objectives that
//! the plan has itself are asked of the tool as well. With these tools nothing is
//! watched after a promotion.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::judge::aca;
use crate::judge::aca::classify::{Asked, Direction, Effect, EffectMeasure};
use crate::judge::aca::clean::Missing;
use crate::judge::aca::score::Thresholds;
use crate::judge::checks::{Rule, Scope, Terms};
use crate::judge::classic::measurements;
use crate::judge::classic::strikes;
use crate::judge::condition::Condition;
use crate::judge::samples::{Arm, Measure};
use crate::rollout::Spec;
use crate::rollout::spec::Analysis;

const INTERVAL: Duration = Duration::from_secs(60);
const FAILED_CHECKS: u32 = 5;
const FAILURE_LIMIT: u32 = 3;
const JUDGEMENT: Duration = Duration::from_secs(600);
const SCORES: Thresholds = Thresholds { pass: 95.0, marginal: 75.0 };
/// In percent, and in milliseconds of the p99.
const SUCCESS: f64 = 99.0;
const SLOWEST_MS: f64 = 500.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Flagger,
    Argo,
    Kayenta,
}

/// What is asked of absolute figures.
struct Asks {
    success_percent: f64,
    quantile: f64,
    slowest_ms: f64,
}

impl Tool {
    pub const ALL: [Tool; 3] = [Tool::Flagger, Tool::Argo, Tool::Kayenta];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Flagger => "flagger",
            Tool::Argo => "argo",
            Tool::Kayenta => "kayenta",
        }
    }

    pub fn parse(text: &str) -> Result<Tool, String> {
        let found = Tool::ALL.into_iter().find(|tool| tool.name() == text);
        let names = || Tool::ALL.map(Tool::name).join(", ");
        found.ok_or_else(|| format!("there is no {text:?} to compare with; there are {}", names()))
    }

    /// The same steps under its rules.
    pub fn spec(self, spec: &Spec) -> Spec {
        let asks = Asks::of(&spec.analysis);
        let rule = match self {
            Tool::Flagger => Rule::Strikes(strikes(&asks)),
            Tool::Argo => Rule::Measurements { metrics: measurements(&asks) },
            Tool::Kayenta => Rule::Scores { lifetime: None, terms: scores() },
        };
        let checks = Some(Terms { rule, scope: Scope::Rollout });
        let analysis = Analysis { checks, min_requests: 0, promotion: None, ..Analysis::default() };
        Spec { analysis, bake: Duration::ZERO, ..spec.clone() }
    }

    /// In a line, what it is taken to be told.
    pub fn rules(self, spec: &Spec) -> String {
        let Asks { success_percent, quantile, slowest_ms } = Asks::of(&spec.analysis);
        let quantile = (quantile * 1e4).round() / 100.0;
        match self {
            Tool::Flagger => format!(
                "each step as many passed checks as it has minutes (interval {}s); success rate at least {success_percent} %, \
                 p{quantile} at most {slowest_ms} ms; rolled back the check after {FAILED_CHECKS} have failed",
                INTERVAL.as_secs()
            ),
            Tool::Argo => format!(
                "background analysis beside the steps, interval {0}s, initialDelay {0}s, failureLimit {FAILURE_LIMIT}; \
                 success ratio at least {1}, p{quantile} at most {slowest_ms} ms",
                INTERVAL.as_secs(),
                tidy(success_percent / 100.0)
            ),
            Tool::Kayenta => {
                let planned = spec.planned();
                let every = if planned < JUDGEMENT { planned } else { JUDGEMENT };
                format!(
                    "NetflixACAJudge over points of {}s, all since the start, judged every {}s; error rate and p50 and p99 \
                     may not increase; marginal {}, pass {}",
                    INTERVAL.as_secs(),
                    every.as_secs(),
                    SCORES.marginal,
                    SCORES.pass
                )
            }
        }
    }
}

impl Asks {
    fn of(analysis: &Analysis) -> Asks {
        let latency = analysis.latency.as_ref();
        Asks {
            success_percent: analysis.success.map_or(SUCCESS, |asked| tidy(asked.min * 100.0)),
            quantile: latency.map_or(0.99, |asked| asked.quantile),
            slowest_ms: latency.map_or(SLOWEST_MS, |asked| asked.threshold.as_secs_f64() * 1000.0),
        }
    }
}

fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn strikes(asks: &Asks) -> strikes::Terms {
    let check = |name: &str, measure, min, max| strikes::Check {
        name: name.to_owned(),
        measure,
        arm: Arm::Canary,
        window: INTERVAL,
        min,
        max,
    };
    let latency = Measure::Latency { quantile: asks.quantile };
    strikes::Terms {
        interval: INTERVAL,
        threshold: FAILED_CHECKS,
        checks: vec![
            check("request-success-rate", Measure::SuccessRate, Some(asks.success_percent), None),
            check("request-duration", latency, None, Some(asks.slowest_ms)),
        ],
    }
}

fn measurements(asks: &Asks) -> Vec<measurements::Metric> {
    let metric = |name: &str, measure, condition: String| measurements::Metric {
        name: name.to_owned(),
        measure,
        arm: Arm::Canary,
        window: INTERVAL,
        interval: Some(INTERVAL),
        initial_delay: INTERVAL,
        count: None,
        success: Some(Condition::parse(&condition).expect("a number is compared with a number")),
        failure: None,
        failure_limit: Some(FAILURE_LIMIT),
        inconclusive_limit: 0,
        consecutive_error_limit: 4,
        consecutive_success_limit: 0,
        dry_run: false,
        retention: 10,
    };
    let ratio = format!("result[0] >= {}", tidy(asks.success_percent / 100.0));
    // Without a guard a release that gives no good answer is an error of the query.
    let slowest = format!("len(result) == 0 || result[0] <= {}", asks.slowest_ms);
    vec![
        metric("success-rate", Measure::SuccessRatio, ratio),
        metric("latency", Measure::Latency { quantile: asks.quantile }, slowest),
    ]
}

fn scores() -> aca::Terms {
    let metric = |name: &str, measure, group: &str| aca::Metric {
        name: name.to_owned(),
        measure,
        groups: vec![group.to_owned()],
        muted: false,
        asked: Asked {
            direction: Direction::Increase,
            missing: Missing::default(),
            critical: false,
            must_have_data: false,
            outliers: None,
            effect: Effect::of(EffectMeasure::MeanRatio),
        },
    };
    aca::Terms {
        step: INTERVAL,
        interval: Some(JUDGEMENT),
        delay: Duration::ZERO,
        lookback: None,
        thresholds: SCORES,
        weights: BTreeMap::from([("errors".to_owned(), 50.0), ("latency".to_owned(), 50.0)]),
        metrics: vec![
            metric("error rate", Measure::ErrorRate, "errors"),
            metric("p50", Measure::Latency { quantile: 0.5 }, "latency"),
            metric("p99", Measure::Latency { quantile: 0.99 }, "latency"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::report::Report;
    use crate::rehearse::scenario::Scenario;
    use crate::rollout::spec::{Step, SuccessObjective};

    fn plan() -> Spec {
        let step = |percent: u32, minutes: u64| Step::Weight {
            parts: percent * 100,
            hold: Duration::from_secs(60 * minutes),
        };
        Spec {
            name: "web".to_owned(),
            split: "web".to_owned(),
            primary: "old".to_owned(),
            canary: "new".to_owned(),
            steps: vec![step(5, 10), step(50, 10)],
            bake: Duration::from_secs(600),
            ..Spec::default()
        }
    }

    /// Runs that were rolled back, of ten, and the mean time that took.
    fn played(tool: Tool, words: &str) -> (u32, f64) {
        let scenario = Scenario::default().with(words).unwrap();
        let report = Report::of(&tool.spec(&plan()), &scenario, 10, 1);
        (report.rolled_back, report.rollback.map_or(0.0, |rollback| rollback.seconds.round()))
    }

    #[test]
    fn a_broken_release_is_caught_when_each_tool_would() {
        // Five checks fail, and the sixth rolls back.
        assert_eq!(played(Tool::Flagger, "rps=1000,errors=100%"), (10, 360.0));
        // The fourth failure is one more than the limit.
        assert_eq!(played(Tool::Argo, "rps=1000,errors=100%"), (10, 240.0));
        assert_eq!(played(Tool::Kayenta, "rps=1000,errors=100%"), (10, 600.0));
    }

    #[test]
    fn copies_are_judged_before_any_user_met_the_canary() {
        let first = Step::Trial { matched: 0, copied: 10_000, hold: Duration::from_secs(600) };
        let plan = Spec { steps: vec![first, plan().steps[0]], ..plan() };
        for tool in Tool::ALL {
            let played = |words: &str| {
                let scenario = Scenario::default().with(words).unwrap();
                Report::of(&tool.spec(&plan), &scenario, 10, 1)
            };
            // Kayenta's test is wrong in some of a hundred judgements by itself.
            let alarms = if tool == Tool::Kayenta { 2 } else { 0 };
            assert!(played("rps=1000").rolled_back <= alarms, "{tool:?}");
            let broken = played("rps=1000,errors=100%");
            assert_eq!((broken.rolled_back, broken.exposed_failures), (10, 0.0), "{tool:?}");
        }
    }

    #[test]
    fn what_stays_below_a_threshold_is_not_seen() {
        for tool in [Tool::Flagger, Tool::Argo] {
            assert_eq!(played(tool, "rps=1000,errors=0.5%").0, 0, "{tool:?}");
            assert_eq!(played(tool, "rps=1000,tail=x2").0, 0, "{tool:?}");
        }
    }

    #[test]
    fn objectives_of_the_plan_are_asked_of_the_tools_too() {
        let mut spec = plan();
        spec.analysis.success = Some(SuccessObjective { min: 0.999, share: 0.15 });
        for tool in [Tool::Flagger, Tool::Argo] {
            let rules = tool.rules(&spec);
            assert!(rules.contains("99.9 %") || rules.contains("0.999"), "{rules}");
            let scenario = Scenario::default().with("rps=10000,errors=0.5%").unwrap();
            assert_eq!(Report::of(&tool.spec(&spec), &scenario, 5, 1).rolled_back, 5);
        }
        assert!(Tool::parse("argo").is_ok() && Tool::parse("spinnaker").unwrap_err().contains("kayenta"));
    }
}
