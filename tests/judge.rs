//! The judge against numbers computed by an independent implementation
//! (`judge/vectors.json`): logarithms agree to 1e-9.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin::clock::Moment;
use serin::judge::Cause;
use serin::judge::Judge;
use serin::judge::Verdict;
use serin::judge::alternatives;
use serin::judge::analysis::Analysis;
use serin::judge::analysis::RelativeFailures;
use serin::judge::analysis::SuccessObjective;
use serin::judge::coin::Tosses;
use serin::judge::evidence::ArmDelta;
use serin::judge::evidence::Evidence;
use serin::judge::evidence::GenerationDelta;
use serin::judge::evidence::Pairs;
use serin::judge::failures;
use serin::judge::failures::Failed;
use serin::judge::failures::Failures;
use serin::judge::history::History;
use serin::judge::interval::rate_interval;
use serin::judge::logs::divergence;
use serin::judge::logs::log_mean;
use serin::judge::mirrored;
use serin::judge::objective::Objective;
use serin::judge::panel::View;
use serin::judge::projection::Boundary;
use serin::judge::promotion;
use serin::judge::promotion::Cohort;
use serin::judge::purse::Purse;
use serin::judge::slowness::Cuts;
use serin::judge::stage::Counts;
use serin::judge::stage::Promotion;
use serin::judge::stage::Stage;

fn vectors(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("judge/vectors.json")).expect("the vectors are JSON");
    all.get(name).unwrap_or_else(|| panic!("no vectors {name}")).clone()
}

fn cases<T: DeserializeOwned>(name: &str, expected: usize) -> Vec<T> {
    let cases: Vec<T> = serde_json::from_value(vectors(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(cases.len(), expected, "vectors {name} have all been carried over");
    cases
}

#[track_caller]
fn agree(what: &str, got: f64, expected: f64) {
    let error = (got - expected).abs();
    assert!(error <= 1e-9 * expected.abs() || error <= 1e-12, "{what}: {got} instead of {expected}");
}

#[track_caller]
fn all_agree(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: {got:?} instead of {expected:?}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        agree(&format!("{what} [{i}]"), *got, *expected);
    }
}

#[test]
fn divergence_agrees() {
    #[derive(Deserialize)]
    struct Case {
        a: f64,
        b: f64,
        out: f64,
    }
    for case in cases::<Case>("kl", 5) {
        agree("kl", divergence(case.a, case.b), case.out);
    }
}

#[derive(Deserialize)]
struct Rates<T> {
    pp: f64,
    pc: f64,
    w: f64,
    rho: f64,
    delta: f64,
    out: T,
}

#[test]
fn nearest_null_agrees() {
    for case in cases::<Rates<[f64; 2]>>("ripr", 8) {
        let (x, y) = Boundary { rho: case.rho, delta: case.delta }.nearest(case.pp, case.pc, case.w);
        all_agree("ripr", &[x, y], &case.out);
    }
}

#[test]
fn growth_agrees() {
    for case in cases::<Rates<f64>>("growth", 8) {
        let boundary = Boundary { rho: case.rho, delta: case.delta };
        agree("growth", boundary.growth(case.pp, case.pc, case.w), case.out);
    }
}

#[test]
fn grids_agree() {
    #[derive(Deserialize)]
    struct Worse {
        b: f64,
        out: Vec<f64>,
    }
    #[derive(Deserialize)]
    struct Better {
        b: f64,
        pp: f64,
        out: Vec<f64>,
    }
    for case in cases::<Worse>("worse_grid", 5) {
        all_agree("worse", &alternatives::worse(case.b), &case.out);
    }
    for case in cases::<Better>("better_grid", 3) {
        all_agree("better", &alternatives::better(case.b, case.pp), &case.out);
    }
}

/// One line of a script: a tick of numbers, or a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Word(String),
    Tick(Vec<f64>),
}

impl Line {
    /// Does what a word asks; hands back the numbers of a tick.
    fn or_word(&self, purse: &mut Purse) -> Option<&[f64]> {
        match self {
            Line::Tick(numbers) => return Some(numbers),
            Line::Word(word) if word == "window" => purse.close_window(),
            Line::Word(word) if word == "minute" => purse.top_up(),
            Line::Word(word) => panic!("unknown word {word}"),
        }
        None
    }
}

/// The primary alone: what moves the estimate of its rate.
fn primary_only(failed: f64, requests: f64) -> Evidence {
    let (failed, requests) = (failed as u64, requests as u64);
    let primary = ArmDelta { failed, ok: requests.saturating_sub(failed), ..ArmDelta::default() };
    Evidence {
        generations: vec![GenerationDelta { primary, ..GenerationDelta::default() }],
        ..Evidence::default()
    }
}

