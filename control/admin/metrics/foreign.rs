//! The words of others: what Istio, Envoy and the libraries of Prometheus call
//! the same counts, so that queries written for them find what they look for.
//!
//! The canary of a service is the workload of the service's name, its primary
//! that name with `-primary`, as Flagger calls them. Mirrored copies count with
//! the rest, as they do there; our own load does not. Every version has its 200 from the start: a ratio
//! over nothing but failures is 0 and not missing.
//!
//! What serin does not know is left out: bytes by code, Istio's principals and
//! clusters, flags of answers. So are labels that say again what others say, such as
//! Istio's canonical names: each would make the page a few percent longer. A label
//! that is missing is empty to a query.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serin_proxy::Reading;
use serin_proxy::codes::{self, CodeReading};
use serin_proxy::model::Role;
use serin_proxy::reading::{Attempt, BreakerReading, Counts, EndpointsReading, Sent};

use super::page::{Page, Shown, Unit, address, digest};
use crate::config::{Dialect, Metrics};
use crate::names::foreign;

/// One version, all its roles together, by the names that others give it.
struct Workload<'r> {
    service: &'r str,
    version: &'r str,
    workload: String,
    pod: String,
    is_canary: bool,
    codes: Vec<CodeReading>,
    counts: Counts,
}

impl Workload<'_> {
    /// What tells its labels from those of others in this dialect, and nothing else.
    fn key(&self, dialect: Dialect, metrics: &Metrics) -> u64 {
        let (namespace, workload) = (&metrics.namespace, &self.workload);
        match dialect {
            Dialect::Istio => digest(("istio", namespace, workload, self.service, self.version)),
            Dialect::Envoy => {
                let named = (self.service, self.version, &metrics.cluster);
                digest(("envoy", namespace, &self.pod, named))
            }
            Dialect::Nginx => digest(("nginx", namespace, workload, self.service, self.is_canary)),
            Dialect::Traefik => digest(("traefik", namespace, self.service, self.version)),
            Dialect::Http => digest(("http", namespace, workload)),
            Dialect::Osm => digest(("osm", namespace, workload)),
            Dialect::Linkerd => digest(("linkerd", namespace, workload)),
        }
    }

    fn cluster(&self, metrics: &Metrics) -> String {
        metrics
            .cluster
            .replace("{namespace}", &metrics.namespace)
            .replace("{service}", self.service)
            .replace("{version}", self.version)
    }
}

/// What else is known of a version.
#[derive(Clone, Copy, Default)]
struct Cluster<'r> {
    members: Option<&'r EndpointsReading>,
    breakers: &'r [BreakerReading],
}

pub fn of(page: &mut Page<'_>, reading: &Reading, metrics: &Metrics) {
    if metrics.dialects.is_empty() {
        return;
    }
    if page.rests(place(reading, metrics)) {
        return;
    }
    let workloads = workloads(reading);
    let mut clusters: HashMap<(&str, &str), Cluster<'_>> = HashMap::new();
    for endpoints in &reading.endpoints {
        clusters.entry((&endpoints.service, &endpoints.version)).or_default().members = Some(endpoints);
    }
    for bounds in &reading.breakers {
        clusters.entry((&bounds.service, &bounds.version)).or_default().breakers = &bounds.breakers;
    }
    for workload in &workloads {
        let cluster = clusters.get(&(workload.service, workload.version)).copied().unwrap_or_default();
        let counted = digest((&workload.codes, &workload.counts));
        let codes = digest(workload.codes.iter().map(|code| code.code).collect::<Vec<u16>>());
        for dialect in &metrics.dialects {
            let cluster = if *dialect == Dialect::Envoy { cluster } else { Cluster::default() };
            let members = cluster.members.map(|members| (members.total, members.healthy));
            let bounded: Vec<&str> = cluster.breakers.iter().map(|breaker| breaker.what).collect();
            let shape = (codes, members.is_some(), bounded);
            if page.part(workload.key(*dialect, metrics), (counted, members, cluster.breakers), shape) {
                told(page, *dialect, workload, metrics, cluster);
            }
        }
    }
}

/// Where all that this is made of stands.
fn place(reading: &Reading, metrics: &Metrics) -> u64 {
    let versions: Vec<u64> = reading.versions.iter().map(address).collect();
    let endpoints: Vec<u64> = reading.endpoints.iter().map(address).collect();
    let breakers: Vec<u64> = reading.breakers.iter().map(address).collect();
    let Metrics { namespace, cluster, dialects, .. } = metrics;
    digest((versions, endpoints, breakers, namespace, cluster, dialects))
}

fn told(
    page: &mut Page<'_>,
    dialect: Dialect,
    workload: &Workload<'_>,
    metrics: &Metrics,
    cluster: Cluster<'_>,
) {
    match dialect {
        Dialect::Istio => istio(page, workload, metrics),
        Dialect::Envoy => {
            envoy(page, workload, metrics);
            envoy_cluster(page, workload, metrics, cluster);
        }
        Dialect::Http => http(page, workload, metrics),
        Dialect::Nginx => nginx(page, workload, metrics),
        Dialect::Osm => osm(page, workload, metrics),
        Dialect::Linkerd => linkerd(page, workload, metrics),
        Dialect::Traefik => traefik(page, workload, metrics),
    }
}

