//! Blue/green: a preview that testers see and copies exercise, then all at once,
//! watched; the old version is kept for a while.

use super::*;
use crate::harness::eventually;

const BLUE_GREEN: &str = "match: [{headers: [{name: x-preview, present: true}]}]\n\
                          steps: [{matched: 100, mirrored: 50, for: 500ms}, {pause: true}]\n\
                          bake: 1s\nkeepOld: 2s";

#[test]
fn preview_then_a_word_then_everything_at_once_then_the_old_may_go() {
    let scene = scene(BLUE_GREEN);
    let app = &scene.app;
    app.command("web", "start");
    let preview = Ask::get("/").header("x-preview", "1");
    assert_eq!(who(app, &preview), "canary");
    app.await_phase("web", "paused");
    assert_eq!(who(app, &preview), "canary", "the preview goes on while somebody decides");
    assert_eq!(who(app, &Ask::get("/")), "primary");
    app.command("web", "promote");
    assert_eq!(app.canary_percent("web"), 100.0, "at once");
    app.await_phase("web", "succeeded");
    assert!(app.rollout("web")["doing"].as_str().is_some_and(|doing| doing.contains("kept for another")));
    eventually("the old version may go", || app.log().contains("the old version may go"));
    assert_eq!(app.post("/rollouts/web/rollback").status, 409);
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn old_version_is_back_at_once_while_it_is_kept() {
    let scene = scene(&BLUE_GREEN.replace("keepOld: 2s", "keepOld: 1h"));
    let app = &scene.app;
    app.command("web", "start");
    app.await_phase("web", "paused");
    app.command("web", "promote");
    app.await_phase("web", "succeeded");
    app.command("web", "rollback");
    assert_eq!(app.canary_percent("web"), 0.0);
    assert_eq!(app.phase("web"), "rolled_back");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_green_that_breaks_on_its_preview_never_meets_a_user() {
    let scene = scene(&BLUE_GREEN.replace("for: 500ms", "for: 60s"));
    scene.app.command("web", "start");
    eventually("copies have gone to it", || scene.canary.requests() > 30);
    scene.canary.behave(bad);
    scene.app.await_phase("web", "rolled_back");
    let report = scene.load.stop();
    assert_eq!((report.failures(), report.by("canary")), (0, 0));
}

#[test]
fn a_green_that_breaks_after_the_switch_is_taken_back() {
    let scene = scene(&BLUE_GREEN.replace("bake: 1s", "bake: 60s"));
    scene.app.command("web", "start");
    scene.app.await_phase("web", "paused");
    scene.app.command("web", "promote");
    scene.app.await_phase("web", "baking");
    scene.canary.behave(bad);
    scene.app.await_phase("web", "rolled_back");
    assert_eq!(scene.app.canary_percent("web"), 0.0);
}
