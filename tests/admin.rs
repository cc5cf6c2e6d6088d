//! The admin door and the command line that goes through it.

use std::io::{BufRead, BufReader};
use std::process::Output;
use std::time::Duration;

use crate::harness::app::{pair, serin, single};
use crate::harness::{Answer, App, Ask, Conn, Origin, eventually};

const ROLLOUT: &str =
    "rollouts:\n  web:\n    steps: [{weight: 10, for: 30s}, {weight: 50, for: 30s}]\n    bake: 1s\n";

fn with_rollout() -> (App, Origin, Origin) {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&(pair(primary.address, canary.address, "") + ROLLOUT));
    (app, primary, canary)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_pages_that_tools_ask_for_are_there() {
    let (app, ..) = with_rollout();
    assert_eq!(app.get("/ready").status, 200);
    assert!(app.get_json("/server_info").is_object());
    let dump = app.get_json("/config_dump").to_string();
    assert!(dump.contains("\"web\""), "{dump}");
    assert!(app.get_json("/splits").to_string().contains("web"));
    let list = app.get_json("/rollouts").to_string();
    assert!(list.contains("\"web\"") && list.contains("idle"), "{list}");
    let detail = app.rollout("web");
    assert_eq!((detail["phase"].as_str(), detail["steps"].as_u64()), (Some("idle"), Some(2)));
    assert_eq!(
        (detail["weights"]["primary"].as_f64(), detail["weights"]["canary"].as_f64()),
        (Some(100.0), Some(0.0))
    );
    for version in ["primary", "canary"] {
        for figure in ["requests", "failures", "p50_ms", "p99_ms", "rps"] {
            assert!(detail["versions"][version].get(figure).is_some(), "no {figure} of {version}: {detail}");
        }
    }
}

#[test]
fn the_openapi_document_describes_every_path() {
    let (app, ..) = with_rollout();
    let document = app.get_json("/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with('3')));
    let paths = document["paths"].as_object().expect("it has paths");
    for path in
        ["/ready", "/metrics", "/server_info", "/config_dump", "/rollouts", "/rollouts/{name}", "/events"]
    {
        assert!(
            paths.get(path).is_some_and(|entry| entry["get"].is_object()),
            "{path} in {:?}",
            paths.keys()
        );
    }
    assert!(paths["/splits/{name}/weights"]["put"].is_object());
    let posts =
        paths.iter().filter(|(path, entry)| path.starts_with("/rollouts/") && entry["post"].is_object());
    assert!(posts.count() >= 1, "{:?}", paths.keys());
}

#[test]
fn wrong_calls_are_told_apart() {
    let (app, ..) = with_rollout();
    let cases = [
        (Ask::get("/nothing"), 404),
        (Ask::get("/rollouts/nobody"), 404),
        (Ask::post("/rollouts/nobody/start", ""), 404),
        (Ask::get("/rollouts/web/start"), 405),
        (Ask::get("/reload"), 405),
        (Ask::post("/ready", ""), 405),
        (Ask::get("/splits/web/weights"), 405),
        (Ask::post("/rollouts/web/pause", ""), 409),
        (Ask::post("/rollouts/web/retry", ""), 409),
    ];
    for (ask, status) in cases {
        let reply = app.admin(&ask);
        assert_eq!(reply.status, status, "{} {}: {}", ask.method, ask.path, reply.text());
        if status != 405 {
            let error = reply.json()["error"].as_str().map(str::to_owned);
            assert!(
                error.is_some_and(|text| !text.is_empty()),
                "{} {}: {}",
                ask.method,
                ask.path,
                reply.text()
            );
        }
    }
    assert_eq!(app.phase("web"), "idle", "none of these did anything");
}

#[test]
fn a_second_start_is_a_conflict() {
    let (app, ..) = with_rollout();
    app.command("web", "start");
    app.await_phase("web", "running");
    assert_eq!(app.post("/rollouts/web/start").status, 409);
    app.command("web", "abort");
    app.await_phase("web", "aborted");
    assert_eq!(app.post("/rollouts/web/abort").status, 409);
}

#[test]
fn weights_that_make_no_sense_are_refused_and_change_nothing() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "weights: {primary: 80, canary: 20}"));
    let cases = [
        ("web", vec![("primary", 80.0), ("canary", 10.0)], 422),
        ("web", vec![("primary", 110.0), ("canary", -10.0)], 422),
        ("web", vec![("primary", 99.999), ("canary", 0.001)], 422),
        ("web", vec![("primary", 90.0), ("somebody", 10.0)], 422),
        ("web", vec![], 422),
        ("nowhere", vec![("primary", 90.0), ("canary", 10.0)], 404),
    ];
    for (split, weights, status) in cases {
        let reply = app.try_weights(split, &weights);
        assert_eq!(reply.status, status, "{split} {weights:?}: {}", reply.text());
    }
    let ask = Ask::new("PUT", "/splits/web/weights").header("content-type", "application/json");
    let reply = app.admin(&ask.body("{\"primary\": 90, "));
    assert!([400, 422].contains(&reply.status), "{} {}", reply.status, reply.text());
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 20.0);
    let reply = app.try_weights("web", &[("primary", 87.66), ("canary", 12.34)]);
    assert_eq!(reply.status / 100, 2, "{}", reply.text());
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 12.34);
}

