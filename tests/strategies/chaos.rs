//! The strategies on synthetic traffic and a virtual clock, over many seeds: what
//! has to hold at every look whatever is asked, fails or crashes, and how whole
//! rollouts end. A failure names its seed.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use serin::judge::analysis::Analysis;
use serin::judge::analysis::SuccessObjective;
use serin::rehearse::Rehearsal;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rollout::spec::Step;
use serin::rollout::spec::WayBack;
use serin::rollout::{Action, Command, EventKind, Phase, Rollout, Spec};
use serin_proxy::Weights;
use serin_proxy::weights::WHOLE;

use super::*;

const SEEDS: u64 = 60;
const RPS: f64 = 200.0;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn spec(steps: Vec<Step>) -> Spec {
    Spec {
        name: "web".to_owned(),
        split: "web".to_owned(),
        primary: "primary".to_owned(),
        canary: "canary".to_owned(),
        steps,
        bake: seconds(10),
        analysis: Analysis {
            success: Some(SuccessObjective { min: 0.98, share: SuccessObjective::SHARE }),
            promotion: None,
            mirrored: Analysis::default().relative_failures,
            ..Analysis::default()
        },
        ..Spec::default()
    }
}

fn strategies() -> Vec<(&'static str, Spec)> {
    let weight = |percent: u32| Step::Weight { parts: percent * 100, hold: seconds(10) };
    let trial = |matched, copied| Step::Trial { matched, copied, hold: seconds(10) };
    let pause = Step::Pause { hold: Some(seconds(3)) };
    let way_back = Some(WayBack { by: 4_000, every: seconds(10) });
    vec![
        ("a/b", spec(vec![trial(WHOLE, 0)])),
        ("a/b with a coin", spec(vec![trial(5_000, 0)])),
        ("blue/green", spec(vec![trial(WHOLE, 5_000), pause])),
        ("mirror first", spec(vec![trial(0, 5_000), weight(10), pause, weight(50)])),
        ("experiment", Spec { baseline: Some("baseline".to_owned()), ..spec(vec![weight(10), weight(60)]) }),
        ("way back", Spec { way_back, ..spec(vec![weight(30)]) }),
        ("kept", Spec { keep_old: seconds(20), ..spec(vec![weight(30)]) }),
        ("queued", Spec { after: vec!["api".to_owned()], ..spec(vec![trial(0, 1_000), weight(30)]) }),
        ("judged late", Spec { judged_from: 1, ..spec(vec![weight(10), weight(30)]) }),
    ]
}

/// What is the canary's, by whatever way.
fn given(weights: &Weights) -> [u32; 3] {
    [weights.of("canary"), weights.matched(), weights.copied()]
}

/// One look and what has to hold after it.
fn look<W: Fn(f64) -> World>(
    rehearsal: &mut Rehearsal<W>,
    commands: &[Command],
    words: &str,
) -> Vec<EventKind> {
    let (before, weighed) = (rehearsal.rollout.phase(), rehearsal.weights().clone());
    let actions = rehearsal.look(commands);
    let told: Vec<EventKind> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Tell { event } => Some(event.kind),
            _ => None,
        })
        .collect();
    let weights = rehearsal.rollout.weights();
    assert_eq!(*rehearsal.weights(), weights, "{words}: what is in force is what was said");
    assert_eq!(weights.iter().map(|(_, parts)| parts).sum::<u32>(), WHOLE, "{words}");
    let [canary, matched, copied] = given(&weights);
    assert!(canary == 0 || (matched, copied) == (0, 0), "{words}: a trial beside weights: {weights:?}");
    let again = commands.iter().any(|command| {
        matches!(command, Command::Start | Command::Retry | Command::Admit | Command::Promote)
    });
    if matches!(before, Phase::RolledBack | Phase::Aborted | Phase::Queued)
        && !again
        && before != Phase::Queued
    {
        assert_eq!(given(&weights), [0; 3], "{words}: something for the canary after the end");
    }
    let rises = given(&weights).iter().zip(given(&weighed)).any(|(now, then)| *now > then);
    let spoken = told.iter().any(|kind| {
        use EventKind::*;
        matches!(kind, Started | Step | Promoted | Probed | Released | Resumed | TurnedBack)
    });
    assert!(
        !rises || spoken,
        "{words}: more for the canary without a word: {weighed:?} to {weights:?}, {told:?}"
    );
    let spec = rehearsal.rollout.spec();
    if let Some(baseline) = &spec.baseline
        && canary > 0
        && rehearsal.rollout.phase() == Phase::Running
    {
        assert_eq!(weights.of(baseline), spec.baseline_parts(canary), "{words}");
    }
    told
}

