//! A new file is taken whole and without a scratch, or not at all.

use std::time::Duration;

use crate::harness::app::{head, pair, quiet, single};
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

#[test]
fn reloads_under_load_fail_nobody_keep_connections_and_counters() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let yaml = |round: u64| {
        let share = 10 + round;
        let base = pair(
            primary.address,
            canary.address,
            &format!("weights: {{primary: {}, canary: {share}}}", 100 - share),
        );
        format!("{base}routes:\n  - {{name: r{round}, match: [{{prefix: /}}], service: web}}\n")
    };
    let app = App::start(&yaml(0));
    let load = Load::start(app.address(), 6, Duration::ZERO, Ask::get("/"));
    load.pass(100);
    let mut counted = app.requests(&[]);
    for round in 1..=40 {
        let reply = app.reload(&yaml(round));
        assert_eq!(reply.status / 100, 2, "{}", reply.text());
        load.pass(10);
        let now = app.requests(&[]);
        assert!(now >= counted, "counters went back from {counted} to {now}");
        counted = now;
    }
    let report = load.stop();
    assert_eq!((report.failures(), report.reopened), (0, 0), "{:?} {:?}", report.statuses, report.words);
    quiet(&app);
    assert_eq!(app.requests(&[]), report.requests, "every request is counted once over all reloads");
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 50.0);
    assert!(app.metric("serin_config_reloads_total", &[]) >= 40.0);
}

#[test]
fn a_new_route_acts_after_the_reload_on_a_kept_connection() {
    let origin = Origin::start("a");
    let app = App::start(&single(origin.address));
    let mut conn = app.conn();
    assert_eq!(conn.get("/new").origin(), "a");
    let routes = "routes:\n  - {name: new, match: [{prefix: /new}], direct: {status: 418, body: tea}}\n";
    let reply = app.reload(&format!("{}{routes}  - {{name: rest, service: web}}\n", single(origin.address)));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    assert_eq!((conn.get("/new").status, conn.get("/other").origin()), (418, "a"));
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_with_its_line() {
    let origin = Origin::start("a");
    let good = single(origin.address);
    let app = App::start(&good);
    let mut conn = app.conn();
    assert_eq!(conn.get("/").status, 200);
    let before = app.get_json("/config_dump");
    let bad = [
        ("no YAML", format!("{good}services: [")),
        ("an unknown field", format!("{good}colour: blue\n")),
        ("an unknown version", format!("{good}    force: [{{header: x, exact: y, version: nobody}}]\n")),
        ("no service of that name", format!("{good}routes:\n  - {{name: r, service: nowhere}}\n")),
    ];
    for (what, yaml) in &bad {
        let failed = app.metric("serin_config_reloads_total", &[]);
        let reply = app.reload(yaml);
        assert_eq!(reply.status, 422, "{what}: {}", reply.text());
        assert!(reply.text().contains("serin.yaml"), "{what}: the answer names the file: {}", reply.text());
        assert!(app.metric("serin_config_reloads_total", &[]) > failed, "{what} is counted");
        assert_eq!(conn.get("/").origin(), "a", "{what}");
        assert_eq!(app.get_json("/config_dump")["model"], before["model"], "{what}");
    }
    assert_eq!(app.reload(&good).status / 100, 2, "a good file is taken again");
}

#[test]
fn a_changed_file_is_noticed_without_being_told() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let app = App::start(&single(one.address));
    assert_eq!(app.conn().get("/").origin(), "one");
    app.write_config(&single(two.address));
    eventually("the file is read again", || app.conn().get("/").origin() == "two");
}

#[test]
fn live_weights_survive_a_reload_that_does_not_speak_of_them() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let yaml = pair(primary.address, canary.address, "weights: {primary: 90, canary: 10}");
    let app = App::start(&yaml);
    app.put_weights("web", &[("primary", 0.0), ("canary", 100.0)]);
    let reply = app.reload(&format!("{yaml}routes:\n  - {{name: all, service: web, timeout: 3s}}\n"));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    let mut conn = app.conn();
    for _ in 0..20 {
        assert_eq!(conn.get("/").origin(), "canary");
    }
}

