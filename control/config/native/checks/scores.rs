//! Kayenta's judge, and the times of Spinnaker's stage.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::native::units;
use crate::judge::aca;
use crate::judge::aca::Metric;
use crate::judge::aca::POINTS;
use crate::judge::aca::classify::Asked;
use crate::judge::aca::classify::Direction;
use crate::judge::aca::classify::Effect;
use crate::judge::aca::classify::EffectMeasure;
use crate::judge::aca::clean::Missing;
use crate::judge::aca::score::Thresholds;
use crate::judge::checks::Rule;
use crate::judge::checks::Scope;
use crate::judge::samples::Arm;
use crate::judge::samples::Question;

use super::Measured;
use super::Read;
use super::apart;
use super::bounds::number;
use super::each;
use super::flag;
use super::measured;
use super::names_differ;
use super::terms;
use super::time;

const FIELDS: [&str; 12] = [
    "judge",
    "run",
    "lifetime",
    "interval",
    "delay",
    "lookback",
    "step",
    "scores",
    "groups",
    "metrics",
    "minRequests",
    "expect",
];
const METRIC: [&str; 11] = [
    "name",
    "measure",
    "query",
    "groups",
    "direction",
    "nan",
    "critical",
    "muted",
    "mustHaveData",
    "outliers",
    "effect",
];
const SCORES: [&str; 2] = ["pass", "marginal"];
const OUTLIERS: [&str; 1] = ["factor"];
const EFFECT: [&str; 5] =
    ["measure", "allowedIncrease", "allowedDecrease", "criticalIncrease", "criticalDecrease"];

const DIRECTIONS: [(&str, Direction); 3] =
    [("increase", Direction::Increase), ("decrease", Direction::Decrease), ("either", Direction::Either)];
const MISSING: [(&str, Missing); 2] = [("remove", Missing::Remove), ("replace", Missing::Replace)];
const MEASURES: [(&str, EffectMeasure); 2] =
    [("meanRatio", EffectMeasure::MeanRatio), ("cles", EffectMeasure::Cles)];
const KEEP: [(&str, Option<f64>); 2] = [("keep", None), ("remove", Some(OUTLIER_FACTOR))];

const STEP: Duration = Duration::from_secs(60);
const OUTLIER_FACTOR: f64 = 3.0;
const THRESHOLDS: Thresholds = Thresholds { pass: 75.0, marginal: 50.0 };

pub fn read<'t>(spot: &Spot<'t>) -> Read<'t> {
    let fields = spot.fields(&FIELDS)?;
    let zero_or = |name: &str| fields.get(name).and_then(|spot| spot.parsed(units::duration));
    let thresholds = fields.get("scores").map_or(Some(THRESHOLDS), |spot| scores(&spot));
    let step = time(&fields, "step").unwrap_or(STEP);
    let metrics = each(&fields, "metrics", |spot| metric(spot, step));
    let lifetime = time(&fields, "lifetime");
    if let Some(lifetime) = lifetime {
        fits(&fields, step, lifetime);
    }
    let rule = match (metrics, thresholds) {
        (Some(read), Some(thresholds)) => {
            let (metrics, questions) = apart(read);
            names_differ(&fields, "metrics", &metrics, |metric: &Metric| &metric.name);
            let terms = aca::Terms {
                step,
                interval: zero_or("interval").filter(|interval| !interval.is_zero()),
                delay: zero_or("delay").unwrap_or_default(),
                lookback: zero_or("lookback").filter(|lookback| !lookback.is_zero()),
                thresholds,
                weights: weights(&fields),
                metrics,
            };
            Some((Rule::Scores { lifetime, terms }, questions))
        }
        _ => None,
    };
    let terms = terms(&fields, rule, Scope::Step);
    Some((fields, terms))
}

fn fits(fields: &Fields, step: Duration, lifetime: Duration) {
    if let (Err(text), Some(spot)) = (is_seen(step, lifetime), fields.get("lifetime")) {
        spot.error(format!("is {text}"));
    }
}

pub fn is_seen(step: Duration, lifetime: Duration) -> Result<(), String> {
    let points = lifetime.as_nanos() / step.as_nanos().max(1);
    if points <= u128::from(POINTS) {
        return Ok(());
    }
    Err(format!(
        "{points} points of {step:?}, and a judgement sees at most {POINTS}; take a longer `step` of the analysis"
    ))
}

fn scores(spot: &Spot) -> Option<Thresholds> {
    let fields = spot.fields(&SCORES)?;
    let score = |name: &str| fields.need(name)?.parsed(number);
    let (pass, marginal) = (score("pass"), score("marginal"));
    let thresholds = Thresholds { pass: pass?, marginal: marginal? };
    if thresholds.pass < thresholds.marginal {
        spot.error(format!(
            "a passing score of {} is below the marginal {}",
            thresholds.pass, thresholds.marginal
        ));
    }
    Some(thresholds)
}

fn weights(fields: &Fields) -> BTreeMap<String, f64> {
    let Some(spot) = fields.get("groups") else { return BTreeMap::new() };
    let weight = |(name, spot): (&str, Spot)| Some((name.to_owned(), spot.parsed(number)?));
    spot.entries().into_iter().filter_map(weight).collect()
}

fn metric(spot: &Spot, step: Duration) -> Option<(Metric, Option<Question>)> {
    let fields = spot.fields(&METRIC)?;
    let measured = measured(&fields, step)?;
    let question = measured.question(&[Arm::Canary, Arm::Primary], step);
    let groups = match fields.get("groups") {
        Some(spot) => spot.one_or_more().iter().filter_map(|spot| spot.text().map(str::to_owned)).collect(),
        None => vec!["all".to_owned()],
    };
    let asked = Asked {
        direction: fields.get("direction").and_then(|spot| spot.word(&DIRECTIONS)).unwrap_or_default(),
        missing: fields.get("nan").and_then(|spot| spot.word(&MISSING)).unwrap_or_default(),
        critical: flag(&fields, "critical"),
        must_have_data: flag(&fields, "mustHaveData"),
        outliers: fields.get("outliers").and_then(|spot| outliers(&spot)),
        effect: fields
            .get("effect")
            .and_then(|spot| effect(&spot))
            .unwrap_or_else(|| Effect::of(EffectMeasure::MeanRatio)),
    };
    let Measured { name, measure, .. } = measured;
    Some((Metric { name, measure, groups, muted: flag(&fields, "muted"), asked }, question))
}

/// `keep`, `remove`, or `{factor: 3}`, which removes.
fn outliers(spot: &Spot) -> Option<f64> {
    if !spot.is_map() {
        return spot.word(&KEEP)?;
    }
    let factor = spot.fields(&OUTLIERS)?.need("factor")?;
    let value = factor.parsed(number)?;
    if value <= 0.0 {
        factor.error("expects how many interquartile ranges, more than 0");
    }
    Some(value)
}

fn effect(spot: &Spot) -> Option<Effect> {
    let fields = spot.fields(&EFFECT)?;
    let measure = fields.get("measure").and_then(|spot| spot.word(&MEASURES)).unwrap_or_default();
    let none = Effect::of(measure);
    let value =
        |name: &str, default: f64| fields.get(name).and_then(|spot| spot.parsed(number)).unwrap_or(default);
    Some(Effect {
        measure,
        allowed_increase: value("allowedIncrease", none.allowed_increase),
        allowed_decrease: value("allowedDecrease", none.allowed_decrease),
        critical_increase: value("criticalIncrease", none.critical_increase),
        critical_decrease: value("criticalDecrease", none.critical_decrease),
    })
}
