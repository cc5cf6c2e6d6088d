//! Webhooks and gates as their receivers and operators meet them: who is asked when,
//! what an answer does, and that nobody who does not answer holds up a rollback.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::app::{SERIN, head, pair};
use crate::harness::client::Reply;
use crate::harness::load::GAP;
use crate::harness::origin::Seen;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, eventually_some};

/// Two good versions, a rollout of two short steps, these webhooks, and traffic.
pub struct Scene {
    pub app: App,
    pub load: Load,
    _origins: [Origin; 2],
}

pub fn rollout(webhooks: &str) -> String {
    format!(
        "rollouts:\n  web:\n    steps: [{{weight: 10, for: 100ms}}, {{weight: 50, for: 100ms}}]\n    bake: 0s\n    \
         analysis: {{minRequests: 5, slowdown: false, promotion: false}}\n    webhooks:\n{webhooks}"
    )
}

pub fn scene(webhooks: &str) -> Scene {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &rollout(webhooks)));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    Scene { app, load, _origins: origins }
}

pub fn hook(name: &str, kind: &str, to: &str) -> String {
    format!("      - {{name: {name}, type: {kind}, {to}, interval: 50ms}}\n")
}

pub fn gate(app: &App, verb: &str) -> Reply {
    app.admin(&Ask::post(&format!("/gate/{verb}"), r#"{"name": "web"}"#))
}

pub fn waits_for(app: &App, kinds: &[&str]) {
    eventually(&format!("it waits for {kinds:?}"), || app.rollout("web")["waiting"] == json!(kinds));
}

/// Long enough for an advance that must not come: several times the step and the interval.
pub fn stays(app: &App, percent: f64) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(600) {
        assert_eq!(app.canary_percent("web"), percent);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn last_body(origin: &Origin) -> Value {
    let bodies = origin.bodies();
    serde_json::from_slice(bodies.last().expect("it was called")).expect("the body is JSON")
}

#[test]
fn a_rollout_asks_before_each_rise_and_goes_on_when_its_gate_opens() {
    let webhooks = hook("begin", "confirm-rollout", "gate: true")
        + &hook("more", "confirm-traffic-increase", "gate: true")
        + &hook("all", "confirm-promotion", "gate: true");
    let scene = scene(&webhooks);
    let app = &scene.app;
    app.command("web", "start");
    waits_for(app, &["confirm-rollout"]);
    stays(app, 0.0);
    assert_eq!(app.phase("web"), "paused");
    assert_eq!(gate(app, "open").status, 202);
    eventually("it is promoted", || app.phase("web") == "succeeded");
    assert_eq!(app.canary_percent("web"), 100.0);
    assert_eq!(gate(app, "close").status, 202);
    let told = app.get_json("/history?rollout=web&kind=waiting");
    assert!(!told.as_array().expect("a list").is_empty(), "{told}");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_gate_closed_in_the_middle_holds_the_next_rise() {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let webhooks = hook("more", "confirm-traffic-increase", "gate: true");
    let rollout = rollout(&webhooks).replace("{weight: 10, for: 100ms}", "{weight: 10, for: 3s}");
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &rollout));
    let _load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    app.command("web", "start");
    waits_for(&app, &["confirm-traffic-increase"]);
    stays(&app, 0.0);
    let sentence = app.rollout("web")["sentence"].as_str().expect("a sentence").to_owned();
    assert!(sentence.contains("waiting for confirm-traffic-increase (more)"), "{sentence}");
    assert_eq!(gate(&app, "open").status, 202);
    eventually("it begins", || app.canary_percent("web") == 10.0);
    assert_eq!(gate(&app, "close").status, 202);
    waits_for(&app, &["confirm-traffic-increase"]);
    stays(&app, 10.0);
    // Open until it has moved once; by then it may well have moved twice.
    assert_eq!(gate(&app, "open").status, 202);
    eventually("it rises", || app.canary_percent("web") > 10.0);
}

#[test]
fn an_operator_needs_no_gate_and_an_abort_asks_nobody() {
    let webhooks =
        hook("begin", "confirm-rollout", "gate: true") + &hook("all", "confirm-promotion", "gate: true");
    let Scene { app, .. } = &scene(&webhooks);
    app.command("web", "start");
    waits_for(app, &["confirm-rollout"]);
    app.command("web", "promote");
    assert_eq!(app.canary_percent("web"), 10.0);
    waits_for(app, &["confirm-promotion"]);
    app.command("web", "abort");
    assert_eq!(app.canary_percent("web"), 0.0);
    assert_eq!(app.rollout("web")["waiting"], json!([]));
}

#[test]
fn gates_answer_as_the_load_tester_does_and_outlive_a_restart() {
    let mut scene = scene(&hook("begin", "confirm-rollout", "gate: true"));
    let ask = |app: &App, path: &str, body: &str| {
        let reply = app.admin(&Ask::post(path, body));
        (reply.status, reply.text())
    };
    let named = r#"{"name": "podinfo", "namespace": "test", "phase": "Progressing", "metadata": {"a": "b"}}"#;
    let other = r#"{"name": "podinfo", "namespace": "prod"}"#;
    let app = &scene.app;
    assert_eq!(ask(app, "/gate/approve", ""), (200, "OK".to_owned()));
    assert_eq!(ask(app, "/gate/halt", ""), (403, "Forbidden".to_owned()));
    for kind in ["gate", "rollback"] {
        let path = |verb: &str| format!("/{kind}/{verb}");
        assert_eq!(ask(app, &path("check"), named), (403, "Forbidden".to_owned()), "closed until opened");
        assert_eq!(ask(app, &path("open"), named).0, 202);
        assert_eq!(ask(app, &path("check"), named), (200, "Approved".to_owned()));
        assert_eq!(ask(app, &path("check"), other).0, 403, "another namespace");
        assert_eq!(ask(app, &path("check"), "not JSON").0, 400);
    }
    scene.app.restart();
    let app = &scene.app;
    assert_eq!(ask(app, "/gate/check", named).0, 200, "it is open still");
    assert_eq!(ask(app, "/gate/close", named).0, 202);
    assert_eq!(ask(app, "/gate/check", named).0, 403);
    assert_eq!(ask(app, "/rollback/check", named).0, 200, "the other gate is as it was");
}

#[test]
fn a_webhook_is_sent_what_flagger_sends_signed_and_with_its_fields() {
    let receiver = Origin::answering("receiver", |_| Answer::status(202));
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let webhooks = format!(
        "      - name: begin\n        type: confirm-rollout\n        url: http://{}/ask?x=1\n        namespace: test\n        \
         metadata: {{team: birds}}\n        sign: {{file: key}}\n        headers: {{authorization: {{env: SERIN_TEST_TOKEN}}}}\n",
        receiver.address
    );
    let yaml = pair(origins[0].address, origins[1].address, "") + &rollout(&webhooks);
    let app = App::start_by(&yaml, |folder| {
        std::fs::write(folder.join("key"), "a key\n").expect("the folder is ours");
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_TOKEN", "Bearer t0ken");
        command
    });
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    app.command("web", "start");
    eventually("it has begun", || app.canary_percent("web") > 0.0);
    let body = last_body(&receiver);
    let checksum = body["checksum"].as_str().expect("a checksum");
    assert_eq!(checksum.len(), 10, "{checksum}");
    assert_eq!(
        body,
        json!({"name": "web", "namespace": "test", "phase": "Waiting", "checksum": checksum,
            "metadata": {"team": "birds"}})
    );
    let seen = &receiver.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/ask?x=1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("authorization"), Some("Bearer t0ken"));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"a key");
    let signature = seen.header("x-serin-signature").and_then(|text| text.strip_prefix("sha256="));
    let tag: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature.expect("it is signed")[at..at + 2], 16).expect("hexadecimal"))
        .collect();
    aws_lc_rs::hmac::verify(&key, &receiver.bodies()[0], &tag).expect("the signature is over the body");
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn no_content_is_a_no_and_a_check_that_fails_too_often_rolls_back() {
    let receiver = Origin::answering("receiver", |_| Answer::status(204));
    let url = format!("url: 'http://{}/', failures: 3", receiver.address);
    let Scene { app, .. } = &scene(&hook("smoke", "rollout", &url));
    app.command("web", "start");
    let status = app.await_phase("web", "rolled_back");
    assert_eq!(status["step"], 0, "it never passed a step");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("3 failed checks by webhooks; the last: rollout smoke: answered 204"),
        "{sentence}"
    );
    assert_eq!(receiver.requests(), 3);
}