fn workloads(reading: &Reading) -> Vec<Workload<'_>> {
    let mut workloads: BTreeMap<(&str, &str), Workload<'_>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for version in reading.versions.iter().filter(|version| version.sent != Sent::AsLoad) {
        let (service, name) = (version.service.as_str(), version.version.as_str());
        let place = workloads.entry((service, name)).or_insert_with(|| {
            let own = format!("{service}-{name}");
            let by_role = match version.role {
                Role::Canary => service.to_owned(),
                Role::Primary => format!("{service}-primary"),
                Role::Other => own.clone(),
            };
            // Where there are several of a role, the first has the name.
            let workload = if taken.insert(by_role.clone()) { by_role } else { own };
            Workload {
                service,
                version: name,
                // Two segments after the workload, as a pod of a deployment has.
                pod: format!("{workload}-serin-0"),
                workload,
                is_canary: version.role == Role::Canary,
                codes: vec![CodeReading { code: 200, ..CodeReading::default() }],
                counts: Counts::default(),
            }
        });
        place.counts.add(&version.counts);
        for code in &version.codes {
            codes::add(&mut place.codes, code);
        }
    }
    workloads.into_values().collect()
}

fn istio(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    let namespace = metrics.namespace.as_str();
    let host = format!("{}.{namespace}.svc.cluster.local", workload.service);
    for (reporter, security) in [("destination", "none"), ("source", "unknown")] {
        for code in &workload.codes {
            let text = code.code.to_string();
            let labels = [
                ("reporter", reporter),
                ("source_workload", "serin"),
                ("source_workload_namespace", namespace),
                ("destination_workload", workload.workload.as_str()),
                ("destination_workload_namespace", namespace),
                ("destination_app", workload.service),
                ("destination_version", workload.version),
                ("destination_service", host.as_str()),
                ("destination_service_name", workload.service),
                ("destination_service_namespace", namespace),
                ("request_protocol", "http"),
                ("response_code", text.as_str()),
                ("response_flags", "-"),
                ("connection_security_policy", security),
            ];
            let help = "Requests by the code of their answers, as Istio counts them.";
            page.counter(foreign::ISTIO_REQUESTS_TOTAL, help, &labels, code.count());
            let help = "Time to the last byte of answers, as Istio measures it.";
            let shown = Shown::of_codes([code].into_iter(), Unit::Milliseconds);
            page.shown(foreign::ISTIO_REQUEST_DURATION_MILLISECONDS, help, &labels, &shown);
        }
    }
}

fn envoy(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    let cluster = workload.cluster(metrics);
    let common = [
        ("envoy_cluster_name", cluster.as_str()),
        ("kubernetes_namespace", metrics.namespace.as_str()),
        ("kubernetes_pod_name", workload.pod.as_str()),
    ];
    let answered = || workload.codes.iter().filter(|code| code.code != 0);
    let mut classes: BTreeMap<u16, u64> = BTreeMap::new();
    for code in answered() {
        *classes.entry(code.code / 100).or_default() += code.count();
        let help = "Answered requests by code, as Envoy counts them.";
        let text = code.code.to_string();
        let labels = [common[0], common[1], common[2], ("envoy_response_code", text.as_str())];
        page.counter(foreign::ENVOY_CLUSTER_UPSTREAM_RQ, help, &labels, code.count());
    }
    for (class, count) in classes {
        let help = "Answered requests by class, as Envoy counts them.";
        let text = class.to_string();
        let labels = [common[0], common[1], common[2], ("envoy_response_code_class", text.as_str())];
        page.counter(foreign::ENVOY_CLUSTER_UPSTREAM_RQ_XX, help, &labels, count);
    }
    let help = "Time to the last byte of answers in milliseconds, as Envoy measures it.";
    let shown = Shown::of_codes(answered(), Unit::Milliseconds);
    page.shown(foreign::ENVOY_CLUSTER_UPSTREAM_RQ_TIME, help, &common, &shown);
    let counts = &workload.counts;
    let attempts = |which: Attempt| counts.attempts[which as usize];
    let all = counts.attempts.iter().sum();
    for (name, count) in [
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_COMPLETED, answered().map(CodeReading::count).sum()),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL, all),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_TIMEOUT, attempts(Attempt::Timeout)),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT, attempts(Attempt::TryTimeout)),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_RX_RESET, attempts(Attempt::Reset)),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW, attempts(Attempt::Overflow)),
        (foreign::ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_FAIL, attempts(Attempt::ConnectFailure)),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY, counts.retries),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS, counts.retry_success),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED, counts.retry_exhausted),
        (foreign::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW, counts.retry_overflow),
    ] {
        page.counter(name, "Of a cluster, as Envoy counts it.", &common, count);
    }
    let active = counts.in_flight as f64;
    page.gauge(
        foreign::ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE,
        "Requests under way, as Envoy counts them.",
        &common,
        active,
    );
}

