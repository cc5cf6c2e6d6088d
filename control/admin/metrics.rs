//! Prometheus text from the proxy's counters and the state of the rollouts.
//!
//! The counters are the proxy's own; here they only get names. Histograms are
//! shown with far fewer bounds than they are kept with, each a true edge of a
//! fine bucket, so that no count is a guess.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};
use serin_proxy::Reading;
use serin_proxy::histogram::{self, index};
use serin_proxy::reading::{Attempt, BreakerReading, Counts, VersionReading};
use serin_proxy::weights::percent;

use super::{Admin, Refused};
use crate::certificates::Certificate;
use crate::names;
use crate::names::label;
use crate::rollout::Status;
use crate::tick::ask::Ask;
use crate::tick::view::{MetricsView, PHASES, phase_word};

mod endpoints;
mod health;
mod process;

/// Metrics in Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "process",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)),
)]
pub async fn metrics(State(admin): State<Admin>) -> Result<Response, Refused> {
    let (reading, view) = admin.desk.ask(|reply| Ask::Metrics { reply }).await?;
    let text = render(&reading, &view).map_err(|cause| {
        Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {cause}"))
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// The same under the path that Envoy has them.
#[utoipa::path(
    get, path = "/stats/prometheus", tag = "process",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)),
)]
pub async fn stats_prometheus(state: State<Admin>) -> Result<Response, Refused> {
    metrics(state).await
}

pub fn render(reading: &Reading, view: &MetricsView) -> prometheus::Result<String> {
    let mut page = Page::default();
    for version in reading.versions.iter().filter(|version| !is_unused_shadow(version)) {
        version_of(&mut page, version);
    }
    for split in &reading.splits {
        for (version, parts) in split.weights.iter() {
            let labels = [(label::SPLIT, split.split.as_str()), (label::VERSION, version)];
            page.gauge(
                names::WEIGHT_PERCENT,
                "Share of a split that new requests get.",
                &labels,
                percent(parts),
            );
        }
    }
    for endpoints in &reading.endpoints {
        endpoints::of(&mut page, endpoints);
    }
    for version in &reading.health {
        health::of_version(&mut page, version);
    }
    for breaker in &reading.breakers {
        breaker_of(&mut page, breaker);
    }
    for status in &view.rollouts {
        rollout_of(&mut page, status);
    }
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
    for certificate in &view.certificates {
        certificate_of(&mut page, certificate);
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
    process::read(&mut page);
    let families: Vec<MetricFamily> = page.families.into_values().collect();
    TextEncoder::new().encode_to_string(&families)
}

fn certificate_of(page: &mut Page, certificate: &Certificate) {
    let labels = [
        (label::PLACE, certificate.place.as_str()),
        (label::PART, certificate.part),
        (label::SUBJECT, &certificate.subject),
        (label::SERIAL, &certificate.serial),
    ];
    let help = "When a certificate in use expires, since the Unix epoch.";
    page.gauge(names::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS, help, &labels, certificate.not_after as f64);
}

/// Every version could be mirrored to, few are.
fn is_unused_shadow(version: &VersionReading) -> bool {
    version.shadow && version.counts == Counts::default()
}

fn version_of(page: &mut Page, version: &VersionReading) {
    let role = if version.shadow { names::ROLE_SHADOW } else { version.role.as_str() };
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
    );
}

fn breaker_of(page: &mut Page, breaker: &BreakerReading) {
    let labels = [
        (label::SERVICE, breaker.service.as_str()),
        (label::VERSION, breaker.version.as_str()),
        (label::BREAKER, breaker.what),
    ];
    let used = "How much of a bound on what is under way to a version is taken.";
    page.gauge(names::CIRCUIT_BREAKER_USED, used, &labels, breaker.taken as f64);
    let open = "1 while such a bound is reached.";
    let is_open = if breaker.taken >= breaker.most { 1.0 } else { 0.0 };
    page.gauge(names::CIRCUIT_BREAKER_OPEN, open, &labels, is_open);
}