#[test]
fn events_stream_as_they_happen() {
    let (app, ..) = with_rollout();
    let mut conn = Conn::open(app.admin);
    conn.write(&Ask::get("/events").bytes());
    let head = conn.read_head().expect("a head");
    assert_eq!(head.status, 200);
    assert!(
        head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{head:?}"
    );
    app.command("web", "start");
    app.await_phase("web", "running");
    app.command("web", "abort");
    let mut told = String::new();
    for line in BufReader::new(&conn.stream).lines() {
        let line = line.expect("the stream goes on");
        told += &line;
        if told.contains("aborted") {
            break;
        }
    }
    assert!(told.contains("started") && told.contains("data:"), "{told}");
    assert!(told.find("started") < told.find("aborted"), "{told}");
}

#[test]
fn the_cli_steers_a_rollout_and_its_exit_codes_tell_scripts_how_it_went() {
    let (app, ..) = with_rollout();
    let ok = |arguments: &[&str]| {
        let output = app.cli(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    let fails = |arguments: &[&str]| {
        let output = app.cli(arguments);
        assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).trim().is_empty(), "{arguments:?} fails without a word");
        said(&output)
    };
    assert!(ok(&["status"]).contains("web"));
    let json: serde_json::Value = serde_json::from_str(ok(&["status", "web", "--json"]).trim())
        .expect("--json prints one JSON document");
    assert_eq!(json["phase"], "idle");
    ok(&["start", "web"]);
    app.await_phase("web", "running");
    fails(&["start", "web"]);
    ok(&["pause", "web"]);
    app.await_phase("web", "paused");
    ok(&["resume", "web"]);
    app.await_phase("web", "running");
    ok(&["promote", "web"]);
    eventually("promote passed the step", || app.rollout("web")["step"] == 1);
    ok(&["abort", "web"]);
    app.await_phase("web", "aborted");
    fails(&["status", "web", "--wait"]);
    ok(&["retry", "web"]);
    app.await_phase("web", "running");
    assert!(fails(&["start", "nobody"]).contains("nobody"));
    fails(&["no-such-command"]);
}

#[test]
fn the_cli_sets_weights() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    let output = app.cli(&["weights", "web", "primary=62.5", "canary=37.5"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 37.5);
    for wrong in [
        &["weights", "web", "primary=90", "canary=20"][..],
        &["weights", "web", "primary"],
        &["weights", "no", "primary=100"],
    ] {
        let output = app.cli(wrong);
        assert!(!output.status.success(), "{wrong:?}: {}", said(&output));
    }
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 37.5);
    let admin = app.admin.to_string();
    assert!(serin(&["weights", "--admin", &admin, "web", "primary=100", "canary=0"]).status.success());
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 0.0);
}

#[test]
fn the_cli_says_whom_it_could_not_reach() {
    let dead = crate::harness::raw::closed();
    let output = serin(&["status", "--admin", &dead.address.to_string()]);
    assert!(!output.status.success());
    assert!(said(&output).contains(&dead.address.to_string()), "{}", said(&output));
}

fn check(yaml: &str) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("serin.yaml");
    std::fs::write(&file, yaml).expect("the folder is ours");
    serin(&["check", "-c", file.to_str().expect("a temporary path is text")])
}

#[test]
fn check_prints_every_problem_with_its_line_and_fails() {
    let yaml = "listen: 127.0.0.1:8080\n\
                colour: blue\n\
                services:\n\
                \x20 web:\n\
                \x20   primary: 127.0.0.1:9001\n\
                \x20   canary: 127.0.0.1:9002\n\
                \x20   weights: {primary: 90, canary: 5}\n\
                \x20   force: [{header: x-a, exact: b, version: nobody}]\n\
                routes:\n\
                \x20 - {name: r, service: nowhere}\n";
    let output = check(yaml);
    assert!(output.status.code().is_some_and(|code| code != 0), "{}", said(&output));
    let said = said(&output);
    for (line, word) in [(2, "colour"), (7, "95"), (8, "nobody"), (10, "nowhere")] {
        let found =
            said.lines().any(|text| text.contains(&format!("serin.yaml:{line}:")) && text.contains(word));
        assert!(found, "no problem of line {line} about {word:?} in:\n{said}");
    }
}

