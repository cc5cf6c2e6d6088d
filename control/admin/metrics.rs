//! Prometheus text from the proxy's counters and the state of the rollouts.
//!
//! The counters are the proxy's own; here they only get names. Histograms are
//! shown with far fewer bounds than they are kept with, each a true edge of a
//! fine bucket, so that no count is a guess.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serin_proxy::Reading;
use serin_proxy::reading::{Attempt, BreakersReading, Counts, Sent, SplitReading, VersionReading};
use serin_proxy::weights::percent;

use super::{Admin, Refused};
use crate::certificates::Certificate;
use crate::names;
use crate::names::label;
use crate::rollout::Meters;
use crate::tick::ask::Ask;
use crate::tick::view::{MetricsView, PHASES, phase_word};
use page::{Page, Part};
use protobuf::{PROTOBUF, Protobuf};
use text::{OPEN_METRICS, PROMETHEUS, Text};

mod answers;
mod endpoints;
mod foreign;
mod health;
pub mod history;
mod letters;
mod page;
mod process;
mod protobuf;
pub mod text;

/// Metrics, in the format that the reader likes best: Prometheus text,
/// OpenMetrics, or protobuf with native histograms.
#[utoipa::path(
    get, path = "/metrics", tag = "process",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)),
)]
pub async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refused> {
    let (reading, view) = admin.desk.ask(|reply| Ask::Metrics { reply }).await?;
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = preferred(accepted);
    admin.page(move |admin| written(format, admin, &reading, &view)).await
}

/// All of one and the same moment, however long it takes to write.
fn written(format: Format, admin: &Admin, reading: &Reading, view: &MetricsView) -> Response {
    match format {
        Format::Prometheus => {
            let mut text = Text::default();
            beside(&mut Page(&mut text), admin);
            fill(&mut Page(&mut text), reading, view);
            ([(header::CONTENT_TYPE, PROMETHEUS)], text.into_prometheus()).into_response()
        }
        Format::OpenMetrics => {
            let mut text = Text::with_exemplars();
            beside(&mut Page(&mut text), admin);
            fill(&mut Page(&mut text), reading, view);
            ([(header::CONTENT_TYPE, OPEN_METRICS)], text.into_open_metrics()).into_response()
        }
        Format::Protobuf => {
            let mut protobuf = Protobuf::default();
            beside(&mut Page(&mut protobuf), admin);
            fill(&mut Page(&mut protobuf), reading, view);
            ([(header::CONTENT_TYPE, PROTOBUF)], protobuf.into_bytes()).into_response()
        }
    }
}

/// What neither the proxy nor the tick counts.
fn beside(page: &mut Page<'_>, admin: &Admin) {
    letters::of(page, &admin.outward.courier);
    answers::of(page, &admin.board);
}

/// The same under the path that Envoy has them.
#[utoipa::path(
    get, path = "/stats/prometheus", tag = "process",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)),
)]
pub async fn stats_prometheus(state: State<Admin>, headers: HeaderMap) -> Result<Response, Refused> {
    metrics(state, headers).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Prometheus,
    OpenMetrics,
    Protobuf,
}

