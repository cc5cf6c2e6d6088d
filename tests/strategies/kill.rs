//! `kill -9` in every place of every strategy: what comes back is the same place
//! with the same traffic, seen by asking and not only by reading.

use super::experiment::three;
use super::*;
use crate::harness::load::tally;
use crate::harness::{eventually, plausible};

const EVERYTHING: &str = "match: [{headers: [{name: x-group, exact: b}]}]\n\
    steps:\n  - {mirrored: 100, for: 300s}\n  - {matched: 100, for: 300s}\n  - {pause: true}\n  - {weight: 40, for: 300s}\n\
    bake: 300s\nwayBack: {weight: 60, interval: 300s}";

/// What a place does with requests.
#[derive(Debug, PartialEq)]
struct Look {
    phase: String,
    step: u64,
    canary: f64,
    matched: String,
    copies: bool,
}

fn look(scene: &Scene) -> Look {
    let status = scene.app.rollout("web");
    let copied = scene.app.metric("serin_mirrored_total", &[]);
    let conn = &mut scene.app.conn();
    for _ in 0..20 {
        conn.get("/");
    }
    Look {
        phase: status["phase"].as_str().expect("a phase").to_owned(),
        step: status["step"].as_u64().expect("a step"),
        canary: scene.app.canary_percent("web"),
        matched: who(&scene.app, &Ask::get("/").header("x-group", "b")),
        copies: scene.app.metric("serin_mirrored_total", &[]) > copied,
    }
}

/// Kills it, and sees the same place again.
fn survives(scene: &mut Scene, phase: &str, step: u64) -> Look {
    eventually("the place is reached", || {
        let status = scene.app.rollout("web");
        status["phase"] == phase && status["step"] == step
    });
    let before = look(scene);
    scene.app.kill9();
    scene.app.restart();
    let after = look(scene);
    let tossed = before.canary > 0.0 && before.canary < 100.0;
    if tossed {
        // Where the coin decides who meets whom, only the rest can be the same.
        assert_eq!((&after.phase, after.step, after.canary), (&before.phase, before.step, before.canary));
    } else {
        assert_eq!(after, before, "{phase}, step {step}");
    }
    before
}

#[test]
fn every_place_comes_back_as_it_was() {
    let mut scene = scene(EVERYTHING);
    scene.app.command("web", "start");
    let seen = survives(&mut scene, "running", 0);
    assert!(seen.copies && seen.matched == "primary", "{seen:?}");
    scene.app.command("web", "promote");
    let seen = survives(&mut scene, "running", 1);
    assert!(!seen.copies && seen.matched == "canary", "{seen:?}");
    scene.app.command("web", "promote");
    let seen = survives(&mut scene, "paused", 2);
    assert_eq!(seen.matched, "canary", "{seen:?}");
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "running", 3).canary, 40.0);
    scene.app.command("web", "freeze");
    survives(&mut scene, "paused", 3);
    scene.app.command("web", "resume");
    scene.app.command("web", "suspend");
    survives(&mut scene, "suspended", 3);
    scene.app.command("web", "resume");
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "baking", 4).canary, 100.0);
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "promoting", 4).canary, 100.0);
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "promoting", 4).canary, 40.0);
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "promoting", 4).canary, 0.0);
    scene.app.command("web", "promote");
    assert_eq!(survives(&mut scene, "succeeded", 4).canary, 0.0);
}

#[test]
fn a_suspicion_comes_back_with_its_trickle() {
    // Fifty seconds of probes: time enough to be killed in.
    let mut scene =
        Scene::start("steps: [{weight: 20, for: 300s}]\nanalysis: {trickle: 20, probes: 1000}", 2);
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 100);
    scene.canary.behave(|_| Answer::status(500));
    eventually("exposure is cut", || scene.app.canary_percent("web") < 20.0);
    scene.canary.behave(|_| Answer::ok());
    let seen = survives(&mut scene, "suspended", 0);
    assert!(seen.canary > 0.0 && seen.canary < 20.0, "{seen:?}");
}

