//! Which metrics there are, and what is kept of their past.

use std::time::Duration;

use crate::config::fields::{Fields, Spot};
use crate::config::loaded::{Dialect, Metrics};

use super::units;

const FIELDS: [&str; 5] = ["families", "namespace", "cluster", "history", "memory"];
const DIALECTS: [(&str, Dialect); 7] = [
    ("istio", Dialect::Istio),
    ("envoy", Dialect::Envoy),
    ("http", Dialect::Http),
    ("nginx", Dialect::Nginx),
    ("osm", Dialect::Osm),
    ("linkerd", Dialect::Linkerd),
    ("traefik", Dialect::Traefik),
];
const LEAST_MEMORY: usize = 1 << 20;
const MOST_HISTORY: Duration = Duration::from_secs(7 * 24 * 3600);

pub fn read(document: &Fields) -> Metrics {
    let mut metrics = Metrics::default();
    let Some(fields) = document.get("metrics").and_then(|spot| spot.fields(&FIELDS)) else {
        return metrics;
    };
    if let Some(spot) = fields.get("families") {
        metrics.dialects = dialects(&spot);
    }
    if let Some(namespace) = fields.get("namespace").and_then(|spot| spot.parsed(units::name)) {
        metrics.namespace = namespace;
    }
    if let Some(cluster) = fields.get("cluster").and_then(|spot| spot.parsed(cluster)) {
        metrics.cluster = cluster;
    }
    if let Some(spot) = fields.get("history")
        && let Some(history) = spot.parsed(units::duration)
    {
        if history > MOST_HISTORY {
            spot.error("must be at most 7d");
        }
        metrics.history = history;
    }
    if let Some(spot) = fields.get("memory")
        && let Some(bytes) = spot.parsed(units::size)
    {
        if bytes < LEAST_MEMORY {
            spot.error("must be at least 1MiB");
        }
        metrics.memory_bytes = bytes;
    }
    metrics
}

/// An empty list is meant: our own words alone.
fn dialects(spot: &Spot) -> Vec<Dialect> {
    if spot.is_empty_list() {
        return Vec::new();
    }
    let mut dialects: Vec<Dialect> =
        spot.one_or_more().iter().filter_map(|spot| spot.word(&DIALECTS)).collect();
    dialects.sort_unstable();
    dialects.dedup();
    dialects
}

fn cluster(text: &str) -> Result<String, String> {
    let bare = text.replace("{namespace}", "").replace("{service}", "").replace("{version}", "");
    if bare.contains(['{', '}']) {
        return Err(format!(
            "may hold {{namespace}}, {{service}} and {{version}}, and no other braces: {text:?}"
        ));
    }
    match text.contains("{service}") && text.contains("{version}") {
        true => Ok(text.to_owned()),
        false => Err("must hold {service} and {version}, or clusters could not be told apart".to_owned()),
    }
}
