//! The proof of one stage: what counts when, and for whom.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use serin_proxy::histogram::index;

use super::*;
use crate::judge::Judge;
use crate::judge::evidence::ArmDelta;
use crate::judge::slowness::Slowness;

fn stage() -> Stage {
    let analysis = Analysis { relative_latency: None, ..Analysis::default() };
    Stage::new(&analysis, &History::of(10.0, 10_000.0), Moment(0)).expect("failures are compared")
}

fn delta(id: u64, canary: ArmDelta) -> Evidence {
    let primary = ArmDelta { dispatched: 900, ok: 900, ..ArmDelta::default() };
    let delta = GenerationDelta { id, w: 0.1, canary, primary, ..GenerationDelta::default() };
    Evidence { generations: vec![delta], ..Evidence::default() }
}

fn ended(n: u64) -> ArmDelta {
    ArmDelta { dispatched: n, ok: n, ..ArmDelta::default() }
}

fn log_e(stage: &Stage) -> f64 {
    stage.log_e(0.1).expect("there is a check")
}

#[test]
fn cohort_counts_when_it_is_over_and_its_last_request_has_ended() {
    let (mut stage, history) = (stage(), History::default());
    stage.observe(Moment(100), &delta(1, ended(300)), &history);
    stage.observe(Moment(5_000), &Evidence::default(), &history);
    assert_eq!(log_e(&stage), 0.0, "more may begin in it");
    stage.observe(Moment(5_100), &delta(2, ended(1)), &history);
    assert_eq!(log_e(&stage), 0.0, "a worker may not know of the new one yet");
    stage.observe(Moment(5_400), &Evidence::default(), &history);
    assert!(log_e(&stage) > 0.5, "{}", log_e(&stage));
}

/// Failures that come late must not be overtaken by the good answers of later
/// cohorts: with those alone a canary that fails by timeout would look perfect.
#[test]
fn good_answers_do_not_overtake_failures_that_take_their_time() {
    let (mut stage, history) = (stage(), History::default());
    let hanging = ArmDelta { dispatched: 100, ok: 90, ..ArmDelta::default() };
    stage.observe(Moment(100), &delta(1, hanging), &history);
    for id in 2..20 {
        stage.observe(Moment(id * 1_000), &delta(id, ended(1_000)), &history);
    }
    assert_eq!(log_e(&stage), 0.0, "nothing is known of the first ten");
    let failures = ArmDelta { failed: 10, ..ArmDelta::default() };
    let late = Evidence {
        generations: vec![GenerationDelta { id: 1, w: 0.1, canary: failures, ..GenerationDelta::default() }],
        ..Evidence::default()
    };
    stage.observe(Moment(20_000), &late, &history);
    let first = &stage.checks[0];
    assert_eq!((first.bad, first.requests), (10, 100 + 17 * 1_000), "then all of them at once");
}

#[test]
fn what_goes_on_beyond_the_patience_has_not_failed() {
    let (mut stage, history) = (stage(), History::default());
    let streams = ArmDelta { dispatched: 300, ..ArmDelta::default() };
    stage.observe(Moment(100), &delta(1, streams), &history);
    stage.observe(Moment(1_000), &delta(2, ended(1)), &history);
    stage.observe(Moment(60_900), &Evidence::default(), &history);
    assert_eq!(log_e(&stage), 0.0);
    stage.observe(Moment(61_000), &Evidence::default(), &history);
    assert!(log_e(&stage) > 0.5, "{}", log_e(&stage));
}

#[test]
fn requests_from_before_the_stage_do_not_count_and_a_cohort_is_asked_for() {
    let (mut stage, history) = (stage(), History::default());
    stage.begin(Moment(1_000), &history, 7, false);
    for tick in 11..30 {
        stage.observe(Moment(tick * 100), &delta(7, ended(100)), &history);
    }
    assert!(stage.wants_cohort(Moment(3_000)), "else it would wait for ever");
    assert!(stage.open.is_empty());
}

#[test]
fn restarts_are_few_and_number_of_cohorts_is_a_logarithm() {
    let (mut stage, history) = (stage(), History::default());
    stage.begin(Moment(0), &history, 0, false);
    let mut asked = 0;
    for tick in 1..36_000 {
        let now = Moment(tick * 100);
        stage.observe(now, &delta(1 + asked, ended(1)), &history);
        if stage.wants_cohort(now) {
            stage.cohort_is_asked(now);
            asked += 1;
        }
    }
    assert!((40..80).contains(&asked), "{asked} cohorts in an hour");
    assert!(log_e(&stage) > 3.0);
    for _ in 0..3 {
        stage.begin_again(Moment(3_600_000), &history, 99);
        assert_eq!(log_e(&stage), 0.0);
    }
    stage.take_in(
        Counts { dispatched: 300, ok: 300, ..Counts::default() },
        Counts { dispatched: 900, ok: 900, ..Counts::default() },
        0.1,
        1.0,
    );
    let before = log_e(&stage);
    stage.begin_again(Moment(3_700_000), &history, 100);
    assert_eq!(log_e(&stage), before, "no fourth attempt for free");
}

