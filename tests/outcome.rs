//! What counts as a failure is the file's to say: by status, gRPC status, header and
//! time, on both codecs; and users once each, and copies beside their originals.

use std::time::Duration;

use serde_json::Value;

use crate::harness::app::{pair, quiet};
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

const RULES: &str = "outcome:\n  ignored: {statuses: [503]}\n  failure: {statuses: [429, 505-599], \
                     headers: [{name: x-error, present: true}], slowerThan: 150ms}\n  success: {statuses: [501]}";

/// Answers with the status that the path names, or as it says.
fn as_asked(seen: &crate::harness::origin::Seen) -> Answer {
    match seen.path.trim_start_matches('/') {
        "soft" => Answer::ok().header("x-error", "soft"),
        "slow" => Answer::ok().after(Duration::from_millis(250)),
        status => Answer::status(status.parse().expect("a status")),
    }
}

fn app(rules: &str) -> (App, Origin, Origin) {
    let primary = Origin::answering("primary", as_asked);
    let canary = Origin::start("canary");
    let app = App::start(&pair(primary.address, canary.address, rules));
    (app, primary, canary)
}

/// Counts of the primary: successes, failures, and what counts for nobody.
fn counts(app: &App) -> [u64; 3] {
    quiet(app);
    ["success", "failure", "uncounted"]
        .map(|outcome| app.requests(&[("version", "primary"), ("outcome", outcome)]))
}

const CASES: [(&str, [u64; 3]); 9] = [
    ("200", [1, 0, 0]),
    ("404", [1, 0, 0]),
    ("500", [0, 1, 0]),
    ("429", [0, 1, 0]),
    ("501", [1, 0, 0]),
    ("599", [0, 1, 0]),
    ("503", [0, 0, 1]),
    ("soft", [0, 1, 0]),
    ("slow", [0, 1, 0]),
];

/// Asks for each case in turn and holds the counts to it.
fn each_counts_as_told(app: &App, ask: impl Fn(&str)) {
    let mut sum = counts(app);
    for (path, more) in CASES {
        ask(&format!("/{path}"));
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
        assert_eq!(counts(app), sum, "{path}: successes, failures, uncounted");
    }
}

#[test]
fn answers_count_by_the_rules_on_our_own_codec() {
    let (app, _primary, _canary) = app(RULES);
    let conn = std::cell::RefCell::new(app.conn());
    each_counts_as_told(&app, |path| {
        conn.borrow_mut().get(path);
    });
}

#[test]
fn answers_count_by_the_rules_behind_hyper() {
    let (app, _primary, _canary) = app(RULES);
    let conn = std::cell::RefCell::new(H2::open(app.address()));
    each_counts_as_told(&app, |path| {
        conn.borrow_mut().ask(&Ask::get(path));
    });
}

#[test]
fn without_rules_answers_count_as_usual() {
    let (app, _primary, _canary) = app("");
    let mut conn = app.conn();
    for path in ["/429", "/soft", "/slow", "/404"] {
        conn.get(path);
    }
    conn.get("/503");
    conn.get("/501");
    assert_eq!(counts(&app), [4, 2, 0]);
}

