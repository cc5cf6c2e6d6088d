//! The way back to the primary's servers, and new releases that start by
//! themselves.

use super::*;
use crate::harness::eventually;

const BACK: &str =
    "autoStart: true\nsteps: [{weight: 50, for: 200ms}]\nbake: 100ms\nwayBack: {weight: 50, interval: 300ms}";

/// The two versions with the words that tell their releases.
fn releases(primary: (&Origin, &str), canary: (&Origin, &str)) -> String {
    let version = |name: &str, (origin, release): (&Origin, &str)| {
        format!("    {name}: {{endpoints: {}, release: {release}}}\n", origin.address)
    };
    crate::harness::app::head(2)
        + "services:\n  web:\n"
        + &version("primary", primary)
        + &version("canary", canary)
        + &rollout_of(BACK)
}

#[test]
fn a_new_release_starts_is_promoted_and_goes_back_to_the_primary_when_that_has_it() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&releases((&primary, "one"), (&canary, "one")));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    assert_eq!(app.phase("web"), "idle", "the first release that is seen is no news");
    assert_eq!(app.reload(&releases((&primary, "one"), (&canary, "two"))).status, 200);
    let status = app.await_phase("web", "promoting");
    assert_eq!(app.canary_percent("web"), 100.0);
    assert!(status["sentence"].as_str().is_some_and(|text| text.contains("bring its version")), "{status}");
    assert_eq!(app.reload(&releases((&primary, "two"), (&canary, "two"))).status, 200);
    let mut shares = Vec::new();
    eventually("all is back", || {
        let share = app.canary_percent("web");
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        app.phase("web") == "succeeded"
    });
    assert!(shares.ends_with(&[50.0, 0.0]), "{shares:?}");
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn a_primary_that_breaks_with_the_new_version_is_left_again() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&releases((&primary, "one"), (&canary, "one")));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    app.reload(&releases((&primary, "one"), (&canary, "two")));
    app.await_phase("web", "promoting");
    primary.behave(|_| Answer::status(500));
    app.reload(&releases((&primary, "two"), (&canary, "two")));
    eventually("it was tried and left", || app.log().contains("all traffic to the canary again"));
    assert_eq!((app.canary_percent("web"), app.phase("web").as_str()), (100.0, "promoting"));
}

#[test]
fn a_release_that_comes_while_another_is_under_way_takes_its_place() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let slow = |text: String| text.replace("for: 200ms", "for: 60s");
    let app = App::start(&slow(releases((&primary, "one"), (&canary, "one"))));
    app.reload(&slow(releases((&primary, "one"), (&canary, "two"))));
    eventually("it has begun", || app.canary_percent("web") == 50.0);
    app.command("web", "promote");
    app.reload(&slow(releases((&primary, "one"), (&canary, "three"))));
    let status = app.rollout("web");
    assert_eq!((status["phase"].as_str(), status["step"].as_u64()), (Some("running"), Some(0)), "{status}");
    assert!(app.log().contains("another release came"), "it is told");
}
