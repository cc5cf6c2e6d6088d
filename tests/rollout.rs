//! Releases from start to end, with real traffic: the good promoted, the bad
//! rolled back before users notice.

use std::time::{Duration, Instant};

use crate::harness::app::{pair, quiet, timed};
use crate::harness::load::GAP;
use crate::harness::scene::Scene;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

/// Two versions, a rollout of these lines, and traffic that has begun.
fn scene(rollout: &str) -> Scene {
    Scene::start(rollout, 4)
}

fn scene_of(primary: Origin, canary: Origin, rollout: &str) -> Scene {
    Scene::of(primary, canary, rollout, 4)
}

/// Fails one request in `n`, spread by a fixed stride.
fn fails_every(n: u64) -> impl Fn(&crate::harness::origin::Seen) -> Answer + Send + Sync {
    move |seen| if seen.nth % n == 0 { Answer::status(500) } else { Answer::ok() }
}

#[test]
fn a_good_release_is_promoted_and_nobody_notices() {
    // Not judged by speed: on a crowded machine either of two threads can starve for a second.
    let scene = scene(
        "steps: [{weight: 10, for: 1s}, {weight: 50, for: 1s}]\nbake: 1s\n\
         analysis: {minRequests: 20, slowdown: false}",
    );
    let (app, start) = (&scene.app, Instant::now());
    app.command("web", "start");
    let mut shares = vec![0.0];
    let mut phases = Vec::new();
    eventually("it is promoted and baked", || {
        let status = app.rollout("web");
        let (share, phase) =
            (status["weights"]["canary"].as_f64().expect("a weight"), status["phase"].clone());
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        if phases.last() != Some(&phase) {
            phases.push(phase.clone());
        }
        phase == "succeeded"
    });
    assert!(start.elapsed() >= Duration::from_secs(3), "it took only {:?}", start.elapsed());
    assert_eq!(shares, [0.0, 10.0, 50.0, 100.0], "{phases:?}");
    assert!(phases.contains(&"baking".into()), "{phases:?}");
    let before = scene.primary.requests();
    scene.load.pass(200);
    let report = scene.load.stop();
    assert_eq!(report.failures(), 0, "{:?}", report.words);
    // Requests that were under way when the last weight came may still arrive, one per connection.
    assert!(scene.primary.requests() <= before + 4);
    let output = app.cli(&["status", "web", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "a promoted rollout is a script's success");
    assert_eq!(app.metric("serin_rollout_phase", &[("rollout", "web"), ("phase", "succeeded")]), 1.0);
    assert_eq!(app.metric("serin_rollout_phase", &[("rollout", "web")]), 1.0, "one phase at a time");
}

/// Starts, lets the canary go bad, and sees it rolled back. Tells how long the
/// canary was exposed from its first bad answer on.
fn rolls_back(name: &str, scene: &Scene) -> Duration {
    let app = &scene.app;
    app.command("web", "start");
    let bad = super::harness::eventually_some("the canary has shown itself", || scene.canary.failing_since());
    eventually("its weight is zero", || app.canary_percent("web") == 0.0);
    let zero = Instant::now();
    let status = app.await_phase("web", "rolled_back");
    let exposed = scene.canary.last_request().expect("it was asked").duration_since(bad);
    println!(
        "{name}: weight zero {:?} after the first bad answer was given (seen by polling), canary last asked after \
         {exposed:?}, {} canary requests; {}",
        zero.duration_since(bad),
        scene.canary.requests(),
        status["sentence"]
    );
    assert!(zero.duration_since(bad) < Duration::from_secs(10));
    let asked = scene.canary.requests();
    scene.load.pass(300);
    assert!(scene.canary.requests() <= asked + 4, "a canary that was rolled back is asked on");
    exposed
}

#[test]
fn a_bad_release_is_rolled_back_and_no_user_sees_a_failure() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", fails_every(4));
    let scene = scene_of(primary, canary, "steps: [{weight: 20, for: 60s}]\nanalysis: {window: 0s}");
    rolls_back("one in four requests failed", &scene);
    let report = scene.load.stop();
    assert_eq!(report.failures(), 0, "users saw {:?} {:?}", report.statuses, report.words);
    let app = &scene.app;
    quiet(app);
    let failures = app.requests(&[("version", "canary"), ("outcome", "failure")]);
    assert!(failures > 0);
    assert_eq!(app.metric("serin_shielded_total", &[("version", "canary")]) as u64, failures);
    let status = app.rollout("web");
    assert_eq!(status["canary_failures"].as_u64(), Some(failures), "{status}");
    let output = app.cli(&["status", "web", "--wait"]);
    assert!(output.status.code().is_some_and(|code| code != 0), "a rollback is a script's failure");
    let sentence = status["sentence"].as_str().expect("the judge has a sentence");
    assert!(sentence.contains("canary"), "{sentence}");
}