fn test_of<'v>(status: &'v Value, name: &str) -> &'v Value {
    let tests = status["tests"].as_array().expect("a list of tests");
    tests.iter().find(|test| test["test"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// One user whose every request fails is one failure; many users are many.
#[test]
fn a_user_who_fails_over_and_over_is_one_failure() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(500));
    let rollout = "sticky: {header: x-user}\nshield: false";
    let app = App::start(
        &(pair(primary.address, canary.address, rollout)
            + "rollouts:\n  web:\n    steps: [{weight: 50, for: 10m}]\n    \
               analysis: {window: 0s, slowdown: false, promotion: false}\n"),
    );
    let mut conn = app.conn();
    for user in 0..40 {
        conn.ask(&Ask::get("/").header("x-user", &format!("before-{user}")));
    }
    app.command("web", "start");
    let mut ask = |user: &str| conn.ask(&Ask::get("/").header("x-user", user)).status;
    let names = (0..).map(|n| format!("user-{n}"));
    let unlucky = names.into_iter().find(|user| ask(user) == 500).expect("half of them are the canary's");
    for _ in 0..200 {
        assert_eq!(ask(&unlucky), 500, "a user stays");
    }
    eventually("all are counted", || app.rollout("web")["canary_failures"].as_u64() >= Some(201));
    let status = app.rollout("web");
    assert_eq!(status["phase"], "running", "{status}");
    let log_e = test_of(&status, "relative_failures")["log_e"].as_f64().expect("a number");
    assert!(log_e < 1.0, "one toss of a coin is no evidence: {log_e}");
    for user in 1_000..1_200 {
        ask(&format!("user-{user}"));
        if app.canary_percent("web") == 0.0 {
            break;
        }
    }
    app.await_phase("web", "rolled_back");
}

/// The same of slow answers: a canary that keeps one user waiting over and over has
/// lost one toss, one that does it to many has lost many.
#[test]
fn a_slow_canary_is_seen_in_its_users_and_not_in_one() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::ok().after(Duration::from_millis(20)));
    let app = App::start(
        &(pair(primary.address, canary.address, "sticky: {header: x-user}")
            + "rollouts:\n  web:\n    steps: [{weight: 50, for: 10m}]\n    \
               analysis: {window: 0s, promotion: false}\n"),
    );
    let mut conn = app.conn();
    for user in 0..1_200 {
        conn.ask(&Ask::get("/").header("x-user", &format!("before-{user}")));
    }
    app.command("web", "start");
    let mut ask = |user: &str| conn.ask(&Ask::get("/").header("x-user", user)).origin() == "canary";
    let names = (0..).map(|n| format!("user-{n}"));
    let waiting = names.into_iter().find(|user| ask(user)).expect("half of them are the canary's");
    for _ in 0..60 {
        assert!(ask(&waiting), "a user stays");
    }
    eventually("all are counted", || app.rollout("web")["canary_requests"].as_u64() >= Some(61));
    let status = app.rollout("web");
    assert_eq!(status["phase"], "running", "{status}");
    let log_e = test_of(&status, "relative_latency")["log_e"].as_f64().expect("a number");
    assert!(log_e < 2.0, "one toss of a coin is no evidence: {log_e}");
    for user in 1_000..1_200 {
        ask(&format!("user-{user}"));
        if app.canary_percent("web") == 0.0 {
            break;
        }
    }
    let sentence = app.await_phase("web", "rolled_back")["sentence"].to_string();
    assert!(sentence.contains("ROLLBACK (slower)"), "{sentence}");
}

/// The canary has one percent of the traffic and copies of all of it: what it alone
/// fails is seen by nobody and condemns it.
#[test]
fn copies_that_only_the_canary_fails_roll_it_back() {
    let primary = Origin::start("primary");
    let canary = Origin::start("canary");
    canary.behave(|seen| {
        let is_copy = seen.header("x-serin-mirror").is_some();
        if is_copy && seen.nth % 3 == 0 { Answer::status(500) } else { Answer::ok() }
    });
    let split = "mirror: {version: canary, percent: 100}";
    let app = App::start(
        &(pair(primary.address, canary.address, split)
            + "rollouts:\n  web:\n    steps: [{weight: 1, for: 10m}]\n    \
               analysis: {window: 0s, slowdown: false, promotion: false}\n"),
    );
    let load = Load::start(app.address(), 4, Duration::from_millis(2), Ask::get("/"));
    load.pass(50);
    app.command("web", "start");
    let status = app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("there is a sentence");
    assert!(sentence.contains(" mirrored requests the canary alone failed "), "{sentence}");
    assert_eq!(load.stop().failures(), 0, "no user has seen any of it");
}
