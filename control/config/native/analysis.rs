//! What the judge looks at, and how sure it has to be.

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::Inconclusive;
use crate::rollout::spec::LatencyObjective;
use crate::rollout::spec::OnDifference;
use crate::rollout::spec::OnShared;
use crate::rollout::spec::Promotion;
use crate::rollout::spec::RelativeFailures;
use crate::rollout::spec::RelativeLatency;
use crate::rollout::spec::SuccessObjective;

use super::checks;
use super::strata;
use super::units;

const FIELDS: [&str; 17] = [
    "judge",
    "falseRollbacks",
    "replicas",
    "success",
    "latency",
    "failures",
    "slowdown",
    "strata",
    "window",
    "trickle",
    "probes",
    "minRequests",
    "holdTimeout",
    "onShared",
    "promotion",
    "inconclusive",
    "answers",
];
const FAILURES: [&str; 2] = ["ratio", "margin"];
const SLOWDOWN: [&str; 2] = ["ratio", "least"];
const PROMOTION: [&str; 5] = ["falsePromotions", "ratio", "margin", "patience", "extraTime"];
const INCONCLUSIVE: [(&str, Inconclusive); 4] = [
    ("hold", Inconclusive::Hold),
    ("advance", Inconclusive::Advance),
    ("rollback", Inconclusive::Rollback),
    ("wait", Inconclusive::Wait),
];
const ANSWERS: [(&str, OnDifference); 3] =
    [("report", OnDifference::Report), ("hold", OnDifference::Hold), ("rollback", OnDifference::Rollback)];
const ON_SHARED: [(&str, OnShared); 3] =
    [("hold", OnShared::Hold), ("rollback", OnShared::Rollback), ("continue", OnShared::Continue)];

/// An objective that allows fewer failures than this share of `falseRollbacks`
/// can be refuted by a single one (JUDGE 3.4: its mean factor is 0.08 / q, of
/// a purse that holds 0.15 of the budget).
const ONE_FAILURE: f64 = 0.01;

pub fn read(spot: &Spot) -> Analysis {
    if let Some(judge) = checks::judge(spot) {
        return checks::read(judge, spot);
    }
    let mut analysis = Analysis::default();
    let Some(fields) = spot.fields(&FIELDS) else {
        return analysis;
    };
    if let Some(spot) = fields.get("falseRollbacks") {
        analysis.alpha = between(&spot, 1e-9, 0.5, "a percentage from 0.0000001 to 50, for example 0.1%")
            .unwrap_or(analysis.alpha);
    }
    // Any of them may be the one that is wrong.
    let replicas = fields.get("replicas").and_then(|spot| spot.whole(1, 1_000)).unwrap_or(1) as f64;
    analysis.alpha /= replicas;
    tests(&fields, &mut analysis);
    analysis.strata = fields.get("strata").map(|spot| strata::read(&spot)).unwrap_or_default();
    if let (Some(spot), None) = (fields.get("strata"), analysis.relative_failures) {
        spot.error("parts are compared as `failures` says, which is off");
    }
    guards(&fields, &mut analysis);
    proof(&fields, &mut analysis);
    if let Some(promotion) = &mut analysis.promotion {
        promotion.beta /= replicas;
    }
    warn_blame(spot, &fields, &analysis);
    analysis
}

/// An objective says that something is wrong, and only a comparison whose fault it
/// is. The one of latencies also sees failures, since a failure is slowest of all;
/// the one of failures sees nothing slow.
fn warn_blame(spot: &Spot, fields: &Fields, analysis: &Analysis) {
    let (failures, slowdown) = (analysis.relative_failures.is_some(), analysis.relative_latency.is_some());
    let objectives = ["success", "latency"].iter().any(|name| fields.has(name));
    match (failures, slowdown) {
        (false, false) if !objectives => {
            spot.warn("every test is off, so nothing can roll this rollout back")
        }
        (false, false) => spot.warn(
            "nothing is compared with the primary, so a breach of an objective rolls back \
             even where both versions share its cause",
        ),
        (true, false) if analysis.latency.is_some() => {
            fields.get("slowdown").as_ref().unwrap_or(spot).warn(
                "without this nothing tells whose fault a breach of the `latency` objective is, \
                 so a breach only holds for `holdTimeout`, and then `onShared` decides",
            );
        }
        _ => {}
    }
}

