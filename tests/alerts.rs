//! Alerts as their receivers get them: each in its own shape, with the judge's
//! sentence and figures, by the routes, and no more often than wanted.

use serde_json::{Value, json};

use crate::harness::alertmanager::Alertmanager;
use crate::harness::app::pair;
use crate::harness::load::GAP;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, eventually_some, require};

fn texts(origin: &Origin) -> Vec<Value> {
    origin.bodies().iter().map(|body| serde_json::from_slice(body).expect("the body is JSON")).collect()
}

struct Scene {
    app: App,
    load: Load,
    canary: Origin,
    _primary: Origin,
}

/// A canary that is to be rolled back once it is told to be bad.
fn scene(alerts: &str) -> Scene {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let yaml = format!(
        "{}alerts:\n{alerts}rollouts:\n  web:\n    steps: [{{weight: 20, for: 10m}}]\n    analysis: {{window: 0s}}\n",
        pair(primary.address, canary.address, "")
    );
    let app = App::start(&yaml);
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(100);
    Scene { app, load, canary, _primary: primary }
}

fn roll_back(scene: &Scene) {
    scene.app.command("web", "start");
    eventually("the canary has traffic", || scene.canary.requests() > 50);
    scene.canary.behave(|_| Answer::status(500));
    scene.app.await_phase("web", "rolled_back");
}