/// So many users who come fifty times each, half of them to the canary. Of its users
/// a share `bad` fails with every request, of the primary's one in a hundred. Is the
/// canary thought good enough?
fn is_proved(seed: u64, users: usize, bad: f64, sticky: bool) -> bool {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let history = History::of(10_000.0, 1_000_000.0);
    let mut stage = stage();
    stage.begin(Moment(0), &history, 0, false);
    let users: Vec<(bool, bool)> = (0..users)
        .map(|_| {
            let canary = random.random::<f64>() < 0.5;
            (canary, random.random::<f64>() < if canary { bad } else { 0.01 })
        })
        .collect();
    for visit in 0..50 {
        let mut delta = GenerationDelta { id: visit + 1, w: 0.5, fresh: 0.5, ..GenerationDelta::default() };
        for (canary, fails) in &users {
            let arm = if *canary { &mut delta.canary } else { &mut delta.primary };
            arm.dispatched += 1;
            *if *fails { &mut arm.failed } else { &mut arm.ok } += 1;
            arm.first_failed += u64::from(*fails && visit == 0);
        }
        if visit == 0 {
            for arm in [&mut delta.canary, &mut delta.primary] {
                arm.first = vec![(100, arm.ok), (200, arm.failed)];
            }
        }
        let evidence = Evidence { generations: vec![delta], sticky, ..Evidence::default() };
        stage.observe(Moment(1_000 * (visit + 1)), &evidence, &history);
    }
    stage.promotion(0.5, 1.0) == Promotion::Proved
}

/// Requests of a user are no tosses of their own: counted as such they prove a
/// canary that is beyond the margin good enough, far more often than is allowed.
#[test]
fn users_who_come_often_prove_no_more_than_once_each() {
    let beyond = 1.2 * 0.01 + 0.005;
    let proved =
        |seeds, users, bad, sticky| (0..seeds).filter(|seed| is_proved(*seed, users, bad, sticky)).count();
    let by_user = proved(200, 2_000, beyond, true);
    let by_request = proved(200, 2_000, beyond, false);
    assert!(by_user <= 10, "{by_user} of 200, and one in twenty may");
    assert!(by_request > 25, "{by_request} of 200: else this says nothing");
    let good = proved(50, 20_000, 0.01, true);
    assert!(good > 40, "of users enough it can be had: {good} of 50");
}

/// Copies of the primary's requests, `failed` in a thousand by the canary alone.
fn mirrored(failed: u64, seconds: u64) -> Stage {
    let (mut stage, history) = (stage(), History::default());
    stage.begin(Moment(0), &history, 0, true);
    for second in 1..=seconds {
        let canary_only = u64::from(second % 10 == 0) * failed;
        let pairs = Pairs { neither: 100 - canary_only, canary_only, ..Pairs::default() };
        stage.observe(Moment(1_000 * second), &Evidence { pairs, ..Evidence::default() }, &history);
    }
    stage
}

#[test]
fn copies_prove_what_no_user_has_met() {
    let after = |seconds| mirrored(0, seconds).promotion(0.0, 0.0);
    let Promotion::Undecided(outlook) = after(20) else { panic!("copies that hang would not be known") };
    assert_eq!((outlook.kind, outlook.counted, outlook.missing), (Kind::Mirrored, Counted::Copies, Some(0)));
    assert!((95.0..106.0).contains(&outlook.pace), "{}", outlook.pace);
    assert_eq!(after(75), Promotion::Proved, "a thousand good ones are of more than a minute ago");
    let bad = mirrored(8, 600).promotion(0.0, 0.0);
    assert!(matches!(bad, Promotion::Undecided(Outlook { missing: None, .. })), "{bad:?}");
    let mut weighted = stage();
    weighted.begin(Moment(0), &History::default(), 0, false);
    assert!(weighted.asked_at(0.1).all(|check| check.kind != Kind::Mirrored), "none are sent there");
}

/// A proof keeps to where the primary's slowest were when it began, while the cuts of
/// the test beside it follow the primary. A request that is told at the age of a lower
/// cut and no more would look fast: slow canaries passed by that.
#[test]
fn the_slowest_stay_known_as_such_while_cuts_move() {
    let of = |us: u64, count: u64| ArmDelta {
        dispatched: count,
        ok: count,
        latency: vec![(index(us) as u32, count - count / 200), (index(2 * us) as u32, count / 200)],
        ..ArmDelta::default()
    };
    let look = |primary: ArmDelta| Evidence {
        generations: vec![GenerationDelta { id: 1, primary, ..GenerationDelta::default() }],
        ..Evidence::default()
    };
    let mut history = History::default();
    history.observe(Moment(1_000), &look(of(50_000, 10_000)));
    let mut judge = Judge::new(&Analysis::default(), Duration::from_secs(3_600), &history, Moment(1_000));
    judge.begin_stage(Moment(1_000), &history, false);
    judge.observe(Moment(1_100), &Evidence::default(), &history);
    let told_at = |judge: &Judge| {
        let cuts = judge.panel.slowness().and_then(Slowness::reveal_us);
        let edge = judge.stage().and_then(Stage::reveal_us).expect("the primary is known");
        (cuts.expect("the primary is known"), edge, judge.reveal_us())
    };
    let (cuts, edge, told) = told_at(&judge);
    assert!(edge > 50_000 && told == Some(cuts.max(edge)), "{edge} {cuts} {told:?}");
    history.observe(Moment(2_000), &look(of(10_000, 10_000_000_000)));
    // Cash is paid in at the end of a window, and cuts are made anew with it.
    for now in [200_000, 210_000] {
        judge.observe(Moment(now), &Evidence::default(), &history);
    }
    let (cuts, still, told) = told_at(&judge);
    assert!(cuts < edge, "else this says nothing: {cuts}");
    assert_eq!((still, told), (edge, Some(edge)));
}
