//! serin in the place of Prometheus: its query API over sockets, held against a
//! real Prometheus that has the very same samples, because it scrapes them from
//! `/federate` with their moments.

use std::time::Duration;

use serde_json::Value;

use crate::harness::app::{pair, quiet};
use crate::harness::client::once;
use crate::harness::load::tally;
use crate::harness::prometheus::{Prometheus, encoded};
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, eventually_some, require};

/// What Flagger, Argo Rollouts, PipeCD, Kayenta and their users ask, with their
/// variables filled in for a service `web`.
const BUILT_IN: [&str; 22] = [
    // Flagger, Istio.
    "sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"default\",destination_workload=~\"web\",response_code!~\"5.*\"}[5s])) / sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"default\",destination_workload=~\"web\"}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\",destination_workload_namespace=\"default\",destination_workload=~\"web\"}[5s])) by (le))",
    // Flagger, Gateway API and Kubernetes.
    "sum(rate(http_request_duration_seconds_count{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\",status!~\"5.*\"}[5s])) / sum(rate(http_request_duration_seconds_count{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\"}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(http_request_duration_seconds_bucket{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\"}[5s])) by (le))",
    // Flagger, App Mesh.
    "sum(rate(envoy_cluster_upstream_rq{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\",envoy_response_code!~\"5.*\"}[5s])) / sum(rate(envoy_cluster_upstream_rq{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\"}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(envoy_cluster_upstream_rq_time_bucket{kubernetes_namespace=\"default\",kubernetes_pod_name=~\"web-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\"}[5s])) by (le))",
    // Flagger, Contour; with its trailing comma.
    "sum(rate(envoy_cluster_upstream_rq{envoy_cluster_name=~\"default_web-canary_[0-9a-zA-Z-]+\",envoy_response_code!~\"5.*\"}[5s])) / sum(rate(envoy_cluster_upstream_rq{envoy_cluster_name=~\"default_web-canary_[0-9a-zA-Z-]+\",}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=~\"default_web-canary_[0-9a-zA-Z-]+\",}[5s])) by (le))",
    // Flagger, nginx: the mean.
    "sum(rate(nginx_ingress_controller_requests{namespace=\"default\",ingress=\"web\",canary!=\"\",status!~\"5.*\"}[5s])) / sum(rate(nginx_ingress_controller_requests{namespace=\"default\",ingress=\"web\",canary!=\"\"}[5s])) * 100",
    "sum(rate(nginx_ingress_controller_response_duration_seconds_sum{namespace=\"default\",ingress=\"web\",canary!=\"\"}[5s])) / sum(rate(nginx_ingress_controller_response_duration_seconds_count{namespace=\"default\",ingress=\"web\",canary!=\"\"}[5s])) * 1000",
    // Flagger, Open Service Mesh, Linkerd and Traefik.
    "sum(rate(osm_request_total{destination_namespace=\"default\",destination_kind=\"Deployment\",destination_name=\"web\",response_code!~\"5.*\"}[5s])) / sum(rate(osm_request_total{destination_namespace=\"default\",destination_kind=\"Deployment\",destination_name=\"web\"}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(osm_request_duration_ms_bucket{destination_namespace=\"default\",destination_kind=\"Deployment\",destination_name=\"web\"}[5s])) by (le))",
    "sum(rate(response_total{namespace=\"default\",deployment=~\"web\",classification!=\"failure\",direction=\"inbound\"}[5s])) / sum(rate(response_total{namespace=\"default\",deployment=~\"web\",direction=\"inbound\"}[5s])) * 100",
    "histogram_quantile(0.99, sum(rate(response_latency_ms_bucket{namespace=\"default\",deployment=~\"web\",direction=\"inbound\"}[5s])) by (le))",
    "sum(rate(traefik_service_request_duration_seconds_bucket{service=~\"default-web-canary-[0-9a-zA-Z-]+@kubernetescrd\",code!~\"5..\",le=\"+Inf\"}[5s])) / sum(rate(traefik_service_request_duration_seconds_bucket{service=~\"default-web-canary-[0-9a-zA-Z-]+@kubernetescrd\",le=\"+Inf\"}[5s])) * 100",
    // Argo Rollouts' documented success rate.
    "sum(irate(istio_requests_total{reporter=\"source\",destination_service=~\"web.default.svc.cluster.local\",response_code!~\"5.*\"}[5s])) / sum(irate(istio_requests_total{reporter=\"source\",destination_service=~\"web.default.svc.cluster.local\"}[5s]))",
    // PipeCD: a ratio of errors by workload.
    "sum by (destination_workload) (rate(istio_requests_total{response_code=~\"5.*\"}[4s])) / sum by (destination_workload) (rate(istio_requests_total[4s]))",
    // Kayenta: without a template.
    "avg(envoy_cluster_upstream_rq{envoy_cluster_name=~\"default_web-.*\"}) by (envoy_response_code)",
    // Our own, as a dashboard has them.
    "sum by (version, class) (rate(serin_responses_total[3s]))",
    "histogram_quantile(0.5, sum by (le, version) (rate(serin_request_duration_seconds_bucket[5s])))",
    "serin_weight_percent == 50 or on() vector(-1)",
    "absent(serin_requests_total{service=\"nobody\"})",
];

