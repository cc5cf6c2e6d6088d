//! Users who keep a version, an hour of them, of whom each counts once: how often a
//! canary that is no worse is rolled back, and one that is worse promoted.
//!
//! Nothing but when each first comes and first fails is drawn.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::analysis::Analysis;
use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::evidence::GenerationDelta;
use super::history::History;
use super::panel::Panel;
use super::panel::View;
use super::stage::Promotion;
use super::stage::Stage;
use crate::clock::Moment;

const HOUR: usize = 3_600;

#[derive(Clone, Copy, Debug)]
struct World {
    users: usize,
    /// Requests of a user in the hour.
    pace: f64,
    /// Do some come more often than others?
    uneven: bool,
    /// So many of the users ever fail.
    frail: f64,
    /// Shares of requests that fail.
    primary: f64,
    canary: f64,
    /// The canary is as the primary before this second.
    broken_at: f64,
    /// Its weight from a second on.
    steps: &'static [(f64, f64)],
}

/// Of the canary and of the primary.
#[derive(Clone, Copy, Default)]
struct Second {
    came: [u64; 2],
    failed: [u64; 2],
    at_once: [u64; 2],
}

/// Requests until one fails.
fn until(rate: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    let requests = (1.0 - random.random::<f64>()).ln() / (1.0 - rate).ln();
    if rate <= 0.0 { f64::INFINITY } else { requests.ceil().max(1.0) }
}

fn hour(world: World, random: &mut Xoshiro256PlusPlus) -> Vec<Second> {
    let mut seconds = vec![Second::default(); HOUR];
    for _ in 0..world.users {
        let (point, x, phase) = (random.random::<f64>(), random.random::<f64>(), random.random::<f64>());
        let pace = world.pace / HOUR as f64 * if world.uneven { 3.0 * x * x } else { 1.0 };
        let moved = world.steps.iter().find(|(_, w)| point < *w).map_or(f64::INFINITY, |(at, _)| *at);
        let is_frail = random.random::<f64>() < world.frail;
        let [before, after] = [world.primary, world.canary].map(|rate| until(rate, random));
        let comes = phase / pace;
        let arm = |at: f64| usize::from(at < moved);
        if comes < HOUR as f64 {
            seconds[comes as usize].came[arm(comes)] += 1;
        }
        let changes = moved.max(world.broken_at);
        let mut fails = comes + (before - 1.0) / pace;
        if fails >= changes {
            fails = if comes >= changes {
                comes + (after - 1.0) / pace
            } else {
                changes + (after - phase) / pace
            };
        }
        if is_frail && fails < HOUR as f64 {
            seconds[fails as usize].failed[arm(fails)] += 1;
            seconds[fails as usize].at_once[arm(fails)] += u64::from(fails == comes);
        }
    }
    seconds
}

fn evidence(id: u64, w: f64, second: Second) -> Evidence {
    let arm = |at: usize| ArmDelta {
        dispatched: second.came[at],
        ok: second.came[at] - second.at_once[at],
        failed: second.at_once[at],
        failed_units: second.failed[at],
        first_failed: second.at_once[at],
        first: if second.came[at] > 0 { vec![(100, second.came[at])] } else { Vec::new() },
        ..ArmDelta::default()
    };
    let delta =
        GenerationDelta { id, w, fresh: w, canary: arm(0), primary: arm(1), ..GenerationDelta::default() };
    Evidence { generations: vec![delta], sticky: true, ..Evidence::default() }
}

fn usual(world: World) -> History {
    History::of(world.frail * world.primary * 100_000.0, 100_000.0)
}

/// The second in which the canary is certainly worse.
fn rolled_back(world: World, seed: u64) -> Option<usize> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut panel = Panel::new(&Analysis::default(), 60, Some(10_f64.ln()));
    let history = usual(world);
    for (at, second) in hour(world, &mut random).into_iter().enumerate() {
        if at > 0 && at % 10 == 0 {
            panel.close_window();
        }
        if at > 0 && at % 60 == 0 {
            panel.top_up(&history);
        }
        if second.failed == [0, 0] {
            continue;
        }
        let w = world.steps.iter().rfind(|(from, _)| *from <= at as f64).map_or(0.0, |(_, w)| *w);
        panel.tick(&evidence(1, w, second), &history);
        if panel.log_e(View::Capped) >= 1_000_f64.ln() {
            return Some(at);
        }
    }
    None
}