/// As the journal keeps it.
fn reborn<W: Fn(f64) -> World>(rehearsal: &mut Rehearsal<W>, words: &str) {
    let text = serde_json::to_string(&rehearsal.rollout.checkpoint()).expect("plain data");
    let read = serde_json::from_str(&text).expect("what was written can be read");
    let spec = rehearsal.rollout.spec().clone();
    let restored = Rollout::restore(spec, read, rehearsal.now());
    assert_eq!(restored.weights(), rehearsal.rollout.weights(), "{words}");
    assert_eq!(restored.phase(), rehearsal.rollout.phase(), "{words}");
    rehearsal.rollout = restored;
}

#[test]
fn invariants_hold_whatever_is_asked_and_whatever_fails() {
    const COMMANDS: [Command; 12] = [
        Command::Start,
        Command::Promote,
        Command::Promote,
        Command::Abort,
        Command::Pause,
        Command::Resume,
        Command::Retry,
        Command::Skip,
        Command::Freeze,
        Command::Suspend,
        Command::Rollback,
        Command::Admit,
    ];
    for (name, spec) in strategies() {
        for seed in 0..SEEDS / 3 {
            let words = format!("{name}, seed {seed}");
            let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xab);
            let (bad_from, bad_for) = (60.0 * chance.random::<f64>(), 30.0 * chance.random::<f64>());
            let (failure, shared) = (chance.random::<f64>().powi(2), chance.random::<f64>() < 0.3);
            let world = move |at: f64| {
                let bad = (bad_from..bad_from + bad_for).contains(&at);
                let rate = |hit: bool| Version::failing(if hit { failure } else { 0.003 });
                World { requests_per_second: RPS, primary: rate(bad && shared), canary: rate(bad) }
            };
            let mut rehearsal = Rehearsal::new(Rollout::new(spec.clone()), seed, world);
            for _ in 0..900 {
                let asked = chance.random::<f64>() < 0.02;
                let command = COMMANDS[chance.random_range(0..COMMANDS.len())];
                match chance.random::<f64>() {
                    x if x < 0.01 => rehearsal.lose_evidence(),
                    x if x < 0.02 => rehearsal.sleep(chance.random_range(0..2_000)),
                    x if x < 0.05 => reborn(&mut rehearsal, &words),
                    _ => {}
                }
                look(&mut rehearsal, if asked { std::slice::from_ref(&command) } else { &[] }, &words);
            }
        }
    }
}

/// Ten seconds of history, then the start, then what others would say, to the end.
fn play(spec: &Spec, seed: u64, words: &str, world: impl Fn(f64) -> World) -> (Phase, u64, Vec<EventKind>) {
    let mut rehearsal = Rehearsal::new(Rollout::new(spec.clone()), seed, world);
    let mut told = Vec::new();
    while rehearsal.seconds() < 10.0 {
        look(&mut rehearsal, &[], words);
    }
    look(&mut rehearsal, &[Command::Start], words);
    while !rehearsal.rollout.phase().is_final() && rehearsal.seconds() < 240.0 {
        let command = if rehearsal.rollout.awaits_primary() {
            Some(Command::Arrived)
        } else {
            rehearsal.rollout.may_be_admitted(rehearsal.now()).then_some(Command::Admit)
        };
        told.extend(look(&mut rehearsal, command.as_slice(), words));
    }
    (rehearsal.rollout.phase(), rehearsal.totals.canary_requests, told)
}

#[test]
fn healthy_releases_succeed_by_every_strategy() {
    for (name, spec) in strategies() {
        let healthy = Version::failing(0.002);
        let world = |_: f64| World { requests_per_second: RPS, primary: healthy, canary: healthy };
        let ends: Vec<Phase> = (0..SEEDS).map(|seed| play(&spec, seed, name, world).0).collect();
        let good = ends.iter().filter(|phase| **phase == Phase::Succeeded).count() as u64;
        assert!(good >= SEEDS * 95 / 100, "{name}: {good} of {SEEDS}");
    }
}

#[test]
fn bad_releases_are_rolled_back_by_every_strategy_and_copies_expose_nobody() {
    for (name, spec) in strategies() {
        let (primary, canary) = (Version::failing(0.002), Version::failing(0.3));
        let world = |_: f64| World { requests_per_second: RPS, primary, canary };
        let mut back = 0;
        for seed in 0..SEEDS {
            let (phase, exposed, _) = play(&spec, seed, name, world);
            back += u64::from(phase == Phase::RolledBack);
            if name == "mirror first" && phase == Phase::RolledBack {
                assert_eq!(exposed, 0, "seed {seed}: users met a canary that failed its copies");
            }
        }
        assert!(back >= SEEDS * 95 / 100, "{name}: {back} of {SEEDS} were rolled back");
    }
}
