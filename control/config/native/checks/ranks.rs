//! PipeCD's stage: which strategy, over which interval, and how often it may fail.

use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::judge::checks::Rule;
use crate::judge::checks::Scope;
use crate::judge::mann_whitney::Deviation;
use crate::judge::mann_whitney::Metric;
use crate::judge::mann_whitney::POINT;
use crate::judge::mann_whitney::Strategy;
use crate::judge::samples::Arm;
use crate::judge::samples::Measure;
use crate::judge::samples::POINTS;
use crate::judge::samples::Question;

use super::Read;
use super::apart;
use super::bounds;
use super::each;
use super::flag;
use super::limit;
use super::measured;
use super::names_differ;
use super::terms;
use super::time;
use crate::config::native::units;

const FIELDS: [&str; 6] = ["judge", "run", "duration", "metrics", "minRequests", "expect"];
const METRIC: [&str; 10] = [
    "name",
    "measure",
    "query",
    "strategy",
    "expected",
    "interval",
    "step",
    "failureLimit",
    "skipOnNoData",
    "deviation",
];
const EXPECTED: [&str; 2] = ["min", "max"];

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Threshold,
    Previous,
    Baseline,
    Primary,
}

const STRATEGIES: [(&str, Asked); 4] = [
    ("threshold", Asked::Threshold),
    ("previous", Asked::Previous),
    ("canaryBaseline", Asked::Baseline),
    ("canaryPrimary", Asked::Primary),
];
const DEVIATIONS: [(&str, Deviation); 3] =
    [("either", Deviation::Either), ("high", Deviation::High), ("low", Deviation::Low)];

/// What one stage remembers for the release after it.
const REMEMBERED: u128 = 10_000;

pub fn read<'t>(spot: &Spot<'t>) -> Read<'t> {
    let fields = spot.fields(&FIELDS)?;
    let duration = time(&fields, "duration");
    let metrics = each(&fields, "metrics", metric);
    let rule = metrics.map(|read| {
        let (metrics, questions) = apart(read);
        names_differ(&fields, "metrics", &metrics, |metric: &Metric| &metric.name);
        if let Some(duration) = duration {
            remembers(&fields, duration, &metrics);
        }
        (Rule::Ranks { duration, metrics }, questions)
    });
    let terms = terms(&fields, rule, Scope::Step);
    Some((fields, terms))
}

fn remembers(fields: &Fields, duration: Duration, metrics: &[Metric]) {
    for metric in metrics {
        if let (Err(text), Some(spot)) = (is_remembered(duration, metric), fields.get("duration")) {
            spot.error(format!("gives {text}"));
        }
    }
}

pub fn is_remembered(duration: Duration, metric: &Metric) -> Result<(), String> {
    let checks = duration.as_nanos() / metric.interval.as_nanos().max(1);
    let points = checks * u128::from(metric.points());
    if points <= REMEMBERED {
        return Ok(());
    }
    Err(format!(
        "`{}` {points} points ({checks} checks of {}), and at most {REMEMBERED} are kept",
        metric.name,
        metric.points()
    ))
}

fn metric(spot: &Spot) -> Option<(Metric, Option<Question>)> {
    let fields = spot.fields(&METRIC)?;
    let interval = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    let mut measured = measured(&fields, interval.unwrap_or(POINT))?;
    let interval = interval?;
    let metric = Metric {
        strategy: strategy(&fields, &measured.measure)?,
        name: measured.name.clone(),
        measure: measured.measure.clone(),
        interval,
        point: time(&fields, "step").unwrap_or(POINT),
        failure_limit: limit(&fields, "failureLimit", 0),
        skip_on_no_data: flag(&fields, "skipOnNoData"),
    };
    if metric.points() > POINTS as u64 {
        fields.spot().error(format!(
            "{:?} has {} points, and a check sees at most {POINTS}",
            metric.interval,
            metric.points()
        ));
    }
    if let Some(query) = &mut measured.query {
        // A check looks at all points of its interval.
        query.step.get_or_insert(metric.step());
    }
    let arms: &[Arm] = match metric.strategy {
        Strategy::Primary { .. } => &[Arm::Canary, Arm::Primary],
        Strategy::Threshold { .. } | Strategy::Previous { .. } => &[Arm::Canary],
    };
    let question = measured.question(arms, interval);
    Some((metric, question))
}

fn strategy(fields: &Fields, measure: &Measure) -> Option<Strategy> {
    let asked = match fields.get("strategy") {
        Some(spot) => spot.word(&STRATEGIES)?,
        None => Asked::Threshold,
    };
    let deviation = fields.get("deviation").and_then(|spot| spot.word(&DEVIATIONS)).unwrap_or_default();
    let other = if asked == Asked::Threshold { "deviation" } else { "expected" };
    if let Some(spot) = fields.get(other) {
        spot.error("is of no use with this strategy");
    }
    match asked {
        Asked::Threshold => {
            let expected = fields.need("expected")?.fields(&EXPECTED)?;
            let (min, max) = bounds::both(&expected, measure)?;
            Some(Strategy::Threshold { min, max })
        }
        Asked::Previous => Some(Strategy::Previous { deviation }),
        Asked::Primary => Some(Strategy::Primary { deviation }),
        Asked::Baseline => {
            if let Some(spot) = fields.get("strategy") {
                spot.warn(
                    "without a `baseline` of the rollout the primary stands for it: as much of its traffic of the \
                     same time as the canary has, by the same coin",
                );
            }
            Some(Strategy::Primary { deviation })
        }
    }
}
