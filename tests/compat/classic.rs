//! Flagger's ticks and Argo's limits, on a virtual clock.

use std::time::Duration;

use serin::judge::checks::Advice;
use serin::judge::checks::Rule;
use serin::judge::checks::Scope;
use serin::judge::checks::Terms;
use serin::judge::classic::measurements::Metric;
use serin::judge::classic::strikes;
use serin::judge::classic::strikes::Check;
use serin::judge::condition::Condition;
use serin::judge::samples::Arm;
use serin::judge::samples::Measure;
use serin::judge::samples::Sample;

use super::stage::Stage;

const MINUTE: Duration = Duration::from_secs(60);

fn check(measure: Measure, min: Option<f64>, max: Option<f64>) -> Check {
    Check { name: measure.name(), measure, arm: Arm::Canary, window: MINUTE, min, max }
}

fn strikes(interval: u64, threshold: u32, checks: Vec<Check>) -> Terms {
    let interval = Duration::from_secs(interval);
    Terms { rule: Rule::Strikes(strikes::Terms { interval, threshold, checks }), scope: Scope::Rollout }
}

fn success(interval: u64, threshold: u32) -> Terms {
    let mut rate = check(Measure::SuccessRate, Some(99.0), None);
    rate.window = Duration::from_secs(interval);
    strikes(interval, threshold, vec![rate])
}

fn rollback(found: &[(u64, Advice)]) -> Option<u64> {
    found.iter().find(|(_, advice)| matches!(advice, Advice::RollBack(_))).map(|(second, _)| *second)
}

#[test]
fn bad_from_the_first_request_is_rolled_back_one_interval_after_the_threshold() {
    for (interval, threshold, seconds) in
        [(60, 5, 360), (60, 10, 660), (30, 5, 180), (10, 5, 60), (10, 2, 30), (10, 1, 20)]
    {
        let mut stage = Stage::new(&success(interval, threshold));
        let found = stage.play(seconds + 100, (0, 10));
        assert_eq!(rollback(&found), Some(seconds), "{interval} s, threshold {threshold}");
        let holds = found.iter().filter(|(_, advice)| matches!(advice, Advice::Hold(_))).count();
        assert_eq!(holds as u32, threshold);
    }
}

#[test]
fn a_fault_in_the_middle_is_exposed_for_threshold_intervals_to_one_more() {
    for onset in [1, 59, 119] {
        let mut stage = Stage::new(&success(60, 5));
        stage.play(600 + onset, (1_000, 0));
        let found = stage.play(600, (0, 1_000));
        let exposed = rollback(&found).expect("it is rolled back") - (600 + onset);
        assert!((300..=360).contains(&exposed), "{onset}: {exposed}");
    }
}

#[test]
fn failed_checks_are_never_forgiven() {
    let mut stage = Stage::new(&success(10, 3));
    for failed in [1, 0, 0, 1, 0, 0, 1] {
        assert_eq!(rollback(&stage.play(10, (10, failed))), None);
    }
    assert!(stage.checks.sentence().starts_with("3 of 3 failed checks"), "{}", stage.checks.sentence());
    let found = stage.play(10, (10, 0));
    let Some((_, Advice::RollBack(why))) = found.last() else { panic!("{found:?}") };
    assert_eq!(why, "failed checks threshold reached 3");
}

#[test]
fn no_values_are_failed_checks_and_a_threshold_of_none_counts_as_one() {
    let mut stage = Stage::new(&success(10, 0));
    let found = stage.play(60, (0, 0));
    assert_eq!(rollback(&found), Some(20), "{found:?}");
    let (10, Advice::Hold(why)) = &found[0] else { panic!("{found:?}") };
    assert!(why.contains("no values found for successRate"), "{why}");
}

