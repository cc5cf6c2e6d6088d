//! Settings that were brought along and cannot do what they seem to: said with the
//! arithmetic, as warnings. What a tool does with them serin does, too.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::fields::Spot;
use crate::config::native::units;
use crate::judge::aca;
use crate::judge::aca::Schedule;
use crate::judge::checks::Rule;
use crate::judge::checks::Scope;
use crate::judge::checks::Terms;
use crate::judge::classic::measurements::Metric;
use crate::judge::classic::strikes;
use crate::judge::condition::Outcome;
use crate::judge::condition::outcome;
use crate::judge::mann_whitney;
use crate::judge::mann_whitney::ALPHA;
use crate::judge::mann_whitney::Deviation;
use crate::judge::mann_whitney::Strategy;
use crate::judge::ranks::MannWhitney;
use crate::judge::samples::Measure;
use crate::judge::samples::Sample;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::Step;

use super::ranks;
use super::scores;
use serin_proxy::weights::WHOLE;
use serin_proxy::weights::percent;

/// Kayenta warns below so many points a side.
const POINTS: u64 = 50;

/// What is known of the traffic and the time that a run has.
struct Traffic {
    /// Requests per second of the service, where the file says it.
    expected: Option<f64>,
    /// The least weight that is judged.
    parts: u32,
    /// The shortest time of a run.
    lasts: Duration,
}

/// `spot` is the analysis'.
pub fn warn(spot: &Spot, steps: &[Step], analysis: &Analysis) {
    let Some(terms) = &analysis.checks else { return };
    let expected = expected(spot);
    if analysis.min_requests == 0 {
        spot.warn("`minRequests: 0` lets a step pass without a single canary answer");
    }
    let traffic = Traffic { expected, parts: least(steps), lasts: lasts(terms, steps) };
    of_time(spot, terms, steps);
    match &terms.rule {
        Rule::Strikes(terms) => of_strikes(spot, terms, steps, &traffic),
        Rule::Measurements { metrics } => metrics.iter().for_each(|metric| of_metric(spot, metric, &traffic)),
        Rule::Scores { lifetime, terms } => of_scores(spot, terms, lifetime.unwrap_or(traffic.lasts)),
        Rule::Ranks { duration, metrics } => {
            let lasts = duration.unwrap_or(traffic.lasts);
            metrics.iter().for_each(|metric| of_ranks(spot, metric, lasts, &traffic));
        }
    }
}

/// Where the time is the steps', it is known only now whether it fits.
fn of_time(spot: &Spot, terms: &Terms, steps: &[Step]) {
    let (lasts, whose) = match terms.scope {
        Scope::Step => {
            (steps.iter().filter(|step| is_judged(step)).filter_map(Step::hold).max(), "the longest step")
        }
        Scope::Rollout => (Some(steps.iter().filter_map(Step::hold).sum()), "all steps together"),
    };
    let lasts = lasts.unwrap_or_default();
    match &terms.rule {
        Rule::Scores { lifetime: None, terms } => {
            if let Err(text) = scores::is_seen(terms.step, lasts) {
                spot.error(format!("without `lifetime` it takes as long as {whose}, {lasts:?}: {text}"));
            }
        }
        Rule::Ranks { duration: None, metrics } => {
            for text in metrics.iter().filter_map(|metric| ranks::is_remembered(lasts, metric).err()) {
                spot.error(format!(
                    "without `duration` it takes as long as {whose}, {lasts:?}: that gives {text}"
                ));
            }
        }
        Rule::Strikes(_) | Rule::Measurements { .. } | Rule::Scores { .. } | Rule::Ranks { .. } => {}
    }
}

fn is_judged(step: &Step) -> bool {
    !matches!(step, Step::Pause { .. })
}

/// A bake that was asked for and that nobody looks at.
pub fn warn_bake(spot: &Spot, analysis: &Analysis) {
    if analysis.checks.as_ref().is_some_and(|terms| !terms.can_watch()) {
        spot.warn(
            "nobody looks at it: this analysis asks something of the primary, which has no traffic after the promotion",
        );
    }
}

/// `expect: {requestsPerSecond: 50}`.
fn expected(spot: &Spot) -> Option<f64> {
    if !spot.is_map() || !spot.has("expect") {
        return None;
    }
    let (_, expect) = spot.entries().into_iter().find(|(name, _)| *name == "expect")?;
    let rate = expect.fields(&["requestsPerSecond"])?.need("requestsPerSecond")?;
    rate.parsed(units::decimal).filter(|rate| *rate > 0.0)
}

fn weight(step: &Step) -> Option<(u32, Duration)> {
    match step {
        Step::Weight { parts, hold } => Some((*parts, *hold)),
        // How many requests match is not known here.
        Step::Trial { .. } | Step::Pause { .. } => None,
    }
}

fn least(steps: &[Step]) -> u32 {
    steps.iter().filter_map(weight).map(|(parts, _)| parts).min().unwrap_or(WHOLE)
}

