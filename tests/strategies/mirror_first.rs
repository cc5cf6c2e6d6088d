//! Mirror first: copies judge the canary before any user does.

use super::*;
use crate::harness::eventually;

const MIRROR_FIRST: &str = "steps: [{mirrored: 50, for: 500ms}, {weight: 30, for: 500ms}]\nbake: 100ms";

#[test]
fn copies_go_first_and_end_when_weights_begin() {
    let scene = scene(MIRROR_FIRST);
    let app = &scene.app;
    let mut copied = false;
    app.command("web", "start");
    eventually("users meet the canary", || {
        copied |= app.metric("serin_mirrored_total", &[]) > 0.0 && app.canary_percent("web") == 0.0;
        app.canary_percent("web") == 30.0
    });
    assert!(copied, "copies came before weights");
    let seen = scene.canary.seen();
    let before = app.metric("serin_mirrored_total", &[]);
    scene.load.pass(100);
    assert!(seen.iter().any(|seen| seen.header("x-serin-mirror").is_some()));
    assert!(app.metric("serin_mirrored_total", &[]) <= before + 2.0, "a few were under way");
    app.await_phase("web", "succeeded");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_canary_that_fails_its_copies_is_rolled_back_before_a_user_met_it() {
    let scene = scene(&MIRROR_FIRST.replace("mirrored: 50, for: 500ms", "mirrored: 50, for: 60s"));
    scene.app.command("web", "start");
    eventually("copies have gone to it", || scene.canary.requests() > 50);
    scene.canary.behave(bad);
    let status = scene.app.await_phase("web", "rolled_back");
    let report = scene.load.stop();
    assert_eq!((report.failures(), report.by("canary")), (0, 0), "{status}");
    let asked = scene.canary.requests();
    let again = Load::start(scene.app.address(), 2, GAP, Ask::get("/"));
    again.pass(200);
    assert!(scene.canary.requests() <= asked + 4, "a canary that was rolled back gets no copies");
}

#[test]
fn what_fails_for_both_is_held_against_neither() {
    let scene = scene(&MIRROR_FIRST.replace("mirrored: 50, for: 500ms", "mirrored: 50, for: 60s"));
    let broken = |seen: &crate::harness::origin::Seen| {
        if seen.path.contains("broken") { Answer::status(500) } else { Answer::ok() }
    };
    scene.primary.behave(broken);
    scene.canary.behave(broken);
    scene.app.command("web", "start");
    let broken = Load::start(scene.app.address(), 1, GAP, Ask::get("/broken"));
    broken.pass(500);
    // Each decision leaves what the judge knows.
    scene.app.command("web", "pause");
    let journal = std::fs::read_to_string(scene.app.folder().join("serin-state/journal.jsonl"));
    let journal = journal.expect("a rollout has a journal");
    let last = journal.lines().rev().find(|line| line.contains("\"tally\"")).expect("a checkpoint");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let pairs = &last["checkpoint"]["judge"]["tally"]["pairs"];
    assert!(pairs["both"].as_u64() > Some(100), "both have failed these: {pairs}");
    assert_eq!(
        (pairs["canary_only"].as_u64(), pairs["primary_only"].as_u64()),
        (Some(0), Some(0)),
        "{pairs}"
    );
    assert_eq!(scene.app.phase("web"), "paused", "{}", scene.app.rollout("web")["sentence"]);
}

#[test]
fn copies_show_that_the_canary_is_good_enough_for_users() {
    let proving = "steps: [{mirrored: 50, for: 200ms}, {weight: 30, for: 60s}]\n\
                   analysis: {slowdown: false, inconclusive: wait, promotion: {margin: 5%, patience: 1s}}";
    let scene = Scene::start(proving, 2);
    scene.app.command("web", "start");
    let mut waited = String::new();
    eventually("users meet it", || {
        let status = scene.app.rollout("web");
        let sentence = status["sentence"].as_str().unwrap_or_default();
        if status["step"] == 0 && sentence.contains("% check of copies") {
            waited = sentence.to_owned();
        }
        status["step"] == 1
    });
    assert!(waited.contains("more copies") || waited.contains("copies/s"), "{waited}");
    let proved =
        scene.app.get_json("/history?kind=proved")[0]["text"].as_str().unwrap_or_default().to_owned();
    assert!(proved.contains("the canary alone failed 0"), "{proved}");
    assert!(proved.contains("below 5 % of copies that it alone fails"), "{proved}");
    assert_eq!(scene.load.stop().failures(), 0);
}