#[test]
fn a_step_takes_one_passed_check_for_each_interval_it_lasts() {
    let mut stage = Stage::new(&success(10, 5));
    stage.checks.arrive(Duration::from_secs(30));
    let passed = |found: &[(u64, Advice)]| -> Vec<u64> {
        found.iter().filter(|(_, advice)| *advice == Advice::Advance).map(|(second, _)| *second).collect()
    };
    assert!(passed(&stage.play(10, (10, 10))).is_empty(), "a failed check does not count");
    assert_eq!(passed(&stage.play(30, (10, 0))), [40]);
    stage.checks.arrive(Duration::from_secs(10));
    assert_eq!(passed(&stage.play(10, (10, 0))), [50]);
    assert!(stage.checks.paces());
}

#[test]
fn a_step_that_has_passed_waits_again_after_a_failed_check() {
    let mut stage = Stage::new(&success(10, 5));
    stage.checks.arrive(Duration::from_secs(10));
    stage.play(10, (10, 0));
    assert!(stage.checks.lets_step_pass());
    stage.play(10, (0, 10));
    assert!(!stage.checks.lets_step_pass(), "a tick that fails does not reach the weight");
    stage.play(10, (10, 0));
    assert!(stage.checks.lets_step_pass());
}

#[test]
fn bounds_are_included_and_the_first_failing_metric_ends_the_tick() {
    let first = check(Measure::SuccessRate, Some(99.0), Some(100.0));
    let second = check(Measure::RequestRate, None, Some(1.0));
    let mut stage = Stage::new(&strikes(60, 5, vec![first.clone(), second]));
    let found = stage.play(60, (198, 2));
    let (60, Advice::Hold(why)) = &found[0] else { panic!("{found:?}") };
    assert!(why.contains("requestRate 200.00 > 1"), "99 is not below 99: {why}");
    let found = stage.play(60, (197, 3));
    let (120, Advice::Hold(why)) = &found[0] else { panic!("{found:?}") };
    assert!(why.contains("successRate 98.50 < 99") && !why.contains("requestRate"), "{why}");
}

#[test]
fn latencies_and_their_bounds_are_whole_milliseconds() {
    let slow = |max| strikes(60, 5, vec![check(Measure::Latency { quantile: 0.99 }, None, Some(max))]);
    let of = |max: f64, us: u64| {
        let mut stage = Stage::new(&slow(max));
        stage.latency_us = us;
        stage.play(60, (10, 0)).pop().expect("a tick").1
    };
    assert_eq!(of(5.0, 5_600), Advice::Advance, "5.6 ms are 5");
    assert!(matches!(of(5.0, 6_300), Advice::Hold(_)));
    assert!(matches!(of(0.5, 1_500), Advice::Hold(_)), "half a millisecond is none");
}

#[test]
fn numbers_from_outside_are_judged_and_their_absence_and_errors_are_failures() {
    let number = Measure::Outside { name: "queue".to_owned() };
    let mut stage = Stage::new(&strikes(10, 5, vec![check(number, None, Some(5.0))]));
    let mut said = |sample: Sample| {
        stage.say("queue", Arm::Canary, sample);
        stage.play(10, (0, 0)).pop().expect("a tick").1
    };
    assert_eq!(said(Sample::Number(5.0.into())), Advice::Advance);
    for (sample, why) in [
        (Sample::Number(5.5.into()), "queue 5.50 > 5"),
        (Sample::Number(f64::NAN.into()), "no values found for queue"),
        (Sample::Absent, "no values found for queue"),
        (Sample::Error("the server is away".to_owned()), "queue: the server is away"),
    ] {
        let Advice::Hold(told) = said(sample) else { panic!("it passes instead of: {why}") };
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn ticks_that_nobody_made_are_dropped_and_a_restart_leaves_no_hole() {
    let mut stage = Stage::new(&success(60, 5));
    stage.play(70, (10, 10));
    stage.restart(Duration::from_secs(3_600));
    let found = stage.play(110, (10, 10));
    let seconds: Vec<u64> = found.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [120, 180], "the hour was not watched");
    stage.leap(Duration::from_secs(200));
    let found = stage.play(60, (10, 10));
    let seconds: Vec<u64> = found.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [381, 420], "one tick for those missed, then the pace again");
}