/// A history that moves as the reference's does, at the script's own times.
struct Past {
    history: History,
    now: Moment,
}

impl Past {
    fn of(counts: [f64; 2]) -> Past {
        let mut past = Past { history: History::of(counts[0], counts[1]), now: Moment(1) };
        past.history.observe(past.now, &Evidence::default());
        past
    }

    fn observe(&mut self, failed: f64, requests: f64, seconds: f64) {
        self.now = self.now.after(Duration::from_secs_f64(seconds));
        // The reference's scripts may leave the requests out and still count the failures.
        assert!(requests >= failed || requests == 0.0);
        self.history.observe(self.now, &primary_only(failed, requests));
    }
}

#[test]
fn bets_on_whose_failure_it_was_agree() {
    #[derive(Deserialize)]
    struct Out {
        log_e: f64,
        log_raw: f64,
    }
    #[derive(Deserialize)]
    struct Case {
        name: String,
        hist: [f64; 2],
        rho: Option<f64>,
        delta: Option<f64>,
        burst_cap: Option<f64>,
        ticks: Vec<Line>,
        out: Vec<Out>,
    }
    for case in cases::<Case>("label_bet", 13) {
        let mut test = Failures::new(case.rho.unwrap_or(1.0), case.delta.unwrap_or(0.0), 60, case.burst_cap);
        let mut past = Past::of(case.hist);
        assert_eq!(case.ticks.len(), case.out.len());
        for (line, out) in case.ticks.iter().zip(&case.out) {
            match line {
                Line::Word(word) if word == "window" => test.close_window(),
                Line::Word(_) => test.top_up(),
                Line::Tick(tick) => {
                    let failed = Failed { canary: tick[0] as u64, primary: tick[1] as u64, w: tick[2] };
                    test.tick(&[failed], 0, past.history.failure_rate());
                    past.observe(tick[1], tick[3], tick[4]);
                }
            }
            agree(&case.name, test.log_e(View::Capped), out.log_e);
            agree(&case.name, test.log_e(View::Raw), out.log_raw);
        }
    }
}

#[test]
fn absolute_objectives_agree_on_both_sides() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        q: f64,
        side: Option<String>,
        eta0: Option<f64>,
        ticks: Vec<Line>,
        log_e: Vec<f64>,
    }
    for case in cases::<Case>("one_arm", 5) {
        if case.side.as_deref() == Some("better") {
            let even = [0.25; 4];
            let mut purse = Purse::staked(&even, case.eta0.expect("stated"), 60, None);
            for (line, expected) in case.ticks.iter().zip(&case.log_e) {
                if let Some(tick) = line.or_word(&mut purse) {
                    purse.bet(promotion::inside(case.q, tick[0] as u64, tick[1] as u64));
                }
                agree(&case.name, purse.log_e(), *expected);
            }
            continue;
        }
        let mut test = Objective::new(case.q, 60, None);
        assert_eq!(case.ticks.len(), case.log_e.len());
        for (line, expected) in case.ticks.iter().zip(&case.log_e) {
            if let Some(tick) = line.or_word(&mut test.purse) {
                test.tick(tick[0] as i64, tick[1] as i64);
            }
            agree(&case.name, test.purse.log_e(), *expected);
        }
    }
}

#[test]
fn two_armed_bets_agree_on_both_sides() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        hist: [f64; 2],
        rho: Option<f64>,
        delta: Option<f64>,
        side: Option<String>,
        eta0: Option<f64>,
        burst_cap: Option<f64>,
        ticks: Vec<Line>,
        log_e: Vec<f64>,
    }
    for case in cases::<Case>("two_arm", 15) {
        let better = case.side.as_deref() == Some("better");
        let boundary = Boundary { rho: case.rho.unwrap_or(1.0), delta: case.delta.unwrap_or(0.0) };
        let parts =
            if better { promotion::PARTS.to_vec() } else { alternatives::skewed(alternatives::WORSE) };
        let mut purse = Purse::staked(&parts, case.eta0.unwrap_or(0.6), 60, case.burst_cap);
        let mut past = Past::of(case.hist);
        assert_eq!(case.ticks.len(), case.log_e.len());
        for (line, expected) in case.ticks.iter().zip(&case.log_e) {
            if let Some(tick) = line.or_word(&mut purse) {
                let cohort = Cohort {
                    canary_failed: tick[0] as u64,
                    canary_ok: tick[1] as u64,
                    primary_failed: tick[2] as u64,
                    primary_ok: tick[3] as u64,
                    w: tick[4],
                };
                let primary = past.history.failure_rate();
                if better {
                    purse.bet(promotion::good_enough(cohort, boundary, primary));
                } else {
                    let grid = alternatives::worse(boundary.rho * primary + boundary.delta);
                    purse.bet(
                        grid.into_iter().map(|rate| promotion::against(cohort, boundary, primary, rate)),
                    );
                }
                past.observe(tick[2], tick[2] + tick[3], tick[5]);
            }
            agree(&case.name, purse.log_e(), *expected);
        }
    }
}

