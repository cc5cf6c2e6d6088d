//! `kill -9` in every place of every strategy: what comes back is the same place
//! with the same traffic, seen by asking and not only by reading.

use super::*;
use crate::harness::eventually;

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
