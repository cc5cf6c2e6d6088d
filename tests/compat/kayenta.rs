//! Kayenta's judge, number for number (`kayenta.jsonl`): the cases of its own
//! suites, and more that were computed from its algorithm. Bounds and estimates
//! that were computed agree to 1e-9, those of the suites to what they ask.
//!
//! Left out are k-sigma outliers, Cohen's d and the inequality of means, which
//! `NetflixACAJudge-v1.0` never uses.

use std::collections::BTreeMap;

use serde_json::Value;
use serin::judge::aca;
use serin::judge::aca::Terms;
use serin::judge::aca::classify::Asked;
use serin::judge::aca::classify::Direction;
use serin::judge::aca::classify::Effect;
use serin::judge::aca::classify::EffectMeasure;
use serin::judge::aca::classify::Finding;
use serin::judge::aca::classify::Label;
use serin::judge::aca::classify::Strictness;
use serin::judge::aca::classify::classify;
use serin::judge::aca::classify::cles;
use serin::judge::aca::classify::mean_ratio;
use serin::judge::aca::clean::Missing;
use serin::judge::aca::clean::Summary;
use serin::judge::aca::clean::clean;
use serin::judge::aca::clean::percentile;
use serin::judge::aca::score::Grade;
use serin::judge::aca::score::Scored;
use serin::judge::aca::score::Thresholds;
use serin::judge::aca::score::score;
use serin::judge::aca::shift::Shift;
use serin::judge::aca::shift::Spread;
use serin::judge::samples::Measure;
use statrs::distribution::ContinuousCDF;
use statrs::distribution::Normal;

struct Vectors {
    cases: Vec<Value>,
    data: BTreeMap<String, Vec<f64>>,
}

impl Vectors {
    fn read() -> Vectors {
        let lines = include_str!("kayenta.jsonl").lines();
        let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let (data, cases): (Vec<Value>, Vec<Value>) =
            all.into_iter().partition(|case| case.get("data").is_some());
        let data = data.iter().map(|set| {
            let values = values_of(set);
            assert_eq!(values.len() as u64, set["n"].as_u64().expect("a count"), "{}", set["data"]);
            (set["data"].as_str().expect("a name").to_owned(), values)
        });
        Vectors { data: data.collect(), cases }
    }

    /// The cases whose names begin so; there must be as many.
    fn named(&self, prefix: &str, count: usize) -> Vec<&Value> {
        let found: Vec<&Value> = self.cases.iter().filter(|case| name(case).starts_with(prefix)).collect();
        assert_eq!(found.len(), count, "cases {prefix}* have all been carried over");
        found
    }

    fn side(&self, case: &Value, side: &str) -> Vec<f64> {
        match &case[side] {
            Value::String(name) => self.data[name].clone(),
            Value::Array(values) => values.iter().map(number).collect(),
            Value::Null => generated(case, side),
            other => panic!("{}: {other}", name(case)),
        }
    }
}

/// In `counts` a value stands beside how often it is there.
fn values_of(set: &Value) -> Vec<f64> {
    if let Some(values) = set.get("values").or(set.get("in")) {
        return values.as_array().expect("a list").iter().map(number).collect();
    }
    let counts = set["counts"].as_array().expect("a list");
    counts
        .iter()
        .flat_map(|pair| {
            let times = pair[1].as_u64().expect("how often") as usize;
            std::iter::repeat_n(number(&pair[0]), times)
        })
        .collect()
}

/// Both sides of the cases that are told by a rule.
fn generated(case: &Value, side: &str) -> Vec<f64> {
    let zeros_and = |zeros: usize, many: usize| {
        let mut values = vec![0.0; zeros];
        values.resize(zeros + many, 50.0);
        values
    };
    let bad = match name(case) {
        "X-15" => 20,
        "X-16" => 30,
        "X-17" => 40,
        _ => {
            let scale = number(&case["s"]);
            let base = if side == "x" { 110.01 } else { 90.0 };
            return (0..60).map(|k| (base + f64::from(k) / 3.0) * scale).collect();
        }
    };
    if side == "x" { zeros_and(60 - bad, bad) } else { zeros_and(60, 0) }
}

