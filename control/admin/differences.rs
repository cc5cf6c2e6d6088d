//! Where answers differ that were compared.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Admin, Failure, Refused};
use crate::answers::Differences;

#[derive(Deserialize)]
pub struct Form {
    service: Option<String>,
}

/// Of each service whose mirror compares answers: at which places they differ, since its
/// rollout began or the comparison was asked for.
#[utoipa::path(
    get, path = "/differences", tag = "rollouts",
    params(("service" = Option<String>, Query, description = "Only of this service")),
    responses((status = 200, body = Vec<Differences>), (status = 404, body = Failure)),
)]
pub async fn differences(State(admin): State<Admin>, Query(form): Query<Form>) -> Result<Response, Refused> {
    admin.page(move |admin| wanted(admin, form)).await
}

fn wanted(admin: &Admin, form: Form) -> Result<Json<Vec<Differences>>, Refused> {
    let mut all = admin.board.report();
    if let Some(service) = form.service {
        all.retain(|differences| differences.service == service);
        if all.is_empty() {
            let text = format!("no answers of a service {service:?} are compared");
            return Err(Refused(StatusCode::NOT_FOUND, text));
        }
    }
    Ok(Json(all))
}
