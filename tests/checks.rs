//! Releases judged as other tools would, on the real binary with real traffic: a
//! good one passes, a bad one goes back on the tick that the tool would take.

use serde_json::Value;

use crate::harness::load::GAP;
use crate::harness::scene::Scene;
use crate::harness::{Answer, App, Ask, Load, eventually};

/// Two versions, a rollout of these lines, and traffic that has begun.
fn scene(rollout: &str) -> Scene {
    Scene::start(rollout, 4)
}

/// What was told so far: milliseconds since the start, kind and text.
fn told(app: &App) -> Vec<(u64, String, String)> {
    let journal = app.folder().join("serin-state/journal.jsonl");
    let text = std::fs::read_to_string(journal).expect("a rollout has a journal");
    let mut events = Vec::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let actions = line["actions"].as_array().cloned().unwrap_or_default();
        for event in actions.iter().map(|action| &action["tell"]["event"]).filter(|event| event.is_object()) {
            let word = |name: &str| event[name].as_str().expect("a text").to_owned();
            events.push((event["at"].as_u64().expect("a moment"), word("kind"), word("text")));
        }
    }
    let start = events.iter().find(|event| event.1 == "started").map_or(0, |event| event.0);
    events.into_iter().map(|(at, kind, text)| (at.saturating_sub(start), kind, text)).collect()
}

fn times(events: &[(u64, String, String)], wanted: &str) -> Vec<u64> {
    events.iter().filter(|(_, kind, _)| kind == wanted).map(|(at, ..)| *at).collect()
}

/// A tick that is due is made at the first look after; looks come every 100 ms
/// where nothing fails, and later on a crowded machine.
#[track_caller]
fn on_its_tick(at: u64, due: u64) {
    assert!(at >= due, "{at} ms is before its tick at {due} ms");
    assert!(at < due + 900, "{at} ms is nearer to another tick than to {due} ms");
}

const STRIKES: &str = "steps: [{weight: 20, for: 1s}, {weight: 50, for: 2s}]\n\
    analysis:\n  judge: classic\n  interval: 1s\n  threshold: 2\n  checks: [{measure: successRate, min: 99}]";

#[test]
fn strikes_roll_back_one_tick_after_the_threshold_is_reached() {
    let scene = scene(STRIKES);
    scene.canary.behave(|_| Answer::status(500));
    scene.app.command("web", "start");
    let status = scene.app.await_phase("web", "rolled_back");
    assert_eq!(status["sentence"], "ROLLBACK (classic): failed checks threshold reached 2");
    let events = told(&scene.app);
    let (halts, back) = (times(&events, "halted"), times(&events, "rolled_back"));
    assert_eq!((halts.len(), back.len()), (2, 1), "{events:?}");
    on_its_tick(halts[0], 1_000);
    on_its_tick(halts[1], 2_000);
    on_its_tick(back[0], 3_000);
    let halt = events.iter().find(|event| event.1 == "halted").expect("there are two");
    assert_eq!(halt.2, "halt: successRate 0.00 < 99; failed check 1 of 2");
    assert_eq!(scene.app.canary_percent("web"), 0.0);
}

#[test]
fn strikes_let_a_good_release_pass_check_by_check() {
    let scene = scene(STRIKES);
    scene.app.command("web", "start");
    scene.app.await_phase("web", "succeeded");
    let events = told(&scene.app);
    let (step, promoted) = (times(&events, "step"), times(&events, "promoted"));
    assert!(times(&events, "halted").is_empty(), "{events:?}");
    on_its_tick(step[0], 1_000);
    on_its_tick(promoted[0], 3_000);
}

#[test]
fn a_failed_check_holds_the_weight_and_the_next_good_one_goes_on() {
    let scene = scene(&STRIKES.replace("threshold: 2", "threshold: 50"));
    scene.canary.behave(|_| Answer::status(500));
    scene.app.command("web", "start");
    eventually("three checks have failed", || times(&told(&scene.app), "halted").len() >= 3);
    assert_eq!(scene.app.canary_percent("web"), 20.0);
    scene.canary.behave(|_| Answer::ok());
    scene.app.await_phase("web", "succeeded");
    assert!(times(&told(&scene.app), "step")[0] >= 4_000, "not before a check has passed");
}