const FAMILIES: &str = "metrics:\n  families: [istio, envoy, http, nginx, osm, linkerd, traefik]\n";

/// A canary of which every fifth answer is a 503, under load.
fn failing() -> (App, Load, [Origin; 2]) {
    let primary = Origin::start("primary");
    let count = std::sync::atomic::AtomicU64::new(0);
    let canary = Origin::answering("canary", move |_| {
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 5 {
            0 => Answer::status(503),
            1 => Answer::ok().after(Duration::from_millis(7)),
            _ => Answer::ok(),
        }
    });
    let yaml = pair(primary.address, canary.address, "weights: {primary: 50, canary: 50}") + FAMILIES;
    let app = App::start(&yaml);
    let load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    (app, load, [primary, canary])
}

fn ask(app: &App, path: &str) -> Value {
    app.get(path).json()
}

fn scraping(program: &std::path::Path, app: &App) -> Prometheus {
    let all = "{__name__=~\\\".+\\\"}";
    let scraped = format!(
        "- job_name: serin\n    metrics_path: /federate\n    params: {{\"match[]\": [\"{all}\"]}}\n    \
         static_configs: [{{targets: [\"{}\"]}}]\n    \
         metric_relabel_configs: [{{action: labeldrop, regex: \"instance|job\"}}]\n",
        app.admin
    );
    Prometheus::start_with(program, &scraped, &[], |_| {})
}

/// The latest moment that a server has, of our own build's series.
fn latest(answer: &Value) -> Option<f64> {
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

fn sorted(mut answer: Value) -> Value {
    if let Some(result) = answer["data"]["result"].as_array_mut() {
        result.sort_by_key(|line| line["metric"].to_string());
    }
    answer
}

/// Equal but for the last bits of numbers.
fn is_near(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| is_near(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, a)| theirs.get(key).is_some_and(|b| is_near(a, b)))
        }
        (Value::String(ours), Value::String(theirs)) => {
            let numbers = ours.parse::<f64>().ok().zip(theirs.parse::<f64>().ok());
            ours == theirs || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
        }
        _ => ours == theirs,
    }
}

#[test]
fn built_in_queries_of_others_are_answered_as_by_a_prometheus_that_scrapes_serin() {
    let Some(program) = require("prometheus") else { return };
    let (app, load, _origins) = failing();
    let prometheus = scraping(&program, &app);
    let now = "/api/v1/query?query=timestamp(serin_build_info)";
    let first = eventually_some("Prometheus has a first sample", || latest(&prometheus.json(now)));
    let at = first + 9.0;
    eventually("both have nine seconds", || {
        let (ours, theirs) = (latest(&ask(&app, now)), latest(&prometheus.json(now)));
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.min(theirs) > at)
    });
    load.stop();
    for query in BUILT_IN {
        let instant = format!("/api/v1/query?query={}&time={at}", encoded(query));
        let span = format!("start={}&end={at}&step=0.7", at - 2.0);
        let range = format!("/api/v1/query_range?query={}&{span}", encoded(query));
        for path in [instant, range] {
            let (ours, theirs) = (sorted(ask(&app, &path)), sorted(prometheus.json(&path)));
            assert_eq!(ours["status"], "success", "{query}: {ours}");
            assert!(is_near(&ours, &theirs), "{query}\n  we say   {ours}\n  they say {theirs}");
            assert_ne!(ours["data"]["result"].as_array().map(Vec::len), Some(0), "{query} finds nothing");
        }
    }
    let success = ask(&app, &format!("/api/v1/query?query={}&time={at}", encoded(BUILT_IN[0])));
    let percent: f64 = latest(&success).expect("a success rate");
    assert!((70.0..90.0).contains(&percent), "every fifth failed, not {percent} %");
    names_of_both(&app, &prometheus, at);
}

