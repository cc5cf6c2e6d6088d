//! Numbers of others: a real Prometheus as a provider, and every way in which a
//! provider can fail to give one, each as its own evidence.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::app::{SERIN, pair};
use crate::harness::client::Reply;
use crate::harness::load::GAP;
use crate::harness::prometheus::Prometheus;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, require};

fn yaml(origins: &[Origin; 2], providers: &str, webhooks: &str) -> String {
    let mut yaml = pair(origins[0].address, origins[1].address, "");
    yaml += &format!("providers:\n{providers}");
    yaml + "rollouts:\n  web:\n    steps: [{weight: 10, for: 100ms}, {weight: 50, for: 100ms}]\n    bake: 0s\n    \
            analysis: {minRequests: 5, slowdown: false, promotion: false}\n"
        + webhooks
}

fn origins() -> [Origin; 2] {
    [Origin::start("primary"), Origin::start("canary")]
}

fn ask(app: &App, provider: &str, question: &Value) -> Reply {
    let path = format!("/providers/{provider}/query");
    app.admin(&Ask::post(&path, question.to_string()).header("content-type", "application/json"))
}

fn sample(app: &App, provider: &str, query: &str) -> Value {
    let reply = ask(app, provider, &json!({"query": query}));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn a_real_prometheus_is_asked_for_numbers_and_a_rollout_rests_on_them() {
    let Some(program) = require("prometheus") else { return };
    let origins = origins();
    let before = App::start(&pair(origins[0].address, origins[1].address, ""));
    let prometheus = Prometheus::start(&program, before.admin);
    let providers = format!("  prom: {{type: prometheus, address: 'http://{}'}}\n", prometheus.address);
    let webhook = "    webhooks:\n      - name: up\n        metadata: {what: up}\n        query: {provider: prom, query: 'sum({{ args.what }}{job=\"serin\"})', min: 1}\n        interval: 100ms\n";
    let app = App::start(&yaml(&origins, &providers, webhook));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    eventually("it has been scraped", || sample(&app, "prom", "sum(up)") == json!({"number": 1.0}));
    assert_eq!(sample(&app, "prom", "vector(2.5)\n  * 2"), json!({"number": 5.0}));
    assert_eq!(sample(&app, "prom", "scalar(vector(3))"), json!({"number": 3.0}));
    assert_eq!(sample(&app, "prom", "no_such_metric"), json!("absent"));
    assert_eq!(sample(&app, "prom", "vector(0) / 0"), json!({"number": null}), "NaN is no number of JSON");
    assert_eq!(sample(&app, "prom", "\"text\""), json!({"said": "text"}));
    let error = sample(&app, "prom", "sum(")["error"].as_str().expect("an error").to_owned();
    assert!(error.contains("400") && error.contains("parse error"), "{error}");
    let range = ask(&app, "prom", &json!({"query": "vector(1)", "window": 60, "step": 15})).json();
    assert_eq!(range, json!({"numbers": [1.0, 1.0, 1.0, 1.0, 1.0]}));
    app.command("web", "start");
    app.await_phase("web", "succeeded");
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn a_number_out_of_its_bounds_rolls_back_and_none_is_neither_yes_nor_no() {
    let origins = origins();
    let page = Origin::answering("page", |_| Answer::ok().text(r#"{"data": {"errors": null}}"#));
    let providers = format!("  page: {{type: web, address: 'http://{}/'}}\n", page.address);
    let webhook = "    webhooks:\n      - {name: errors, query: {provider: page, query: '{$.data.errors}', max: 1}, interval: 50ms, failures: 3}\n";
    let app = App::start(&yaml(&origins, &providers, webhook));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    app.command("web", "start");
    let asked = |count: u64| eventually("it is asked on", || page.requests() > count);
    for silence in [
        Answer::ok().text("{}"),
        Answer::ok().text("no JSON"),
        Answer::status(500),
        Answer::ok().text(r#"{"data": {"errors": "NaN"}}"#),
        Answer::stream(1 << 20).broken_after(10),
    ] {
        let silent = silence.clone();
        page.behave(move |_| silent.clone());
        asked(page.requests() + 4);
        assert_eq!(
            (app.canary_percent("web"), app.phase("web")),
            (10.0, "running".to_owned()),
            "{silence:?}"
        );
    }
    page.behave(|_| Answer::ok().text(r#"{"data": {"errors": 0.5}}"#));
    eventually("it goes on", || app.canary_percent("web") > 10.0);
    page.behave(|_| Answer::ok().text(r#"{"data": {"errors": 7}}"#));
    eventually("it ends", || ["rolled_back", "succeeded"].contains(&app.phase("web").as_str()));
    app.command("web", "start");
    let status = app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("rollout errors: 7 > 1"), "{sentence}");
    assert_eq!(load.stop().failures(), 0);
}

#[test]
fn every_way_to_fail_is_told_apart_and_takes_no_longer_than_its_time() {
    let origins = origins();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let hangs = listener.local_addr().expect("it is bound");
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.local_addr().expect("it is bound")
    };
    let odd = Origin::answering("odd", |_| Answer::ok().text("<html>"));
    let fails = Origin::answering("fails", |_| Answer::status(503).text("try later"));
    let mut providers = String::new();
    for (name, address) in [("hangs", hangs), ("gone", gone), ("odd", odd.address), ("fails", fails.address)]
    {
        providers +=
            &format!("  {name}: {{type: prometheus, address: 'http://{address}', timeout: 200ms}}\n");
    }
    providers +=
        "  mute: {type: prometheus, address: 'http://127.0.0.1:9', bearer: {env: SERIN_TEST_NOWHERE}}\n";
    providers += "  script: {type: command, command: [sh, -c, 'echo $1', sh]}\n";
    providers += "  code: {type: command, command: [sh, -c, 'exit $1', sh], value: exitCode}\n";
    let app = App::start(&yaml(&origins, &providers, ""));
    let error = |provider: &str| sample(&app, provider, "up")["error"].as_str().expect("an error").to_owned();
    let start = Instant::now();
    assert_eq!(error("hangs"), "no answer within 200ms");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(error("gone").starts_with("cannot connect: "), "{}", error("gone"));
    assert!(error("odd").contains("nothing that Prometheus says: <html>"), "{}", error("odd"));
    assert!(error("fails").contains("503 Service Unavailable"), "{}", error("fails"));
    assert!(error("mute").contains("SERIN_TEST_NOWHERE"), "{}", error("mute"));
    assert!(
        sample(&app, "script", "{{ nobody }}")["error"]
            .as_str()
            .is_some_and(|text| text.contains("rendered"))
    );
    assert_eq!(sample(&app, "script", "0.25"), json!({"number": 0.25}));
    assert_eq!(sample(&app, "script", "{{ namespace }}"), json!({"said": "default"}));
    assert_eq!(sample(&app, "code", "3"), json!({"number": 3.0}));
    assert_eq!(ask(&app, "nobody", &json!({"query": "up"})).status, 404);
    assert_eq!(ask(&app, "code", &json!({"query": "1", "windw": 1})).status / 100, 4);
}

/// Queries of Flagger's find what `/metrics` calls the canary, whatever the rollout is called.
#[test]
fn the_target_of_a_template_is_the_workload_that_is_exported() {
    let origins = origins();
    let store = Origin::answering("store", |_| {
        Answer::ok().text(r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}"#)
    });
    let mut yaml = pair(origins[0].address, origins[1].address, "")
        + "rollouts:\n  release: {service: web, steps: [{weight: 10, for: 1s}]}\n";
    yaml += "providers:\n  store: {type: prometheus, address: {env: SERIN_TEST_STORE}}\n";
    let app = App::start_by(&yaml, |_| {
        let mut command = std::process::Command::new(SERIN);
        command.env("SERIN_TEST_STORE", format!("http://me:open%20sesame@{}", store.address));
        command
    });
    let query = "{{ name }}/{{ target }}/{{ ingress }}";
    let answer = ask(&app, "store", &json!({"query": query, "rollout": "release"})).json();
    assert_eq!(answer, json!({"number": 3.0}));
    let seen = &store.seen()[0];
    assert!(seen.path.contains("query=release%2Fweb%2Fweb&"), "{}", seen.path);
    let metrics = app.get("/metrics").text();
    assert!(metrics.contains("destination_workload=\"web\""), "the canary is called so there");
    let login = Some("Basic bWU6b3BlbiBzZXNhbWU=");
    assert_eq!(seen.header("authorization"), login, "of a URL that is a secret the login is used");
}

/// As Thanos and VictoriaMetrics answer where a store of theirs is gone.
#[test]
fn a_part_of_an_answer_is_an_error_and_a_hint_about_the_query_is_none() {
    let origins = origins();
    let said = |more: &str| {
        let text = format!(
            r#"{{"status": "success", "data": {{"resultType": "scalar", "result": [1, "3"]}}{more}}}"#
        );
        Answer::ok().text(&text)
    };
    let store = Origin::answering("store", move |_| said(""));
    let address = store.address;
    let providers = format!(
        "  store: {{type: prometheus, address: 'http://{address}'}}\n  \
         flux: {{type: influxdb, address: 'http://{address}', organization: birds, key: {{env: PATH}}}}\n"
    );
    let app = App::start(&yaml(&origins, &providers, ""));
    assert_eq!(sample(&app, "store", "up"), json!({"number": 3.0}));
    assert!(store.seen()[0].path.ends_with("&partial_response=false"), "{}", store.seen()[0].path);
    let hints = r#", "warnings": ["PromQL info: metric might not be a counter"], "infos": ["x"]"#;
    store.behave(move |_| said(hints));
    assert_eq!(sample(&app, "store", "up"), json!({"number": 3.0}));
    for part in [r#", "warnings": ["receive series from b: rpc error"]"#, r#", "isPartial": true"#] {
        store.behave(move |_| said(part));
        let answer = sample(&app, "store", "up");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains("a part of the data")), "{answer}");
    }
    let table = ",result,table,_time,_value\r\n,,0,2026-01-01T00:00:00Z,4.5\r\n\r\n";
    let fault = ",error,reference\r\n,out of memory,897\r\n";
    store.behave(move |_| Answer::ok().text(&format!("{table}{fault}")));
    assert_eq!(sample(&app, "flux", "from(bucket: \"x\")"), json!({"error": "out of memory"}));
}

#[test]
fn stores_are_asked_as_their_documentation_says() {
    let origins = origins();
    let dog = Origin::answering("dog", |_| {
        Answer::ok().text(r#"{"status": "ok", "series": [{"pointlist": [[1575317847000, 0.1], [1575317908000, 11.7], [1575317909000, null]]}]}"#)
    });
    let relic = Origin::answering("relic", |_| Answer::ok().text(r#"{"results": [{"result": 99.5}]}"#));
    let graph = Origin::answering("graph", |_| {
        Answer::ok().text(r#"[{"target": "x", "datapoints": [[1.0, 1], [2.5, 2], [null, 3]]}]"#)
    });
    let flux = Origin::answering("flux", |_| {
        Answer::ok().text(",result,table,_time,_value\r\n,,0,2026-01-01T00:00:00Z,4.5\r\n\r\n")
    });
    let watch = Origin::answering("watch", |_| {
        Answer::ok()
            .text(r#"{"MetricDataResults": [{"Id": "a", "Values": []}, {"Id": "b", "Values": [0.7, 0.1]}]}"#)
    });
    let providers = format!(
        "  watch: {{type: cloudWatch, region: eu-west-1, address: 'http://{}/', key: {{env: K1}}, secretKey: {{env: K2}}, sessionToken: {{env: K3}}}}\n  \
         dog: {{type: datadog, address: 'http://{}', key: {{env: K1}}, applicationKey: {{env: K2}}}}\n  \
         relic: {{type: newRelic, address: 'http://{}', account: '42', key: {{env: K1}}}}\n  \
         graph: {{type: graphite, address: 'http://{}', basic: {{username: me, password: {{env: K1}}}}}}\n  \
         flux: {{type: influxdb, address: 'http://{}', organization: birds, key: {{env: K1}}}}\n",
        watch.address, dog.address, relic.address, graph.address, flux.address
    );
    let app = App::start_by(&yaml(&origins, &providers, ""), |_| {
        let mut command = std::process::Command::new(SERIN);
        command.env("K1", "key-one").env("K2", "key-two").env("K3", "key-three");
        command
    });
    let queries = r#"[{"Id": "b", "Expression": "e1 / e2"}]"#;
    assert_eq!(sample(&app, "watch", queries), json!({"number": 0.7}));
    let seen = &watch.seen()[0];
    let signed = seen.header("authorization").expect("it is signed");
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=key-one/"), "{signed}");
    assert!(signed.contains("/eu-west-1/monitoring/aws4_request, SignedHeaders="), "{signed}");
    assert_eq!(seen.header("x-amz-security-token"), Some("key-three"));
    assert!(signed.contains("x-amz-security-token"), "the token is signed, too: {signed}");
    assert_eq!(seen.header("x-amz-target"), Some("GraniteServiceVersion20100801.GetMetricData"));
    let body: Value = serde_json::from_slice(&watch.bodies()[0]).expect("JSON");
    assert_eq!(body["MetricDataQueries"][0]["Id"], "b");
    assert_eq!(
        body["EndTime"].as_u64().zip(body["StartTime"].as_u64()).map(|(end, start)| end - start),
        Some(60)
    );
    assert_eq!(sample(&app, "dog", "avg:errors{*}"), json!({"number": 11.7}));
    let seen = &dog.seen()[0];
    assert!(seen.path.starts_with("/api/v1/query?query=avg%3Aerrors%7B*%7D&from="), "{}", seen.path);
    assert_eq!(
        (seen.header("dd-api-key"), seen.header("dd-application-key")),
        (Some("key-one"), Some("key-two"))
    );
    assert_eq!(sample(&app, "relic", "SELECT average(x) FROM y"), json!({"number": 99.5}));
    let seen = &relic.seen()[0];
    assert_eq!(seen.path, "/v1/accounts/42/query?nrql=SELECT+average%28x%29+FROM+y+SINCE+60+seconds+ago");
    assert_eq!(seen.header("x-query-key"), Some("key-one"));
    assert_eq!(sample(&app, "graph", "target=summarize(a.b,%271min%27)&from=-1min"), json!({"number": 2.5}));
    let seen = &graph.seen()[0];
    assert_eq!(seen.path, "/render?target=summarize%28a.b%2C%271min%27%29&from=-1min&format=json");
    assert_eq!(seen.header("authorization"), Some("Basic bWU6a2V5LW9uZQ=="));
    assert_eq!(sample(&app, "graph", "a.b"), json!({"number": 2.5}));
    assert_eq!(graph.seen()[1].path, "/render?target=a.b&from=-60s&format=json", "within the window");
    assert_eq!(sample(&app, "flux", "from(bucket: \"x\")"), json!({"number": 4.5}));
    let seen = &flux.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/api/v2/query?org=birds"));
    assert_eq!(seen.header("authorization"), Some("Token key-one"));
    assert_eq!(flux.bodies()[0], b"from(bucket: \"x\")");
}