#[test]
fn a_check_before_the_start_is_made_before_any_traffic_and_a_wish_to_roll_back_is_granted() {
    let ready = Origin::answering("ready", |seen| Answer::status(if seen.nth < 3 { 500 } else { 200 }));
    let wish = Origin::answering("wish", |_| Answer::status(403));
    let webhooks = hook("ready", "pre-rollout", &format!("url: 'http://{}/'", ready.address))
        + &hook("wish", "rollback", &format!("url: 'http://{}/'", wish.address))
        + &hook("all", "confirm-promotion", "gate: true");
    let scene = scene(&webhooks);
    let app = &scene.app;
    app.command("web", "start");
    eventually("it has begun", || app.canary_percent("web") > 0.0);
    assert_eq!(ready.requests(), 3, "asked until it agreed, and no more");
    waits_for(app, &["confirm-promotion"]);
    wish.behave(|_| Answer::ok());
    let status = app.await_phase("web", "rolled_back");
    assert_eq!(app.canary_percent("web"), 0.0);
    assert!(
        status["sentence"].as_str().is_some_and(|text| text.contains("rollback wish agreed")),
        "{status}"
    );
}

#[test]
fn what_is_told_arrives_in_order_and_what_cannot_be_delivered_is_kept_and_sent_again() {
    let events = Origin::start("events");
    let end = Origin::answering("end", |_| Answer::status(400).text("go away"));
    let webhooks = hook("told", "event", &format!("url: 'http://{}/'", events.address))
        + &hook("end", "post-rollout", &format!("url: 'http://{}/', retries: 0", end.address));
    let Scene { mut app, load, _origins } = scene(&webhooks);
    app.command("web", "start");
    app.await_phase("web", "succeeded");
    let bodies = eventually_some("all events have arrived", || {
        let bodies: Vec<Value> =
            events.bodies().iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect();
        let is_last = |body: &Value| {
            body["metadata"]["eventMessage"].as_str().is_some_and(|text| text.contains("for good"))
        };
        bodies.iter().any(is_last).then_some(bodies)
    });
    let messages: Vec<&str> =
        bodies.iter().map(|body| body["metadata"]["eventMessage"].as_str().expect("a text")).collect();
    assert!(messages[0].starts_with("step 1 of 2") && messages[1].starts_with("step 2 of 2"), "{messages:?}");
    assert!(bodies.iter().all(|body| body["metadata"]["eventType"] == "Normal"));
    assert!(bodies[0]["metadata"]["timestamp"].as_str().is_some_and(|text| text.parse::<u64>().is_ok()));
    let dead = eventually_some("the last word is among the dead letters", || {
        app.get_json("/dead-letters").as_array().and_then(|list| list.first().cloned())
    });
    assert_eq!(
        (dead["attempts"].as_u64(), dead["about"]["payload"]["phase"].as_str()),
        (Some(1), Some("Succeeded"))
    );
    assert_eq!(dead["cause"], "answered 400 Bad Request: go away");
    let counted = |receiver: &str, result: &str| {
        app.metric("serin_letters_total", &[("receiver", receiver), ("result", result)])
    };
    assert_eq!(
        (counted("webhook end of web", "failed"), counted("webhook end of web", "delivered")),
        (1.0, 0.0)
    );
    assert!(counted("webhook told of web", "delivered") >= 3.0);
    assert_eq!(app.metric("serin_letter_duration_seconds_count", &[("receiver", "webhook end of web")]), 1.0);
    assert_eq!(app.metric("serin_dead_letters", &[]), 1.0);
    // It outlives the process, and is written anew by the next.
    load.stop();
    app.kill9();
    app.restart();
    assert_eq!(app.get_json("/dead-letters")[0], dead);
    end.behave(|_| Answer::ok());
    assert_eq!(app.post(&format!("/dead-letters/{}/resend", dead["id"])).status, 202);
    eventually("it is sent again", || end.requests() == 2);
    assert_eq!(last_body(&end)["phase"], "Succeeded");
    assert_eq!(app.get_json("/dead-letters"), json!([]));
    assert_eq!(app.post("/dead-letters/4711/resend").status, 404);
}

