//! Letting go of clients without ending the process, as Envoy's admin does it.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Demand, Failure, Refused};
use crate::tick::ask::Refusal;

#[derive(Serialize, ToSchema)]
pub struct Draining {
    pub draining: bool,
}

/// Stops accepting connections; the process stays. `?graceful`: first says
/// `connection: close` and GOAWAY for the drain timeout; `?graceful&skip_exit`:
/// only that, and goes on accepting. `/ready` says no from here on.
#[utoipa::path(
    post, path = "/drain_listeners", tag = "process",
    params(
        ("graceful" = Option<String>, Query, description = "Accept for as long as the drain timeout"),
        ("skip_exit" = Option<String>, Query, description = "With graceful: accept without end"),
    ),
    responses((status = 200, body = Draining), (status = 422, body = Failure), (status = 503, body = Failure)),
)]
pub async fn drain_listeners(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Json<Draining>, Refused> {
    let query = query.unwrap_or_default();
    let flags: Vec<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    let demand = match (flags.contains(&"graceful"), flags.contains(&"skip_exit")) {
        (false, false) => Demand::StopAccepting,
        (true, false) => Demand::StopAcceptingLater,
        (true, true) => Demand::SayFarewell,
        (false, true) => {
            let text = "skip_exit goes with graceful".to_owned();
            return Err(Refusal::Invalid(text).into());
        }
    };
    admin.demands.send(demand).await.map_err(|_| Refusal::Stopping)?;
    Ok(Json(Draining { draining: true }))
}