fn lasts(terms: &Terms, steps: &[Step]) -> Duration {
    let holds = steps.iter().filter_map(weight).map(|(_, hold)| hold);
    match terms.scope {
        Scope::Step => holds.min().unwrap_or_default(),
        Scope::Rollout => holds.sum(),
    }
}

impl Traffic {
    /// Canary requests in so much time.
    fn requests(&self, window: Duration) -> Option<f64> {
        let share = f64::from(self.parts) / f64::from(WHOLE);
        self.expected.map(|rate| rate * share * window.as_secs_f64())
    }

    /// One failed request among those of the window fails it, though none would.
    fn one_failure(
        &self,
        spot: &Spot,
        name: &str,
        measure: &Measure,
        window: Duration,
        fails: impl Fn(f64) -> bool,
    ) {
        let of = |failed: f64, n: f64| match measure {
            Measure::SuccessRate => Some(100.0 * (n - failed) / n),
            Measure::SuccessRatio => Some((n - failed) / n),
            Measure::ErrorRate => Some(100.0 * failed / n),
            Measure::ErrorRatio => Some(failed / n),
            _ => None,
        };
        let Some(n) = self.requests(window) else { return };
        let n_whole = n.round().max(1.0);
        let (Some(none), Some(one)) = (of(0.0, n_whole), of(1.0, n_whole)) else { return };
        if !fails(none) && fails(one) {
            let enough = (1..=10_000_000_u64).find(|n| of(1.0, *n as f64).is_some_and(|value| !fails(value)));
            let enough =
                enough.map_or(String::new(), |enough| format!("; from {enough} requests on one would not"));
            spot.warn(format!(
                "`{name}`: {} requests/s with {} % to the canary give a check {n:.0} canary requests in {window:?}, \
                 and one failure among them ({one:.4}) fails it{enough}",
                self.expected.unwrap_or_default(),
                percent(self.parts)
            ));
        }
    }
}

fn of_strikes(spot: &Spot, terms: &strikes::Terms, steps: &[Step], traffic: &Traffic) {
    if terms.threshold <= 1 {
        let said = match spot.has("threshold") {
            true => format!("`threshold: {}`", terms.threshold),
            false => "without `threshold` it is 1, which".to_owned(),
        };
        spot.warn(format!(
            "{said} rolls back after a single failed check, and a check without values is one"
        ));
    }
    let after = terms.interval * (terms.threshold.max(1) + 1);
    if let Some((_, hold)) = steps.iter().filter_map(weight).find(|(_, hold)| *hold < terms.interval) {
        spot.warn(format!(
            "a step of {hold:?} is shorter than the `interval` of {:?} and lasts that long: a step passes by a check",
            terms.interval
        ));
    }
    if after > Duration::from_secs(600) {
        spot.warn(format!(
            "a canary that is bad from its first request is rolled back after {} s: `threshold` and one more, times \
             `interval`",
            after.as_secs()
        ));
    }
    for check in &terms.checks {
        let (min, max) = (check.min.unwrap_or(f64::NEG_INFINITY), check.max.unwrap_or(f64::INFINITY));
        traffic
            .one_failure(spot, &check.name, &check.measure, check.window, |value| value < min || value > max);
        for bound in [check.min, check.max].into_iter().flatten() {
            if check.measure.is_latency() && bound.fract() != 0.0 {
                spot.warn(format!(
                    "`{}`: latencies are compared in whole milliseconds, so {bound} is read as {}",
                    check.name,
                    bound.trunc()
                ));
            }
        }
        if (check.measure == Measure::SuccessRate && min > 100.0)
            || (check.measure == Measure::SuccessRatio && min > 1.0)
        {
            spot.warn(format!("`{}`: no canary reaches {min}", check.name));
        }
        if check.window > terms.interval {
            spot.warn(format!(
                "`{}`: its `window` of {:?} is longer than the `interval` of {:?}, so one bad moment fails up to {} checks",
                check.name,
                check.window,
                terms.interval,
                check.window.as_millis().div_ceil(terms.interval.as_millis().max(1))
            ));
        }
    }
}

fn of_metric(spot: &Spot, metric: &Metric, traffic: &Traffic) {
    let name = &metric.name;
    let judged = |value: f64| {
        let sample = Sample::Number(value.into());
        outcome(metric.success.as_ref(), metric.failure.as_ref(), &sample, Moment(0))
    };
    let fails = |value: f64| judged(value) == Outcome::Failed;
    traffic.one_failure(spot, name, &metric.measure, metric.window, fails);
    if metric.success.is_none() && metric.failure.is_none() {
        spot.warn(format!("`{name}`: without a condition every measurement is successful"));
    } else {
        let empty = outcome(metric.success.as_ref(), metric.failure.as_ref(), &Sample::Absent, Moment(0));
        match empty {
            Outcome::Successful => spot.warn(format!("`{name}`: no data is a success with these conditions")),
            Outcome::Error(_) if metric.initial_delay.is_zero() => spot.warn(format!(
                "`{name}`: no data is an error, tried again every 10s: without `initialDelay` a canary without \
                 requests is rolled back after {} s",
                10 * metric.consecutive_error_limit
            )),
            _ => {}
        }
    }
    if let (Some(count), Some(limit)) = (metric.count, metric.failure_limit)
        && limit >= count
    {
        spot.warn(format!(
            "`{name}`: it takes more than {limit} failures to fail, and there are {count} measurements: it cannot fail"
        ));
    }
    if metric.interval.is_some_and(|interval| metric.initial_delay + interval > traffic.lasts) {
        spot.warn(format!(
            "`{name}`: a second measurement would come after {:?}, and this is over after {:?}",
            metric.initial_delay + metric.interval.unwrap_or_default(),
            traffic.lasts
        ));
    }
}