fn name(case: &Value) -> &str {
    case["id"].as_str().expect("a case has a name")
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        _ => value.as_f64().unwrap_or_else(|| panic!("{value} is no number")),
    }
}

#[track_caller]
fn near(what: &str, got: f64, expected: f64, within: f64) {
    assert!((got - expected).abs() <= within || got == expected, "{what}: {got} instead of {expected}");
}

#[test]
fn intervals_and_estimates_agree() {
    let vectors = Vectors::read();
    for case in vectors.named("MW-", 7) {
        let what = name(case);
        if what == "MW-2" {
            near(what, Normal::standard().inverse_cdf(number(&case["p"])), number(&case["expect"]), 1e-6);
            continue;
        }
        let (x, y) = (vectors.side(case, "x"), vectors.side(case, "y"));
        let spread = Spread::of(&x, &y);
        let excess = |mu: f64| spread.excess(mu).expect("not all are tied");
        if what == "MW-1" {
            for point in case["expect"].as_array().expect("points") {
                near(what, excess(number(&point["mu"])), number(&point["v"]), 1e-5);
            }
            continue;
        }
        let shift = Shift::of(&x, &y, number(&case["conf"])).expect("not all are tied");
        let of = |names: [&str; 2]| number(case.get(names[0]).unwrap_or(&case[names[1]]));
        near(what, shift.low, of(["lo", "ciLow"]), 1e-6);
        near(what, shift.high, of(["hi", "ciHigh"]), 1e-6);
        let loose = case.get("est_eps").map_or(1e-6, number);
        near(what, shift.estimate, of(["est", "estimate"]), loose);
        if let Some(exact) = case.get("est_recomputed") {
            near(what, shift.estimate, number(exact), 1e-9);
        }
        if what == "MW-7" {
            near(what, spread.least, number(&case["muMin"]), 1e-12);
            near(what, spread.most, number(&case["muMax"]), 1e-12);
            let z = number(&case["zq"]);
            for (mu, sign, key) in [
                (spread.least, 1.0, "f(muMin,+zq)"),
                (spread.most, 1.0, "f(muMax,+zq)"),
                (spread.least, -1.0, "f(muMin,-zq)"),
                (spread.most, -1.0, "f(muMax,-zq)"),
            ] {
                near(key, excess(mu) - sign * z, number(&case[key]), 1e-6);
            }
        }
    }
}

fn asked(case: &Value) -> Asked {
    let measure = match case["measure"].as_str() {
        Some("cles") => EffectMeasure::Cles,
        _ => EffectMeasure::MeanRatio,
    };
    let mut effect = Effect::of(measure);
    if let Some(pair) = case["allowedDecInc"].as_array() {
        (effect.allowed_decrease, effect.allowed_increase) = (number(&pair[0]), number(&pair[1]));
    }
    if let Some(pair) = case["critDecInc"].as_array() {
        (effect.critical_decrease, effect.critical_increase) = (number(&pair[0]), number(&pair[1]));
    }
    Asked {
        direction: match case["dir"].as_str() {
            Some("increase") => Direction::Increase,
            Some("decrease") => Direction::Decrease,
            _ => Direction::Either,
        },
        missing: if case["nan"] == "replace" { Missing::Replace } else { Missing::Remove },
        critical: case["critical"] == true,
        effect,
        ..Asked::default()
    }
}

fn label(text: &str) -> Label {
    match text {
        "Pass" => Label::Pass,
        "High" => Label::High,
        "Low" => Label::Low,
        "Nodata" => Label::NoData,
        "Error" => Label::Error,
        other => panic!("{other} is no label"),
    }
}

