//! Stores of others, real ones: what Flagger's and Argo's users have there is asked
//! as they ask it, and its answers are understood.

use serde_json::{Value, json};

use crate::harness::app::{SERIN, pair};
use crate::harness::certs::Authority;
use crate::harness::front::Front;
use crate::harness::graphite::Graphite;
use crate::harness::influx::Influx;
use crate::harness::prometheus::Prometheus;
use crate::harness::thanos::Thanos;
use crate::harness::{Answer, App, Ask, Origin, eventually, require};

fn start(providers: &str) -> (App, [Origin; 2]) {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let yaml = pair(origins[0].address, origins[1].address, "");
    (App::start(&format!("{yaml}providers:\n{providers}")), origins)
}

fn sample(app: &App, provider: &str, query: &str) -> Value {
    sample_of(app, provider, &json!({"query": query}))
}

fn sample_of(app: &App, provider: &str, question: &Value) -> Value {
    let ask = Ask::post(&format!("/providers/{provider}/query"), question.to_string());
    let reply = app.admin(&ask.header("content-type", "application/json"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn a_real_graphite_is_asked_as_flagger_asks_it() {
    let Some(graphite) = Graphite::start() else { return };
    graphite.write("serin.errors", &[(8, 1.0), (7, 2.0), (6, 4.5)]);
    graphite.write("serin.requests", &[(8, 10.0), (7, 20.0), (6, 9.0)]);
    let provider = format!("  graphite: {{type: graphite, address: 'http://{}'}}\n", graphite.address);
    let (app, _origins) = start(&provider);
    let asked = |query: &str| sample(&app, "graphite", query);
    eventually("the lines have been taken", || asked("serin.requests") == json!({"number": 9.0}));
    assert_eq!(asked("serin.errors"), json!({"number": 4.5}), "the newest, whatever is missing since");
    // As in Flagger's example: a window and functions of the query's own.
    let ratio = "target=asPercent(serin.errors,serin.requests)&from=-1min";
    assert_eq!(asked(ratio), json!({"number": 50.0}));
    assert_eq!(asked("sumSeries(serin.*)"), json!({"number": 13.5}));
    assert_eq!(asked("no.such.metric"), json!("absent"));
    assert_eq!(asked("target=serin.errors&from=-5s&until=-4s"), json!("absent"), "only nulls");
    let wrong = asked("noSuchFunction(serin.errors)");
    assert!(wrong["error"].as_str().is_some_and(|text| text.contains("400")), "{wrong}");
}

#[test]
fn a_real_thanos_over_a_real_prometheus_answers_as_one() {
    let Some(program) = require("prometheus") else { return };
    let (before, _behind) = start("  none: {type: command, command: [\"true\"]}\n");
    let prometheus = Prometheus::start(&program, before.admin);
    let Some(thanos) = Thanos::start(&prometheus) else { return };
    let (app, _origins) =
        start(&format!("  thanos: {{type: prometheus, address: 'http://{}'}}\n", thanos.address));
    let asked = |query: &str| sample(&app, "thanos", query);
    eventually("it has been scraped", || asked("sum(up{job=\"serin\"})") == json!({"number": 1.0}));
    assert_eq!(asked("count(up{region=\"test\"})"), json!({"number": 1.0}), "by the labels of its own");
    assert_eq!(asked("vector(2.5)\n  * 2"), json!({"number": 5.0}));
    assert_eq!(asked("scalar(vector(3))"), json!({"number": 3.0}));
    assert_eq!(asked("no_such_metric"), json!("absent"));
    assert_eq!(asked("vector(0) / 0"), json!({"number": null}), "NaN is no number of JSON");
    let error = asked("sum(")["error"].as_str().expect("an error").to_owned();
    assert!(error.contains("400") && error.contains("parse error"), "{error}");
    let range = json!({"query": "vector(1)", "window": 60, "step": 15});
    assert_eq!(sample_of(&app, "thanos", &range), json!({"numbers": [1.0, 1.0, 1.0, 1.0, 1.0]}));
    drop(prometheus);
    let lost = asked("up{region=\"test\"} or vector(2)");
    assert!(lost["error"].is_string(), "of a store that is gone nobody knows what it had: {lost}");
}

#[test]
fn a_real_influxdb_answers_a_query_in_flux() {
    let Some(influx) = Influx::start() else { return };
    let provider = format!(
        "  flux: {{type: influxdb, address: 'http://{}', organization: birds, key: {{env: SERIN_TEST_FLUX}}}}\n",
        influx.address
    );
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let yaml = pair(origins[0].address, origins[1].address, "");
    let app = App::start_by(&format!("{yaml}providers:\n{provider}"), |_| {
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_FLUX", "me:secret");
        command
    });
    influx.write(
        "errors,version=canary value=4.5\nerrors,version=primary value=1.5\nsaid,version=canary value=\"up\"",
    );
    let asked =
        |text: &str| sample(&app, "flux", &format!("from(bucket: \"birds\") |> range(start: -1m) |> {text}"));
    let of = |measurement: &str| format!("filter(fn: (r) => r._measurement == \"{measurement}\")");
    let canary = format!("{} |> filter(fn: (r) => r.version == \"canary\")", of("errors"));
    assert_eq!(asked(&canary), json!({"number": 4.5}));
    assert_eq!(asked(&of("errors")), json!({"numbers": [4.5, 1.5]}), "a table for each");
    assert_eq!(asked(&format!("{} |> group() |> sum()", of("errors"))), json!({"number": 6.0}));
    assert_eq!(asked(&of("said")), json!({"said": ["up"]}));
    assert_eq!(asked(&of("nothing")), json!("absent"));
    let wrong = asked("noSuchFunction()");
    assert!(wrong["error"].as_str().is_some_and(|text| text.contains("undefined identifier")), "{wrong}");
}

#[test]
fn a_store_behind_tls_is_believed_by_its_authority_and_shown_who_asks() {
    let store = Origin::answering("store", |_| {
        Answer::ok().text(r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}"#)
    });
    let (authority, other) = (Authority::new(), Authority::new());
    let front = Front::start(&authority, "localhost", &["http/1.1"], store.address);
    let address = format!("https://localhost:{}/under", front.address.port());
    let provider = |name: &str, more: &str| {
        format!("  {name}: {{type: prometheus, address: '{address}', timeout: 2s, {more}}}\n")
    };
    let ca = |authority: &Authority| format!("ca: {}", authority.ca().display());
    let providers = provider("bearer", &format!("{}, bearer: {{env: SERIN_TEST_TOKEN}}", ca(&authority)))
        + &provider("basic", "insecure: true, basic: {username: me, password: {env: SERIN_TEST_TOKEN}}")
        + &provider("tenant", &format!("{}, headers: {{x-scope-orgid: birds}}", ca(&authority)))
        + &provider("stranger", &ca(&other));
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let yaml = pair(origins[0].address, origins[1].address, "");
    let app = App::start_by(&format!("{yaml}providers:\n{providers}"), |_| {
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_TOKEN", "opensesame");
        command
    });
    for (provider, header, value) in [
        ("bearer", "authorization", "Bearer opensesame"),
        ("basic", "authorization", "Basic bWU6b3BlbnNlc2FtZQ=="),
        ("tenant", "x-scope-orgid", "birds"),
    ] {
        assert_eq!(sample(&app, provider, "scalar(vector(3))"), json!({"number": 3.0}), "{provider}");
        let seen = store.seen();
        let seen = seen.last().expect("it was asked");
        assert_eq!(seen.header(header), Some(value), "{provider}");
        assert!(seen.path.starts_with("/under/api/v1/query"), "{}", seen.path);
    }
    let before = store.requests();
    let error = sample(&app, "stranger", "up")["error"].as_str().expect("an error").to_owned();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(store.requests(), before, "who is not believed is not asked");
}