/// What Grafana asks to offer names and values.
fn names_of_both(app: &App, prometheus: &Prometheus, at: f64) {
    let selector = encoded("istio_requests_total{reporter=\"source\"}");
    let span = format!("start={}&end={at}", at - 5.0);
    for path in [
        format!("/api/v1/series?match[]={selector}&{span}"),
        format!("/api/v1/labels?match[]={selector}&{span}"),
        format!("/api/v1/label/response_code/values?match[]={selector}&{span}"),
        format!("/api/v1/label/destination_workload/values?{span}"),
        "/api/v1/label/nothing/values".to_owned(),
        "/api/v1/query_exemplars?query=serin_requests_total&start=1&end=2".to_owned(),
    ] {
        let (ours, theirs) = (ask(app, &path), prometheus.json(&path));
        let sorted = |answer: &Value| {
            let mut texts: Vec<String> =
                answer["data"].as_array().expect("a list").iter().map(Value::to_string).collect();
            texts.sort();
            texts
        };
        assert_eq!(sorted(&ours), sorted(&theirs), "{path}");
    }
    // Prometheus has names of its own, of the scrape.
    let names = ask(app, "/api/v1/label/__name__/values");
    let theirs = prometheus.json("/api/v1/label/__name__/values");
    for name in names["data"].as_array().expect("a list") {
        assert!(theirs["data"].as_array().expect("a list").contains(name), "{name}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_status_and_the_words_of_prometheus() {
    let Some(program) = require("prometheus") else { return };
    let origin = Origin::start("a");
    let app = App::start(&crate::harness::app::single(origin.address));
    let prometheus = scraping(&program, &app);
    eventually("Prometheus has two series", || {
        prometheus.query("count(serin_config_reloads_total)") == Some(2.0)
    });
    eventually("so do we", || {
        latest(&ask(&app, "/api/v1/query?query=count(serin_config_reloads_total)")) == Some(2.0)
    });
    // In the first lot the texts are the same; parse errors are worded by the parser.
    let same = [
        "/api/v1/query?query=1&time=yesterday",
        "/api/v1/query?query=1&timeout=soon",
        "/api/v1/query_range?query=1&start=1&end=2",
        "/api/v1/query_range?query=1&start=&end=2&step=1",
        "/api/v1/query_range?query=1&start=5&end=2&step=1",
        "/api/v1/query_range?query=1&start=1&end=2&step=0",
        "/api/v1/query_range?query=1&start=1&end=2&step=x",
        "/api/v1/query_range?query=1&start=0&end=11001&step=1",
        "/api/v1/series",
        "/api/v1/label/a-b/values",
        "/api/v1/query?query=serin_config_reloads_total%2Bon()serin_config_reloads_total",
    ];
    let alike = [
        "/api/v1/query?query=",
        "/api/v1/query?query=sum(",
        "/api/v1/query?query=no_such_function(1)",
        "/api/v1/query?query=rate(up)",
        "/api/v1/query?query={a=~\".*\"}",
        "/api/v1/query_range?query=up[5m]&start=1&end=2&step=1",
        "/api/v1/series?match[]=1",
        "/api/v1/metadata?limit=x",
        "/api/v1/query?query=label_replace(serin_config_reloads_total,\"a-b\",\"\",\"\",\"\")",
    ];
    for path in same.iter().chain(&alike) {
        let path = readable(path);
        let ours = app.get(&path);
        let theirs = once(prometheus.address, &Ask::get(&path));
        assert_eq!(ours.status, theirs.status, "{path}: {} and {}", ours.text(), theirs.text());
        let (ours, theirs) = (ours.json(), theirs.json());
        assert_eq!(ours["errorType"], theirs["errorType"], "{path}: {ours} and {theirs}");
        assert_eq!(ours["status"], "error", "{path}");
        if same.contains(&path.as_str()) && !path.contains("on()") {
            assert_eq!(ours["error"], theirs["error"], "{path}");
        }
    }
    let unsupported = app.get("/api/v1/query?query=histogram_avg(up)");
    assert_eq!(unsupported.status, 400);
    assert!(unsupported.text().contains("histogram_avg"), "{}", unsupported.text());
}

/// As a client writes it: what a path cannot hold is escaped.
fn readable(path: &str) -> String {
    path.replace("match[]", "match%5B%5D")
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('"', "%22")
        .replace("up[5m]", "up%5B5m%5D")
}

#[test]
fn a_form_is_as_good_as_a_path() {
    let origin = Origin::start("a");
    let app = App::start(&crate::harness::app::single(origin.address));
    let post = |path: &str, form: &str| {
        let ask = Ask::post(path, form).header("content-type", "application/x-www-form-urlencoded");
        app.admin(&ask)
    };
    let reply = post("/api/v1/query", "query=vector(1)&time=12.5");
    assert_eq!(
        reply.text(),
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[12.500,\"1\"]}]}}"
    );
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let reply = post("/api/v1/query_range", "query=time()&start=0&end=2&step=1").json();
    assert_eq!(reply["data"]["result"][0]["values"], serde_json::json!([[0, "0"], [1, "1"], [2, "2"]]));
    eventually("the history has begun", || {
        let reply = post("/api/v1/series", "match[]=serin_build_info").json();
        reply["data"].as_array().is_some_and(|series| series.len() == 1)
    });
    let info = ask(&app, "/api/v1/status/buildinfo");
    assert!(info["data"]["version"].as_str().is_some_and(|version| version.starts_with("2.")), "{info}");
    let about = ask(&app, "/api/v1/metadata?metric=serin_requests_total");
    assert_eq!(about["data"]["serin_requests_total"][0]["type"], "counter");
    assert!(ask(&app, "/api/v1/status/tsdb")["data"]["headStats"]["bytes"].as_u64() > Some(1000));
    assert_eq!(app.get("/-/healthy").status, 200);
}

/// The calls that Grafana's datasource makes, in its words: of its test button, of a
/// dashboard with a variable, and of the editor. Both sides are asked them.
#[test]
fn the_calls_of_grafanas_datasource_are_answered_as_by_prometheus() {
    let Some(program) = require("prometheus") else { return };
    let (app, load, _origins) = failing();
    let prometheus = scraping(&program, &app);
    let now = "/api/v1/query?query=timestamp(serin_build_info)";
    let first = eventually_some("Prometheus has a first sample", || latest(&prometheus.json(now)));
    eventually("both have six seconds", || {
        let (ours, theirs) = (latest(&ask(&app, now)), latest(&prometheus.json(now)));
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.min(theirs) > first + 6.0)
    });
    load.stop();
    let (start, end) = (first.ceil() + 3.0, first.ceil() + 5.0);
    let span = format!("end={end}&start={start}");
    let expression = encoded("sum by (version) (rate(serin_responses_total{class=~\"2xx|5xx\"}[2s]))");
    let selector = encoded("{__name__=\"istio_requests_total\"}");
    let calls = [
        ("POST", "/api/v1/query".to_owned(), format!("query=1%2B1&time={end}")),
        ("POST", "/api/v1/query_range".to_owned(), format!("{span}&query={expression}&step=1")),
        ("POST", "/api/v1/query".to_owned(), format!("query={expression}&time={end}")),
        ("POST", "/api/v1/labels".to_owned(), format!("{span}&match%5B%5D={selector}")),
        ("POST", "/api/v1/series".to_owned(), format!("{span}&match%5B%5D={selector}")),
        ("GET", format!("/api/v1/label/response_code/values?{span}&match%5B%5D={selector}"), String::new()),
        ("GET", format!("/api/v1/series?match%5B%5D={selector}&{span}"), String::new()),
        ("POST", "/api/v1/query_exemplars".to_owned(), format!("{span}&query={expression}")),
        ("GET", "/api/v1/rules".to_owned(), String::new()),
        ("GET", "/api/v1/alerts".to_owned(), String::new()),
        ("POST", "/api/v1/query_range".to_owned(), format!("{span}&query={}&step=1", encoded("sum("))),
    ];
    for (method, path, form) in calls {
        let call = Ask::new(method, &path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("user-agent", "Grafana/11.2.0")
            .header("x-grafana-org-id", "1")
            .header("connection", "close")
            .body(form.clone());
        let (ours, theirs) = (once(app.admin, &call), once(prometheus.address, &call));
        assert_eq!(ours.status, theirs.status, "{path} {form}: {}", ours.text());
        let (ours, theirs) = (ours.json(), theirs.json());
        assert_eq!(ours["status"], theirs["status"], "{path} {form}");
        if ours["status"] == "success" {
            let (ours, theirs) = (in_order(ours), in_order(theirs));
            assert!(is_near(&ours, &theirs), "{path} {form}\n  we say   {ours}\n  they say {theirs}");
        }
    }
    let info = ask(&app, "/api/v1/status/buildinfo");
    let fields =
        |value: &Value| value["data"].as_object().expect("fields").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&info), fields(&prometheus.json("/api/v1/status/buildinfo")));
    let about = |answer: Value| answer["data"]["serin_responses_total"][0]["help"].clone();
    let path = "/api/v1/metadata?limit=10000";
    assert!(about(ask(&app, path)).is_string(), "what the editor shows of a metric");
}

/// Lists of series have no order.
fn in_order(mut answer: Value) -> Value {
    let data = &mut answer["data"];
    let list = if data.is_array() { data } else { &mut data["result"] };
    if let Some(list) = list.as_array_mut()
        && list.iter().all(|one| !one.is_number())
    {
        list.sort_by_key(Value::to_string);
    }
    answer
}

/// Whatever looks at all series does so beside the tick and never in its place.
#[test]
fn commands_are_taken_while_heavy_queries_run() {
    const SERVICES: usize = 100;
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let mut yaml = crate::harness::app::head(1) + "services:\n";
    for n in 0..SERVICES {
        yaml += &format!("  s{n}: {{primary: '{}', canary: '{}'}}\n", primary.address, canary.address);
    }
    yaml += "routes:\n";
    for n in 0..SERVICES {
        yaml += &format!("  - {{name: r{n}, match: {{prefix: /s{n}/}}, service: s{n}}}\n");
    }
    let app = App::start(&(yaml + FAMILIES + "rollouts:\n  s0:\n    steps: [{weight: 50, for: 10m}]\n"));
    eventually("the history has all series", || {
        let all = encoded("count({__name__!=\"\"})");
        let count = latest(&ask(&app, &format!("/api/v1/query?query={all}")));
        count.is_some_and(|count| count > 20_000.0)
    });
    let everything = encoded("{__name__=~\"(a|b|.)+\"}");
    let heavy = [
        "/metrics".to_owned(),
        format!("/federate?match[]={everything}"),
        format!("/api/v1/series?match[]={everything}"),
        format!("/api/v1/labels?match[]={everything}"),
        format!("/api/v1/label/__name__/values?match[]={everything}"),
        // This one runs into one of its bounds.
        format!("/api/v1/query?timeout=3s&query={}", encoded("sum_over_time(vector(1)[3000000s:1s])")),
    ];
    let (stop, admin) = (std::sync::atomic::AtomicBool::new(false), app.admin);
    let (mut commands, mut pages) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let hammer = |path: &str| {
            let mut took = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let ask = Ask::get(path).header("connection", "close");
                let (reply, one) = crate::harness::app::timed(|| once(admin, &ask));
                assert!([200, 422, 503].contains(&reply.status), "{path}: {}", reply.status);
                took.push(one);
            }
            took
        };
        let hammers: Vec<_> = heavy.iter().map(|path| scope.spawn(move || hammer(path))).collect();
        for verb in ["start", "pause", "resume", "abort"].into_iter().cycle().take(12) {
            let path = format!("/rollouts/s0/{verb}");
            commands.push(crate::harness::app::timed(|| drop(app.post(&path))).1);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for hammer in hammers {
            pages.push(hammer.join().expect("answers"));
        }
    });
    let middle = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (command, page) = (middle(&mut commands), middle(&mut pages[0]));
    println!(
        "a command took {command:?} (at most {:?}) beside pages of {page:?}",
        commands[commands.len() - 1]
    );
    assert!(pages.iter().all(|took| !took.is_empty()));
    // On the tick's own thread a command would wait for a page at least.
    assert!(command < page / 4, "a command took {command:?} beside pages of {page:?}");
}