fn metric(interval: Option<u64>) -> Metric {
    Metric {
        name: "rate".to_owned(),
        measure: Measure::SuccessRatio,
        arm: Arm::Canary,
        window: interval.map_or(MINUTE, Duration::from_secs),
        interval: interval.map(Duration::from_secs),
        initial_delay: Duration::ZERO,
        count: None,
        success: Some(condition("result[0] >= 0.95")),
        failure: None,
        failure_limit: Some(0),
        inconclusive_limit: 0,
        consecutive_error_limit: 4,
        consecutive_success_limit: 0,
        dry_run: false,
        retention: 10,
    }
}

fn condition(text: &str) -> Condition {
    Condition::parse(text).expect(text)
}

fn run(metrics: Vec<Metric>, scope: Scope) -> Stage {
    Stage::new(&Terms { rule: Rule::Measurements { metrics }, scope })
}

/// Delayed by one interval, so that there is something to measure.
fn delayed(interval: u64) -> Metric {
    Metric { initial_delay: Duration::from_secs(interval), ..metric(Some(interval)) }
}

#[test]
fn a_limit_of_failures_needs_one_more() {
    for limit in [0, 1, 3] {
        let mut stage = run(vec![Metric { failure_limit: Some(limit), ..delayed(30) }], Scope::Rollout);
        let found = stage.play(600, (0, 10));
        assert_eq!(rollback(&found), Some(30 * (u64::from(limit) + 1)), "limit {limit}");
        let Advice::RollBack(why) = &found[0].1 else { panic!("{found:?}") };
        let failed = limit + 1;
        assert_eq!(
            why,
            &format!("Metric \"rate\" assessed Failed due to failed ({failed}) > failureLimit ({limit})")
        );
    }
    let endless = Metric { failure_limit: None, ..delayed(30) };
    assert!(run(vec![endless], Scope::Rollout).play(600, (0, 10)).is_empty(), "no limit, no failure");
}

#[test]
fn nothing_to_measure_is_an_error_every_ten_seconds_and_the_fifth_aborts() {
    let mut stage = run(vec![metric(Some(300))], Scope::Rollout);
    let found = stage.play(300, (0, 0));
    assert_eq!(rollback(&found), Some(40), "{found:?}");
    let Advice::RollBack(why) = &found[0].1 else { panic!("{found:?}") };
    assert!(
        why.starts_with(
            "Metric \"rate\" assessed Error due to consecutiveErrors (5) > consecutiveErrorLimit (4)"
        ),
        "{why}"
    );
}

#[test]
fn a_result_between_errors_begins_their_count_anew() {
    let mut stage = run(vec![Metric { failure_limit: None, ..metric(Some(10)) }], Scope::Rollout);
    for _ in 0..5 {
        assert!(stage.play(39, (0, 0)).is_empty());
        assert!(stage.play(11, (10, 0)).is_empty());
    }
}

#[test]
fn neither_condition_is_inconclusive_and_waits_for_a_word() {
    let unsure = Metric { failure: Some(condition("result[0] < 0.5")), ..delayed(30) };
    let mut stage = run(vec![unsure.clone()], Scope::Rollout);
    let found = stage.play(600, (6, 4));
    let [(30, Advice::Pause(why))] = &found[..] else { panic!("{found:?}") };
    assert_eq!(why, "Metric \"rate\" assessed Inconclusive due to inconclusive (1) > inconclusiveLimit (0)");
    stage.checks.resumed();
    assert_eq!(rollback(&stage.play(600, (1, 9))), Some(630), "a new run begins, and fails");
    let patient = Metric { inconclusive_limit: 2, ..unsure };
    let found = run(vec![patient], Scope::Rollout).play(600, (6, 4));
    assert!(matches!(found[..], [(90, Advice::Pause(_))]), "{found:?}");
}

