//! The endpoints of every version as `/clusters` of Envoy shows them, in text for
//! people and scripts that know it, and as JSON.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serin_proxy::reading::{EndpointReading, HealthReading};
use utoipa::ToSchema;

use super::{Admin, Refused};
use crate::tick::ask::Ask;

#[derive(Deserialize)]
pub struct Form {
    format: Option<String>,
}

/// One version and its endpoints.
#[derive(Serialize, ToSchema)]
pub struct Cluster {
    pub service: String,
    pub version: String,
    /// So few are healthy that all are asked.
    pub panics: bool,
    pub endpoints: Vec<EndpointView>,
}

#[derive(Serialize, ToSchema)]
pub struct EndpointView {
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    pub weight: u32,
    pub priority: u32,
    pub healthy: bool,
    /// What is held against it: `failed_active_hc`, `failed_outlier_check`,
    /// `pending_active_hc`, `active_hc_timeout`, `draining`.
    pub health_flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<String>,
    /// Attempts answered with less than 500.
    pub success: u64,
    /// Answered with 500 or above.
    pub error: u64,
    /// The endpoint could not be reached, or broke the connection.
    pub unreached: u64,
    /// No answer in time.
    pub late: u64,
    pub ejections: u64,
    /// In percent, over the last interval with enough requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
}

/// Every version's endpoints, their health and what they answered.
#[utoipa::path(
    get, path = "/clusters", tag = "process",
    params(("format" = Option<String>, Query, description = "`json`; otherwise lines of text")),
    responses((status = 200, content(
        (String = "text/plain"),
        (Vec<Cluster> = "application/json"),
    ))),
)]
pub async fn clusters(State(admin): State<Admin>, Query(form): Query<Form>) -> Result<Response, Refused> {
    let health = admin.desk.ask(|reply| Ask::Health { reply }).await?;
    let as_json = form.format.as_deref() == Some("json");
    let page = move |_: &Admin| {
        if as_json {
            return Json(health.iter().map(|health| Cluster::of(health)).collect::<Vec<_>>()).into_response();
        }
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text(&health)).into_response()
    };
    admin.page(page).await
}

impl Cluster {
    fn of(health: &HealthReading) -> Cluster {
        Cluster {
            service: health.service.clone(),
            version: health.version.clone(),
            panics: health.panics,
            endpoints: health.endpoints.iter().map(EndpointView::of).collect(),
        }
    }
}

impl EndpointView {
    fn of(endpoint: &EndpointReading) -> EndpointView {
        EndpointView {
            address: endpoint.address.clone(),
            hostname: endpoint.hostname.clone(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            healthy: endpoint.healthy,
            health_flags: endpoint.flags.clone(),
            last_check: endpoint.last_check.clone(),
            success: endpoint.success,
            error: endpoint.error,
            unreached: endpoint.unreached,
            late: endpoint.late,
            ejections: endpoint.ejections,
            success_rate: endpoint.success_rate,
        }
    }
}

/// `<service>/<version>::<address>::<field>::<value>`, Envoy's fields by its names.
fn text(health: &[Arc<HealthReading>]) -> String {
    let mut out = String::new();
    for version in health {
        for endpoint in &version.endpoints {
            let failures = endpoint.failures();
            let flags = match endpoint.flags.as_slice() {
                [] => "healthy".to_owned(),
                flags => flags.iter().map(|flag| format!("/{flag}")).collect(),
            };
            let rate = endpoint.success_rate.map_or_else(|| "-1".to_owned(), |rate| rate.to_string());
            let fields = [
                ("rq_error", failures.to_string()),
                ("rq_success", endpoint.success.to_string()),
                ("rq_timeout", endpoint.late.to_string()),
                ("rq_total", (endpoint.success + failures).to_string()),
                ("hostname", endpoint.hostname.clone().unwrap_or_default()),
                ("health_flags", flags),
                ("weight", endpoint.weight.to_string()),
                ("priority", endpoint.priority.to_string()),
                ("success_rate", rate),
            ];
            for (field, value) in fields {
                let HealthReading { service, version, .. } = &**version;
                writeln!(out, "{service}/{version}::{}::{field}::{value}", endpoint.address)
                    .expect("strings take all");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_envoys() {
        let endpoint = EndpointReading {
            address: "127.0.0.1:1".into(),
            hostname: None,
            weight: 1,
            priority: 0,
            healthy: false,
            flags: vec!["failed_active_hc".into(), "active_hc_timeout".into()],
            success: 5,
            error: 2,
            unreached: 1,
            late: 1,
            ejections: 0,
            success_rate: None,
            last_check: None,
        };
        let health = HealthReading {
            service: "web".into(),
            version: "canary".into(),
            panics: false,
            down: true,
            checks: Vec::new(),
            ejections: Vec::new(),
            endpoints: vec![endpoint],
        };
        let text = text(&[health.into()]);
        for line in [
            "web/canary::127.0.0.1:1::health_flags::/failed_active_hc/active_hc_timeout",
            "web/canary::127.0.0.1:1::rq_total::9",
            "web/canary::127.0.0.1:1::rq_error::4",
            "web/canary::127.0.0.1:1::success_rate::-1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