fn check(case: &Value, finding: &Finding) {
    let what = name(case);
    match case["expect"].as_str().expect("a label") {
        "reason non-empty" => assert!(!finding.reason.is_empty(), "{what}"),
        expected => assert_eq!(finding.label, label(expected), "{what}: {finding:?}"),
    }
    if let Some(critical) = case["expectCritical"].as_bool() {
        assert_eq!(finding.critical, critical, "{what}: {finding:?}");
    }
    match &case["deviation"] {
        Value::Null => {}
        Value::String(_) => assert_eq!(finding.ratio, None, "{what}"),
        ratio => assert_eq!(finding.ratio, Some(number(ratio)), "{what}"),
    }
}

#[test]
fn metrics_are_classified_alike() {
    let vectors = Vectors::read();
    for case in vectors.named("CL-", 34) {
        let (x, y) = (vectors.side(case, "x"), vectors.side(case, "y"));
        let strictness = Strictness { confidence: number(&case["conf"]), tolerance: number(&case["tol"]) };
        check(case, &classify(&asked(case), &x, &y, strictness));
        if let Some(expected) = case["recomputed_lo_hi_est"].as_array() {
            let shift = Shift::of(&x, &y, strictness.confidence).expect("not all are tied");
            for (got, expected) in [shift.low, shift.high, shift.estimate].into_iter().zip(expected) {
                near(name(case), got, number(expected), 1e-9);
            }
        }
    }
}

#[test]
fn derived_cases_are_judged_alike_also_where_the_judge_is_wrong() {
    let vectors = Vectors::read();
    let derived = vectors.named("X-", 23);
    for case in derived.into_iter().filter(|case| case.get("fn").is_none()) {
        let (x, y) = (vectors.side(case, "x"), vectors.side(case, "y"));
        let finding = classify(&Asked::default(), &x, &y, Strictness::JUDGE);
        check(case, &finding);
        if let Some(expected) = case["lo_hi_est"].as_array() {
            let shift = Shift::of(&x, &y, Strictness::JUDGE.confidence).expect("not all are tied");
            for (got, expected) in [shift.low, shift.high, shift.estimate].into_iter().zip(expected) {
                // Some were written down with five digits.
                let expected = number(expected);
                let within = if expected.abs() < 1e-4 { 1e-10 } else { 1e-9 };
                near(name(case), got, expected, within);
            }
        }
    }
}

#[test]
fn series_are_cleaned_and_summed_up_alike() {
    let vectors = Vectors::read();
    for case in vectors.named("DE-", 4) {
        let values = values_of(case);
        let outliers: Vec<usize> = case["outlier"]
            .as_array()
            .expect("indices")
            .iter()
            .map(|index| index.as_u64().expect("an index") as usize)
            .collect();
        let kept = (0..values.len()).filter(|index| !outliers.contains(index)).map(|index| values[index]);
        let got = clean(&values, Missing::Remove, Some(number(&case["factor"])));
        assert_eq!(got, kept.collect::<Vec<f64>>(), "{}", name(case));
    }
    for case in vectors.named("TR-", 4) {
        let values = values_of(case);
        let got = match case["fn"].as_str().expect("what is done") {
            "replaceNaN(0)" => clean(&values, Missing::Replace, None),
            "removeNaN" => clean(&values, Missing::Remove, None),
            _ => clean(&values, Missing::Remove, Some(1.5)),
        };
        let expected: Vec<f64> = case["expect"].as_array().expect("values").iter().map(number).collect();
        assert_eq!(got, expected, "{}", name(case));
    }
    for case in vectors.named("ST-", 8) {
        let mut values = values_of(case);
        values.sort_unstable_by(f64::total_cmp);
        if case["fn"] == "percentile" {
            for (percent, expected) in case["expect"].as_object().expect("by percent") {
                let got = percentile(&values, percent.parse().expect("a percent"));
                near(name(case), got, number(expected), case.get("eps").map_or(1e-9, number));
            }
            continue;
        }
        let Summary { count, least, most, mean, deviation } = Summary::of(&values);
        assert_eq!(count as u64, case["count"].as_u64().expect("a count"), "{}", name(case));
        for (got, key) in [(least, "min"), (most, "max"), (mean, "mean"), (deviation, "std")] {
            near(name(case), got, number(&case[key]), case.get("std_eps").map_or(1e-9, number));
        }
    }
    for case in vectors.named("ES-", 8) {
        let (x, y) = (vectors.side(case, "x"), vectors.side(case, "y"));
        let got = if case["fn"] == "cles" { cles(&x, &y) } else { mean_ratio(&x, &y) };
        let expected = number(&case["expect"]);
        if expected.is_nan() {
            assert!(got.is_nan(), "{}: {got}", name(case));
        } else {
            near(name(case), got, expected, case.get("eps").map_or(1e-9, number));
        }
    }
}