/// The format of the greatest weight; of equals the first that is named.
fn preferred(accepted: &str) -> Format {
    let mut best = (0.0, Format::Prometheus);
    for range in accepted.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next().unwrap_or_default() {
            "application/openmetrics-text" => Format::OpenMetrics,
            "application/vnd.google.protobuf" if range.contains("encoding=delimited") => Format::Protobuf,
            "text/plain" | "*/*" => Format::Prometheus,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

/// All that there is to tell, value by value; what moves always before what may rest.
pub fn fill(page: &mut Page<'_>, reading: &Reading, view: &MetricsView) {
    page.part_that_moves("process");
    process_of(page, reading, view);
    for split in &reading.splits {
        let names: Vec<&str> = split.weights.iter().map(|(version, _)| version).collect();
        let parts: Vec<u32> = split.weights.iter().map(|(_, parts)| parts).collect();
        if page.part(("split", &split.split), parts, names) {
            weights_of(page, split);
        }
    }
    for version in &reading.versions {
        if page.thing(version, version_part) {
            version_of(page, version);
        }
    }
    for endpoints in &reading.endpoints {
        endpoints::of(page, endpoints);
    }
    for version in &reading.health {
        health::of_version(page, version);
    }
    for breakers in &reading.breakers {
        if page.thing(breakers, breakers_part) {
            breakers_of(page, breakers);
        }
    }
    for meters in &view.rollouts {
        if page.thing(meters, rollout_part) {
            gauges_of(page, meters);
        }
    }
    foreign::of(page, reading, &view.metrics);
}

fn weights_of(page: &mut Page<'_>, split: &SplitReading) {
    for (version, parts) in split.weights.iter() {
        let labels = [(label::SPLIT, split.split.as_str()), (label::VERSION, version)];
        let help = "Share of a split that new requests get.";
        page.gauge(names::WEIGHT_PERCENT, help, &labels, percent(parts));
    }
}

fn process_of(page: &mut Page<'_>, reading: &Reading, view: &MetricsView) {
    page.gauge(names::CONNECTIONS, "Client connections open.", &[], reading.connections as f64);
    let stage = f64::from(reading.overload.stage);
    let help =
        "How much is too much: 0 nothing, 1 keep-alive ends, 2 requests are refused, 3 connections too.";
    page.gauge(names::OVERLOAD_STAGE, help, &[], stage);
    let overload = &reading.overload;
    for (what, count) in
        [("request", overload.refused_requests), ("connection", overload.refused_connections)]
    {
        let help = "What was turned away because there was too much.";
        page.counter(names::OVERLOAD_REFUSED_TOTAL, help, &[(label::WHAT, what)], count);
    }
    page.counter(names::UNROUTED_REQUESTS_TOTAL, "Requests that no split took.", &[], reading.unrouted);
    let help = "HTTP/2 connections closed because their clients flooded them with frames.";
    page.counter(names::HTTP2_FLOODS_TOTAL, help, &[], reading.floods);
    let help = "Requests refused by a rate limit.";
    page.counter(names::RATE_LIMITED_TOTAL, help, &[], reading.limited);
    for (kind, count) in [("delay", reading.delayed), ("abort", reading.aborted)] {
        let help = "Requests that a fault was injected into.";
        page.counter(names::FAULTS_INJECTED_TOTAL, help, &[("kind", kind)], count);
    }
    for (result, count) in [("compared", reading.compared), ("dropped", reading.compared_dropped)] {
        let help =
            "Mirrored requests that were asked again to compare answers; dropped where there was no room.";
        page.counter(names::ANSWERS_SAMPLED_TOTAL, help, &[(label::RESULT, result)], count);
    }
    for certificate in &view.certificates {
        certificate_of(page, certificate);
    }
    for (result, count) in [("success", reading.handshakes), ("failure", reading.handshakes_failed)] {
        let help = "TLS handshakes of clients.";
        page.counter(names::TLS_HANDSHAKES_TOTAL, help, &[(label::RESULT, result)], count);
    }
    for (result, count) in [("accepted", view.reloads.accepted), ("rejected", view.reloads.rejected)] {
        let help = "Configurations read after the start.";
        page.counter(names::CONFIG_RELOADS_TOTAL, help, &[(label::RESULT, result)], count);
    }
    let writable = if view.is_journal_writable { 1.0 } else { 0.0 };
    page.gauge(names::JOURNAL_WRITABLE, "Whether rising weights can be recorded.", &[], writable);
    let build = [(label::VERSION, env!("CARGO_PKG_VERSION"))];
    page.gauge(names::BUILD_INFO, "Always 1, labelled by version.", &build, 1.0);
    process::read(page);
}

fn certificate_of(page: &mut Page<'_>, certificate: &Certificate) {
    let labels = [
        (label::PLACE, certificate.place.as_str()),
        (label::PART, certificate.part),
        (label::SUBJECT, &certificate.subject),
        (label::SERIAL, &certificate.serial),
    ];
    let help = "When a certificate in use expires, since the Unix epoch.";
    page.gauge(names::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS, help, &labels, certificate.not_after as f64);
}

fn version_part(version: &VersionReading) -> Part {
    let VersionReading { service, version: name, role, sent, counts, latency, .. } = version;
    let key = ("version", service, name, role.as_str(), sent);
    Part::new(key, (counts, latency.sum_us()), ())
}

fn version_of(page: &mut Page<'_>, version: &VersionReading) {
    let role = match version.sent {
        Sent::ByUsers => version.role.as_str(),
        Sent::AsCopy => names::ROLE_SHADOW,
        Sent::AsLoad => names::ROLE_LOAD,
    };
    let common: [(&str, &str); 3] =
        [(label::SERVICE, &version.service), (label::VERSION, &version.version), (label::ROLE, role)];
    let with = |name: &'static str, value: &'static str| [common[0], common[1], common[2], (name, value)];
    let counts: &Counts = &version.counts;
    let outcomes =
        [("success", counts.success), ("failure", counts.failure), ("uncounted", counts.uncounted)];
    for (outcome, count) in outcomes {
        let help = "Requests by how they ended.";
        page.counter(names::REQUESTS_TOTAL, help, &with(label::OUTCOME, outcome), count);
    }
    for (class, count) in names::CLASSES.into_iter().zip(counts.classes) {
        let help = "Answers by status class; none: there was no answer.";
        page.counter(names::RESPONSES_TOTAL, help, &with(label::CLASS, class), count);
    }
    for (direction, count) in [("in", counts.bytes_in), ("out", counts.bytes_out)] {
        let help = "Body bytes from clients (in) and to them (out).";
        page.counter(names::BYTES_TOTAL, help, &with(label::DIRECTION, direction), count);
    }
    page.gauge(names::REQUESTS_IN_FLIGHT, "Requests under way.", &common, counts.in_flight as f64);
    page.counter(names::RETRIES_TOTAL, "Attempts beyond the first.", &common, counts.retries);
    for ((result, _), count) in Attempt::ALL.into_iter().zip(counts.attempts) {
        let help = "Attempts to get an answer, by how they ended; a request may need several.";
        page.counter(names::UPSTREAM_ATTEMPTS_TOTAL, help, &with(label::RESULT, result), count);
    }
    let saved = "Requests that a retry policy has saved.";
    page.counter(names::RETRY_SUCCESS_TOTAL, saved, &common, counts.retry_success);
    let exhausted = "Requests that failed after all the retries that their policy allows.";
    page.counter(names::RETRY_LIMIT_EXCEEDED_TOTAL, exhausted, &common, counts.retry_exhausted);
    let crowded = "Retries not made because too many were under way.";
    page.counter(names::RETRY_OVERFLOW_TOTAL, crowded, &common, counts.retry_overflow);
    let shielded = "Failures of a version that the primary answered instead.";
    page.counter(names::SHIELDED_TOTAL, shielded, &common, counts.shielded);
    let fallback = "Requests that another version answered, for want of a healthy endpoint.";
    page.counter(names::FALLBACK_TOTAL, fallback, &common, counts.fallback);
    let panicked = "Attempts at any endpoint, for too few were healthy.";
    page.counter(names::PANIC_TOTAL, panicked, &common, counts.panicked);
    page.counter(names::MIRRORED_TOTAL, "Requests that were copied.", &common, counts.mirrored);
    let dropped = "Copies not made or abandoned at a bound.";
    page.counter(names::MIRROR_DROPPED_TOTAL, dropped, &common, counts.mirror_dropped);
    page.histogram(
        names::REQUEST_DURATION_SECONDS,
        "Time to the last byte of counted answers.",
        &common,
        &version.latency,
        &version.exemplars,
    );
}

fn breakers_part(reading: &BreakersReading) -> Part {
    let BreakersReading { service, version, breakers } = reading;
    let bounded: Vec<&str> = breakers.iter().map(|breaker| breaker.what).collect();
    Part::new(("breakers", service, version), breakers, bounded)
}

fn breakers_of(page: &mut Page<'_>, reading: &BreakersReading) {
    for breaker in &reading.breakers {
        let labels = [
            (label::SERVICE, reading.service.as_str()),
            (label::VERSION, reading.version.as_str()),
            (label::BREAKER, breaker.what),
        ];
        let used = "How much of a bound on what is under way to a version is taken.";
        page.gauge(names::CIRCUIT_BREAKER_USED, used, &labels, f64::from(breaker.taken));
        let open = "1 while such a bound is reached.";
        let is_open = if breaker.taken >= breaker.most { 1.0 } else { 0.0 };
        page.gauge(names::CIRCUIT_BREAKER_OPEN, open, &labels, is_open);
    }
}

fn rollout_part(told: &Meters) -> Part {
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let tests: Vec<&str> = told.tests.iter().map(|test| test.test.as_str()).collect();
    let shape = (tests, told.promotion.is_some(), told.requests_needed.is_some());
    let log_e: Vec<u64> = told.tests.iter().map(|test| test.log_e.to_bits()).collect();
    let meters = [Some(told.rollback), told.promotion].map(bits);
    let state = (phase_word(told.phase), meters, told.requests_needed, log_e);
    Part::new(("rollout", &told.rollout), state, shape)
}

fn gauges_of(page: &mut Page<'_>, told: &Meters) {
    for phase in PHASES {
        let labels = [(label::ROLLOUT, told.rollout.as_str()), (label::PHASE, phase_word(phase))];
        let is_now = if phase == told.phase { 1.0 } else { 0.0 };
        page.gauge(names::ROLLOUT_PHASE, "1 for the phase that a rollout is in.", &labels, is_now);
    }
    let meters = [("rollback", Some(told.rollback)), ("promotion", told.promotion)];
    for (meter, value) in meters.into_iter().filter_map(|(meter, value)| Some((meter, value?))) {
        let labels = [(label::ROLLOUT, told.rollout.as_str()), (label::METER, meter)];
        let help =
            "How far it is shown that the canary is worse, or good enough for the next step; 1 is enough.";
        page.gauge(names::ROLLOUT_METER, help, &labels, value);
    }
    if let Some(needed) = told.requests_needed {
        let help =
            "Canary requests until it is shown that the canary is good enough, if things stay as they are.";
        let labels = [(label::ROLLOUT, told.rollout.as_str())];
        page.gauge(names::ROLLOUT_REQUESTS_NEEDED, help, &labels, needed as f64);
    }
    for test in &told.tests {
        let labels = [(label::ROLLOUT, told.rollout.as_str()), (label::TEST, test.test.as_str())];
        let help = "Natural logarithm of the odds against the canary, by test.";
        page.gauge(names::ROLLOUT_EVIDENCE, help, &labels, test.log_e);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serin_proxy::codes::CodeReading;
    use serin_proxy::histogram;
    use serin_proxy::model::Role;
    use serin_proxy::reading::BreakerReading;

    use super::*;
    use crate::config::Metrics;
    use crate::tick::view::Reloads;

    fn reading() -> Reading {
        let mut latency = histogram::Histogram::default();
        for us in [100, 1000, 1023, 1024, 90_000_000] {
            latency.record(us);
        }
        let mut codes: Vec<CodeReading> =
            [200, 503].map(|code| CodeReading { code, ..CodeReading::default() }).into();
        (codes[0].buckets[2], codes[0].sum_us, codes[1].buckets[18]) = (4, 3_147, 1);
        let version = VersionReading {
            service: "web".into(),
            version: "v\"2".into(),
            role: Role::Canary,
            sent: Sent::ByUsers,
            counts: Counts { success: 4, failure: 1, classes: [0, 0, 4, 0, 0, 1], ..Counts::default() },
            latency,
            codes: codes.clone(),
            exemplars: Vec::new(),
        };
        let shadow = VersionReading { sent: Sent::AsCopy, ..version.clone() };
        Reading { versions: [version, shadow].map(Arc::new).into(), ..Reading::default() }
    }

    fn text() -> String {
        text_of(&reading())
    }

    fn text_of(reading: &Reading) -> String {
        let reloads = Reloads { accepted: 2, rejected: 1 };
        let view = MetricsView {
            rollouts: Vec::new(),
            reloads,
            is_journal_writable: true,
            certificates: Vec::new(),
            metrics: Metrics::default(),
        };
        let mut text = Text::default();
        fill(&mut Page(&mut text), reading, &view);
        text.into_prometheus()
    }

    #[test]
    fn histogram_counts_are_exact_at_the_bounds() {
        let text = text();
        let line = |le: &str| {
            let head = format!(
                "serin_request_duration_seconds_bucket{{service=\"web\",version=\"v\\\"2\",role=\"canary\",le=\"{le}\"}} "
            );
            let found = text.lines().find_map(|line| line.strip_prefix(&head));
            found.unwrap_or_else(|| panic!("no bound {le} in\n{text}")).to_owned()
        };
        assert_eq!(line("0.000128"), "1");
        assert_eq!(line("0.000768"), "1");
        assert_eq!(line("0.001024"), "3");
        assert_eq!(line("0.001536"), "4");
        assert_eq!(line("67.108864"), "4");
        assert_eq!(line("+Inf"), "5");
    }

    #[test]
    fn families_stand_once_and_roles_are_apart() {
        let text = text();
        let heads = text.lines().filter(|line| *line == "# TYPE serin_requests_total counter").count();
        assert_eq!(heads, 1);
        for role in ["canary", "shadow"] {
            let line = format!(
                "serin_requests_total{{service=\"web\",version=\"v\\\"2\",role=\"{role}\",outcome=\"failure\"}} 1"
            );
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("serin_config_reloads_total{result=\"rejected\"} 1"), "{text}");
    }

    #[test]
    fn process_figures_are_of_this_process() {
        let text = text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 100_000.0);
        assert!(value("process_open_fds ") >= 3.0);
        let wall = crate::clock::Clock::start(crate::clock::Moment::default()).now().0 as f64 / 1000.0;
        let age = wall - value("process_start_time_seconds ");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn every_version_has_its_200_before_its_first_answer() {
        let mut reading = reading();
        reading.versions.truncate(1);
        Arc::make_mut(&mut reading.versions[0]).codes.clear();
        let text = text_of(&reading);
        for line in [
            "envoy_cluster_upstream_rq{envoy_cluster_name=\"default_web-v\\\"2_80\",kubernetes_namespace=\"default\",kubernetes_pod_name=\"web-serin-0\",envoy_response_code=\"200\"} 0\n",
            "http_request_duration_seconds_count{kubernetes_namespace=\"default\",kubernetes_pod_name=\"web-serin-0\",namespace=\"default\",app=\"web\",status=\"200\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let istio = text.lines().filter(|line| line.starts_with("istio_requests_total{")).count();
        assert_eq!(istio, 2, "one for each reporter");
    }

    #[test]
    fn others_find_a_bound_that_is_reached() {
        let mut reading = reading();
        let (service, version) = ("web".to_owned(), "v\"2".to_owned());
        let breakers = [("pending", 1, 8), ("requests", 8, 8)];
        let breakers = breakers.map(|(what, taken, most)| BreakerReading { what, taken, most }).to_vec();
        reading.breakers.push(Arc::new(BreakersReading { service, version, breakers }));
        let text = text_of(&reading);
        for line in [
            "envoy_cluster_circuit_breakers_default_rq_open{envoy_cluster_name=\"default_web-v\\\"2_80\"} 1\n",
            "envoy_cluster_circuit_breakers_default_rq_pending_open{envoy_cluster_name=\"default_web-v\\\"2_80\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    /// The page has a bound: so much for each version, however many requests.
    #[test]
    fn the_size_of_the_page_is_known() {
        let of = |versions: usize, codes: usize| {
            let mut reading = reading();
            let mut version = Arc::unwrap_or_clone(reading.versions.remove(0));
            let code = |code| CodeReading { code: 200 + code as u16, ..CodeReading::default() };
            version.codes = (0..codes).map(code).collect();
            let named = |number| {
                Arc::new(VersionReading { version: format!("version-{number:02}"), ..version.clone() })
            };
            reading.versions = (0..versions).map(named).collect();
            text_of(&reading).len() / 1024
        };
        let (one, two) = (of(1, 1), of(2, 1));
        let most = of(2, 22) - of(1, 22);
        println!("a page of one version {one} KiB, each more {} KiB, at most {most} KiB", two - one);
        assert!(one < 50 && two - one < 45 && most < 700, "{one} {two} {most}");
    }

    #[test]
    fn the_format_is_the_one_that_is_liked_best() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(preferred(prometheus), Format::Protobuf);
        assert_eq!(
            preferred("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
            Format::OpenMetrics
        );
        assert_eq!(preferred("text/plain, application/openmetrics-text;q=0.5"), Format::Prometheus);
        assert_eq!(preferred(""), Format::Prometheus);
        assert_eq!(preferred("text/html"), Format::Prometheus);
    }
}
