//! Secrets in calls to others, against receivers that would give them away: one that
//! says back what it was asked, and one that leads elsewhere.

use crate::harness::app::{SERIN, pair};
use crate::harness::load::GAP;
use crate::harness::origin::Seen;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};
use crate::hooks::{all_texts, hook, rollout};

/// As many error pages do.
fn echo(seen: &Seen) -> Answer {
    Answer::status(400).text(&said_back(seen))
}

fn said_back(seen: &Seen) -> String {
    let fields: Vec<String> = seen.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("Cannot {} {} with {}", seen.method, seen.path, fields.join(", "))
}

#[test]
fn what_a_receiver_says_back_gives_no_secret_away() {
    const SECRETS: [&str; 4] =
        ["s3cret-path-5711", "s3cret-query-5712", "s3cret-field-5713", "s3cret-store-5714"];
    let receiver = Origin::answering("receiver", echo);
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let field = "headers: {x-token: {env: SERIN_TEST_FIELD}}";
    let webhooks = hook("told", "event", &format!("url: {{file: url}}, retries: 0, {field}"))
        + &hook("check", "rollout", &format!("url: {{file: url}}, failures: 1, {field}"));
    let alerts = format!(
        "alerts:\n  receivers:\n    - {{name: team, type: slack, url: {{file: url}}, {field}, retries: 0}}\n"
    );
    let store = "bearer: {env: SERIN_TEST_STORE}";
    let providers = format!(
        "providers:\n  page: {{type: web, address: {{file: url}}, {store}}}\n  \
         prom: {{type: prometheus, address: {{file: url}}, {store}}}\n"
    );
    let yaml = pair(origins[0].address, origins[1].address, "") + &alerts + &providers + &rollout(&webhooks);
    let app = App::start_by(&yaml, |folder| {
        let url = format!("http://{}/services/{}?key={}", receiver.address, SECRETS[0], SECRETS[1]);
        std::fs::write(folder.join("url"), url).expect("the folder is ours");
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_FIELD", SECRETS[2]).env("SERIN_TEST_STORE", SECRETS[3]);
        command.env("RUST_LOG", "trace");
        command
    });
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    app.command("web", "start");
    let dead = |receiver: &str| app.get("/dead-letters").text().contains(receiver);
    eventually("both letters are dead", || dead("receiver team") && dead("webhook told of web"));
    let sentence = app.await_phase("web", "rolled_back")["sentence"].to_string();
    assert!(sentence.contains("answered 400 Bad Request: Cannot POST [hidden]"), "{sentence}");
    let tested = app.cli(&["alerts", "test"]);
    let asked = |provider: &str| {
        let ask = Ask::post(&format!("/providers/{provider}/query"), r#"{"query": "$.a"}"#);
        app.admin(&ask.header("content-type", "application/json")).text()
    };
    let mut texts = vec![
        ("alerts test".to_owned(), String::from_utf8_lossy(&tested.stdout).into_owned()),
        ("page".to_owned(), asked("page")),
        ("prom".to_owned(), asked("prom")),
    ];
    for (name, text) in &texts {
        assert!(text.contains("Cannot "), "what is no secret of an answer is told: {name}: {text}");
    }
    load.stop();
    let seen = receiver.seen();
    for secret in SECRETS {
        assert!(seen.iter().any(|seen| said_back(seen).contains(secret)), "{secret} was used");
    }
    texts.extend(all_texts(&app));
    for (name, text) in &texts {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in {name}");
        }
    }
}

#[test]
fn a_redirect_takes_no_secret_to_another_origin() {
    let elsewhere = Origin::start("elsewhere");
    let leads_to = format!("http://{}/caught", elsewhere.address);
    let receiver = Origin::answering("receiver", move |seen| match seen.path.as_str() {
        "/moved" => Answer::status(308).header("location", "/here"),
        "/here" => Answer::ok(),
        _ => Answer::status(307).header("location", &leads_to),
    });
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let address = receiver.address;
    let to = |name: &str, kind: &str, path: &str| {
        format!(
            "    - {{name: {name}, type: {kind}, url: 'http://{address}/{path}', token: {{env: SERIN_TEST_KEY}}, headers: {{x-token: {{env: SERIN_TEST_KEY}}}}, sign: {{env: SERIN_TEST_KEY}}}}\n"
        )
    };
    let alerts = "alerts:\n  receivers:\n".to_owned()
        + &to("chat", "slack", "away")
        + &to("near", "slack", "moved")
        + &to("pager", "pagerDuty", "away");
    let yaml = pair(origins[0].address, origins[1].address, "") + &alerts;
    let app = App::start_by(&yaml, |_| {
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_KEY", "s3cret-key-5721");
        command
    });
    let told = app.cli(&["alerts", "test"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(
        told,
        "chat: delivered\nnear: delivered\n\
         pager: a redirect to another origin, to which the key in the body does not go\n"
    );
    let caught = elsewhere.seen();
    assert_eq!(caught.len(), 1, "{caught:?}");
    assert_eq!(caught[0].header("content-type"), Some("application/json"));
    for name in ["authorization", "x-token", "x-serin-signature"] {
        assert_eq!(caught[0].header(name), None, "{name}");
    }
    let seen = receiver.seen();
    let here = seen.iter().find(|seen| seen.path == "/here").expect("it was followed");
    assert_eq!(here.header("x-token"), Some("s3cret-key-5721"), "the same origin may know");
}