fn tests(fields: &Fields, analysis: &mut Analysis) {
    if let Some(spot) = fields.get("success") {
        let alpha = analysis.alpha;
        analysis.success = success(&spot, alpha);
    }
    analysis.latency = fields.get("latency").and_then(|spot| latency(&spot));
    if let Some(spot) = fields.get("failures") {
        let default = analysis.relative_failures.take();
        analysis.relative_failures = match spot.as_bool() {
            Some(on) => default.filter(|_| on),
            None => default.and_then(|default| failures(&spot, default)),
        };
    }
    if let Some(spot) = fields.get("slowdown") {
        let default = analysis.relative_latency.take();
        analysis.relative_latency = match spot.as_bool() {
            Some(on) => default.filter(|_| on),
            None => default.and_then(|default| slowdown(&spot, default)),
        };
    }
}

fn guards(fields: &Fields, analysis: &mut Analysis) {
    if let Some(window) = fields.get("window").and_then(|spot| spot.parsed(units::duration)) {
        analysis.window = window;
    }
    if let Some(spot) = fields.get("trickle")
        && let Some(rate) = spot.parsed(units::decimal)
    {
        if !(0.001..=1_000_000.0).contains(&rate) {
            spot.error("expects requests per second, more than 0");
        }
        analysis.trickle_per_second = rate;
    }
    if let Some(probes) = fields.get("probes").and_then(|spot| spot.whole(1, 1_000_000)) {
        analysis.probes = u32::try_from(probes).unwrap_or(analysis.probes);
    }
    // Not zero: a step without a single request has shown nothing.
    if let Some(least) = fields.get("minRequests").and_then(|spot| spot.whole(1, 1_000_000_000_000)) {
        analysis.min_requests = least;
    }
    if let Some(time) = fields.get("holdTimeout").and_then(|spot| spot.parsed(units::some_time)) {
        analysis.hold_timeout = time;
    }
    if let Some(answer) = fields.get("answers").and_then(|spot| spot.word(&ANSWERS)) {
        analysis.answers = answer;
    }
    if let Some(answer) = fields.get("onShared").and_then(|spot| spot.word(&ON_SHARED)) {
        analysis.on_shared = answer;
    }
}

fn proof(fields: &Fields, analysis: &mut Analysis) {
    if let Some(spot) = fields.get("promotion") {
        let default = analysis.promotion.take();
        analysis.promotion = match spot.as_bool() {
            Some(on) => default.filter(|_| on),
            None => default.and_then(|default| promotion(&spot, default)),
        };
    }
    if let Some(spot) = fields.get("inconclusive")
        && let Some(answer) = spot.word(&INCONCLUSIVE)
    {
        if analysis.promotion.is_none() {
            spot.warn("nothing has to be shown before a step passes, so nothing is inconclusive");
        }
        analysis.inconclusive = answer;
    }
    let compares = analysis.relative_failures.is_some() || analysis.relative_latency.is_some();
    let objectives = analysis.success.is_some() || analysis.latency.is_some();
    if let Some(spot) = fields.get("promotion")
        && analysis.promotion.is_some()
        && !compares
        && !objectives
    {
        spot.warn("every test is off, so nothing is there to be shown");
    }
}