#[test]
fn latency_cuts_rows_and_bets_agree() {
    #[derive(Deserialize)]
    struct Setup {
        edges_count: usize,
        primary: Vec<f64>,
        cuts: Vec<usize>,
        tails: Vec<f64>,
        taus: Vec<f64>,
        rows: Vec<Vec<f64>>,
    }
    #[derive(Deserialize)]
    struct Case {
        name: String,
        w: f64,
        nc: Vec<u64>,
        np: Vec<u64>,
        log_e: f64,
    }
    let setup: Setup = serde_json::from_value(vectors("latency_setup")).expect("as written");
    assert_eq!(setup.primary.len(), setup.edges_count + 1);
    let cuts = Cuts::of(&setup.primary);
    assert_eq!(cuts.iter().map(|cut| cut.bucket).collect::<Vec<_>>(), setup.cuts);
    all_agree("tails", &cuts.iter().map(|cut| cut.tail).collect::<Vec<_>>(), &setup.tails);
    all_agree("taus", &cuts.iter().map(|cut| cut.tau).collect::<Vec<_>>(), &setup.taus);
    assert_eq!(cuts.rows().len(), setup.rows.len());
    for (got, expected) in cuts.rows().iter().zip(&setup.rows) {
        all_agree("row", got, expected);
    }
    for case in cases::<Case>("latency", 4) {
        let bets = cuts.rows().len();
        let mut purse = Purse::new(&vec![1.0 / bets as f64; bets], 60, None);
        purse.bet(cuts.factors(&case.nc, &case.np, case.w));
        agree(&case.name, purse.log_e(), case.log_e);
    }
}

#[test]
fn combination_intervals_coin_and_mirror_agree() {
    #[derive(Deserialize)]
    struct Combine {
        parts: Vec<(f64, f64)>,
        out: f64,
    }
    #[derive(Deserialize)]
    struct Interval {
        f: f64,
        n: f64,
        alpha: f64,
        out: [f64; 2],
    }
    #[derive(Deserialize)]
    struct Split {
        nc: u64,
        np: u64,
        w: f64,
        out: f64,
    }
    #[derive(Deserialize)]
    struct Mirrored {
        canary_only: u64,
        primary_only: u64,
        psi: f64,
        out: f64,
    }
    for case in cases::<Combine>("combine", 3) {
        agree("combine", log_mean(&case.parts), case.out);
    }
    for case in cases::<Interval>("rate_interval", 5) {
        let (low, high) = rate_interval(case.f, case.n, case.alpha);
        all_agree("interval", &[low, high], &case.out);
    }
    for case in cases::<Split>("split", 4) {
        let tosses = Tosses { generation: 1, w: case.w, canary: case.nc, primary: case.np };
        agree("split", tosses.log_e(), case.out);
    }
    for case in cases::<Mirrored>("mirrored", 3) {
        let pairs =
            Pairs { canary_only: case.canary_only, primary_only: case.primary_only, neither: 9, both: 4 };
        let (tosses, good) = mirrored::asked(&Evidence { pairs, ..Evidence::default() });
        agree("mirrored", failures::factor(tosses[0], 1.0, case.psi), case.out);
        assert_eq!(good, 9 + case.primary_only as i64);
    }
}

#[derive(Deserialize)]
struct RolloutCase {
    name: String,
    config: Config,
    script: Vec<Scripted>,
    out: Vec<Decided>,
    explain: String,
}