/// Takes connections and says nothing, ever.
pub fn hanging() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address.to_string())
}

#[test]
fn receivers_of_every_bad_kind_delay_no_rollback_among_fifty_rollouts() {
    const ROLLOUTS: usize = 50;
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let bad = Origin::start("bad");
    let (_listener, hangs) = hanging();
    let refuses = {
        let (listener, address) = hanging();
        drop(listener);
        address
    };
    let fails = Origin::answering("fails", |_| Answer::status(500));
    let limits = Origin::answering("limits", |_| Answer::status(429).header("retry-after", "1"));
    let cuts = Origin::answering("cuts", |_| Answer::stream(1 << 20).broken_after(10));
    let receivers =
        [hangs, refuses, fails.address.to_string(), limits.address.to_string(), cuts.address.to_string()];
    let mut yaml = head(2) + "services:\n";
    for n in 0..ROLLOUTS {
        let canary = if n == 7 { bad.address } else { canary.address };
        yaml += &format!("  s{n}: {{primary: '{}', canary: '{canary}'}}\n", primary.address);
    }
    yaml += "routes:\n";
    for n in 0..ROLLOUTS {
        yaml += &format!("  - {{name: r{n}, match: {{prefix: /s{n}/}}, service: s{n}}}\n");
    }
    yaml += "alerts:\n  receivers:\n";
    for (n, address) in receivers.iter().enumerate() {
        yaml += &format!("    - {{name: a{n}, type: slack, url: 'http://{address}/', retries: 3}}\n");
    }
    yaml += "rollouts:\n";
    for n in 0..ROLLOUTS {
        yaml += &format!(
            "  s{n}:\n    steps: [{{weight: 50, for: 10m}}]\n    analysis: {{window: 0s}}\n    webhooks:\n"
        );
        for (m, address) in receivers.iter().enumerate() {
            let to = format!("url: 'http://{address}/', retries: 2, failures: 1000");
            yaml += &hook(&format!("check{m}"), ["rollout", "rollback", "event"][m % 3], &to);
            yaml += &hook(&format!("told{m}"), "event", &to);
        }
        yaml += &hook("hung", "rollback", &format!("url: 'http://{}/'", receivers[0]));
        yaml += &hook("hand", "rollback", "gate: true");
    }
    let app = App::start(&yaml);
    for n in 0..ROLLOUTS {
        app.command(&format!("s{n}"), "start");
    }
    let load = Load::start(app.address(), 4, GAP, Ask::get("/s7/"));
    load.pass(300);
    bad.behave(|_| Answer::status(500));
    let since = eventually_some("the canary has shown itself", || bad.failing_since());
    eventually("its weight is zero", || app.canary_percent("s7") == 0.0);
    let took = since.elapsed();
    println!("fifty rollouts, five bad receivers: weight zero {took:?} after the first failure");
    assert!(took < Duration::from_secs(5), "{took:?}");
    app.await_phase("s7", "rolled_back");
    assert_eq!(load.stop().failures(), 0);
    assert_eq!(app.phase("s8"), "running", "nobody else is touched");
    let since = Instant::now();
    assert_eq!(app.admin(&Ask::post("/rollback/open", r#"{"name": "s9"}"#)).status, 202);
    app.await_phase("s9", "rolled_back");
    let took = since.elapsed();
    println!("the same: rolled back {took:?} after a hand asked for it");
    assert!(took < Duration::from_secs(5), "{took:?}");
    eventually("what cannot be delivered is told", || {
        !app.get_json("/dead-letters").as_array().expect("a list").is_empty()
    });
}

#[test]
fn secrets_are_in_no_dump_log_journal_or_list() {
    const SECRETS: [&str; 6] = [
        "s3cret-path-4711",
        "s3cret-key-4712",
        "s3cret-field-4713",
        "s3cret-admin-4714",
        "s3cret-store-4715",
        "s3cret-load-4716",
    ];
    let receiver = Origin::start("receiver");
    let broken = Origin::answering("broken", |_| Answer::status(400));
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let webhooks = format!(
        "      - {{name: told, type: event, url: {{file: url}}, sign: {{file: key}}, headers: {{x-token: {{env: SERIN_TEST_FIELD}}}}}}\n      \
         - {{name: dead, type: event, url: 'http://{}/', sign: {{file: key}}, retries: 0}}\n      \
         - {{name: more, type: confirm-traffic-increase, url: {{file: url}}, interval: 50ms}}\n      \
         - {{name: asked, query: {{provider: store, query: up, max: 1}}, interval: 50ms}}\n    \
         load: {{rate: 1000/s, headers: {{x-load: {{env: SERIN_TEST_LOAD}}}}}}\n",
        broken.address
    );
    let alerts = "alerts:\n  receivers:\n    - {name: team, type: slack, url: {file: url}, token: {file: key}}\n    \
                  - {name: pager, type: pagerDuty, url: 'http://127.0.0.1:9/', token: {file: key}, retries: 0}\n";
    let store = Origin::answering("store", |_| Answer::status(500).text("go away"));
    let providers = format!(
        "providers:\n  store: {{type: prometheus, address: 'http://{}', bearer: {{env: SERIN_TEST_STORE}}}}\n",
        store.address
    );
    let yaml = pair(origins[0].address, origins[1].address, "") + alerts + &providers + &rollout(&webhooks);
    let app = App::start_by(&yaml, |folder| {
        let url = format!("http://{}/{}", receiver.address, SECRETS[0]);
        std::fs::write(folder.join("url"), url).expect("the folder is ours");
        std::fs::write(folder.join("key"), SECRETS[1]).expect("the folder is ours");
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_FIELD", SECRETS[2]).env("RUST_LOG", "trace");
        command.env("SERIN_TEST_STORE", SECRETS[4]).env("SERIN_TEST_LOAD", SECRETS[5]);
        command
    });
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    let token = format!("Bearer {}", SECRETS[3]);
    let start = app.admin(&Ask::post("/rollouts/web/start", "").header("authorization", &token));
    assert_eq!(start.status, 200);
    let bearer = format!("Bearer {}", SECRETS[4]);
    let is_shown = |seen: &Seen| seen.header("authorization") == Some(&bearer);
    eventually("the store is asked", || store.seen().iter().any(is_shown));
    let is_load = |seen: &Seen| seen.header("x-load") == Some(SECRETS[5]);
    eventually("load is sent", || origins[0].seen().iter().any(is_load));
    store.behave(|_| {
        Answer::ok().text(r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}"#)
    });
    app.await_phase("web", "succeeded");
    app.command("web", "start");
    app.command("web", "abort");
    eventually("the pager's letter is dead", || app.get("/dead-letters").text().contains("receiver pager"));
    load.stop();
    assert!(receiver.seen().iter().any(|seen| seen.path.contains(SECRETS[0])), "the secret was used");
    assert!(receiver.seen().iter().any(|seen| seen.header("x-token") == Some(SECRETS[2])));
    let texts = all_texts(&app);
    assert!(texts.iter().any(|(name, text)| name.ends_with("journal.jsonl") && text.contains("x-token")));
    for (name, text) in &texts {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in {name}");
        }
    }
}

/// What it has said, shows and keeps, with the names of the places.
pub fn all_texts(app: &App) -> Vec<(String, String)> {
    let mut texts = vec![("log".to_owned(), app.log())];
    for path in ["/config_dump", "/rollouts", "/history", "/dead-letters", "/metrics", "/server_info"] {
        texts.push((path.to_owned(), app.get(path).text()));
    }
    let state = app.folder().join("serin-state");
    eventually("the past is written", || state.join("history").is_dir());
    for folder in [state.join("history"), state] {
        for file in std::fs::read_dir(folder).expect("the state is there").flatten() {
            let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned();
            texts.push((file.path().display().to_string(), text));
        }
    }
    texts
}

#[test]
fn every_call_that_changes_something_has_its_audit_line() {
    let Scene { app, .. } = &scene(&hook("begin", "confirm-rollout", "gate: true"));
    let token = Ask::post("/rollouts/web/start", "").header("authorization", "Bearer of-somebody");
    assert_eq!(app.admin(&token.header("user-agent", "a test")).status, 200);
    gate(app, "open");
    assert_eq!(app.post("/rollouts/nobody/start").status, 404);
    app.get("/rollouts");
    let text =
        std::fs::read_to_string(app.folder().join("serin-state/audit.jsonl")).expect("there is a file");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["path"].as_str().expect("a path"), line["status"].as_u64())).collect();
    assert_eq!(
        told,
        [
            ("/rollouts/web/start", Some(200)),
            ("/gate/open", Some(202)),
            ("/rollouts/nobody/start", Some(404))
        ]
    );
    assert!(
        lines[0]["self_declared"].as_str().is_some_and(|who| who.starts_with("token sha256:")),
        "{}",
        lines[0]
    );
    assert_eq!((&lines[0]["agent"], &lines[1]["self_declared"]), (&json!("a test"), &json!("nobody")));
    assert!(lines[0]["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")));
    assert_eq!(lines[1]["body"], r#"{"name": "web"}"#);
    assert!(lines[0]["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000));
    // Whatever the API has that changes something, whether it was granted or not.
    let document = app.get_json("/openapi.json");
    let mut changing = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let asks = path.starts_with("/api/v1/")
            || ["/gate/check", "/gate/approve", "/gate/halt", "/rollback/check"].contains(&path.as_str());
        // Gates are turned by any method.
        let turns = path.starts_with("/gate/") || path.starts_with("/rollback/");
        let changes = |method: &&String| (turns || *method != "get") && !asks;
        for method in methods.as_object().expect("methods").keys().filter(changes) {
            let path = path.replace("{name}", "web").replace("{command}", "pause").replace("{id}", "1");
            app.admin(&Ask::new(&method.to_uppercase(), &path).body("{}".to_owned()));
            changing.push((method.to_uppercase(), path));
        }
    }
    assert!(changing.len() >= 10, "{changing:?}");
    let text =
        std::fs::read_to_string(app.folder().join("serin-state/audit.jsonl")).expect("there is a file");
    let written = text.lines().skip(3).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let text = |line: &Value, field: &str| line[field].as_str().expect("a text").to_owned();
    let written: Vec<_> = written.map(|line| (text(&line, "method"), text(&line, "path"))).collect();
    assert_eq!(written, changing);
}

#[test]
fn webhooks_change_with_the_file_while_a_rollout_waits() {
    let receiver = Origin::answering("receiver", |_| Answer::status(403));
    let closed = hook("more", "confirm-traffic-increase", &format!("url: 'http://{}/'", receiver.address));
    let scene = scene(&closed);
    let app = &scene.app;
    app.command("web", "start");
    eventually("it was asked", || receiver.requests() > 0);
    let asked = closed.replace(&receiver.address.to_string(), &format!("{}/gate/approve?", app.admin));
    let [primary, canary] = &scene._origins;
    let reply = app.reload(&(pair(primary.address, canary.address, "") + &rollout(&asked)));
    assert_eq!(reply.status, 200, "{}", reply.text());
    app.await_phase("web", "succeeded");
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn what_waits_when_a_successor_takes_over_is_a_dead_letter_of_both() {
    let end = Origin::answering("end", |_| Answer::status(503));
    let webhooks = hook("end", "post-rollout", &format!("url: 'http://{}/', retries: 100", end.address));
    let Scene { mut app, load, _origins } = scene(&webhooks);
    app.command("web", "start");
    app.await_phase("web", "succeeded");
    eventually("it is tried", || end.requests() > 0);
    load.stop();
    let mut elder = app.succeed();
    // It is tried by the elder until that has ended, and kept for whom comes after.
    eventually("the elder ends", || matches!(elder.try_wait(), Ok(Some(_))));
    let dead = app.get_json("/dead-letters");
    assert_eq!(dead.as_array().map(Vec::len), Some(1), "{dead}");
    assert_eq!(dead[0]["cause"], "serin has ended before it was delivered");
    end.behave(|_| Answer::ok());
    let before = end.requests();
    assert_eq!(app.post(&format!("/dead-letters/{}/resend", dead[0]["id"])).status, 202);
    eventually("it is sent again", || end.requests() == before + 1);
    assert_eq!(last_body(&end)["phase"], "Succeeded");
    assert_eq!(app.get_json("/dead-letters"), json!([]));
}