#[test]
fn a_release_that_breaks_midway_is_rolled_back() {
    let scene = scene("steps: [{weight: 20, for: 60s}]\nanalysis: {window: 0s}");
    scene.app.command("web", "start");
    eventually("the canary has done well for a while", || scene.canary.requests() > 200);
    scene.canary.behave(fails_every(2));
    scene.app.await_phase("web", "rolled_back");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_dead_canary_is_rolled_back_and_shielded() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let mut scene = scene_of(primary, canary, "steps: [{weight: 20, for: 60s}]\nanalysis: {window: 0s}");
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 50);
    // Replacing it ends the server that was there, connections and all.
    scene.canary = Origin::start("unused");
    let (_, took) = timed(|| scene.app.await_phase("web", "rolled_back"));
    println!("a dead canary: rolled back {took:?} after it died");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_slow_release_is_rolled_back_by_comparison_with_the_primary() {
    let delayed = |ms| move |_: &crate::harness::origin::Seen| Answer::ok().after(Duration::from_millis(ms));
    let primary = Origin::answering("primary", delayed(4));
    let canary = Origin::answering("canary", delayed(60));
    let scene = scene_of(primary, canary, "steps: [{weight: 20, for: 60s}]\nanalysis: {window: 0s}");
    // The judge compares with a primary that it knows by a thousand requests.
    scene.load.pass(1_500);
    scene.app.command("web", "start");
    let status = scene.app.await_phase("web", "rolled_back");
    println!("a slow canary: {}", status["sentence"]);
    assert_eq!(scene.load.stop().failures(), 0);
    assert_eq!(status["canary_failures"].as_u64(), Some(0), "slow is not failed: {status}");
}

#[test]
fn an_absolute_latency_objective_is_kept() {
    let delayed = |ms| move |_: &crate::harness::origin::Seen| Answer::ok().after(Duration::from_millis(ms));
    let canary = Origin::answering("canary", delayed(300));
    let rollout = "steps: [{weight: 20, for: 60s}]\nanalysis: {window: 0s, latency: {p99: 150ms}}";
    let scene = scene_of(Origin::start("primary"), canary, rollout);
    scene.load.pass(1500);
    scene.app.command("web", "start");
    scene.app.await_phase("web", "rolled_back");
}

#[test]
fn a_shared_cause_is_held_and_not_blamed_on_the_canary() {
    let rollout = "steps: [{weight: 30, for: 60s}]\nanalysis: {window: 0s, success: 99%, onShared: hold}";
    let scene = scene(rollout);
    scene.load.pass(500);
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 50);
    scene.primary.behave(fails_every(2));
    scene.canary.behave(fails_every(2));
    scene.app.await_phase("web", "held");
    assert_eq!(scene.app.canary_percent("web"), 30.0, "held means that weights stand");
}

#[test]
fn a_burst_suspends_at_once_and_a_canary_that_recovers_goes_on() {
    let scene = scene("steps: [{weight: 20, for: 60s}]\nanalysis: {trickle: 40, probes: 10}");
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 100);
    scene.canary.behave(|_| Answer::status(500));
    let ((), took) = timed(|| {
        eventually("exposure is cut", || scene.app.canary_percent("web") < 20.0);
    });
    println!("a total outage: exposure cut {took:?} after it began");
    scene.app.await_phase("web", "suspended");
    scene.canary.behave(|_| Answer::ok());
    eventually("the weight is back", || scene.app.canary_percent("web") == 20.0);
    scene.app.await_phase("web", "running");
    assert_eq!(scene.load.stop().failures(), 0, "the shield held");
}

