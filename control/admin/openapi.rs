//! The description of the admin API, generated from its handlers.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use utoipa::OpenApi;

use super::{
    Admin, Refused, alerts, clusters, differences, drain, events, gates, inspect, metrics, prometheus,
    providers, rollouts,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "serin",
        description = "Admin API of serin, a traffic-splitting proxy with canary analysis"
    ),
    paths(
        inspect::ready,
        inspect::server_info,
        inspect::config_dump,
        inspect::certificates,
        inspect::reload,
        drain::drain_listeners,
        metrics::metrics,
        metrics::stats_prometheus,
        rollouts::list,
        rollouts::show,
        rollouts::command,
        rollouts::splits,
        rollouts::weights,
        clusters::clusters,
        differences::differences,
        events::events,
        prometheus::query,
        prometheus::query_range,
        prometheus::series,
        prometheus::labels,
        prometheus::values,
        prometheus::metadata,
        prometheus::buildinfo,
        prometheus::tsdb,
        prometheus::exemplars,
        prometheus::rules,
        prometheus::alerts,
        prometheus::federate,
        prometheus::healthy,
        events::history,
        gates::approve,
        gates::halt,
        gates::check,
        gates::open,
        gates::close,
        gates::rollback_check,
        gates::rollback_open,
        gates::rollback_close,
        alerts::test,
        alerts::dead_letters,
        alerts::resend,
        providers::query,
        document,
    )
)]
struct Api;

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "process",
    responses((status = 200, content_type = "application/json", body = Object)),
)]
pub async fn document(State(admin): State<Admin>) -> Result<Response, Refused> {
    admin.page(|_| Json(Api::openapi())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_names_every_path_of_the_router() {
        let source = include_str!("../admin.rs");
        let routed: Vec<&str> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once('"'))
            .map(|(path, _)| path)
            .collect();
        let document = Api::openapi();
        let mut described: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
        let mut routed_sorted = routed.clone();
        routed_sorted.sort_unstable();
        described.sort_unstable();
        assert!(routed.len() > 10, "the router is not read");
        assert_eq!(described, routed_sorted);
        assert_eq!(document.info.title, "serin");
    }
}