fn measured(more: &str) -> String {
    format!(
        "steps: [{{weight: 50, for: 60s}}]\nanalysis:\n  judge: classic\n  measurements:\n    - measure: successRatio\n      \
         interval: 1s\n      initialDelay: 1s\n      {more}"
    )
}

#[test]
fn measurements_abort_when_their_failures_exceed_the_limit() {
    let scene = scene(&measured("failureLimit: 2\n      successCondition: result[0] >= 0.95"));
    scene.app.command("web", "start");
    eventually("the canary has done well for a while", || scene.canary.requests() > 200);
    scene.canary.behave(|_| Answer::status(500));
    let status = scene.app.await_phase("web", "rolled_back");
    assert_eq!(
        status["sentence"],
        "ROLLBACK (classic): Metric \"successRatio\" assessed Failed due to failed (3) > failureLimit (2)"
    );
}

#[test]
fn an_inconclusive_measurement_pauses_with_the_canary_at_its_weight() {
    let conditions = "successCondition: result[0] >= 2.0\n      failureCondition: result[0] < 0.5";
    let scene = scene(&measured(conditions));
    scene.app.command("web", "start");
    scene.app.await_phase("web", "paused");
    assert_eq!(scene.app.canary_percent("web"), 50.0);
    scene.app.command("web", "resume");
    eventually("a new run has come to the same", || times(&told(&scene.app), "paused").len() == 2);
    scene.app.command("web", "promote");
    scene.app.await_phase("web", "succeeded");
}

const SCORES: &str = "steps: [{weight: 10, for: 6s}]\n\
    analysis:\n  judge: netflix-aca\n  step: 500ms\n  interval: 3s\n  scores: {pass: 95, marginal: 75}\n  \
    metrics: [{measure: errorRate, direction: increase}, {measure: requestRate, direction: decrease, effect: {allowedDecrease: 0.5}}]";

#[test]
fn scores_fail_a_bad_release_at_the_first_judgement_and_pass_a_good_one_at_the_last() {
    let bad = scene(SCORES);
    bad.canary.behave(|seen| if seen.nth % 3 == 0 { Answer::status(500) } else { Answer::ok() });
    bad.app.command("web", "start");
    let status = bad.app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.starts_with("ROLLBACK (netflix-aca): score 50 is not above the marginal 75"),
        "{sentence}"
    );
    on_its_tick(times(&told(&bad.app), "rolled_back")[0], 3_000);
    drop(bad);

    let good = scene(SCORES);
    good.app.command("web", "start");
    let status = good.app.await_phase("web", "succeeded");
    assert!(
        status["sentence"].as_str().is_some_and(|text| text.contains("judgement 2 of 2: score 100 (pass)")),
        "{status}"
    );
    on_its_tick(times(&told(&good.app), "promoted")[0], 6_000);
}

const RANKS: &str = "steps: [{weight: 10, for: 6s}]\n\
    analysis:\n  judge: mann-whitney\n  metrics:\n    \
    - {measure: errorRate, expected: {max: 40}, interval: 1s, failureLimit: 1}\n    \
    - {name: beside, measure: errorRate, strategy: canaryPrimary, deviation: high, interval: 3s, step: 500ms}";