#[derive(Deserialize)]
struct Config {
    hist_fails: f64,
    hist_n: f64,
    slo: Option<f64>,
    /// Written as null where the burst guard is off, and left out otherwise.
    #[serde(default, deserialize_with = "present")]
    cap: Option<Option<f64>>,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::<f64>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scripted {
    Word(String),
    Counts(String, f64, f64, f64, f64, f64, f64),
}

#[derive(Deserialize)]
struct Decided {
    log_e: f64,
    log_raw: f64,
    log_rel: f64,
    log_ni: f64,
    verdict: String,
    reason: String,
}

#[test]
fn whole_rollouts_agree_in_evidence_verdict_and_sentence() {
    for case in cases::<RolloutCase>("rollout", 6) {
        play(&case);
    }
}

fn play(case: &RolloutCase) {
    let mut past = Past::of([case.config.hist_fails, case.config.hist_n]);
    let mut judge = Judge::new(&analysis(&case.config), Duration::from_secs(3600), &past.history, past.now);
    let mut stage = Stage::new(&analysis(&case.config), &past.history, past.now).expect("proof is asked for");
    let mut generation = (0, -1.0);
    for (i, (line, decided)) in case.script.iter().zip(&case.out).enumerate() {
        match line {
            Scripted::Word(word) if word == "window" => judge.close_window(),
            Scripted::Word(word) => panic!("unknown word {word}"),
            Scripted::Counts(kind, fc, sc, fp, sp, w, dt) if kind == "tick" => {
                if *w != generation.1 {
                    generation = (generation.0 + 1, *w);
                }
                past.now = past.now.after(Duration::from_secs_f64(*dt));
                let delta = GenerationDelta {
                    id: generation.0,
                    w: *w,
                    canary: arm(*fc, *sc),
                    primary: arm(*fp, *sp),
                    ..GenerationDelta::default()
                };
                let evidence = Evidence { generations: vec![delta], ..Evidence::default() };
                judge.observe(past.now, &evidence, &past.history);
                past.history.observe(past.now, &evidence);
            }
            Scripted::Counts(kind, fc, sc, fp, sp, w, dt) => {
                assert_eq!(kind, "mature");
                stage.take_in(counts(*fc, *sc), counts(*fp, *sp), *w, *dt);
                if case.explain.starts_with("ADVANCE") {
                    judge.take_in(counts(*fc, *sc), counts(*fp, *sp), *w, *dt);
                }
            }
        }
        let at = format!("{} [{i}]", case.name);
        // A matured cohort changes nothing here, but the reference decides again.
        let verdict = judge.decide();
        agree(&at, judge.log_e(View::Capped), decided.log_e);
        agree(&at, judge.log_e(View::Raw), decided.log_raw);
        agree(&at, judge.log_relative(View::Capped), decided.log_rel);
        let shown = stage.asked_at(generation.1).next().expect("failures are compared");
        agree(&at, shown.log_e(), decided.log_ni);
        let is_shown = stage.promotion(generation.1, 1.0) == Promotion::Proved;
        let expected = match (decided.verdict.as_str(), decided.reason.as_str()) {
            ("rollback", "worse") => Verdict::Rollback,
            ("hold", "shared") => Verdict::Hold(Cause::Shared),
            ("suspend", "confirming") => Verdict::Suspend,
            ("continue", "undecided") => {
                assert!(!is_shown, "{at}");
                Verdict::Continue
            }
            ("advance", "good enough") => {
                assert!(is_shown, "{at}");
                Verdict::Continue
            }
            other => panic!("unknown verdict {other:?}"),
        };
        assert_eq!(verdict, expected, "{at}");
        if i + 1 == case.script.len() {
            let said = match case.explain.starts_with("ADVANCE") {
                true => judge.explain_promotion(generation.1),
                false => judge.explain(verdict, &past.history),
            };
            assert_eq!(said, case.explain);
        }
    }
}

fn arm(failed: f64, ok: f64) -> ArmDelta {
    let (failed, ok) = (failed as u64, ok as u64);
    ArmDelta { dispatched: failed + ok, failed, ok, ..ArmDelta::default() }
}

fn counts(failed: f64, ok: f64) -> Counts {
    let (failed, ok) = (failed as u64, ok as u64);
    Counts { dispatched: failed + ok, failed, ok, ..Counts::default() }
}

/// The reference's own shares and tolerances; its windows end by script, so ours
/// must not end by time.
fn analysis(config: &Config) -> Analysis {
    let (relative, absolute) = if config.slo.is_some() { (0.7, 0.3) } else { (1.0, 0.0) };
    let capped = config.cap.is_none_or(|cap| cap.is_some());
    Analysis {
        relative_failures: Some(RelativeFailures { rho: 1.2, delta: 0.0005, share: relative }),
        relative_latency: None,
        success: config.slo.map(|min| SuccessObjective { min, share: absolute }),
        window: if capped { Duration::from_secs(1_000_000) } else { Duration::ZERO },
        ..Analysis::default()
    }
}
