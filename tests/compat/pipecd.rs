//! PipeCD's comparison, number for number (`pipecd.jsonl`), p-values to 8 digits.

use serde_json::Value;
use serin::judge::mann_whitney::Deviation;
use serin::judge::mann_whitney::compare;
use serin::judge::ranks::MannWhitney;
use serin::judge::ranks::Untestable;

fn values(case: &Value, side: &str) -> Vec<f64> {
    if let Some(values) = case[side].as_array() {
        return values.iter().map(|value| value.as_f64().expect("a number")).collect();
    }
    let rule = case["gen"].as_str().expect("values or a rule");
    let even = |count: u32, less: f64| (0..count).map(|i| 2.0 * f64::from(i) - less).collect::<Vec<f64>>();
    match (side, rule.starts_with("x=y")) {
        ("x", _) | (_, true) => even(500, 0.0),
        _ => {
            let mut values = even(600, 41.0);
            if rule.contains("first 30") {
                values[..30].copy_from_slice(&even(30, 0.0));
            }
            values
        }
    }
}

#[test]
fn p_values_agree() {
    let cases: Vec<Value> = include_str!("pipecd.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let test = MannWhitney::of(&values(&case, "x"), &values(&case, "y"));
        if case.get("error").is_some() {
            assert_eq!(test, Err(Untestable::AllEqual), "{case}");
            continue;
        }
        let test = test.expect("it can be tested");
        let near = |got: f64, expected: f64, what: &str| {
            assert!((got - expected).abs() <= 1e-8 * expected.max(1e-8), "{case}: {what} is {got}");
        };
        near(test.u, case["U"].as_f64().expect("a number"), "U");
        near(test.less, case["less"].as_f64().expect("a number"), "less");
        near(test.greater, case["greater"].as_f64().expect("a number"), "greater");
        // Its tail of the smaller U is none where ties make the distribution lopsided.
        let two = case["two"].as_f64().filter(|two| *two > 0.0).unwrap_or(2.0 / 21.0);
        near(test.two_sided, two, "two-sided");
    }
}

#[test]
fn smallest_p_by_points_says_which_comparisons_can_fail() {
    let apart = |points: u32| {
        let low: Vec<f64> = (0..points).map(f64::from).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 1000.0).collect();
        MannWhitney::of(&high, &low).expect("they differ")
    };
    for (points, two, one) in [
        (1, 1.0, 0.5),
        (2, 0.333, 0.167),
        (3, 0.1, 0.05),
        (4, 0.0286, 0.0143),
        (5, 0.0079, 0.0040),
        (6, 0.0022, 0.0011),
    ] {
        let test = apart(points);
        assert!((test.two_sided - two).abs() < 5e-4, "{points}: {test:?}");
        assert!((test.greater - one).abs() < 5e-4, "{points}: {test:?}");
    }
}

#[test]
fn comparisons_pass_and_fail_alike() {
    let low = [0.1, 0.2, 0.3, 0.4, 0.5];
    let high = [10.1, 10.2, 10.3, 10.4, 10.5];
    let passes = |canary: &[f64], other: &[f64], deviation| compare(canary, other, deviation).is_ok();
    assert!(!passes(&[], &low, Deviation::Either), "one side without points is an error");
    assert!(passes(&[], &[], Deviation::Either));
    assert!(passes(&low, &low, Deviation::Either));
    assert!(passes(&high, &low, Deviation::Low));
    assert!(!passes(&high, &low, Deviation::High));
    assert!(passes(&low, &high, Deviation::High));
    assert!(!passes(&low, &high, Deviation::Low));
    assert!(!passes(&[0.1, 0.2, 5.3, 0.2, 0.5], &[0.1; 5], Deviation::Either));
}
