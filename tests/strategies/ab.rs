//! A/B: who matches meets the canary for a number of iterations, others never do.

use super::*;
use crate::harness::eventually;

const AB: &str = "match:\n  - headers: [{name: x-group, exact: b}]\n  - query: [{name: group, exact: b}]\n  \
                  - cookies: [{name: group, exact: b}]\n  - source: 127.0.0.9\n\
                  steps: [{matched: 100, iterations: 30, interval: 100ms}]\nbake: 100ms";

fn insider() -> Ask {
    Ask::get("/").header("x-group", "b")
}

#[test]
fn who_matches_meets_the_canary_and_only_while_the_rollout_says_so() {
    let scene = scene(AB);
    let app = &scene.app;
    assert_eq!(who(app, &insider()), "primary", "nothing has begun");
    app.command("web", "start");
    for ask in [insider(), Ask::get("/?a=1&group=b"), Ask::get("/").header("cookie", "group=b")] {
        assert_eq!(who(app, &ask), "canary");
    }
    assert_eq!(who(app, &Ask::get("/?group=a")), "primary");
    assert_eq!(app.canary_percent("web"), 0.0);
    assert!(app.rollout("web")["doing"].as_str().is_some_and(|doing| doing.contains("that match")));
    let insiders = Load::start(app.address(), 1, GAP, insider());
    eventually("it is promoted", || app.canary_percent("web") == 100.0);
    assert_eq!(insiders.stop().failures() + scene.load.stop().failures(), 0);
    assert_eq!(who(app, &Ask::get("/")), "canary");
}

#[test]
fn without_anybody_who_matches_it_waits() {
    let scene = scene(AB);
    scene.app.command("web", "start");
    scene.load.pass(1_500);
    assert_eq!(scene.app.phase("web"), "running", "answers to others are no answers of the canary");
    assert_eq!(scene.canary.requests(), 0);
}

#[test]
fn a_canary_that_fails_those_who_match_is_rolled_back_and_they_meet_the_primary() {
    let long = AB.replace("iterations: 30, interval: 100ms", "for: 60s");
    let scene = scene(&long);
    let app = &scene.app;
    app.command("web", "start");
    let insiders = Load::start(app.address(), 2, GAP, insider());
    eventually("they have met the canary", || scene.canary.requests() > 100);
    scene.canary.behave(bad);
    app.await_phase("web", "rolled_back");
    assert_eq!(who(app, &insider()), "primary");
    assert_eq!(insiders.stop().failures(), 0, "the shield held");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn of_those_who_match_a_share_can_be_tossed_for_and_compared() {
    let scene = scene(
        "match: [{headers: [{name: x-group, exact: b}]}]\nsteps: [{matched: 30, for: 60s}]\nbake: 100ms",
    );
    let app = &scene.app;
    app.command("web", "start");
    let seen = crate::harness::load::tally(app.address(), 2, 600, &insider());
    let canary = seen.get("canary").copied().unwrap_or(0);
    assert!(crate::harness::plausible(canary, 600, 0.3, 6.0), "{canary} of 600");
    eventually("the judge has them all", || app.rollout("web")["canary_requests"].as_u64() >= Some(canary));
}

#[test]
fn testers_are_sent_by_query_and_by_source() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let force = "force:\n  - {query: v, exact: new, version: canary}\n";
    let app = App::start(&pair(primary.address, canary.address, force));
    assert_eq!(who(&app, &Ask::get("/?v=new")), "canary");
    assert_eq!(who(&app, &Ask::get("/?v=old")), "primary");
    let force = "force:\n  - {source: [10.0.0.0/8, 127.0.0.0/8], version: canary}\n";
    assert_eq!(app.reload(&pair(primary.address, canary.address, force)).status, 200);
    assert_eq!(who(&app, &Ask::get("/")), "canary");
}
