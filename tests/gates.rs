//! Gates and checks in bad company: a store that falls silent, receivers that hang,
//! others who turn gates meanwhile. A yes holds until the next asking and no longer,
//! and nobody is hurt by whom he does not know.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::app::pair;
use crate::harness::load::GAP;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};
use crate::hooks::{Scene, gate, hanging, hook, rollout, scene, stays, waits_for};

/// As `scene`, with a first step of so long.
fn slow_scene(first: &str, before: &str, webhooks: &str) -> (App, Load, [Origin; 2]) {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let rollout =
        rollout(webhooks).replace("{weight: 10, for: 100ms}", &format!("{{weight: 10, for: {first}}}"));
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + before + &rollout));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    (app, load, origins)
}

#[test]
fn a_step_does_not_pass_on_a_yes_whose_check_has_fallen_silent() {
    let good = || Answer::ok().text(r#"{"errors": 0}"#);
    let page =
        Origin::answering("page", move |seen| if seen.nth == 1 { good() } else { Answer::status(500) });
    let providers = format!("providers:\n  page: {{type: web, address: 'http://{}/'}}\n", page.address);
    let webhook =
        "      - {name: errors, query: {provider: page, query: '{$.errors}', max: 1}, interval: 50ms}\n";
    let (app, load, _origins) = slow_scene("1s", &providers, webhook);
    app.command("web", "start");
    eventually("the step's time is over", || app.rollout("web")["step_progress"] == json!(1.0));
    assert!(page.requests() > 2, "it was asked again, and said nothing");
    stays(&app, 10.0);
    assert_eq!(app.phase("web"), "running", "nor is it a no");
    let sentence = app.rollout("web")["sentence"].as_str().expect("a sentence").to_owned();
    assert!(sentence.contains("waiting for rollout (errors)"), "{sentence}");
    page.behave(move |_| good());
    eventually("it goes on", || app.canary_percent("web") > 10.0);
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn a_yes_is_over_while_the_next_asking_takes_too_long() {
    let check = Origin::answering("check", |seen| match seen.nth {
        1 => Answer::ok(),
        _ => Answer::status(503).header("retry-after", "30"),
    });
    let to = format!("url: 'http://{}/', timeout: 200ms, retries: 100", check.address);
    let (app, _load, _origins) = slow_scene("1s", "", &hook("check", "rollout", &to));
    app.command("web", "start");
    eventually("the step's time is over", || app.rollout("web")["step_progress"] == json!(1.0));
    stays(&app, 10.0);
}

#[test]
fn who_turns_gates_makes_no_failed_checks() {
    let smoke = Origin::answering("smoke", |_| Answer::status(500));
    let to = format!("url: 'http://{}/', failures: 3", smoke.address);
    let slow = |name: &str, to: &str| hook(name, "rollout", to).replace("interval: 50ms", "interval: 1m");
    let Scene { app, .. } = &scene(&(slow("smoke", &to) + &slow("hand", "gate: true")));
    app.command("web", "start");
    eventually("it is asked", || smoke.requests() == 1);
    for verb in ["open", "close"].repeat(5) {
        let other = Ask::post(&format!("/gate/{verb}"), r#"{"name": "other"}"#);
        assert_eq!(app.admin(&other).status, 202);
        assert_eq!(gate(app, "close").status, 202);
    }
    stays(app, 10.0);
    assert_eq!((app.phase("web").as_str(), smoke.requests()), ("running", 1), "nobody is asked for that");
    // Its own gate is its business, and still no failed check each time.
    for nth in 2..6 {
        assert_eq!(gate(app, if nth % 2 == 0 { "open" } else { "close" }).status, 202);
        eventually("it is asked at once", || smoke.requests() == nth);
    }
    stays(app, 10.0);
    assert_eq!(app.phase("web"), "running");
}

#[test]
fn a_wish_to_roll_back_is_granted_beside_a_receiver_that_hangs() {
    let (_listener, hangs) = hanging();
    let webhooks = hook("hung", "rollback", &format!("url: 'http://{hangs}/'"))
        + &hook("hand", "rollback", "gate: true");
    let (app, _load, _origins) = slow_scene("10m", "", &webhooks);
    app.command("web", "start");
    eventually("it has begun", || app.canary_percent("web") > 0.0);
    let since = Instant::now();
    assert_eq!(app.admin(&Ask::post("/rollback/open", r#"{"name": "web"}"#)).status, 202);
    let status = app.await_phase("web", "rolled_back");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(status["sentence"], "rollback hand agreed");
}

#[test]
fn a_gate_that_closes_while_others_are_asked_is_closed() {
    let slow = Origin::answering("slow", |_| Answer::ok().after(Duration::from_secs(1)));
    let webhooks = hook("hand", "confirm-promotion", "gate: true")
        + &hook("slow", "confirm-promotion", &format!("url: 'http://{}/'", slow.address));
    let Scene { app, .. } = &scene(&webhooks);
    app.command("web", "start");
    waits_for(app, &["confirm-promotion"]);
    assert_eq!(slow.requests(), 0, "a closed gate ends the round");
    assert_eq!(gate(app, "open").status, 202);
    eventually("the other is asked", || slow.requests() == 1);
    assert_eq!(gate(app, "close").status, 202);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(app.canary_percent("web"), 50.0);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(gate(app, "open").status, 202);
    app.await_phase("web", "succeeded");
}

#[test]
fn gates_are_turned_by_get_as_with_the_load_tester_and_that_is_written_down() {
    let Scene { app, .. } = &scene(&hook("hand", "confirm-promotion", "gate: true"));
    let ask = |path: &str, body: &str| app.admin(&Ask::get(path).body(body)).status;
    let named = r#"{"name": "web"}"#;
    assert_eq!((ask("/gate/approve", ""), ask("/gate/halt", "")), (200, 403));
    for kind in ["gate", "rollback"] {
        let path = |verb: &str| format!("/{kind}/{verb}");
        assert_eq!((ask(&path("check"), named), ask(&path("open"), named)), (403, 202));
        assert_eq!((ask(&path("check"), named), ask(&path("open"), "")), (200, 400), "a page sends no body");
        let foreign = Ask::get(&path("close")).body(named).header("origin", "http://elsewhere.example");
        assert_eq!(app.admin(&foreign).status, 403);
        assert_eq!((ask(&path("close"), named), ask(&path("check"), named)), (202, 403));
    }
    let text =
        std::fs::read_to_string(app.folder().join("serin-state/audit.jsonl")).expect("there is a file");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let written: Vec<_> =
        lines.iter().map(|line| (line["path"].as_str().expect("a path"), line["status"].as_u64())).collect();
    let of = |open, close| [(open, Some(202)), (open, Some(400)), (close, Some(403)), (close, Some(202))];
    let expected = [of("/gate/open", "/gate/close"), of("/rollback/open", "/rollback/close")].concat();
    assert_eq!(written, expected);
    assert!(lines.iter().all(|line| line["method"] == "GET"));
}

#[test]
fn those_who_are_asked_hear_that_it_goes_on_and_those_who_are_told_that_it_waits() {
    let asked = Origin::answering("asked", |_| Answer::status(403));
    let told = Origin::start("told");
    let webhooks = hook("asked", "confirm-promotion", &format!("url: 'http://{}/'", asked.address))
        + &hook("told", "event", &format!("url: 'http://{}/'", told.address));
    let Scene { app, .. } = &scene(&webhooks);
    app.command("web", "start");
    waits_for(app, &["confirm-promotion"]);
    let phases = |origin: &Origin| -> Vec<Value> {
        let read = |body: &Vec<u8>| serde_json::from_slice::<Value>(body).expect("JSON")["phase"].clone();
        origin.bodies().iter().map(read).collect()
    };
    eventually("it is told", || phases(&told).contains(&json!("WaitingPromotion")));
    eventually("it is asked", || asked.requests() > 2);
    assert!(phases(&asked).iter().all(|phase| phase == "Progressing"), "{:?}", phases(&asked));
}
