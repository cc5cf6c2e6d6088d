//! Gates by hand, at the paths and with the answers of Flagger's load tester, so
//! that webhooks and scripts written for it work with serin in its place. It does not
//! ask for the method, so GET is as good as POST here, for turning a gate too.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Admin, Refused};
use crate::hook::gates::Kind;

/// What turns a gate, by whatever method.
pub const TURNING: [&str; 4] = ["/gate/open", "/gate/close", "/rollback/open", "/rollback/close"];

/// Of a webhook's payload, what names a gate.
#[derive(Deserialize, ToSchema)]
pub struct Named {
    /// The rollout.
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

type Said = (StatusCode, &'static str);

/// Agrees to everything.
#[utoipa::path(method(get, post), path = "/gate/approve", tag = "gates", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn approve() -> Said {
    (StatusCode::OK, "OK")
}

/// Agrees to nothing.
#[utoipa::path(method(get, post), path = "/gate/halt", tag = "gates", responses((status = 403, body = String, content_type = "text/plain")))]
pub async fn halt() -> Said {
    (StatusCode::FORBIDDEN, "Forbidden")
}

/// Agrees while the gate is open. One that nobody has opened is closed.
#[utoipa::path(
    method(get, post), path = "/gate/check", tag = "gates", request_body = Named,
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure, description = "The body names no rollout"),
        (status = 403, body = String, content_type = "text/plain", description = "Closed"),
    ),
)]
pub async fn check(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    asked(&admin, Kind::Gate, &body)
}

/// Opens the gate of a rollout. By GET too, with the same body; the audit has either.
#[utoipa::path(
    method(get, post), path = "/gate/open", tag = "gates", request_body = Named,
    responses(
        (status = 202, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure),
        (status = 500, body = super::Failure, description = "It cannot be kept"),
    ),
)]
pub async fn open(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    set(&admin, Kind::Gate, &body, true).await
}

/// Closes it. By GET too, with the same body; the audit has either.
#[utoipa::path(
    method(get, post), path = "/gate/close", tag = "gates", request_body = Named,
    responses(
        (status = 202, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure),
        (status = 500, body = super::Failure, description = "It cannot be kept"),
    ),
)]
pub async fn close(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    set(&admin, Kind::Gate, &body, false).await
}

/// Agrees to a rollback while that gate is open.
#[utoipa::path(
    method(get, post), path = "/rollback/check", tag = "gates", request_body = Named,
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure),
        (status = 403, body = String, content_type = "text/plain", description = "Closed"),
    ),
)]
pub async fn rollback_check(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    asked(&admin, Kind::Rollback, &body)
}

/// Asks for a rollback, where a webhook asks here for it. By GET too, with the same
/// body; the audit has either.
#[utoipa::path(
    method(get, post), path = "/rollback/open", tag = "gates", request_body = Named,
    responses(
        (status = 202, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure),
        (status = 500, body = super::Failure, description = "It cannot be kept"),
    ),
)]
pub async fn rollback_open(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    set(&admin, Kind::Rollback, &body, true).await
}

/// Asks for it no more. By GET too, with the same body; the audit has either.
#[utoipa::path(
    method(get, post), path = "/rollback/close", tag = "gates", request_body = Named,
    responses(
        (status = 202, body = String, content_type = "text/plain"),
        (status = 400, body = super::Failure),
        (status = 500, body = super::Failure, description = "It cannot be kept"),
    ),
)]
pub async fn rollback_close(State(admin): State<Admin>, body: String) -> Result<Said, Refused> {
    set(&admin, Kind::Rollback, &body, false).await
}

fn asked(admin: &Admin, kind: Kind, body: &str) -> Result<Said, Refused> {
    let Named { name, namespace } = named(body)?;
    match admin.outward.gates.is_open(kind, &name, &namespace) {
        true => Ok((StatusCode::OK, "Approved")),
        false => Ok((StatusCode::FORBIDDEN, "Forbidden")),
    }
}

async fn set(admin: &Admin, kind: Kind, body: &str, is_open: bool) -> Result<Said, Refused> {
    let Named { name, namespace } = named(body)?;
    let gates = admin.outward.gates.clone();
    let set = tokio::task::spawn_blocking(move || gates.set(kind, &name, &namespace, is_open)).await;
    match set.unwrap_or_else(|cause| Err(std::io::Error::other(cause))) {
        Ok(()) => Ok((StatusCode::ACCEPTED, "Accepted")),
        Err(cause) => {
            Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("the gate is not kept: {cause}")))
        }
    }
}

/// Whatever the content type says: load testers and `curl -d` say nothing.
fn named(body: &str) -> Result<Named, Refused> {
    serde_json::from_str(body).map_err(|cause| Refused(StatusCode::BAD_REQUEST, cause.to_string()))
}