#[test]
fn a_request_under_way_ends_on_the_table_it_began_with() {
    let slow = Origin::answering("slow", |_| Answer::ok().after(Duration::from_millis(600)));
    let app = App::start(&single(slow.address));
    let mut conn = app.conn();
    conn.write(&Ask::get("/").bytes());
    eventually("it is under way", || slow.requests() == 1);
    let reply =
        app.reload(&format!("{}routes:\n  - {{name: no, direct: {{status: 410, body: gone}}}}\n", head(2)));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    assert_eq!(conn.read_reply("GET").expect("an answer").origin(), "slow");
    assert_eq!(conn.get("/").status, 410);
}

/// Versions in the long form, with `more` beside them, and a rollout that no test of the judge ends.
fn versions(primary: &Origin, canary: &Origin, more: &str) -> String {
    format!(
        "{}services:\n  web:\n    versions:\n      primary: {{role: primary, endpoints: [\"{}\"]}}\n      \
         canary: {{role: canary, endpoints: [\"{}\"]}}\n{more}\
         rollouts:\n  web:\n    steps: [{{weight: 40, for: 10m}}]\n    analysis: {{failures: false, slowdown: false}}\n",
        head(2),
        primary.address,
        canary.address
    )
}

#[test]
fn a_version_added_by_a_reload_leaves_weights_and_evidence_as_they_were() {
    let slow = |status: u16| {
        move |seen: &crate::harness::origin::Seen| match seen.path.as_str() {
            "/slow" => Answer::status(status).after(Duration::from_secs(2)),
            _ => Answer::status(status),
        }
    };
    let (primary, canary) = (Origin::answering("primary", slow(200)), Origin::answering("canary", slow(500)));
    let app = App::start(&versions(&primary, &canary, ""));
    app.command("web", "start");
    app.await_phase("web", "running");
    let mut conn = app.conn();
    for _ in 0..50 {
        conn.get("/");
    }
    let (early, answered) = (canary.requests(), primary.requests() + canary.requests());
    let mut waiting: Vec<_> = (0..40).map(|_| app.conn()).collect();
    for conn in &mut waiting {
        conn.write(&Ask::post("/slow", "").bytes());
    }
    eventually("all are under way", || primary.requests() + canary.requests() == answered + 40);
    let late = canary.requests() - early;
    assert!(late > 0, "the coin gave the canary none of 40");
    let more = format!("      other: {{role: other, endpoints: [\"{}\"]}}\n", primary.address);
    let reply = app.reload(&versions(&primary, &canary, &more));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    let status = app.rollout("web");
    assert_eq!((&status["phase"], &status["weights"]["canary"]), (&"running".into(), &40.0.into()));
    assert_eq!(status["weights"].as_object().map(|weights| weights.len()), Some(2), "{status}");
    for conn in &mut waiting {
        conn.read_reply("POST").expect("an answer");
    }
    // Failures from before the reload and of requests that it met under way.
    eventually("the judge has them all", || app.rollout("web")["canary_failures"] == early + late);
    assert_eq!(app.rollout("web")["primary_failures"], 0);
}

#[test]
fn weights_set_by_hand_survive_a_version_that_is_added() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&versions(&primary, &canary, ""));
    app.put_weights("web", &[("primary", 25.0), ("canary", 75.0)]);
    let more = format!("      other: {{role: other, endpoints: [\"{}\"]}}\n", primary.address);
    let reply = app.reload(&versions(&primary, &canary, &more));
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 75.0);
    assert_eq!(app.metric("serin_weight_percent", &[("version", "primary")]), 25.0);
    assert_eq!(app.metric("serin_weight_percent", &[("version", "other")]), 0.0);
}

/// The way from one release to the next: the promoted one becomes the primary, and the
/// servers that were the primary's get the next canary.
#[test]
fn swapped_addresses_send_nobody_to_the_release_that_nobody_has_judged() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let app = App::start(&versions(&a, &b, ""));
    let load = Load::start(app.address(), 6, Duration::ZERO, Ask::get("/"));
    for round in 0..40 {
        let (primary, canary) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        app.put_weights("web", &[("primary", 0.0), ("canary", 100.0)]);
        load.pass(50);
        let under_way = || app.metric("serin_requests_in_flight", &[("version", "primary")]);
        eventually("nobody is with the primary any more", || under_way() == 0.0);
        let before = primary.requests();
        let reply = app.reload(&versions(canary, primary, ""));
        assert_eq!(reply.status / 100, 2, "{}", reply.text());
        load.pass(50);
        assert_eq!(primary.requests(), before, "round {round}: it is the next canary now, at weight 0");
    }
    assert_eq!(load.stop().failures(), 0);
}