#[test]
fn a_real_prometheus_reads_native_histograms() {
    let Some(program) = require("prometheus") else { return };
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(40)));
    let app = App::start(&crate::harness::app::single(origin.address));
    let scraped = format!("- job_name: serin\n    static_configs: [{{targets: [\"{}\"]}}]\n", app.admin);
    let prometheus =
        Prometheus::start_with(&program, &scraped, &["--enable-feature=native-histograms"], |_| {});
    tally(app.address(), 4, 100, &Ask::get("/"));
    quiet(&app);
    let of = |function: &str, first: &str| {
        let labels = "version=\"primary\",role=\"primary\"";
        prometheus.query(&format!("{function}({first}serin_request_duration_seconds{{{labels}}})"))
    };
    eventually("Prometheus has all of the histogram", || of("histogram_count", "") == Some(100.0));
    let sum = of("histogram_sum", "").expect("a sum");
    let ours =
        app.metric("serin_request_duration_seconds_sum", &[("version", "primary"), ("role", "primary")]);
    assert!((sum / ours - 1.0).abs() < 1e-9, "{sum} and {ours}");
    let p50 = of("histogram_quantile", "0.5, ");
    assert!(p50.is_some_and(|p50| (0.036..0.2).contains(&p50)), "p50 {p50:?}");
    // The others, that have no finer buckets, are there as they were.
    eventually("classic histograms are there as well", || {
        prometheus.query("sum(istio_request_duration_milliseconds_count{reporter=\"source\"})") == Some(100.0)
    });
    assert_eq!(prometheus.target(), ("up".into(), String::new()));
}

