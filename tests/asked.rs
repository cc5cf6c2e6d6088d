//! Releases judged by numbers that others give, as Flagger's metric templates and
//! Argo's analyses are: a page that is asked beside the tick, slow or broken as it
//! may be, and a real Prometheus.

use std::time::{Duration, Instant};

use crate::harness::app::{SERIN, pair};
use crate::harness::load::GAP;
use crate::harness::prometheus::Prometheus;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, require};

struct Scene {
    app: App,
    load: Load,
    _origins: [Origin; 2],
}

/// Two versions, a provider of these words, and a judge who asks it.
fn scene(provider: &str, rollout: &str) -> Scene {
    let origins = ["primary", "canary"].map(Origin::start);
    let lines: String = rollout.lines().map(|line| format!("    {line}\n")).collect();
    let app = App::start(
        &(pair(origins[0].address, origins[1].address, "")
            + &format!("providers:\n  store: {{{provider}}}\nrollouts:\n  web:\n{lines}")),
    );
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    Scene { app, load, _origins: origins }
}

fn page(text: &'static str) -> Origin {
    Origin::answering("page", move |_| Answer::ok().text(text))
}

fn web(page: &Origin) -> String {
    format!("type: web, address: 'http://{}/', timeout: 300ms", page.address)
}

const STRIKES: &str = "steps: [{weight: 20, for: 2s}]\nanalysis:\n  judge: classic\n  interval: 1s\n  threshold: 2\n  \
    checks: [{name: queue, query: {provider: store, query: '{$.queue}'}, max: 10}, {measure: successRate, min: 90}]";

/// What was told of failed checks.
fn halts(app: &App) -> Vec<String> {
    let told = app.get_json("/history?kind=halted");
    let told = told.as_array().expect("a list");
    told.iter().map(|event| event["text"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_number_within_its_bounds_passes_and_one_beyond_is_a_strike() {
    let page = page(r#"{"queue": 5}"#);
    let good = scene(&web(&page), STRIKES);
    good.app.command("web", "start");
    good.app.await_phase("web", "succeeded");
    assert!(halts(&good.app).is_empty(), "{:?}", halts(&good.app));
    drop(good);

    page.behave(|_| Answer::ok().text(r#"{"queue": 50}"#));
    let bad = scene(&web(&page), STRIKES);
    bad.app.command("web", "start");
    bad.app.await_phase("web", "rolled_back");
    assert!(halts(&bad.app)[0].contains("queue 50.00 > 10"), "{:?}", halts(&bad.app));
    // What was asked is evidence, and decides the same again.
    let state = bad.app.folder().join("serin-state");
    let told = std::process::Command::new(SERIN).arg("replay").arg(state).output().expect("serin can be run");
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
    assert_eq!(bad.load.stop().failures(), 0);
}

#[test]
fn silence_errors_and_no_value_are_strikes_and_keep_nothing_waiting() {
    let nothing = page("{}");
    let slow =
        Origin::answering("slow", |_| Answer::ok().after(Duration::from_secs(20)).text(r#"{"queue": 5}"#));
    for (store, said) in [(&nothing, "no values found for queue"), (&slow, "queue: no answer within 300ms")] {
        let scene = scene(&web(store), STRIKES);
        let begun = Instant::now();
        scene.app.command("web", "start");
        scene.app.await_phase("web", "rolled_back");
        assert!(begun.elapsed() < Duration::from_secs(10), "{said}");
        assert!(halts(&scene.app)[0].contains(said), "{said}: {:?}", halts(&scene.app));
        assert_eq!(scene.load.stop().failures(), 0);
    }
}

const MEASURED: &str = "steps: [{weight: 20, for: 2s}]\nbake: 60s\nanalysis:\n  judge: classic\n  measurements:\n    \
    - {name: ratio, query: {provider: store, query: QUERY}, interval: 500ms, successCondition: 'result[0] >= 0.95'}";

#[test]
fn a_condition_holds_for_what_a_provider_says_also_after_the_promotion() {
    let page = page(r#"{"ratio": 0.99}"#);
    let scene = scene(&web(&page), &MEASURED.replace("QUERY", "'{$.ratio}'"));
    scene.app.command("web", "start");
    scene.app.await_phase("web", "baking");
    page.behave(|_| Answer::ok().text(r#"{"ratio": 0.5}"#));
    let status = scene.app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("Metric \"ratio\" assessed Failed due to failed (1) > failureLimit (0)"),
        "{sentence}"
    );
}

#[test]
fn a_real_prometheus_is_asked_for_what_a_condition_is_about() {
    let Some(program) = require("prometheus") else { return };
    let origins = ["primary", "canary"].map(Origin::start);
    let scraped = App::start(&pair(origins[0].address, origins[1].address, ""));
    let prometheus = Prometheus::start(&program, scraped.admin);
    let provider = format!("type: prometheus, address: 'http://{}'", prometheus.address);
    let asked = MEASURED.replace("bake: 60s\n", "").replace("QUERY", "'count(up{job=\"serin\"}) / 1'");
    let scene = scene(&provider, &asked);
    let question = Ask::post("/providers/store/query", r#"{"query": "sum(up)"}"#.to_owned());
    let question = question.header("content-type", "application/json");
    eventually("it has been scraped", || scene.app.admin(&question).text().contains("1.0"));
    scene.app.command("web", "start");
    scene.app.await_phase("web", "succeeded");
}