#[test]
fn a_release_that_fails_while_it_bakes_is_taken_back() {
    let rollout = "steps: [{weight: 50, for: 500ms}]\nbake: 120s\nanalysis: {window: 0s, success: 99%, minRequests: 10}";
    let scene = scene(rollout);
    scene.app.command("web", "start");
    scene.app.await_phase("web", "baking");
    assert_eq!(scene.app.canary_percent("web"), 100.0);
    scene.canary.behave(fails_every(2));
    scene.app.await_phase("web", "rolled_back");
    assert_eq!(scene.app.canary_percent("web"), 0.0);
    let asked = scene.canary.requests();
    scene.load.pass(100);
    assert!(scene.canary.requests() <= asked + 4);
}

#[test]
fn after_promotion_without_an_objective_the_primary_tells_whose_failures_they_are() {
    let scene = scene("steps: [{weight: 50, for: 1s}]\nbake: 120s\nanalysis: {trickle: 40}");
    scene.load.pass(500);
    scene.app.command("web", "start");
    scene.app.await_phase("web", "baking");
    scene.canary.behave(fails_every(2));
    scene.app.await_phase("web", "rolled_back");
    assert_eq!(scene.app.canary_percent("web"), 0.0);
    let told = scene.app.get_json("/history").to_string();
    assert!(told.contains("SUSPEND (confirming): with no primary beside it "), "{told}");
    assert!(told.contains("ROLLBACK (worse): "), "{told}");
}

#[test]
fn no_traffic_is_no_success() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 50, for: 100ms}]\n    bake: 100ms\n";
    let app = App::start(&(pair(primary.address, canary.address, "") + rollout));
    app.command("web", "start");
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        assert_eq!(app.phase("web"), "running", "fifteen times its step's time have brought no request");
        assert_eq!(app.rollout("web")["step"], 0);
    }
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    app.await_phase("web", "succeeded");
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn a_pause_waits_for_a_person() {
    let scene = scene("steps: [{weight: 10, for: 200ms}, {pause: true}, {weight: 40, for: 60s}]");
    let app = &scene.app;
    app.command("web", "start");
    app.await_phase("web", "paused");
    assert_eq!(app.canary_percent("web"), 10.0, "a pause keeps the weight");
    scene.load.pass(500);
    assert_eq!(app.phase("web"), "paused");
    app.command("web", "promote");
    eventually("the next step is taken", || app.canary_percent("web") == 40.0);
    app.command("web", "pause");
    app.await_phase("web", "paused");
    app.command("web", "resume");
    app.await_phase("web", "running");
    app.command("web", "abort");
    app.await_phase("web", "aborted");
    assert_eq!(app.canary_percent("web"), 0.0);
    app.command("web", "retry");
    eventually("it begins again", || app.canary_percent("web") == 10.0);
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_weight_step_ladder_is_climbed_to_its_top() {
    let scene =
        scene("stepWeight: 20\nmaxWeight: 60\ninterval: 300ms\nbake: 100ms\nanalysis: {minRequests: 5}");
    let mut shares = vec![0.0];
    scene.app.command("web", "start");
    eventually("it is promoted", || {
        let status = scene.app.rollout("web");
        let share = status["weights"]["canary"].as_f64().expect("a weight");
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        status["phase"] == "succeeded"
    });
    assert_eq!(shares, [0.0, 20.0, 40.0, 60.0, 100.0]);
}

#[test]
fn a_reload_amid_a_rollout_keeps_its_step_weight_and_evidence() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let yaml = |extra: &str| {
        pair(primary.address, canary.address, "")
            + "rollouts:\n  web:\n    steps: [{weight: 10, for: 200ms}, {weight: 30, for: 60s}]\n"
            + extra
    };
    let app = App::start(&yaml(""));
    let load = Load::start(app.address(), 4, GAP, Ask::get("/"));
    app.command("web", "start");
    eventually("the second step is reached", || app.canary_percent("web") == 30.0);
    eventually("there is evidence", || app.rollout("web")["canary_requests"].as_u64() > Some(50));
    let before = app.rollout("web");
    let reply = app.reload(&yaml("routes:\n  - {name: all, service: web, timeout: 9s}\n"));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    let after = app.rollout("web");
    assert_eq!((&after["phase"], &after["step"]), (&before["phase"], &before["step"]));
    assert_eq!(app.canary_percent("web"), 30.0);
    assert!(after["canary_requests"].as_u64() >= before["canary_requests"].as_u64());
    assert_eq!(load.stop().failures(), 0);
}
