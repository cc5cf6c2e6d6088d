//! The stages of Spinnaker and PipeCD: their windows, their time, their end.

use std::collections::BTreeMap;
use std::time::Duration;

use serin::judge::aca;
use serin::judge::aca::Schedule;
use serin::judge::aca::classify::Asked;
use serin::judge::aca::classify::Direction;
use serin::judge::aca::score::Thresholds;
use serin::judge::checks::Advice;
use serin::judge::checks::Checks;
use serin::judge::checks::Rule;
use serin::judge::checks::Scope;
use serin::judge::checks::Terms;
use serin::judge::mann_whitney::Deviation;
use serin::judge::mann_whitney::Metric;
use serin::judge::mann_whitney::POINT;
use serin::judge::mann_whitney::Strategy;
use serin::judge::samples::Arm;
use serin::judge::samples::Measure;
use serin::judge::samples::Sample;

use super::stage::Stage;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn scores(interval: Option<Duration>, lookback: Option<Duration>) -> aca::Terms {
    aca::Terms {
        step: minutes(1),
        interval,
        delay: Duration::ZERO,
        lookback,
        thresholds: Thresholds { pass: 95.0, marginal: 75.0 },
        weights: BTreeMap::new(),
        metrics: vec![aca::Metric {
            name: "errors".to_owned(),
            measure: Measure::ErrorRatio,
            groups: vec!["all".to_owned()],
            muted: false,
            asked: Asked { direction: Direction::Increase, ..Asked::default() },
        }],
    }
}

fn staged(lifetime: Duration, terms: aca::Terms) -> Stage {
    let rule = Rule::Scores { lifetime: Some(lifetime), terms };
    Stage::new(&Terms { rule, scope: Scope::Step })
}

#[test]
fn judgements_come_at_their_times_over_windows_that_grow_or_slide() {
    let times = |lifetime, interval, delay, lookback| {
        let terms = aca::Terms { delay, ..scores(interval, lookback) };
        let schedule = Schedule::of(&terms, lifetime);
        let minute = |ms: u64| ms / 60_000;
        (1..=schedule.judgements)
            .map(|number| schedule.window(number))
            .map(|(from, to)| (minute(from), minute(to)))
            .collect::<Vec<(u64, u64)>>()
    };
    let zero = Duration::ZERO;
    assert_eq!(times(minutes(65), Some(minutes(30)), zero, None), [(0, 30), (0, 60)]);
    assert_eq!(times(minutes(60), None, zero, None), [(0, 60)]);
    assert_eq!(times(minutes(60), Some(zero), zero, None), [(0, 60)]);
    assert_eq!(times(minutes(60), Some(minutes(90)), zero, None), [(0, 60)]);
    assert_eq!(times(minutes(60), Some(minutes(30)), minutes(5), None), [(5, 35), (5, 65)]);
    assert_eq!(
        times(minutes(90), Some(minutes(30)), zero, Some(minutes(20))),
        [(10, 30), (40, 60), (70, 90)]
    );
}

#[test]
fn a_good_canary_passes_when_its_lifetime_is_over_and_a_bad_one_fails_at_the_first_judgement() {
    let mut good = staged(minutes(60), scores(Some(minutes(30)), None));
    assert!(good.play_both(3_599, (99, 1), (99, 1)).is_empty());
    assert!(!good.checks.lets_step_pass());
    assert!(good.play_both(1, (99, 1), (99, 1)).is_empty());
    assert!(good.checks.lets_step_pass(), "{}", good.checks.sentence());

    let mut bad = staged(minutes(60), scores(Some(minutes(30)), None));
    let found = bad.play_both(3_600, (90, 10), (99, 1));
    let [(1_800, Advice::RollBack(why))] = &found[..] else { panic!("{found:?}") };
    assert!(
        why.starts_with("score 0 is not above the marginal 75: errors is higher than the primary"),
        "{why}"
    );
    assert!(!bad.checks.lets_step_pass());
}