/// The second in which the canary is shown to be good enough, with `again` begun anew
/// a few times.
fn proved(world: World, seed: u64, again: bool) -> Option<usize> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let analysis = Analysis { relative_latency: None, ..Analysis::default() };
    let history = usual(world);
    let mut stage = Stage::new(&analysis, &history, Moment(0)).expect("failures are compared");
    stage.begin(Moment(0), &history, 0, false);
    let w = world.steps[0].1;
    let mut id = 1;
    for (at, second) in hour(world, &mut random).into_iter().enumerate() {
        let now = Moment(at as u64 * 1_000);
        if again && [600, 1_200, 2_400].contains(&at) {
            stage.begin_again(now, &history, id);
        }
        stage.observe(now, &evidence(id, w, second), &history);
        if stage.promotion(w, 1.0) == Promotion::Proved {
            return Some(at);
        }
        if stage.wants_cohort(now) {
            stage.cohort_is_asked(now);
            id += 1;
        }
    }
    None
}

const TENTH: &[(f64, f64)] = &[(0.0, 0.1)];
const HALF: &[(f64, f64)] = &[(0.0, 0.5)];
const RISING: &[(f64, f64)] = &[(0.0, 0.05), (900.0, 0.1), (1_800.0, 0.25), (2_700.0, 0.5)];

fn world(users: usize, pace: f64, primary: f64, canary: f64, steps: &'static [(f64, f64)]) -> World {
    World { users, pace, uneven: false, frail: 1.0, primary, canary, broken_at: 0.0, steps }
}

fn count(seeds: u64, run: impl Fn(u64) -> Option<usize>) -> usize {
    (0..seeds).filter(|seed| run(*seed).is_some()).count()
}

/// Of those who fail late nearly all are a better canary's, for the primary's users
/// have failed already. With money paid in late all of these were rolled back.
#[test]
fn a_canary_that_is_no_worse_stays_however_few_are_left_who_have_not_failed() {
    for (primary, canary) in [(0.05, 0.05), (0.05, 0.03), (0.05, 0.01), (0.01, 0.002)] {
        for (users, pace) in [(1_000, 10.0), (1_000, 100.0), (1_000, 1_000.0), (10_000, 1_000.0)] {
            for steps in [TENTH, HALF, RISING] {
                for (uneven, frail) in [(false, 1.0), (true, 1.0), (true, 0.1)] {
                    let world = World { uneven, frail, ..world(users, pace, primary, canary, steps) };
                    let blamed = count(5, |seed| rolled_back(world, seed));
                    assert_eq!(blamed, 0, "{world:?}");
                }
            }
        }
    }
}

#[test]
fn a_canary_that_is_worse_or_breaks_after_half_an_hour_goes() {
    for (primary, canary, broken_at) in [(0.01, 0.05, 0.0), (0.001, 0.01, 0.0), (0.001, 0.1, 1_800.0)] {
        for steps in [TENTH, HALF] {
            let world = World { broken_at, ..world(1_000, 100.0, primary, canary, steps) };
            let seen = count(20, |seed| rolled_back(world, seed));
            assert!(seen >= 18, "{seen} of 20: {world:?}");
        }
    }
}

/// In time nearly every user has failed once, of whichever version he is: counted so,
/// twice as many failures of the canary's were good enough.
#[test]
fn a_canary_beyond_the_margin_is_not_proved_by_all_having_failed_once() {
    for (canary, again) in [(0.065, false), (0.065, true), (0.1, false), (0.1, true)] {
        let passed = |uneven| {
            let world = World { uneven, ..world(10_000, 100.0, 0.05, canary, HALF) };
            count(20, |seed| proved(world, seed, again))
        };
        let passed = passed(false) + passed(true);
        assert!(passed <= 3, "{passed} of 40, and one in twenty may: {canary} {again}");
    }
    let good = count(20, |seed| proved(world(10_000, 100.0, 0.05, 0.05, HALF), seed, false));
    assert!(good > 10, "of users enough it can be had: {good} of 20");
}
