//! A question to a provider by hand, to see what a query answers before a rollout
//! rests on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Admin, Failure, Refused};
use crate::outside::provider::{NoData, Query};
use crate::provider::{self, Names, Sample};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// A template, as in a webhook's query.
    query: String,
    /// The past that is asked about, in seconds; 60 where not given.
    window: Option<u64>,
    /// Prometheus: asks for a range, with a point each so many seconds.
    step: Option<u64>,
    /// The rollout that the template's names are of.
    #[serde(default)]
    rollout: String,
    #[serde(default)]
    args: BTreeMap<String, String>,
}

/// Asks a provider once, and tells what came of it.
#[utoipa::path(
    post, path = "/providers/{name}/query", tag = "providers",
    params(("name" = String, Path, description = "Name of the provider")),
    request_body = Question,
    responses(
        (status = 200, body = Sample),
        (status = 400, body = Failure, description = "Not such an object"),
        (status = 404, body = Failure),
        (status = 422, body = Failure),
        (status = 503, body = Failure),
    ),
)]
pub async fn query(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Sample>, Refused> {
    let Json(asked) = question.map_err(|rejection| Refused(rejection.status(), rejection.body_text()))?;
    let loaded = Arc::clone(&admin.outward.loaded.borrow());
    let provider = loaded.providers.iter().find(|provider| provider.name == name).cloned();
    let provider =
        provider.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("there is no provider {name:?}")))?;
    let query = Query {
        provider: name,
        text: asked.query,
        window: Duration::from_secs(asked.window.unwrap_or(60)),
        step: asked.step.map(Duration::from_secs),
        min: None,
        max: None,
        no_data: NoData::Hold,
        on_error: NoData::Hold,
    };
    let spec = loaded.rollouts.iter().find(|spec| spec.name == asked.rollout);
    let service = spec.and_then(|spec| loaded.service(spec)).unwrap_or_default();
    let names = Names::of(&asked.rollout, "default", service, &asked.args);
    let now = admin.facts.clock.now();
    // Not on the thread that the tick runs on.
    let asking =
        admin.outward.runtime.spawn(async move { provider::ask(&provider, &query, &names, now).await });
    asking.await.map(Json).map_err(|cause| Refused(StatusCode::SERVICE_UNAVAILABLE, cause.to_string()))
}