fn envoy_cluster(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics, of: Cluster<'_>) {
    let cluster = workload.cluster(metrics);
    let labels = [("envoy_cluster_name", cluster.as_str())];
    for breaker in of.breakers {
        let name = match breaker.what {
            "connections" => foreign::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_CX_OPEN,
            "pending" => foreign::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN,
            "requests" => foreign::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN,
            _ => foreign::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN,
        };
        let is_open = if breaker.taken >= breaker.most { 1.0 } else { 0.0 };
        page.gauge(name, "1 while a bound is reached, as Envoy tells it.", &labels, is_open);
    }
    let Some(endpoints) = of.members else { return };
    for (name, count) in [
        (foreign::ENVOY_CLUSTER_MEMBERSHIP_TOTAL, endpoints.total),
        (foreign::ENVOY_CLUSTER_MEMBERSHIP_HEALTHY, endpoints.healthy),
    ] {
        page.gauge(name, "Endpoints of a cluster, as Envoy counts them.", &labels, count as f64);
    }
}

fn http(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    for code in &workload.codes {
        let text = code.code.to_string();
        let labels = [
            ("kubernetes_namespace", metrics.namespace.as_str()),
            ("kubernetes_pod_name", workload.pod.as_str()),
            ("namespace", metrics.namespace.as_str()),
            ("app", workload.workload.as_str()),
            ("status", text.as_str()),
        ];
        let help = "Time to the last byte of answers, as an instrumented server would tell it.";
        let shown = Shown::of_codes([code].into_iter(), Unit::Seconds);
        page.shown(foreign::HTTP_REQUEST_DURATION_SECONDS, help, &labels, &shown);
    }
}

fn nginx(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    let namespace = metrics.namespace.as_str();
    let canary = match workload.is_canary {
        true => format!("{namespace}-{}-canary-80", workload.service),
        false => String::new(),
    };
    for code in &workload.codes {
        let text = code.code.to_string();
        let labels = [
            ("namespace", namespace),
            ("ingress", workload.service),
            ("service", workload.workload.as_str()),
            ("canary", canary.as_str()),
            ("status", text.as_str()),
        ];
        let help = "Requests by code, as the nginx ingress counts them.";
        page.counter(foreign::NGINX_INGRESS_CONTROLLER_REQUESTS, help, &labels, code.count());
        let help = "Time to the last byte of answers, as the nginx ingress measures it.";
        let shown = Shown::of_codes([code].into_iter(), Unit::Seconds);
        page.shown(foreign::NGINX_INGRESS_CONTROLLER_RESPONSE_DURATION_SECONDS, help, &labels, &shown);
    }
}

fn osm(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    let common = [
        ("destination_namespace", metrics.namespace.as_str()),
        ("destination_kind", "Deployment"),
        ("destination_name", workload.workload.as_str()),
    ];
    for code in &workload.codes {
        let text = code.code.to_string();
        let labels = [common[0], common[1], common[2], ("response_code", text.as_str())];
        let help = "Requests by code, as Open Service Mesh counts them.";
        page.counter(foreign::OSM_REQUEST_TOTAL, help, &labels, code.count());
    }
    let help = "Time to the last byte of answers, as Open Service Mesh measures it.";
    let shown = Shown::of_codes(workload.codes.iter(), Unit::Milliseconds);
    page.shown(foreign::OSM_REQUEST_DURATION_MS, help, &common, &shown);
}

fn linkerd(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    for code in &workload.codes {
        let text = code.code.to_string();
        let classification = if code.code >= 500 { "failure" } else { "success" };
        let labels = [
            ("namespace", metrics.namespace.as_str()),
            ("deployment", workload.workload.as_str()),
            ("direction", "inbound"),
            ("classification", classification),
            ("status_code", text.as_str()),
        ];
        let help = "Answers by class, as Linkerd counts them.";
        page.counter(foreign::RESPONSE_TOTAL, help, &labels, code.count());
        let help = "Time to the last byte of answers, as Linkerd measures it.";
        let shown = Shown::of_codes([code].into_iter(), Unit::Milliseconds);
        page.shown(foreign::RESPONSE_LATENCY_MS, help, &labels, &shown);
    }
}

fn traefik(page: &mut Page<'_>, workload: &Workload<'_>, metrics: &Metrics) {
    let (namespace, service) = (&metrics.namespace, workload.service);
    let name = format!("{namespace}-{service}-{}-80@kubernetescrd", workload.version);
    for code in &workload.codes {
        let text = code.code.to_string();
        let labels = [("service", name.as_str()), ("code", text.as_str()), ("protocol", "http")];
        let help = "Time to the last byte of answers, as Traefik measures it.";
        let shown = Shown::of_codes([code].into_iter(), Unit::Seconds);
        page.shown(foreign::TRAEFIK_SERVICE_REQUEST_DURATION_SECONDS, help, &labels, &shown);
    }
}