#[test]
fn a_stage_fails_beyond_its_limit_or_by_comparison_and_passes_when_its_time_is_over() {
    let broken = scene(RANKS);
    broken.canary.behave(|_| Answer::status(500));
    broken.app.command("web", "start");
    let status = broken.app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("errorRate: 100 is not from no bound to 40; failure 2 with a limit of 1"),
        "{sentence}"
    );
    on_its_tick(times(&told(&broken.app), "rolled_back")[0], 2_000);
    drop(broken);

    let worse = scene(RANKS);
    worse.canary.behave(|seen| if seen.nth % 5 == 0 { Answer::status(500) } else { Answer::ok() });
    worse.app.command("web", "start");
    let status = worse.app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("beside: the canary is higher than what it is compared with"), "{sentence}");
    on_its_tick(times(&told(&worse.app), "rolled_back")[0], 3_000);
    drop(worse);

    let good = scene(RANKS);
    good.app.command("web", "start");
    good.app.await_phase("web", "succeeded");
    on_its_tick(times(&told(&good.app), "promoted")[0], 6_000);
}

#[test]
fn a_killed_process_goes_on_with_the_strikes_it_had() {
    let mut scene = scene(&STRIKES.replace("threshold: 2", "threshold: 3"));
    scene.canary.behave(|_| Answer::status(500));
    scene.app.command("web", "start");
    eventually("one check has failed", || times(&told(&scene.app), "halted").len() == 1);
    scene.app.kill9();
    drop(scene.load);
    scene.app.restart();
    let load = Load::start(scene.app.address(), 4, GAP, Ask::get("/"));
    scene.app.await_phase("web", "rolled_back");
    assert_eq!(times(&told(&scene.app), "halted").len(), 3, "{:?}", told(&scene.app));
    drop(load);
}

#[test]
fn a_frozen_rollout_is_not_judged_by_what_it_did_not_see() {
    let scene = scene(
        "steps: [{weight: 20, for: 2s}]\n\
        analysis: {judge: classic, interval: 1s, checks: [{measure: successRate, min: 99}]}",
    );
    scene.app.command("web", "start");
    scene.app.command("web", "freeze");
    let asked = scene.canary.requests();
    // Several intervals pass; each would be a failed check.
    let until = std::time::Instant::now() + std::time::Duration::from_millis(3_500);
    eventually("time has passed, with requests", || {
        std::time::Instant::now() > until && scene.canary.requests() > asked
    });
    scene.app.command("web", "resume");
    scene.app.await_phase("web", "succeeded");
    assert!(times(&told(&scene.app), "halted").is_empty(), "{:?}", told(&scene.app));
}

#[test]
fn copies_are_judged_by_strikes_before_a_user_met_the_canary() {
    let mirrored = "steps: [{mirrored: 100, for: 2s}, {weight: 20, for: 1s}]\n\
        analysis:\n  judge: classic\n  interval: 1s\n  checks: [{measure: p99, max: 5s}, {measure: successRate, min: 99}]";
    let good = scene(mirrored);
    good.app.command("web", "start");
    good.app.await_phase("web", "succeeded");
    assert!(times(&told(&good.app), "halted").is_empty(), "{:?}", told(&good.app));
    drop(good);

    let broken = scene(mirrored);
    broken.canary.behave(|_| Answer::status(500));
    broken.app.command("web", "start");
    let status = broken.app.await_phase("web", "rolled_back");
    let told = told(&broken.app);
    assert!(times(&told, "step").is_empty() && times(&told, "halted").len() == 1, "{told:?}");
    assert_eq!(broken.load.stop().by("canary"), 0, "{status}");
}

#[test]
fn a_bake_that_is_asked_for_is_watched_as_a_step_is() {
    let scene = scene(
        "steps: [{weight: 20, for: 1s}]\nbake: 60s\n\
        analysis: {judge: classic, interval: 1s, checks: [{measure: successRate, min: 99}]}",
    );
    scene.app.command("web", "start");
    scene.app.await_phase("web", "baking");
    assert_eq!(scene.app.canary_percent("web"), 100.0);
    scene.canary.behave(|_| Answer::status(500));
    let status = scene.app.await_phase("web", "rolled_back");
    assert_eq!(status["sentence"], "ROLLBACK (classic): failed checks threshold reached 1");
    assert_eq!(scene.app.canary_percent("web"), 0.0);
}
