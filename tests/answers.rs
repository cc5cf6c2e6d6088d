//! Answers compared: what differs by the version is found, what differs by itself is
//! not, and nobody's own request feels any of it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::app::{pair, timed};
use crate::harness::h2::H2;
use crate::harness::load::tally;
use crate::harness::origin::Seen;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, eventually_some};

/// As often as can be; where the origin's name stands is left out.
const OFTEN: &str = "perSecond: 1000, ignore: [x-origin]";

fn json(text: &str) -> Answer {
    Answer::ok().header("content-type", "application/json").text(text)
}

/// The same but for the number of the request, and perhaps the price.
fn item(price: u32) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    move |seen| json(&format!(r#"{{"items": [{{"price": {price}, "name": "a"}}], "at": {}}}"#, seen.nth))
}

fn app(primary: &Origin, canary: &Origin, compare: &str) -> App {
    let mirror = format!("mirror: {{version: canary, compare: {{{compare}}}}}");
    App::start(&pair(primary.address, canary.address, &mirror))
}

fn differences(app: &App) -> Value {
    app.get_json("/differences?service=web")[0].clone()
}

fn compared(app: &App) -> u64 {
    differences(app)["compared"].as_u64().expect("a count")
}

/// Those that differ by the version.
fn places(differences: &Value) -> Vec<String> {
    let places = differences["places"].as_array().expect("a list");
    let differs = places.iter().filter(|place| place["differs"] == true);
    differs.map(|place| place["place"].as_str().expect("a text").to_owned()).collect()
}

/// Asks one after the other until so many answers were compared.
fn compare(app: &App, count: u64, mut ask: impl FnMut()) {
    eventually("answers are compared", || {
        for _ in 0..5 {
            ask();
        }
        compared(app) >= count
    });
}

#[test]
fn what_differs_by_the_version_is_found_and_what_differs_by_itself_is_not() {
    for http2 in [false, true] {
        let (primary, canary) = (Origin::answering("primary", item(1)), Origin::answering("canary", item(2)));
        let app = app(&primary, &canary, &format!("{OFTEN}, examples: true"));
        let (mut one, mut two) = (app.conn(), H2::open(app.address()));
        compare(&app, 30, || {
            let ask = Ask::get("/items?user=4711");
            let reply = if http2 { two.ask(&ask) } else { one.ask(&ask) };
            assert_eq!((reply.status, reply.origin()), (200, "primary"));
            assert!(reply.text().starts_with(r#"{"items": [{"price": 1, "name": "a"}], "at": "#));
        });
        let found = differences(&app);
        assert_eq!(places(&found), ["$.items[*].price"], "{found}");
        assert_eq!(
            found["places"][0]["example"],
            serde_json::json!({
                "path": "/items", "primary": "1", "version": "2",
            })
        );
        let noise = found["places"].as_array().unwrap().iter().find(|place| place["place"] == "$.at");
        let noise = noise.expect("what differs by itself is listed");
        assert_eq!((&noise["differs"], &noise["version"]), (&Value::Bool(false), &noise["primary"]));
        let copies: Vec<Seen> =
            primary.seen().into_iter().filter(|seen| seen.header("x-serin-mirror").is_some()).collect();
        assert!(copies.iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
        let text = String::from_utf8(app.cli(&["diff", "web"]).stdout).unwrap();
        assert!(text.contains("1 place differs by the version"), "{text}");
        assert!(text.contains("$.items[*].price") && !text.contains("$.at"), "{text}");
        assert!(app.metric("serin_answers_differing", &[("service", "web")]) == 1.0);
        assert!(app.metric("serin_answers_sampled_total", &[("result", "compared")]) >= 30.0);
        assert_eq!(app.requests(&[("role", "primary"), ("outcome", "success")]), primary_users(&primary));
    }
}

/// Requests of users alone; what is asked to be compared is counted for nobody.
fn primary_users(primary: &Origin) -> u64 {
    let seen = primary.seen();
    let asked = seen.iter().filter(|seen| seen.header("x-serin-mirror").is_none()).count();
    assert!(primary.requests() <= 256, "the origin remembers no more");
    asked as u64
}

#[test]
fn headers_and_cookies_differ_by_name() {
    let primary = Origin::answering("primary", |seen| {
        Answer::ok().text("same").header("set-cookie", &format!("sid={}", seen.nth)).header("x-kind", "old")
    });
    let canary = Origin::answering("canary", |_| Answer::ok().text("same").header("x-kind", "new"));
    let app = app(&primary, &canary, OFTEN);
    let mut conn = app.conn();
    compare(&app, 40, || drop(conn.get("/")));
    let found = differences(&app);
    assert_eq!(places(&found), ["header set-cookie sid (presence)", "header x-kind"], "{found}");
    assert!(found["places"][0]["example"].is_null(), "values are shown only where asked for: {found}");
}

#[test]
fn what_cannot_be_compared_is_told_with_the_reason() {
    let long = "x".repeat(5_000);
    let behave = move |seen: &Seen| match seen.path.as_str() {
        "/zip" => Answer::ok().header("content-encoding", "gzip").text("no gzip"),
        "/long" => Answer::ok().text(&long),
        "/broken" => Answer::stream(3_000).broken_after(100),
        _ => Answer::ok().text("same"),
    };
    let (primary, canary) =
        (Origin::answering("primary", behave.clone()), Origin::answering("canary", behave));
    primary.behave(|seen| match seen.path.as_str() {
        "/zip" => Answer::ok().header("content-encoding", "gzip").text("no gzip"),
        "/long" => Answer::ok().text(&"y".repeat(5_000)),
        _ => Answer::ok().text("same"),
    });
    let app = app(&primary, &canary, &format!("{OFTEN}, maxBody: 4KiB"));
    for (path, reason) in [("/zip", "encoded"), ("/long", "too_long"), ("/broken", "unanswered")] {
        let mut conn = app.conn();
        eventually(reason, || {
            assert_eq!(conn.get(path).status, 200);
            differences(&app)["left_out"][reason].as_u64().unwrap_or(0) >= 3
        });
    }
    assert!(places(&differences(&app)).is_empty());
}

#[test]
fn a_version_that_stalls_or_never_ends_costs_users_no_time_and_bounded_memory() {
    let primary = Origin::answering("primary", |_| Answer::ok().text("same"));
    let canary = Origin::answering("canary", |_| Answer::ok().after(Duration::from_secs(60)));
    let app = app(&primary, &canary, &format!("{OFTEN}, maxBody: 1MiB"));
    let (answers, took) = timed(|| tally(app.address(), 4, 1_000, &Ask::get("/")));
    assert_eq!(answers.get("primary"), Some(&1_000));
    assert!(took < Duration::from_secs(10), "users waited {took:?}");
    // Four at a time for each of two workers; the rest is dropped and said so.
    eventually("what finds no room is dropped", || {
        tally(app.address(), 4, 100, &Ask::get("/"));
        app.metric("serin_answers_sampled_total", &[("result", "dropped")]) > 0.0
    });
    assert_eq!(app.metric("serin_answers_sampled_total", &[("result", "compared")]), 0.0);
    let asked = primary.requests() - 1_100;
    assert!(asked <= 100 + 2 * 2 * 4 * 100, "{asked}");
    drop(app);
    let endless = Origin::answering("canary", |_| Answer::stream(50 << 20));
    let app = self::app(&primary, &endless, &format!("{OFTEN}, maxBody: 1MiB"));
    let before = app.metric("process_resident_memory_bytes", &[]);
    let mut conn = app.conn();
    compare(&app, 30, || assert_eq!(conn.get("/").text(), "same"));
    let grown = (app.metric("process_resident_memory_bytes", &[]) - before) / f64::from(1 << 20);
    assert!(grown < 100.0, "30 answers of 50 MiB cost {grown:.0} MiB");
    assert!(places(&differences(&app)).contains(&"body".to_owned()));
}

#[test]
fn requests_that_may_change_something_are_not_asked_again() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = app(&primary, &canary, OFTEN);
    let mut conn = app.conn();
    for nth in 0..20 {
        let ask = if nth % 2 == 0 { Ask::post("/", "x") } else { Ask::get("/").body("x") };
        assert_eq!(conn.ask(&ask).status, 200);
    }
    eventually("all are copied", || canary.requests() == 20);
    assert_eq!((primary.requests(), compared(&app)), (20, 0));
    compare(&app, 3, || drop(conn.get("/")));
    assert!(primary.requests() > 20 + 3);
}

fn rollout(primary: &Origin, canary: &Origin, answers: &str) -> App {
    let service =
        pair(primary.address, canary.address, &format!("mirror: {{version: canary, compare: {{{OFTEN}}}}}"));
    App::start(&format!(
        "{service}rollouts:\n  web:\n    steps: [{{mirrored: 50, for: 500ms}}, {{weight: 30, for: 60s}}]\n    \
         analysis: {{window: 0s, slowdown: false, promotion: false, answers: {answers}}}\n"
    ))
}

#[test]
fn a_rollout_whose_answers_differ_is_held_until_somebody_has_decided() {
    let (primary, canary) = (Origin::answering("primary", item(1)), Origin::answering("canary", item(2)));
    let app = rollout(&primary, &canary, "hold");
    let _load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    app.command("web", "start");
    // The step's time may pass before it is sure; then weights have begun.
    let status = app.await_phase("web", "held");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("the canary's differ at $.items[*].price"), "{sentence}");
    assert_eq!(status["answers_differing"], 1);
    let told = app.get_json("/history?kind=held")[0]["text"].as_str().unwrap_or_default().to_owned();
    assert!(told.starts_with("HOLD (answers differ): of "), "{told}");
    app.command("web", "resume");
    eventually("it goes on", || app.canary_percent("web") == 30.0);
    assert_eq!(app.phase("web"), "running", "the same differences do not hold it again");
    app.command("web", "abort");
    canary.behave(item(1));
    app.command("web", "retry");
    eventually("its answers are compared anew", || app.rollout("web")["answers_compared"].as_u64() > Some(0));
    assert!(places(&differences(&app)).is_empty(), "{}", differences(&app));
}

#[test]
fn differences_are_held_against_the_canary_where_asked_for() {
    let (primary, canary) = (Origin::answering("primary", item(1)), Origin::answering("canary", item(1)));
    let app = rollout(&primary, &canary, "rollback");
    app.write_config(&std::fs::read_to_string(app.config()).unwrap().replace("500ms", "60s"));
    eventually("the file is read", || app.post("/reload").json()["accepted"] == true);
    let load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    app.command("web", "start");
    eventually("answers are compared", || app.rollout("web")["answers_compared"].as_u64() > Some(100));
    assert_eq!(app.phase("web"), "running", "nothing differs: {}", app.rollout("web")["sentence"]);
    canary.behave(item(2));
    let status = app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("ROLLBACK (answers differ): of "), "{sentence}");
    assert!(sentence.contains("$.items[*].price"), "{sentence}");
    let report = load.stop();
    assert_eq!((report.failures(), report.by("canary")), (0, 0), "no user met the canary");
}

#[test]
fn differences_are_only_told_where_nothing_else_is_asked_for() {
    let (primary, canary) = (Origin::answering("primary", item(1)), Origin::answering("canary", item(2)));
    let app = rollout(&primary, &canary, "report");
    let _load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    app.command("web", "start");
    let told = eventually_some("it is told", || {
        let told = app.get_json("/history?kind=differs")[0]["text"].clone();
        told.as_str().map(str::to_owned)
    });
    assert!(told.contains("differ at $.items[*].price"), "{told}");
    eventually("weights begin", || app.canary_percent("web") == 30.0);
}
