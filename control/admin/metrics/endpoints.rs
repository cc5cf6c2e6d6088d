//! Who could answer for each version, and how their names are resolved.

use std::sync::Arc;

use serin_proxy::reading::EndpointsReading;

use super::page::{Page, Part};
use crate::names;
use crate::names::label;

pub fn of(page: &mut Page<'_>, reading: &Arc<EndpointsReading>) {
    if page.thing(reading, part) {
        counts_of(page, reading);
    }
}

fn part(reading: &EndpointsReading) -> Part {
    let EndpointsReading { service, version, total, healthy, changes, resolved, failed, .. } = reading;
    let state = (total, healthy, changes, resolved, failed, reading.unresolved.len());
    Part::new(("endpoints", service, version), state, reading.has_names)
}

fn counts_of(page: &mut Page<'_>, reading: &EndpointsReading) {
    let common: [(&str, &str); 2] = [(label::SERVICE, &reading.service), (label::VERSION, &reading.version)];
    let with = |name: &'static str, value: &'static str| [common[0], common[1], (name, value)];
    for (health, count) in [("healthy", reading.healthy), ("unhealthy", reading.total - reading.healthy)] {
        let help = "Endpoints of a version by whether they may be asked.";
        page.gauge(names::ENDPOINTS, help, &with(label::HEALTH, health), count as f64);
    }
    let help = "How often an endpoint of a version came or went.";
    page.counter(names::ENDPOINT_CHANGES_TOTAL, help, &common, reading.changes);
    if !reading.has_names {
        return;
    }
    for (result, count) in [("answered", reading.resolved), ("failed", reading.failed)] {
        let help = "Questions to DNS for the names of endpoints.";
        page.counter(names::DNS_RESOLUTIONS_TOTAL, help, &with(label::RESULT, result), count);
    }
    let help = "Names of endpoints whose latest question was not answered.";
    page.gauge(names::DNS_UNRESOLVED_NAMES, help, &common, reading.unresolved.len() as f64);
}
