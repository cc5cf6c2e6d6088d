//! What the process is and what it was told.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Failure, Life, Refused};
use crate::certificates::Certificate;
use crate::tick::ask::Ask;
use crate::tick::view::{Dump, Reload};

#[derive(Serialize, ToSchema)]
pub struct Ready {
    pub ready: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ServerInfo {
    pub version: &'static str,
    /// STARTING, LIVE or DRAINING.
    pub state: &'static str,
    pub uptime_seconds: f64,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
    pub pid: u32,
    pub workers: usize,
    pub config: String,
    pub state_directory: String,
    pub admin: String,
    pub listeners: BTreeMap<String, String>,
}

/// Whether new requests are welcome.
#[utoipa::path(
    get, path = "/ready", tag = "process",
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "Starting or draining")),
)]
pub async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Ready>) {
    let ready = *admin.life.borrow() == Life::Live;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready }))
}

/// Version, state and hot facts.
#[utoipa::path(get, path = "/server_info", tag = "process", responses((status = 200, body = ServerInfo)))]
pub async fn server_info(State(admin): State<Admin>) -> Json<ServerInfo> {
    let facts = &admin.facts;
    let listeners = facts.handle.bound().0.into_iter().map(|(name, address)| (name, address.to_string()));
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        state: match *admin.life.borrow() {
            Life::Starting => "STARTING",
            Life::Live => "LIVE",
            Life::Draining => "DRAINING",
        },
        uptime_seconds: facts.clock.now().since(facts.started).as_secs_f64(),
        started_at: facts.started.0,
        pid: std::process::id(),
        workers: facts.workers,
        config: facts.config.display().to_string(),
        state_directory: facts.state.display().to_string(),
        admin: facts.admin.to_string(),
        listeners: listeners.collect(),
    })
}

/// The model in force, the specs of the rollouts, and how the last reload went.
#[utoipa::path(get, path = "/config_dump", tag = "process", responses((status = 200, body = Dump)))]
pub async fn config_dump(State(admin): State<Admin>) -> Result<Response, Refused> {
    let dump = admin.desk.ask(|reply| Ask::Dump { reply }).await?;
    admin.page(move |_| Json(dump)).await
}

/// The certificates in use, and when they expire.
#[utoipa::path(get, path = "/certificates", tag = "process", responses((status = 200, body = Vec<Certificate>)))]
pub async fn certificates(State(admin): State<Admin>) -> Result<Json<Vec<Certificate>>, Refused> {
    let (_, view) = admin.desk.ask(|reply| Ask::Metrics { reply }).await?;
    Ok(Json(view.certificates))
}

/// Reads the configuration file again; on any problem everything stays as it is.
#[utoipa::path(
    post, path = "/reload", tag = "process",
    responses(
        (status = 200, body = Reload),
        (status = 422, body = Reload, description = "Refused, with all problems"),
        (status = 503, body = Failure),
    ),
)]
pub async fn reload(State(admin): State<Admin>) -> Result<(StatusCode, Json<Reload>), Refused> {
    let reload = admin.desk.ask(|reply| Ask::Reload { reply }).await?;
    let status = if reload.accepted { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(reload)))
}