#[test]
fn open_metrics_are_told_to_who_asks_for_them() {
    let origin = Origin::start("a");
    let app = App::start(&crate::harness::app::single(origin.address));
    let reply = app.admin(
        &Ask::get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
    );
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{}", &text[text.len() - 100..]);
    assert!(text.contains("# TYPE serin_requests counter\n"), "{text}");
    let mut families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "a family comes twice");
}

#[test]
fn exemplars_are_requests_that_a_version_has_seen() {
    let Some(program) = require("prometheus") else { return };
    let origin = Origin::start("a");
    let app = App::start(&crate::harness::app::single(origin.address));
    let scraped = format!("- job_name: serin\n    static_configs: [{{targets: [\"{}\"]}}]\n", app.admin);
    let prometheus =
        Prometheus::start_with(&program, &scraped, &["--enable-feature=exemplar-storage"], |_| {});
    tally(app.address(), 2, 50, &Ask::get("/"));
    let path = "/api/v1/query_exemplars?query=serin_request_duration_seconds_bucket&start=0&end=4000000000";
    let told = eventually_some("Prometheus has exemplars", || {
        let answer = prometheus.json(path);
        let series = answer["data"].as_array()?.clone();
        let of = |series: &Value| series["exemplars"].as_array().cloned().unwrap_or_default();
        let told: Vec<Value> = series.iter().flat_map(of).collect();
        (!told.is_empty()).then_some(told)
    });
    let seen = origin.seen();
    let ids: Vec<&str> = seen.iter().filter_map(|seen| seen.header("x-request-id")).collect();
    for exemplar in told {
        let id = exemplar["labels"]["request_id"].as_str().expect("an id");
        assert!(ids.contains(&id), "{exemplar} is of no request");
        let seconds: f64 = exemplar["value"].as_str().and_then(|text| text.parse().ok()).expect("a duration");
        assert!(seconds < 30.0, "{exemplar}");
    }
    assert_eq!(prometheus.target(), ("up".into(), String::new()));
}