#[test]
fn too_many_failures_and_too_many_inconclusive_ones_are_inconclusive() {
    let unsure = Metric {
        failure: Some(condition("result[0] < 0.5")),
        failure_limit: Some(1),
        inconclusive_limit: 1,
        ..delayed(10)
    };
    let mut stage = run(vec![unsure], Scope::Rollout);
    for rates in [(6, 4), (0, 10), (6, 4)] {
        let found = stage.play(10, rates);
        assert!(!found.iter().any(|(_, advice)| matches!(advice, Advice::RollBack(_))), "{found:?}");
    }
    assert!(stage.checks.sentence().contains("assessed Inconclusive"), "{}", stage.checks.sentence());
}

#[test]
fn a_counted_run_ends_by_its_limits() {
    let phase_after = |metric: Metric, seconds: u64, rates: (u64, u64)| {
        let mut stage = run(vec![metric], Scope::Step);
        stage.play(seconds, rates);
        (stage.checks.lets_step_pass(), stage.checks.sentence())
    };
    let counted = Metric { count: Some(3), ..delayed(10) };
    let (passes, sentence) = phase_after(counted.clone(), 29, (10, 0));
    assert!(!passes && sentence.contains("Running"), "{sentence}");
    let (passes, sentence) = phase_after(counted.clone(), 31, (10, 0));
    assert!(passes && sentence.contains("Successful"), "{sentence}");
    let early = Metric { consecutive_success_limit: 2, failure_limit: None, ..counted.clone() };
    assert!(phase_after(early.clone(), 21, (10, 0)).0, "two in a row are enough");
    let (passes, sentence) = phase_after(early, 31, (0, 10));
    assert!(!passes && sentence.contains("Failed"), "only successes in a row would have done: {sentence}");
    let both = Metric { consecutive_success_limit: 5, failure_limit: Some(3), ..counted };
    let (passes, sentence) = phase_after(both, 31, (10, 0));
    assert!(!passes && sentence.contains("Inconclusive"), "{sentence}");
    let once = Metric { initial_delay: Duration::from_secs(10), ..metric(None) };
    assert!(phase_after(once, 11, (10, 0)).0, "without an interval one is all");
}

#[test]
fn one_metric_that_fails_stops_the_others_who_count_as_successful() {
    let other =
        Metric { name: "other".to_owned(), initial_delay: Duration::from_secs(3_600), ..metric(Some(60)) };
    let mut stage = run(vec![delayed(30), other], Scope::Rollout);
    let found = stage.play(60, (0, 10));
    let [(second, Advice::RollBack(why))] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*second, 31, "the pass after the one that found the failure");
    assert!(why.contains("\"rate\""), "{why}");
    let texts: Vec<String> = stage.checks.statuses().into_iter().map(|status| status.text).collect();
    assert!(texts[1].starts_with("Successful, 0 successful"), "{texts:?}");
}

#[test]
fn a_dry_run_is_measured_and_has_no_say() {
    let dry = Metric { dry_run: true, ..delayed(10) };
    let mut stage =
        run(vec![dry.clone(), Metric { count: Some(10), success: None, ..delayed(10) }], Scope::Step);
    assert!(stage.play(99, (0, 10)).is_empty());
    assert!(!stage.checks.lets_step_pass());
    stage.play(10, (0, 10));
    assert!(stage.checks.lets_step_pass());
    let texts: Vec<String> = stage.checks.statuses().into_iter().map(|status| status.text).collect();
    assert!(texts[0].starts_with("Failed, 0 successful, 1 failed"), "{texts:?}");
    let mut alone = run(vec![dry], Scope::Step);
    alone.play(1, (0, 0));
    assert!(alone.checks.lets_step_pass(), "nobody else has a say");
}