fn promotion(spot: &Spot, default: Promotion) -> Option<Promotion> {
    if !spot.is_map() {
        spot.wrong("true, false or fields (falsePromotions, ratio, margin, patience, extraTime)");
        return None;
    }
    let fields = spot.fields(&PROMOTION)?;
    let mut asked = default;
    if let Some(spot) = fields.get("falsePromotions")
        && let Some(beta) = between(&spot, 1e-6, 0.5, "a percentage from 0.0001 to 50, for example 5%")
    {
        asked.beta = beta;
    }
    if let Some(spot) = fields.get("ratio") {
        asked.ratio = ratio(&spot).unwrap_or(asked.ratio);
    }
    if let Some(spot) = fields.get("margin")
        && let Some(margin) = between(&spot, 0.0, 0.5, "a percentage from 0 to 50, for example 0.5%")
    {
        asked.margin = margin;
    }
    if asked.ratio <= 1.0 && asked.margin <= 0.0 {
        spot.error("a ratio of 1 and no margin cannot be shown by any number of requests");
    }
    if let Some(time) = fields.get("patience").and_then(|spot| spot.parsed(units::some_time)) {
        asked.patience = time;
    }
    if let Some(time) = fields.get("extraTime").and_then(|spot| spot.parsed(units::duration)) {
        asked.extra_time = Some(time);
    }
    Some(asked)
}

/// How many times the primary's share of failures is tolerated.
fn ratio(spot: &Spot) -> Option<f64> {
    let ratio = spot.parsed(units::decimal)?;
    if !(1.0..=1000.0).contains(&ratio) {
        spot.error("expects how many times the primary's failure rate is tolerated, 1 or more");
    }
    Some(ratio)
}

fn success(spot: &Spot, alpha: f64) -> Option<SuccessObjective> {
    let min = spot.parsed(units::fraction)?;
    if min >= 1.0 {
        spot.error("100 % leaves no room for a single failure; give for example 99.9%");
        return None;
    }
    if min < 0.01 {
        spot.error("expects the least share of requests that succeed, in percent, for example 99%");
        return None;
    }
    if 1.0 - min < alpha * ONE_FAILURE {
        spot.warn("this is so tight that one failed canary request can be evidence enough to act on");
    }
    Some(SuccessObjective { min, share: SuccessObjective::SHARE })
}

/// `{p99: 500ms}`.
fn latency(spot: &Spot) -> Option<LatencyObjective> {
    let entries = spot.entries();
    let [(name, at)] = &entries[..] else {
        if entries.len() > 1 {
            spot.error("one percentile is one objective; give one");
        }
        return None;
    };
    let quantile = units::quantile(name).map_err(|text| at.error(text)).ok();
    let threshold = at.parsed(units::some_time);
    Some(LatencyObjective { quantile: quantile?, threshold: threshold?, share: LatencyObjective::SHARE })
}

fn failures(spot: &Spot, default: RelativeFailures) -> Option<RelativeFailures> {
    if !spot.is_map() {
        spot.wrong("true, false or fields (ratio, margin)");
        return None;
    }
    let fields = spot.fields(&FAILURES)?;
    let mut test = default;
    if let Some(spot) = fields.get("ratio") {
        test.rho = ratio(&spot).unwrap_or(test.rho);
    }
    if let Some(margin) = fields
        .get("margin")
        .and_then(|spot| between(&spot, 0.0, 0.5, "a percentage from 0 to 50, for example 0.05%"))
    {
        test.delta = margin;
    }
    Some(test)
}

/// `10%`, or `{ratio: 10%, least: 1ms}`.
fn slowdown(spot: &Spot, default: RelativeLatency) -> Option<RelativeLatency> {
    let mut test = default;
    let ratio = |spot: &Spot| between(spot, 0.0, 10.0, "a percentage from 0 to 1000, for example 10%");
    if !spot.is_map() {
        test.slack.margin = ratio(spot)?;
        return Some(test);
    }
    let fields = spot.fields(&SLOWDOWN)?;
    if let Some(margin) = fields.get("ratio").and_then(|spot| ratio(&spot)) {
        test.slack.margin = margin;
    }
    if let Some(least) = fields.get("least").and_then(|spot| spot.parsed(units::duration)) {
        test.slack.least_us = u64::try_from(least.as_micros()).unwrap_or(u64::MAX);
    }
    Some(test)
}

/// A percentage as a fraction from `least` to `most`.
fn between(spot: &Spot, least: f64, most: f64, expected: &str) -> Option<f64> {
    let value = spot.parsed(units::fraction)?;
    if (least..=most).contains(&value) {
        return Some(value);
    }
    spot.error(format!("expects {expected}"));
    None
}