#[test]
fn check_is_content_with_a_good_file_and_not_with_none() {
    let output = check("listen: 127.0.0.1:8080\nservices:\n  web:\n    primary: 127.0.0.1:9001\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!serin(&["check", "-c", "/nowhere/serin.yaml"]).status.success());
    assert!(!serin(&["run", "-c", "/nowhere/serin.yaml"]).status.success());
}

#[test]
fn run_refuses_an_address_that_is_taken() {
    let taken = Origin::start("taken");
    let yaml =
        format!("listen: {0}\nadmin: 127.0.0.1:0\nservices:\n  web:\n    primary: {0}\n", taken.address);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("serin.yaml");
    std::fs::write(&file, yaml).expect("the folder is ours");
    let output = serin(&["run", "-c", file.to_str().expect("a temporary path is text")]);
    assert!(!output.status.success());
    assert!(said(&output).contains(&taken.address.to_string()), "{}", said(&output));
}

#[test]
fn what_was_told_before_a_restart_is_there_and_nobody_is_told_it_again() {
    let (origin, team) = (Origin::start("a"), Origin::start("team"));
    let alerts =
        format!("alerts:\n  receivers: [{{name: team, type: webhook, url: 'http://{}/'}}]\n", team.address);
    let mut app = App::start(&(pair(origin.address, origin.address, "") + &alerts + ROLLOUT));
    app.command("web", "start");
    app.command("web", "abort");
    eventually("it is told", || team.requests() == 2);
    // How long a shift took nobody has written down.
    let history = |app: &App| {
        let mut events = app.get_json("/history");
        for event in events.as_array_mut().expect("a list") {
            event.as_object_mut().expect("an event").remove("in_force_us");
        }
        events
    };
    let before = history(&app);
    let told = |events: &serde_json::Value| events.as_array().expect("a list").len();
    assert_eq!(told(&before), 2);
    app.kill9();
    app.restart();
    assert_eq!(history(&app), before);
    app.command("web", "start");
    eventually("what is new is told", || team.requests() > 2);
    let after = history(&app);
    assert_eq!((told(&after), &after[0], &after[1]), (3, &before[0], &before[1]));
    assert!(after[2]["id"].as_u64() > before[1]["id"].as_u64());
    assert_eq!(team.requests(), 3, "and nothing twice");
}

#[test]
fn a_login_does_not_stand_in_a_url_and_of_a_url_only_the_host_is_shown() {
    let origin = Origin::start("a");
    let alerts = |url: &str| {
        let receiver = format!("{{name: team, type: slack, url: '{url}', headers: {{x-token: opensesame}}}}");
        single(origin.address) + &format!("alerts:\n  receivers: [{receiver}]\n")
    };
    let refused = check(&alerts("https://me:opensesame@hooks.example/"));
    assert!(!refused.status.success() && said(&refused).contains("a login does not stand here itself"));
    assert!(!said(&refused).contains("opensesame"), "{}", said(&refused));
    let app = App::start(&alerts("https://hooks.example/services/opensesame"));
    let shown = app.get_json("/config_dump")["alerts"]["receivers"][0].clone();
    assert_eq!(shown["url"], "https://hooks.example/[hidden]");
    assert!(!shown.to_string().contains("opensesame"), "{shown}");
}

#[test]
fn a_caller_that_leaves_stops_neither_the_call_nor_its_line() {
    let slow = Origin::answering("slow", |_| Answer::ok().after(Duration::from_millis(500)));
    let origin = Origin::start("a");
    let alerts =
        format!("alerts:\n  receivers: [{{name: team, type: webhook, url: 'http://{}/'}}]\n", slow.address);
    let app = App::start(&(single(origin.address) + &alerts));
    let lines = || {
        let text = std::fs::read_to_string(app.folder().join("serin-state/audit.jsonl")).unwrap_or_default();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        text.lines().map(line).collect::<Vec<_>>()
    };
    let mut conn = Conn::open(app.admin);
    conn.write(b"POST /alerts/test HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    eventually("the call is under way", || slow.requests() == 1);
    conn.reset();
    eventually("it has its line", || !lines().is_empty());
    assert_eq!((&lines()[0]["path"], &lines()[0]["status"]), (&"/alerts/test".into(), &200.into()));
    let long = app.admin(&Ask::post("/reload", vec![b'x'; (1 << 20) + 1]));
    assert_eq!(long.status, 413);
    assert_eq!((&lines()[1]["path"], &lines()[1]["status"]), (&"/reload".into(), &413.into()));
}

#[test]
fn the_admin_door_survives_clients_that_vanish() {
    let origin = Origin::start("a");
    let app = App::start(&single(origin.address));
    for _ in 0..50 {
        let mut conn = Conn::open(app.admin);
        conn.write(b"GET /metrics HTTP/1.1\r\nhost: a\r\n");
        conn.reset();
    }
    assert_eq!(app.get("/ready").status, 200);
}