#[test]
fn a_score_between_marginal_and_pass_is_borne_until_the_last() {
    let metric = |name: &str, measure| aca::Metric {
        name: name.to_owned(),
        measure,
        groups: vec![name.to_owned()],
        muted: false,
        asked: Asked { direction: Direction::Increase, ..Asked::default() },
    };
    let terms = aca::Terms {
        weights: BTreeMap::from([("errors".to_owned(), 20.0), ("rate".to_owned(), 80.0)]),
        metrics: vec![metric("errors", Measure::ErrorRatio), metric("rate", Measure::RequestRate)],
        ..scores(Some(minutes(30)), None)
    };
    let mut stage = staged(minutes(60), terms);
    let found = stage.play_both(3_600, (90, 10), (99, 1));
    let [(3_600, Advice::RollBack(why))] = &found[..] else { panic!("{found:?}") };
    assert!(why.starts_with("the last score 80 is below 95"), "{why}");
}

#[test]
fn sliding_windows_forget_and_growing_ones_do_not() {
    let play = |lookback| {
        let terms = aca::Terms {
            thresholds: Thresholds { pass: 95.0, marginal: -1.0 },
            ..scores(Some(minutes(30)), lookback)
        };
        let mut stage = staged(minutes(90), terms);
        stage.play_both(1_800, (90, 10), (99, 1));
        let early = stage.checks.sentence();
        stage.play_both(3_600, (99, 1), (99, 1));
        (early, stage.checks.sentence())
    };
    let (early, late) = play(Some(minutes(30)));
    assert!(early.contains("score 0 (fail)") || early.contains("score 0 (marginal)"), "{early}");
    assert!(late.contains("judgement 3 of 3: score 100"), "{late}");
    let (_, late) = play(None);
    // Thirty bad minutes of ninety: the judge is blind to such a burst by design.
    assert!(late.contains("judgement 3 of 3"), "{late}");
}

#[test]
fn one_point_a_side_passes_as_with_kayenta() {
    let mut stage = staged(minutes(1), scores(None, None));
    assert!(stage.play_both(60, (0, 100), (100, 0)).is_empty());
    assert!(stage.checks.lets_step_pass(), "an error speaks neither for nor against");
}

fn metric(strategy: Strategy, interval: Duration) -> Metric {
    Metric {
        name: "errors".to_owned(),
        measure: Measure::ErrorRatio,
        strategy,
        interval,
        point: POINT,
        failure_limit: 0,
        skip_on_no_data: false,
    }
}

fn ranked(metric: Metric, duration: Duration, before: Option<&Checks>) -> Stage {
    let rule = Rule::Ranks { duration: Some(duration), metrics: vec![metric] };
    Stage::lasting(&Terms { rule, scope: Scope::Step }, duration, before)
}

const BELOW: Strategy = Strategy::Threshold { min: None, max: Some(0.02) };
const ABOVE_PRIMARY: Strategy = Strategy::Primary { deviation: Deviation::High };

#[test]
fn thresholds_are_checked_at_each_interval_and_fail_beyond_their_limit() {
    for limit in [0, 2] {
        let mut stage =
            ranked(Metric { failure_limit: limit, ..metric(BELOW, minutes(5)) }, minutes(30), None);
        let found = stage.play(1_800, (90, 10));
        let [(second, Advice::RollBack(why))] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*second, 300 * (u64::from(limit) + 1));
        assert!(why.starts_with("errors: 0.1 is not from no bound to 0.02"), "{why}");
    }
    let mut good = ranked(metric(BELOW, minutes(5)), minutes(30), None);
    assert!(good.play(1_799, (99, 1)).is_empty());
    assert!(!good.checks.lets_step_pass());
    good.play(1, (99, 1));
    assert!(good.checks.lets_step_pass());
}

