//! What `/metrics` says, held against what happened; by our parser and by a
//! real Prometheus.

use std::time::Duration;

use crate::harness::app::{pair, quiet, single};
use crate::harness::load::tally;
use crate::harness::prometheus::Prometheus;
use crate::harness::{Answer, App, Ask, Origin, eventually, require};

#[test]
fn the_text_is_well_formed_and_every_family_is_described() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "weights: {primary: 50, canary: 50}"));
    tally(app.address(), 4, 400, &Ask::get("/"));
    quiet(&app);
    let reply = app.get("/metrics");
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        reply.headers
    );
    let scrape = app.scrape();
    for sample in &scrape.samples {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| sample.name.strip_suffix(end))
            .find(|name| scrape.types.get(*name).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(&sample.name);
        assert!(scrape.types.contains_key(family), "{} has no TYPE", sample.name);
        assert!(!scrape.helps.get(family).is_none_or(String::is_empty), "{} has no HELP", sample.name);
        let counter = scrape.types[family] == "counter";
        // Others have their own ways.
        if !family.starts_with("serin_") && !family.starts_with("process_") {
            continue;
        }
        assert_eq!(counter, family.ends_with("_total"), "{family} is a {}", scrape.types[family]);
    }
    assert_eq!(app.get("/stats/prometheus").status, 200);
    let mut labelled =
        scrape.samples.iter().map(|sample| (sample.name.clone(), sample.labels.clone())).collect::<Vec<_>>();
    let all = labelled.len();
    labelled.sort();
    labelled.dedup();
    assert_eq!(labelled.len(), all, "a series comes twice");
}

#[test]
fn latency_histograms_add_up_and_hold_the_truth() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/slow" => Answer::ok().after(Duration::from_millis(200)),
        _ => Answer::ok(),
    });
    let app = App::start(&single(origin.address));
    tally(app.address(), 4, 300, &Ask::get("/"));
    tally(app.address(), 4, 40, &Ask::get("/slow"));
    quiet(&app);
    let scrape = app.scrape();
    let labels = [("service", "web"), ("version", "primary"), ("role", "primary")];
    assert_eq!(scrape.sum("serin_request_duration_seconds_count", &labels), 340.0);
    let sum = scrape.sum("serin_request_duration_seconds_sum", &labels);
    assert!((8.0 * 0.95..60.0).contains(&sum), "40 requests of 0.2 s and 300 short ones sum to {sum}");
    let mut buckets: Vec<(f64, f64)> = scrape
        .with("serin_request_duration_seconds_bucket", &labels)
        .map(|sample| {
            let edge = &sample.labels["le"];
            let edge =
                if edge == "+Inf" { f64::INFINITY } else { edge.parse().expect("an edge is a number") };
            (edge, sample.value)
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "buckets are cumulative: {buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 340.0)));
    let below = |edge: f64| {
        buckets.iter().filter(|bucket| bucket.0 <= edge).map(|bucket| bucket.1).fold(0.0, f64::max)
    };
    assert!(below(0.19) <= 300.0, "requests of 200 ms lie under 190 ms: {buckets:?}");
}

#[test]
fn bytes_in_flight_and_classes_are_counted() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/wait" => Answer::ok().after(Duration::from_millis(1_000)),
        "/missing" => Answer::status(404),
        "/moved" => Answer::status(302),
        "/broken" => Answer::status(500),
        _ => Answer::stream(100_000),
    });
    let app = App::start(&single(origin.address));
    let mut conn = app.conn();
    conn.ask(&Ask::post("/", vec![0; 50_000]));
    for path in ["/missing", "/moved", "/broken"] {
        conn.get(path);
    }
    conn.write(&Ask::get("/wait").bytes());
    eventually("one request is under way", || app.metric("serin_requests_in_flight", &[]) == 1.0);
    assert_eq!(conn.read_reply("GET").expect("an answer").status, 200);
    quiet(&app);
    for (class, count) in [("2xx", 2.0), ("3xx", 1.0), ("4xx", 1.0), ("5xx", 1.0)] {
        assert_eq!(app.metric("serin_responses_total", &[("class", class)]), count, "{class}");
    }
    // A 404 is the user's business and a redirect is an answer; only the 500 is the version's failure.
    assert_eq!((app.requests(&[("outcome", "success")]), app.requests(&[("outcome", "failure")])), (4, 1));
    let bytes: Vec<_> = app.scrape().with("serin_bytes_total", &[]).map(|sample| sample.value).collect();
    assert!(bytes.iter().any(|count| (50_000.0..60_000.0).contains(count)), "request bodies: {bytes:?}");
    assert!(bytes.iter().any(|count| (100_000.0..110_000.0).contains(count)), "answer bodies: {bytes:?}");
}

#[test]
fn a_real_prometheus_scrapes_the_truth() {
    let Some(program) = require("prometheus") else { return };
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "weights: {primary: 70, canary: 30}"));
    let prometheus = Prometheus::start(&program, app.admin);
    let seen = tally(app.address(), 4, 1_000, &Ask::get("/"));
    quiet(&app);
    for version in ["primary", "canary"] {
        let truth = seen[version] as f64;
        let query =
            format!("sum(serin_requests_total{{service=\"web\",version=\"{version}\",outcome=\"success\"}})");
        eventually(&format!("Prometheus knows {truth} requests of {version}"), || {
            prometheus.query(&query) == Some(truth)
        });
        let query = format!("sum(serin_request_duration_seconds_count{{version=\"{version}\"}})");
        eventually("and its histogram", || prometheus.query(&query) == Some(truth));
        let query = format!(
            "histogram_quantile(0.99, sum by (le) (serin_request_duration_seconds_bucket{{version=\"{version}\"}}))"
        );
        let p99 = prometheus.query(&query);
        assert!(p99.is_some_and(|p99| p99 > 0.0 && p99 < 10.0), "p99 of {version}: {p99:?}");
    }
    let weight = "serin_weight_percent{split=\"web\",version=\"canary\"}";
    eventually("the weight is there", || prometheus.query(weight) == Some(30.0));
    assert_eq!(prometheus.target(), ("up".into(), String::new()));
}