fn rollout_of(page: &mut Page, status: &Status) {
    for phase in PHASES {
        let labels = [(label::ROLLOUT, status.name.as_str()), (label::PHASE, phase_word(phase))];
        let is_now = if phase == status.phase { 1.0 } else { 0.0 };
        page.gauge(names::ROLLOUT_PHASE, "1 for the phase that a rollout is in.", &labels, is_now);
    }
    let meters = [("rollback", Some(status.rollback_meter)), ("promotion", status.promotion_meter)];
    for (meter, value) in meters.into_iter().filter_map(|(meter, value)| Some((meter, value?))) {
        let labels = [(label::ROLLOUT, status.name.as_str()), (label::METER, meter)];
        let help =
            "How far it is shown that the canary is worse, or good enough for the next step; 1 is enough.";
        page.gauge(names::ROLLOUT_METER, help, &labels, value);
    }
    if let Some(needed) = status.requests_needed {
        let help =
            "Canary requests until it is shown that the canary is good enough, if things stay as they are.";
        let labels = [(label::ROLLOUT, status.name.as_str())];
        page.gauge(names::ROLLOUT_REQUESTS_NEEDED, help, &labels, needed as f64);
    }
    for test in &status.tests {
        let labels = [(label::ROLLOUT, status.name.as_str()), (label::TEST, test.test.as_str())];
        let help = "Natural logarithm of the odds against the canary, by test.";
        page.gauge(names::ROLLOUT_EVIDENCE, help, &labels, test.log_e);
    }
}

/// Bounds in microseconds: every doubling and the middle between two, from 128 us
/// to 67 s. All are edges of fine buckets; those are exclusive above, `le` is
/// inclusive, and a duration is whole microseconds rounded down, so the two differ
/// by less than a microsecond.
fn bounds_us() -> impl Iterator<Item = u64> {
    (7..26).flat_map(|doubling| [1 << doubling, 3 << (doubling - 1)]).chain([1 << 26])
}

/// Families by name, so that each appears once.
#[derive(Default)]
struct Page {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Page {
    fn counter(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.counter_seconds(name, help, labels, value as f64);
    }

    fn counter_seconds(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_counter(counter);
        self.add(name, help, MetricType::COUNTER, metric);
    }

    fn gauge(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_gauge(gauge);
        self.add(name, help, MetricType::GAUGE, metric);
    }

    fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        kept: &histogram::Histogram,
    ) {
        let counts = kept.counts();
        let (mut below, mut next) = (0, 0);
        let mut buckets = Vec::new();
        for bound_us in bounds_us() {
            let edge = index(bound_us);
            below += counts[next..edge].iter().sum::<u64>();
            next = edge;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound_us as f64 / 1e6);
            bucket.set_cumulative_count(below);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(kept.count());
        histogram.set_sample_sum(kept.sum_us() as f64 / 1e6);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.add(name, help, MetricType::HISTOGRAM, metric);
    }

    fn add(&mut self, name: &'static str, help: &str, kind: MetricType, metric: Metric) {
        let family = self.families.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        family.mut_metric().push(metric);
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serin_proxy::histogram::lower_us;
    use serin_proxy::model::Role;

    use super::*;
    use crate::tick::view::Reloads;

    fn reading() -> Reading {
        let mut latency = histogram::Histogram::default();
        for us in [100, 1000, 1023, 1024, 90_000_000] {
            latency.record(us);
        }
        let version = VersionReading {
            service: "web".into(),
            version: "v\"2".into(),
            role: Role::Canary,
            shadow: false,
            counts: Counts { success: 4, failure: 1, classes: [0, 0, 4, 0, 0, 1], ..Counts::default() },
            latency,
        };
        let shadow = VersionReading { shadow: true, ..version.clone() };
        Reading { versions: vec![version, shadow], ..Reading::default() }
    }

    fn text() -> String {
        let reloads = Reloads { accepted: 2, rejected: 1 };
        let view = MetricsView {
            rollouts: Vec::new(),
            reloads,
            is_journal_writable: true,
            certificates: Vec::new(),
        };
        render(&reading(), &view).unwrap()
    }

    #[test]
    fn every_bound_is_an_edge_of_a_fine_bucket_and_they_grow() {
        let bounds: Vec<u64> = bounds_us().collect();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        assert!(bounds.iter().all(|us| lower_us(index(*us)) == *us), "{bounds:?}");
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
}