#[test]
fn the_check_at_the_end_is_made_and_one_that_never_comes_passes() {
    let mut equal = ranked(metric(BELOW, minutes(30)), minutes(30), None);
    assert!(matches!(equal.play(1_800, (0, 10))[..], [(1_800, Advice::RollBack(_))]));
    let mut longer = ranked(metric(BELOW, minutes(31)), minutes(30), None);
    assert!(longer.play(2_000, (0, 10)).is_empty());
    assert!(longer.checks.lets_step_pass());
}

/// Failures that differ from minute to minute, so that points do not tie.
fn restless(stage: &mut Stage, minutes: u64, bad: u64) -> Vec<(u64, Advice)> {
    let minute = |i: u64| {
        let wave = i * 7 % 5;
        stage.play_both(60, (1_000 - bad - wave, bad + wave), (999 - i * 3 % 5, 1 + i * 3 % 5))
    };
    (0..minutes).flat_map(minute).collect()
}

#[test]
fn comparison_with_the_primary_fails_where_there_are_points_enough() {
    let mut stage = ranked(metric(ABOVE_PRIMARY, minutes(5)), minutes(30), None);
    let found = restless(&mut stage, 30, 50);
    let [(300, Advice::RollBack(why))] = &found[..] else { panic!("{found:?}") };
    assert!(why.contains("the canary is higher than what it is compared with"), "{why}");
    let mut blind = ranked(metric(ABOVE_PRIMARY, minutes(1)), minutes(30), None);
    assert!(restless(&mut blind, 30, 900).is_empty(), "two points a side never fail");
    let lower = Strategy::Primary { deviation: Deviation::Low };
    let mut other_way = ranked(metric(lower, minutes(5)), minutes(30), None);
    assert!(restless(&mut other_way, 30, 50).is_empty());
}

#[test]
fn comparison_with_the_release_before_needs_one_that_passed() {
    let previous = || metric(Strategy::Previous { deviation: Deviation::High }, minutes(5));
    let mut first = ranked(previous(), minutes(10), None);
    assert!(restless(&mut first, 10, 1).is_empty(), "nothing to compare with is a success");
    let mut worse = ranked(previous(), minutes(10), Some(&first.checks));
    assert!(matches!(restless(&mut worse, 10, 80)[..], [(300, Advice::RollBack(_))]));
    let mut again = ranked(previous(), minutes(10), Some(&worse.checks));
    assert!(
        matches!(restless(&mut again, 10, 80)[..], [(300, Advice::RollBack(_))]),
        "what failed is no measure"
    );
    let mut alike = ranked(previous(), minutes(10), Some(&worse.checks));
    assert!(restless(&mut alike, 10, 1).is_empty());
}

#[test]
fn no_number_fails_unless_it_is_skipped_and_an_empty_answer_passes() {
    let mut idle = ranked(metric(BELOW, minutes(5)), minutes(30), None);
    assert!(matches!(idle.play(1_800, (0, 0))[..], [(300, Advice::RollBack(_))]));
    let skipping = Metric { skip_on_no_data: true, ..metric(BELOW, minutes(5)) };
    assert!(ranked(skipping, minutes(30), None).play(1_800, (0, 0)).is_empty());
    let outside = |sample: Option<Sample>| {
        let asked =
            Metric { measure: Measure::Outside { name: "errors".to_owned() }, ..metric(BELOW, minutes(5)) };
        let mut stage = ranked(asked, minutes(30), None);
        if let Some(sample) = sample {
            stage.say("errors", Arm::Canary, sample);
        }
        stage.play(300, (0, 0)).len()
    };
    assert_eq!(outside(Some(Sample::Absent)), 0, "an empty answer is a success");
    assert_eq!(outside(None), 1, "no answer is none");
    assert_eq!(outside(Some(Sample::Numbers(vec![0.01.into(), 0.5.into()]))), 1);
    assert_eq!(outside(Some(Sample::Numbers(vec![0.01.into(), 0.02.into()]))), 0);
    assert_eq!(outside(Some(Sample::Error("away".to_owned()))), 1);
}