#[test]
fn scores_are_summed_alike() {
    let vectors = Vectors::read();
    let derived = vectors.named("X-", 23).into_iter().filter(|case| case["fn"] == "score");
    for case in vectors.named("SC-", 13).into_iter().chain(derived) {
        let rows: Vec<(Vec<String>, Label, bool)> = case["results"]
            .as_array()
            .expect("results")
            .iter()
            .map(|row| {
                let groups = row[0].as_str().expect("groups").split('+').map(str::to_owned).collect();
                (groups, label(row[1].as_str().expect("a label")), row.get(2).is_some())
            })
            .collect();
        let scored: Vec<Scored> = rows
            .iter()
            .map(|(groups, label, critical)| Scored {
                groups,
                label: *label,
                critical: *critical,
                reason: "",
            })
            .collect();
        let weights = case["weights"].as_object().expect("weights");
        let weights = weights.iter().map(|(group, weight)| (group.clone(), number(weight))).collect();
        let got = score(&scored, &weights, Thresholds { pass: 75.0, marginal: 50.0 });
        near(name(case), got.score, number(&case["summary"]), 1e-9);
        for (group, expected) in case["groups"].as_object().into_iter().flatten() {
            near(name(case), got.groups[group], number(expected), 1e-9);
        }
    }
}

fn terms(metrics: &[(&str, bool, bool)]) -> Terms {
    let metric = |(name, critical, muted): &(&str, bool, bool)| aca::Metric {
        name: (*name).to_owned(),
        measure: Measure::Outside { name: (*name).to_owned() },
        groups: vec!["group".to_owned()],
        muted: *muted,
        asked: Asked { direction: Direction::Increase, critical: *critical, ..Asked::default() },
    };
    Terms {
        step: std::time::Duration::from_secs(60),
        interval: None,
        delay: std::time::Duration::ZERO,
        lookback: None,
        thresholds: Thresholds { pass: 75.0, marginal: 50.0 },
        weights: BTreeMap::new(),
        metrics: metrics.iter().map(metric).collect(),
    }
}

/// Evenly from `low` to `high`, in no order.
fn gauge(low: f64, high: f64) -> Vec<f64> {
    (0..60).map(|k| low + (high - low) * f64::from(k * 37 % 60) / 59.0).collect()
}

#[test]
fn whole_judgements_come_out_alike() {
    let critical = terms(&[("gauge", true, false)]);
    let judge = |terms: &Terms, points: Vec<(Vec<f64>, Vec<f64>)>| aca::judge(terms, points.into_iter());
    let good = judge(&critical, vec![(gauge(39.0, 46.0), gauge(40.0, 45.0))]);
    assert_eq!((good.score.score, good.score.grade), (100.0, Grade::Pass), "{good:?}");
    let bad = judge(&critical, vec![(gauge(20.0, 23.0), gauge(10.0, 20.0))]);
    assert_eq!((bad.score.score, bad.findings[0].1.label), (0.0, Label::High), "{bad:?}");
    let muted = terms(&[("muted", true, true), ("other", false, false)]);
    let both =
        judge(&muted, vec![(vec![1000.0; 60], gauge(40.0, 45.0)), (gauge(40.0, 45.0), gauge(40.0, 45.0))]);
    let labels: Vec<Label> = both.findings.iter().map(|(_, finding)| finding.label).collect();
    assert_eq!((labels, both.score.score), (vec![Label::High, Label::Pass], 100.0));
}