#[test]
fn each_receiver_gets_its_own_shape() {
    let kinds = [
        "slack",
        "rocketChat",
        "discord",
        "teams",
        "teamsWorkflow",
        "googleChat",
        "webhook",
        "alertmanager",
        "cloudEvents",
        "pagerDuty",
    ];
    let origins: Vec<Origin> =
        kinds.iter().map(|kind| Origin::answering(kind, |_| Answer::status(202))).collect();
    let mut alerts =
        "  environment: production\n  link: 'https://ops.example/{{ rollout }}'\n  receivers:\n".to_owned();
    for (kind, origin) in kinds.iter().zip(&origins) {
        let token = if *kind == "pagerDuty" { ", token: {env: PATH}" } else { "" };
        let path = if *kind == "discord" { "/in?thread_id=7" } else { "/in" };
        alerts += &format!(
            "    - {{name: to-{kind}, type: {kind}, url: 'http://{}{path}'{token}}}\n",
            origin.address
        );
    }
    let Scene { app, .. } = &scene(&alerts);
    let output = app.cli(&["alerts", "test", "--severity", "error"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told.lines().count(), kinds.len(), "{told}");
    assert!(told.contains("to-slack: delivered"), "{told}");
    let body = |kind: &str| {
        let at = kinds.iter().position(|name| *name == kind).expect("it is in the list");
        (texts(&origins[at])[0].clone(), origins[at].seen()[0].clone())
    };
    let link = "https://ops.example/test";
    let (slack, _) = body("slack");
    assert_eq!((&slack["username"], &slack["attachments"][0]["color"]), (&json!("serin"), &json!("danger")));
    assert_eq!(slack["attachments"][0]["title_link"], link);
    assert_eq!(body("rocketChat").0["attachments"][0]["color"], "#FF0000");
    let (discord, seen) = body("discord");
    let path = seen.path.as_str();
    assert_eq!((path, &discord["attachments"][0]["color"]), ("/in/slack?thread_id=7", &json!("danger")));
    let (teams, _) = body("teams");
    assert_eq!((&teams["@type"], &teams["themeColor"]), (&json!("MessageCard"), &json!("FF0000")));
    let card = &body("teamsWorkflow").0["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(card["content"]["actions"][0]["url"], link);
    assert!(
        body("googleChat").0["cards"][0]["sections"].as_array().is_some_and(|sections| sections.len() > 2)
    );
    let (plain, _) = body("webhook");
    assert_eq!((&plain["severity"], &plain["environment"]), (&json!("error"), &json!("production")));
    let (alert, seen) = body("alertmanager");
    assert_eq!(
        (seen.path.as_str(), &alert[1]["labels"]["severity"]),
        ("/in/api/v2/alerts", &json!("critical"))
    );
    let (event, seen) = body("cloudEvents");
    assert_eq!(seen.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("io.serin.rollout.test")));
    assert_eq!(event["data"]["link"], link);
    let (page, _) = body("pagerDuty");
    assert_eq!(
        (&page["event_action"], &page["payload"]["severity"]),
        (&json!("trigger"), &json!("critical"))
    );
    assert_eq!(page["dedup_key"], "serin/production/test");
    assert!(page["routing_key"].as_str().is_some_and(|key| !key.is_empty()));
}

#[test]
fn a_test_tells_who_did_not_take_it() {
    let (good, bad) =
        (Origin::start("good"), Origin::answering("bad", |_| Answer::status(403).text("no such hook")));
    let alerts = format!(
        "  receivers:\n    - {{name: good, type: slack, url: 'http://{}/'}}\n    \
         - {{name: bad, type: slack, url: 'http://{}/'}}\n    - {{name: mute, type: slack, url: {{env: SERIN_TEST_NOWHERE}}}}\n",
        good.address, bad.address
    );
    let Scene { app, .. } = &scene(&alerts);
    let output = app.cli(&["alerts", "test"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(
        told,
        "good: delivered\nbad: answered 403 Forbidden: no such hook\n\
         mute: there is no environment variable SERIN_TEST_NOWHERE with the secret\n"
    );
    assert_eq!(app.cli(&["alerts", "test", "good"]).status.code(), Some(0));
    let nobody = app.cli(&["alerts", "test", "nobody"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no receiver \"nobody\""));
}

/// Slack's API refuses with a 200.
#[test]
fn slack_that_says_no_has_not_taken_it() {
    let refusal = r#"{"ok":false,"error":"channel_not_found"}"#;
    let slack = Origin::answering("slack", move |_| Answer::ok().text(refusal));
    let alerts = format!(
        "  receivers: [{{name: team, type: slack, url: 'http://{}/api/chat.postMessage', token: {{env: PATH}}}}]\n",
        slack.address
    );
    let Scene { app, .. } = &scene(&alerts);
    let output = app.cli(&["alerts", "test"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told, format!("team: answered 200 OK: {refusal}\n"));
    app.command("web", "start");
    let dead = eventually_some("it is a dead letter", || app.get_json("/dead-letters").get(0).cloned());
    assert_eq!(dead["attempts"], 1, "to ask again would change nothing");
    slack.behave(|_| Answer::ok().text(r#"{"ok":true,"ts":"1"}"#));
    assert_eq!(app.cli(&["alerts", "test"]).status.code(), Some(0));
}

#[test]
fn a_rollback_is_told_with_the_sentence_and_the_figures_by_the_routes() {
    let (team, people, others) = (Origin::start("team"), Origin::start("people"), Origin::start("others"));
    let alerts = format!(
        "  receivers:\n    - {{name: team, type: webhook, url: 'http://{}/'}}\n    \
         - {{name: people, type: webhook, url: 'http://{}/', template: '{{\"say\": {{{{ text | tojson }}}}}}'}}\n    \
         - {{name: others, type: webhook, url: 'http://{}/'}}\n  routes:\n    - {{receiver: team}}\n    \
         - {{receiver: people, severity: error}}\n    - {{receiver: people, events: [rolled_back]}}\n    \
         - {{receiver: others, services: [another]}}\n",
        team.address, people.address, others.address
    );
    let scene = scene(&alerts);
    roll_back(&scene);
    let sentence = scene.app.rollout("web")["sentence"].as_str().expect("a sentence").to_owned();
    eventually("everybody has heard", || {
        people.requests() == 1 && texts(&team).iter().any(|text| text["event"] == "rolled_back")
    });
    assert_eq!(texts(&people), [json!({"say": sentence})], "once, though two routes lead there");
    let texts = texts(&team);
    assert_eq!((&texts[0]["event"], &texts[0]["severity"]), (&json!("started"), &json!("info")));
    let told = texts.iter().find(|text| text["event"] == "rolled_back").expect("it was awaited");
    assert_eq!((&told["severity"], &told["phase"]), (&json!("error"), &json!("rolled_back")));
    assert_eq!((&told["text"], &told["canary_percent"]), (&json!(sentence), &json!(0.0)));
    let link = told["link"].as_str().expect("a link");
    assert_eq!(link, format!("http://{}/rollouts/web", scene.app.admin));
    let figures = told["figures"].as_array().expect("figures");
    let named = |name: &str| {
        figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("{figures:?}"))
    };
    assert!(named("Canary failed")["value"].as_str().is_some_and(|text| text.contains(" of ")));
    assert!(named("relative failures")["value"].as_str().is_some_and(|text| text.ends_with(":1")));
    assert_eq!(others.requests(), 0);
    assert_eq!(scene.load.stop().failures(), 0);
}

#[test]
fn a_receiver_that_fails_first_hears_once_it_answers() {
    let team = Origin::answering("team", |seen| Answer::status(if seen.nth < 3 { 503 } else { 200 }));
    let alerts = format!(
        "  receivers: [{{name: team, type: webhook, url: 'http://{}/'}}]\n  routes: [{{receiver: team, events: [aborted]}}]\n",
        team.address
    );
    let Scene { app, .. } = &scene(&alerts);
    app.command("web", "start");
    app.command("web", "abort");
    eventually("it is told a third time", || team.requests() == 3);
    assert_eq!(texts(&team)[2]["event"], "aborted");
    assert_eq!(app.get_json("/dead-letters"), json!([]));
}

#[test]
fn an_approval_is_asked_for_unless_it_is_muted() {
    let team = Origin::start("team");
    let yaml = |mute: bool| {
        let origin = &team.address;
        format!(
            "{}alerts:\n  receivers: [{{name: team, type: webhook, url: 'http://{origin}/'}}]\nrollouts:\n  web:\n    \
             steps: [{{weight: 20, for: 10m}}]\n    webhooks: [{{name: ok, type: confirm-rollout, gate: true, muteAlert: {mute}}}]\n",
            pair(*origin, *origin, "")
        )
    };
    let app = App::start(&yaml(true));
    app.command("web", "start");
    app.command("web", "abort");
    // By then it was also heard that the first one waited.
    eventually("the end is told", || team.requests() > 0);
    assert_eq!(app.reload(&yaml(false)).status, 200);
    app.command("web", "start");
    let events = eventually_some("it is asked for", || {
        let events: Vec<String> =
            texts(&team).iter().map(|text| text["event"].as_str().unwrap_or_default().to_owned()).collect();
        events.contains(&"waiting".to_owned()).then_some(events)
    });
    assert_eq!(events, ["aborted", "waiting"], "the first was muted");
}

#[test]
fn a_real_alertmanager_has_an_alert_that_fires_and_is_resolved() {
    let Some(program) = require("prometheus-alertmanager") else { return };
    let manager = Alertmanager::start(&program);
    let alerts = format!(
        "  environment: staging\n  receivers: [{{name: am, type: alertmanager, url: 'http://{}'}}]\n",
        manager.address
    );
    let scene = scene(&alerts);
    roll_back(&scene);
    let critical = |alerts: &[Value]| {
        alerts.len() == 1
            && alerts[0]["labels"]["severity"] == "critical"
            && alerts[0]["labels"]["rollout"] == "web"
    };
    let firing =
        eventually_some("one alert fires", || Some(manager.firing()).filter(|firing| critical(firing)));
    let annotations = &firing[0]["annotations"];
    assert!(annotations["description"].as_str().is_some_and(|text| text.contains("canary")), "{annotations}");
    assert_eq!(
        (&annotations["event"], &firing[0]["labels"]["environment"]),
        (&json!("rolled_back"), &json!("staging"))
    );
    scene.canary.behave(|_| Answer::ok());
    scene.app.command("web", "retry");
    eventually("it is resolved", || manager.firing().is_empty());
}

/// Alertmanager keeps nothing over a restart of its own, and takes silence for an end.
#[test]
fn an_alert_that_fires_is_said_again_until_it_ends_also_by_the_next_process() {
    let manager = Origin::start("manager");
    let alerts = format!(
        "  receivers: [{{name: am, type: alertmanager, url: 'http://{}', lasts: 3s}}]\n",
        manager.address
    );
    let mut scene = scene(&alerts);
    roll_back(&scene);
    let critical = |alerts: &Value| alerts[1].clone();
    let firing = || {
        let all = texts(&manager).iter().map(critical).collect::<Vec<_>>();
        all.into_iter().filter(|alert| alert.get("startsAt").is_some()).collect::<Vec<_>>()
    };
    let time = |alert: &Value, name: &str| alert[name].as_str().expect("a time").to_owned();
    eventually("it is said three times", || firing().len() >= 3);
    let fired = firing();
    for pair in fired.windows(2) {
        assert_eq!((&pair[0]["labels"], &pair[0]["startsAt"]), (&pair[1]["labels"], &pair[1]["startsAt"]));
        assert!(time(&pair[0], "endsAt") < time(&pair[1], "endsAt"), "{fired:?}");
    }
    scene.app.kill9();
    let before = firing().len();
    scene.app.restart();
    eventually("the next process says it", || firing().len() > before);
    assert_eq!(firing()[before]["startsAt"], fired[0]["startsAt"], "it is the same alert");
    scene.canary.behave(|_| Answer::ok());
    scene.app.command("web", "retry");
    let ended = |alerts: &Value| critical(alerts).get("startsAt").is_none();
    eventually("it ends", || texts(&manager).last().is_some_and(ended));
    assert_eq!(scene.app.get_json("/dead-letters"), json!([]));
}

#[test]
fn a_rollout_has_its_own_environment_and_labels_for_the_routes() {
    let names = ["all", "birds", "staging", "others"];
    let receivers = names.map(Origin::start);
    let mut yaml =
        pair(receivers[0].address, receivers[0].address, "") + "alerts:\n  environment: production\n";
    yaml += "  receivers:\n";
    for (name, origin) in names.iter().zip(&receivers) {
        yaml += &format!("    - {{name: {name}, type: webhook, url: 'http://{}/'}}\n", origin.address);
    }
    yaml += "  routes:\n    - {receiver: all}\n    - {receiver: birds, labels: {team: birds}}\n    \
             - {receiver: staging, environments: [staging]}\n    \
             - {receiver: others, ignoreEnvironments: [staging]}\n    \
             - {receiver: others, ignoreLabels: {team: birds}}\n\
             rollouts:\n  web: {steps: [{weight: 20, for: 10m}], environment: staging, labels: {team: birds}}\n";
    let app = App::start(&yaml);
    app.command("web", "start");
    let heard = |at: usize| receivers[at].seen().iter().filter(|seen| seen.method == "POST").count();
    eventually("those who are meant have heard", || heard(0) == 1 && heard(1) == 1 && heard(2) == 1);
    let told = &texts(&receivers[1])[0];
    assert_eq!((&told["environment"], &told["labels"]), (&json!("staging"), &json!({"team": "birds"})));
    assert_eq!(heard(3), 0);
}
