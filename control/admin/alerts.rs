//! Alerts to try, and letters that could not be delivered.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Admin, Failure, Refused, beside};
use crate::alert::{self, Tested};
use crate::courier::Dead;
use crate::outside::alert::Severity;

#[derive(Deserialize)]
pub struct Test {
    receiver: Option<String>,
    #[serde(default)]
    severity: Severity,
}

/// Sends a test to one receiver, or to all, and tells how each took it.
#[utoipa::path(
    post, path = "/alerts/test", tag = "alerts",
    params(
        ("receiver" = Option<String>, Query, description = "Name of the receiver; without it all"),
        ("severity" = Option<Severity>, Query, description = "Default: info"),
    ),
    responses(
        (status = 200, body = Vec<Tested>),
        (status = 404, body = Failure),
        (status = 422, body = Failure, description = "There are no receivers"),
        (status = 503, body = Failure),
    ),
)]
pub async fn test(
    State(admin): State<Admin>,
    Query(asked): Query<Test>,
) -> Result<Json<Vec<Tested>>, Refused> {
    let loaded = Arc::clone(&admin.outward.loaded.borrow());
    let known = |name: &String| loaded.alerts.receiver(name).is_some();
    match &asked.receiver {
        Some(name) if !known(name) => {
            return Err(Refused(StatusCode::NOT_FOUND, format!("there is no receiver {name:?}")));
        }
        None if loaded.alerts.receivers.is_empty() => {
            return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, "there are no receivers".to_owned()));
        }
        _ => {}
    }
    let (address, now) = (admin.facts.admin.to_string(), admin.facts.clock.now());
    // Not on the thread that the tick runs on.
    let tested = admin.outward.runtime.spawn(async move {
        alert::test(&loaded.alerts, asked.receiver.as_deref(), asked.severity, &address, now).await
    });
    tested.await.map(Json).map_err(|cause| Refused(StatusCode::SERVICE_UNAVAILABLE, cause.to_string()))
}

/// What could not be delivered, oldest first.
#[utoipa::path(get, path = "/dead-letters", tag = "alerts", responses((status = 200, body = Vec<Dead>)))]
pub async fn dead_letters(State(admin): State<Admin>) -> Result<Response, Refused> {
    beside(move || Json(admin.outward.courier.dead()).into_response()).await
}

/// Tries one of them again.
#[utoipa::path(
    post, path = "/dead-letters/{id}/resend", tag = "alerts",
    params(("id" = u64, Path, description = "Its number in the list")),
    responses((status = 202, description = "It waits to be sent"), (status = 404, body = Failure)),
)]
pub async fn resend(State(admin): State<Admin>, Path(id): Path<u64>) -> Result<StatusCode, Refused> {
    let sent = beside(move || admin.outward.courier.resend(id)).await?;
    sent.map(|()| StatusCode::ACCEPTED).map_err(|why| Refused(StatusCode::NOT_FOUND, why))
}
