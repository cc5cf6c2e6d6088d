//! How endpoints fare: health, checks, ejections, and attempts by how they ended.

use std::sync::Arc;

use serin_proxy::reading::{EndpointReading, HealthReading};

use super::page::{Page, Part};
use crate::names;
use crate::names::label;

pub fn of_version(page: &mut Page<'_>, health: &Arc<HealthReading>) {
    if page.thing(health, part) {
        fare_of(page, health);
    }
}

fn part(health: &HealthReading) -> Part {
    let HealthReading { service, version, panics, checks, ejections, endpoints, .. } = health;
    let of = |endpoint: &EndpointReading| {
        let EndpointReading { healthy, success, error, unreached, late, .. } = *endpoint;
        (healthy, success, error, unreached, late)
    };
    let states: Vec<_> = endpoints.iter().map(of).collect();
    let results: Vec<&str> = checks.iter().map(|(result, _)| result.as_str()).collect();
    let causes: Vec<_> = ejections.iter().map(|(cause, result, _)| (cause, result)).collect();
    let addresses: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
    let state = (panics, checks, ejections, states);
    Part::new(("health", service, version), state, (results, causes, addresses))
}

fn fare_of(page: &mut Page<'_>, health: &HealthReading) {
    let version = [(label::SERVICE, health.service.as_str()), (label::VERSION, health.version.as_str())];
    let panics = if health.panics { 1.0 } else { 0.0 };
    let help = "1 where so few endpoints are healthy that all are asked.";
    page.gauge(names::PANIC, help, &version, panics);
    for (result, count) in &health.checks {
        let help = "Active health checks by how they ended.";
        page.counter(
            names::HEALTH_CHECKS_TOTAL,
            help,
            &[version[0], version[1], (label::RESULT, result.as_str())],
            *count,
        );
    }
    for (cause, result, count) in &health.ejections {
        let labels =
            [version[0], version[1], (label::CAUSE, cause.as_str()), (label::RESULT, result.as_str())];
        page.counter(names::OUTLIERS_TOTAL, "Outliers found, and what was done about them.", &labels, *count);
    }
    for endpoint in &health.endpoints {
        of_endpoint(page, &version, endpoint);
    }
}

fn of_endpoint(page: &mut Page<'_>, version: &[(&'static str, &str); 2], endpoint: &EndpointReading) {
    let labels = [version[0], version[1], (label::ENDPOINT, endpoint.address.as_str())];
    let healthy = if endpoint.healthy { 1.0 } else { 0.0 };
    page.gauge(names::ENDPOINT_HEALTHY, "1 for an endpoint that gets requests.", &labels, healthy);
    for (outcome, count) in [
        ("success", endpoint.success),
        ("error", endpoint.error),
        ("unreached", endpoint.unreached),
        ("late", endpoint.late),
    ] {
        let labels = [labels[0], labels[1], labels[2], (label::OUTCOME, outcome)];
        page.counter(names::ATTEMPTS_TOTAL, "Attempts at an endpoint by how they ended.", &labels, count);
    }
}