fn of_scores(spot: &Spot, terms: &aca::Terms, lifetime: Duration) {
    let schedule = Schedule::of(terms, lifetime);
    if terms.interval.is_some_and(|interval| interval > lifetime) {
        spot.warn(format!(
            "the `interval` is longer than the {lifetime:?} that this takes: it is judged once, at the end"
        ));
    }
    let step_ms = terms.step.as_millis().max(1) as u64;
    let (from, to) = schedule.window(1);
    let points = (to - from) / step_ms;
    let first = format!(
        "the first judgement sees {points} points a side ({} s at {:?} each)",
        (to - from) / 1000,
        terms.step
    );
    match points {
        0 => spot.warn(format!("{first}: that is no data")),
        1 => spot.warn(format!("{first}: one against one cannot be tested and passes, even where critical")),
        2..5 => spot.warn(format!(
            "{first}: two samples that do not overlap are a difference of any size, which chance brings in 1 of {:.0}",
            1.0 / separated(points).two_sided
        )),
        5..POINTS => spot.warn(format!("{first}; below {POINTS} a difference is easily missed")),
        _ => {}
    }
    of_groups(spot, terms);
}

fn of_groups(spot: &Spot, terms: &aca::Terms) {
    let present: BTreeSet<&str> = terms
        .metrics
        .iter()
        .filter(|metric| !metric.muted)
        .flat_map(|metric| &metric.groups)
        .map(String::as_str)
        .collect();
    let sum: f64 = terms.weights.values().sum();
    if !terms.weights.is_empty()
        && (sum - 100.0).abs() > 1e-9
        && present.iter().all(|name| terms.weights.contains_key(*name))
    {
        spot.warn(format!("the weights of `groups` sum to {sum}, so the best score is {sum} and not 100"));
    }
    if sum > 100.0 && present.iter().any(|name| !terms.weights.contains_key(*name)) {
        spot.warn(format!(
            "the weights of `groups` sum to {sum}: groups without one weigh less than nothing"
        ));
    }
    for (name, weight) in terms.weights.iter().filter(|(name, _)| !present.contains(name.as_str())) {
        spot.warn(format!(
            "no metric is in the group `{name}`: its weight of {weight} is lost, and with it as many points"
        ));
    }
    if present.is_empty() {
        spot.warn("every metric is muted: the score is always 0");
    }
}

/// The smallest p-values that so many points a side can give.
fn separated(points: u64) -> MannWhitney {
    let points = u32::try_from(points.clamp(1, 50)).unwrap_or(50);
    let low: Vec<f64> = (0..points).map(f64::from).collect();
    let high: Vec<f64> = low.iter().map(|value| value + 1_000.0).collect();
    MannWhitney::of(&high, &low).expect("the sides differ, and neither is empty")
}

fn of_ranks(spot: &Spot, metric: &mann_whitney::Metric, lasts: Duration, traffic: &Traffic) {
    let (name, interval) = (&metric.name, metric.interval);
    if interval > lasts {
        return spot.warn(format!(
            "`{name}`: its `interval` of {interval:?} is longer than the {lasts:?} that this takes: nothing is ever \
             checked, and it passes"
        ));
    }
    let checks = lasts.as_nanos() / interval.as_nanos().max(1);
    let deviation = match metric.strategy {
        Strategy::Threshold { min, max } => {
            let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
            return traffic
                .one_failure(spot, name, &metric.measure, metric.step(), |value| value < min || value > max);
        }
        Strategy::Previous { deviation } | Strategy::Primary { deviation } => deviation,
    };
    let points = metric.points();
    let best = separated(points);
    let p = if deviation == Deviation::Either { best.two_sided } else { best.greater };
    let step = metric.step();
    if p > ALPHA {
        return spot.warn(format!(
            "`{name}`: {points} points a side ({interval:?} at one each {step:?}) give p = {p:.3} at best, and a check \
             fails at {ALPHA}: it can never fail"
        ));
    }
    if u128::from(metric.failure_limit) >= checks {
        return spot.warn(format!(
            "`{name}`: it takes more than {} failed checks, and there are {checks}: it cannot fail",
            metric.failure_limit
        ));
    }
    let alarms = 1.0 - (1.0 - ALPHA).powf(checks as f64);
    if metric.failure_limit == 0 && checks > 1 {
        spot.warn(format!(
            "`{name}`: {checks} checks at a level of {ALPHA} fail up to {:.0} % of releases that are no different; \
             `failureLimit` bears some",
            100.0 * alarms
        ));
    }
}
