//! Rollouts that wait: for one another, for their turn, for their hours; and the
//! words that stop one.

use super::*;
use crate::harness::app::head;
use crate::harness::eventually;

fn two(origins: &[Origin; 4], more: &str, web: &str) -> String {
    let [first, first_new, second, second_new] = origins.each_ref().map(|origin| origin.address);
    let rollout = |name: &str, more: &str| {
        format!(
            "  {name}:\n    steps: [{{weight: 20, for: 60s}}]\n    bake: 0s\n    analysis: {QUICK}\n{more}"
        )
    };
    head(2)
        + &format!(
            "{more}services:\n  api: {{primary: {first}, canary: {first_new}}}\n  web: {{primary: {second}, canary: \
             {second_new}}}\nroutes:\n  - {{match: {{prefix: /api}}, service: api}}\n  - {{service: web}}\nrollouts:\n"
        )
        + &rollout("api", "")
        + &rollout("web", web)
}

#[test]
fn one_waits_until_the_other_has_succeeded() {
    let origins = ["api", "api-new", "web", "web-new"].map(Origin::start);
    let mut app = App::start(&two(&origins, "", "    after: [api]\n"));
    app.command("web", "start");
    let status = app.await_phase("web", "queued");
    assert!(status["sentence"].as_str().is_some_and(|text| text.contains("waits for api")), "{status}");
    app.command("api", "start");
    app.kill9();
    app.restart();
    assert_eq!(app.phase("web"), "queued", "a queue outlives a crash");
    app.command("api", "promote");
    app.await_phase("api", "succeeded");
    app.await_phase("web", "running");
    assert_eq!(app.canary_percent("web"), 20.0);
}

#[test]
fn no_more_are_under_way_than_the_file_allows() {
    let origins = ["api", "api-new", "web", "web-new"].map(Origin::start);
    let app = App::start(&two(&origins, "rolloutsAtOnce: 1\n", ""));
    app.command("api", "start");
    app.await_phase("api", "running");
    app.command("web", "start");
    let status = app.await_phase("web", "queued");
    assert!(status["sentence"].as_str().is_some_and(|text| text.contains("1 at once")), "{status}");
    app.command("api", "abort");
    app.await_phase("web", "running");
    app.command("api", "retry");
    app.await_phase("api", "queued");
    let output = app.cli(&["status"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("queued"), "{output:?}");
}

#[test]
fn outside_its_hours_it_waits_and_a_person_can_go_on() {
    // No hours but one minute, twelve hours from now.
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let hour = (seconds / 3_600 + 12) % 24;
    let hours = format!("hours: {{allow: \"{hour:02}:00-{hour:02}:01\"}}");
    let scene = scene(&format!("steps: [{{weight: 10, for: 1s}}]\n{hours}"));
    let app = &scene.app;
    app.command("web", "start");
    let status = app.await_phase("web", "queued");
    assert!(status["sentence"].as_str().is_some_and(|text| text.contains("outside its hours")), "{status}");
    app.command("web", "promote");
    eventually("it has begun", || app.canary_percent("web") == 10.0);
}

#[test]
fn frozen_suspended_and_skipped_by_command() {
    let scene = scene("steps: [{weight: 20, for: 60s}, {weight: 40, for: 60s}]\nbake: 60s");
    let app = &scene.app;
    app.command("web", "start");
    let run = |verb: &str| assert_eq!(app.cli(&[verb, "web"]).status.code(), Some(0), "{verb}");
    run("freeze");
    scene.canary.behave(bad);
    eventually("it has failed a lot", || scene.canary.requests() > 200);
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("paused", 20.0));
    scene.canary.behave(|_| Answer::ok());
    app.command("web", "abort");
    app.command("web", "retry");
    run("suspend");
    let trickle = app.canary_percent("web");
    assert!(trickle > 0.0 && trickle < 20.0, "{trickle}");
    run("resume");
    assert_eq!(app.canary_percent("web"), 20.0);
    run("skip");
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("baking", 100.0));
    run("rollback");
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("rolled_back", 0.0));
}