#[test]
fn holds_come_back_as_holds() {
    let shared = "steps: [{weight: 30, for: 300s}]\nanalysis: {window: 0s, success: 99%, onShared: hold}";
    let mut scene = Scene::start(shared, 3);
    scene.load.pass(500);
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 50);
    scene.primary.behave(bad);
    scene.canary.behave(bad);
    assert_eq!(survives(&mut scene, "held", 0).canary, 30.0);

    let unproved = "steps: [{weight: 30, for: 300ms}, {weight: 60, for: 300s}]\n\
        analysis: {minRequests: 1, inconclusive: hold, promotion: {margin: 0.01%, ratio: 1.01, patience: 1s, extraTime: 0s}}";
    let mut scene = Scene::start(unproved, 1);
    scene.app.command("web", "start");
    assert_eq!(survives(&mut scene, "held", 0).canary, 30.0);
}

#[test]
fn an_experiment_comes_back_with_both_copies() {
    let origins = ["old", "again", "new"].map(Origin::start);
    let [old, again, new] = &origins;
    let mut app = App::start(&three(old, again, new, "steps: [{weight: 20, for: 300s}]"));
    app.command("web", "start");
    let before = app.rollout("web")["weights"].clone();
    app.kill9();
    app.restart();
    assert_eq!(app.rollout("web")["weights"], before);
    let seen = tally(app.address(), 2, 600, &Ask::get("/"));
    for name in ["again", "new"] {
        let count = seen.get(name).copied().unwrap_or(0);
        assert!(plausible(count, 600, 0.2, 6.0), "{seen:?}");
    }
}

#[test]
fn an_old_version_that_is_kept_can_be_had_back_after_a_kill() {
    let mut scene = scene("steps: [{weight: 50, for: 300ms}]\nbake: 100ms\nkeepOld: 300s");
    scene.app.command("web", "start");
    assert_eq!(survives(&mut scene, "succeeded", 1).canary, 100.0);
    scene.app.command("web", "rollback");
    assert_eq!((scene.app.phase("web").as_str(), scene.app.canary_percent("web")), ("rolled_back", 0.0));
    assert_eq!(survives(&mut scene, "rolled_back", 0).matched, "primary");
}

#[test]
fn a_share_of_those_who_match_comes_back_as_that_share() {
    let mut scene = scene(
        "match: [{headers: [{name: x-group, exact: b}]}]\nsteps: [{matched: 30, for: 300s}]\nbake: 300s",
    );
    scene.app.command("web", "start");
    scene.app.kill9();
    scene.app.restart();
    assert_eq!((scene.app.phase("web").as_str(), scene.app.canary_percent("web")), ("running", 0.0));
    let seen = tally(scene.app.address(), 2, 600, &Ask::get("/").header("x-group", "b"));
    let canary = seen.get("canary").copied().unwrap_or(0);
    assert!(plausible(canary, 600, 0.3, 6.0), "{seen:?}");
    assert_eq!(tally(scene.app.address(), 1, 100, &Ask::get("/")).get("primary"), Some(&100));
}

/// The moment itself is what is drawn: from the start into the switch and beyond.
#[test]
fn kills_around_a_trials_end_never_leave_more_than_was_decided() {
    for delay in [0, 150, 280, 300, 310, 330, 450, 600] {
        let mut scene = scene("steps: [{mirrored: 100, for: 300ms}, {weight: 20, for: 300s}]\nbake: 300s");
        scene.app.command("web", "start");
        std::thread::sleep(Duration::from_millis(delay));
        scene.app.kill9();
        let load =
            std::mem::replace(&mut scene.load, Load::start(scene.app.address(), 1, GAP, Ask::get("/")));
        drop(load.stop());
        scene.app.restart();
        let status = scene.app.rollout("web");
        let percent = scene.app.canary_percent("web");
        match status["step"].as_u64() {
            Some(0) => assert_eq!(percent, 0.0, "{delay} ms: {status}"),
            Some(1) => assert_eq!(percent, 20.0, "{delay} ms: {status}"),
            _ => panic!("{delay} ms: {status}"),
        }
    }
}
