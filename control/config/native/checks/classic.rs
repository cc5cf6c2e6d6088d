//! Strikes as Flagger counts them, and measurements with limits as Argo has them.

use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::judge::checks::Rule;
use crate::judge::checks::Scope;
use crate::judge::classic::measurements::Metric;
use crate::judge::classic::strikes;
use crate::judge::classic::strikes::Check;
use crate::judge::condition::Condition;
use crate::judge::samples::Question;

use super::Read;
use super::apart;
use super::arm;
use super::bounds;
use super::each;
use super::flag;
use super::limit;
use super::measured;
use super::names_differ;
use super::terms;
use super::time;
use crate::config::native::units;

const STRIKES: [&str; 6] = ["judge", "interval", "threshold", "checks", "minRequests", "expect"];
const CHECK: [&str; 7] = ["name", "measure", "query", "of", "window", "min", "max"];
const MEASUREMENTS: [&str; 5] = ["judge", "run", "measurements", "minRequests", "expect"];
const MEASUREMENT: [&str; 16] = [
    "name",
    "measure",
    "query",
    "of",
    "window",
    "interval",
    "initialDelay",
    "count",
    "successCondition",
    "failureCondition",
    "failureLimit",
    "inconclusiveLimit",
    "consecutiveErrorLimit",
    "consecutiveSuccessLimit",
    "dryRun",
    "measurementRetention",
];

const INTERVAL: Duration = Duration::from_secs(60);
/// Flagger asks for one, and takes none for this.
const THRESHOLD: u32 = 1;

pub fn strikes<'t>(spot: &Spot<'t>) -> Read<'t> {
    let fields = spot.fields(&STRIKES)?;
    let interval = time(&fields, "interval").unwrap_or(INTERVAL);
    let threshold = limit(&fields, "threshold", THRESHOLD);
    let checks = each(&fields, "checks", |spot| check(spot, interval));
    let rule = checks.map(|read| {
        let (checks, questions) = apart(read);
        names_differ(&fields, "checks", &checks, |check: &Check| &check.name);
        (Rule::Strikes(strikes::Terms { interval, threshold, checks }), questions)
    });
    let terms = terms(&fields, rule, Scope::Rollout);
    Some((fields, terms))
}

fn check(spot: &Spot, interval: Duration) -> Option<(Check, Option<Question>)> {
    let fields = spot.fields(&CHECK)?;
    let (arm, window) = (arm(&fields), time(&fields, "window").unwrap_or(interval));
    let measured = measured(&fields, window)?;
    let (min, max) = bounds::both(&fields, &measured.measure)?;
    let question = measured.question(&[arm], interval.min(window));
    Some((Check { name: measured.name, measure: measured.measure, arm, window, min, max }, question))
}

pub fn measurements<'t>(spot: &Spot<'t>) -> Read<'t> {
    let fields = spot.fields(&MEASUREMENTS)?;
    let metrics = each(&fields, "measurements", measurement);
    let rule = metrics.map(|read| {
        let (metrics, questions) = apart(read);
        names_differ(&fields, "measurements", &metrics, |metric: &Metric| &metric.name);
        (Rule::Measurements { metrics }, questions)
    });
    let terms = terms(&fields, rule, Scope::Rollout);
    Some((fields, terms))
}

fn measurement(spot: &Spot) -> Option<(Metric, Option<Question>)> {
    let fields = spot.fields(&MEASUREMENT)?;
    let interval = time(&fields, "interval");
    let (arm, window) = (arm(&fields), time(&fields, "window").or(interval).unwrap_or(INTERVAL));
    let measured = measured(&fields, window)?;
    let question = measured.question(&[arm], window.min(interval.unwrap_or(window)));
    // Wrong is not the same as none.
    let condition = |name: &str| match fields.has(name) {
        true => Some(Some(fields.get(name)?.parsed(Condition::parse)?)),
        false => Some(None),
    };
    let (success, failure) = (condition("successCondition"), condition("failureCondition"));
    let delay = fields.get("initialDelay").and_then(|spot| spot.parsed(units::duration));
    let metric = Metric {
        name: measured.name,
        measure: measured.measure,
        arm,
        window,
        interval,
        initial_delay: delay.unwrap_or_default(),
        count: fields.get("count").and_then(|spot| spot.whole(1, 1_000_000)).map(|count| count as u32),
        success: success?,
        failure: failure?,
        failure_limit: failure_limit(&fields),
        inconclusive_limit: limit(&fields, "inconclusiveLimit", 0),
        consecutive_error_limit: limit(&fields, "consecutiveErrorLimit", 4),
        consecutive_success_limit: limit(&fields, "consecutiveSuccessLimit", 0),
        dry_run: flag(&fields, "dryRun"),
        retention: retention(&fields),
    };
    agrees(&fields, &metric);
    Some((metric, question))
}

/// Without a value there is no limit.
fn failure_limit(fields: &Fields) -> Option<u32> {
    let limit = fields.get("failureLimit").and_then(|spot| {
        spot.parsed(|text| match text {
            "-1" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| {
                format!("expects how many failures are borne, or -1 for any number, not {text:?}")
            }),
        })
    });
    limit.unwrap_or(Some(0))
}

fn retention(fields: &Fields) -> u32 {
    fields.get("measurementRetention").and_then(|spot| spot.whole(1, 100)).map_or(10, |kept| kept as u32)
}

/// What Argo refuses, too.
fn agrees(fields: &Fields, metric: &Metric) {
    let wrong = |text: String| fields.spot().error(text);
    let enough = metric.consecutive_success_limit;
    if metric.failure_limit.is_none() && enough == 0 {
        wrong(
            "without `failureLimit` it needs a `consecutiveSuccessLimit`, or it can neither pass nor fail"
                .to_owned(),
        );
    }
    let Some(count) = metric.count else { return };
    if count > 1 && metric.interval.is_none() {
        wrong(format!("a `count` of {count} needs an `interval`"));
    }
    let failures = metric.failure_limit.unwrap_or(0);
    if failures.saturating_add(enough) > count {
        wrong(format!(
            "a `count` of {count} is less than the limits of {failures} failures and {enough} successes in a row"
        ));
    }
    if metric.inconclusive_limit > count {
        wrong(format!(
            "a `count` of {count} is less than the `inconclusiveLimit` of {}",
            metric.inconclusive_limit
        ));
    }
}
