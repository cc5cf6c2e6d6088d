//! Rollouts and splits: list, show, command, set weights.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Admin, Failure, Refused};
use crate::rollout::Command;
use crate::tick::ask::Ask;
use crate::tick::view::{Detail, SplitView};

/// All rollouts, in the order of the file.
#[utoipa::path(get, path = "/rollouts", tag = "rollouts", responses((status = 200, body = Vec<Detail>)))]
pub async fn list(State(admin): State<Admin>) -> Result<Response, Refused> {
    let rollouts = admin.desk.ask(|reply| Ask::Rollouts { reply }).await?;
    admin.page(move |_| Json(rollouts)).await
}

/// One rollout with the judge's reasons and live figures per version.
#[utoipa::path(
    get, path = "/rollouts/{name}", tag = "rollouts",
    params(("name" = String, Path, description = "Name of the rollout")),
    responses((status = 200, body = Detail), (status = 404, body = Failure)),
)]
pub async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Detail>, Refused> {
    Ok(Json(admin.desk.ask(|reply| Ask::Rollout { name, reply }).await??))
}

/// Gives a rollout a command; answers with the rollout as it then is.
#[utoipa::path(
    post, path = "/rollouts/{name}/{command}", tag = "rollouts",
    params(
        ("name" = String, Path, description = "Name of the rollout"),
        ("command" = String, Path, description = "One of start, promote, skip, abort, rollback, pause, freeze, suspend, resume, retry"),
    ),
    responses(
        (status = 200, body = Detail),
        (status = 404, body = Failure),
        (status = 409, body = Failure, description = "Not in the present phase"),
        (status = 503, body = Failure, description = "The journal cannot be written"),
    ),
)]
pub async fn command(
    State(admin): State<Admin>,
    Path((name, command)): Path<(String, String)>,
) -> Result<Json<Detail>, Refused> {
    let Some(command) = parse(&command) else {
        return Err(Refused(StatusCode::NOT_FOUND, format!("there is no command {command:?}")));
    };
    Ok(Json(admin.desk.command(name, command).await?))
}

fn parse(command: &str) -> Option<Command> {
    match command {
        "start" => Some(Command::Start),
        "promote" => Some(Command::Promote),
        "abort" => Some(Command::Abort),
        "pause" => Some(Command::Pause),
        "resume" => Some(Command::Resume),
        "retry" => Some(Command::Retry),
        "skip" => Some(Command::Skip),
        "freeze" => Some(Command::Freeze),
        "suspend" => Some(Command::Suspend),
        "rollback" => Some(Command::Rollback),
        _ => None,
    }
}

/// All splits with the weights in force.
#[utoipa::path(get, path = "/splits", tag = "splits", responses((status = 200, body = Vec<SplitView>)))]
pub async fn splits(State(admin): State<Admin>) -> Result<Response, Refused> {
    let splits = admin.desk.ask(|reply| Ask::Splits { reply }).await?;
    admin.page(move |_| Json(splits)).await
}

/// Sets the weights of a split by hand: percent by version, those left out get none.
#[utoipa::path(
    put, path = "/splits/{name}/weights", tag = "splits",
    params(("name" = String, Path, description = "Name of the split")),
    request_body(content = BTreeMap<String, f64>, example = json!({"primary": 90, "canary": 10})),
    responses(
        (status = 200, body = SplitView),
        (status = 400, body = Failure, description = "Not an object of numbers"),
        (status = 404, body = Failure),
        (status = 409, body = Failure, description = "A rollout holds the weights"),
        (status = 422, body = Failure, description = "Not whole, or of unknown versions"),
    ),
)]
pub async fn weights(
    State(admin): State<Admin>,
    Path(split): Path<String>,
    shares: Result<Json<BTreeMap<String, f64>>, JsonRejection>,
) -> Result<Json<SplitView>, Refused> {
    let Json(shares) = shares.map_err(|rejection| Refused(rejection.status(), rejection.body_text()))?;
    Ok(Json(admin.desk.ask(|reply| Ask::Weights { split, shares, reply }).await??))
}
