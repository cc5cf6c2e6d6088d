//! The admin server: HTTP and JSON around questions to the tick.
//!
//! It listens apart from the traffic, on loopback unless told otherwise, and holds
//! no state of its own. Only POST and PUT change anything, and a browser page of
//! another origin cannot send those. Gates alone can be turned by GET too, with a
//! body, which no page can send along.
//!
//! Its handlers run on the tick's thread, and so do nothing there that grows with the
//! configuration or waits for a disk.

pub mod alerts;
pub mod audit;
pub mod clusters;
pub mod differences;
pub mod drain;
pub mod events;
pub mod gates;
pub mod inspect;
pub mod metrics;
pub mod openapi;
pub mod prometheus;
pub mod providers;
pub mod rollouts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};
use serin_proxy::Handle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use utoipa::ToSchema;

use crate::answers::Board;
use crate::audit::Audit;
use crate::clock::{Clock, Moment};
use crate::outward::Outward;
use crate::series::Store;
use crate::series::keeper::Keeper;
use crate::tick::ask::{Desk, Refusal};

/// Pages written at once; others wait.
const PAGES_AT_ONCE: usize = 2;

/// Where in its life the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Starting,
    Live,
    Draining,
}

/// What an operator asks of the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    StopAccepting,
    /// After the drain timeout; until then clients are told to go.
    StopAcceptingLater,
    /// Clients are told to go, and that is all.
    SayFarewell,
}

/// What does not change while the process runs.
pub struct Facts {
    pub clock: Clock,
    pub started: Moment,
    pub workers: usize,
    pub config: PathBuf,
    pub state: PathBuf,
    pub admin: SocketAddr,
    /// Asked for the listeners alone.
    pub handle: Handle,
    /// Where the metrics' past is kept.
    pub keeper: Keeper,
}

#[derive(Clone)]
pub struct Admin {
    pub desk: Desk,
    pub facts: Arc<Facts>,
    pub life: watch::Receiver<Life>,
    pub demands: mpsc::Sender<Demand>,
    pub history: Arc<Store>,
    /// A permit for each query that may run.
    pub queries: Arc<Semaphore>,
    /// A permit for each page that may be written.
    pub pages: Arc<Semaphore>,
    pub outward: Outward,
    pub audit: Audit,
    pub board: Board,
}

impl Admin {
    pub fn new(
        desk: Desk,
        facts: Facts,
        life: watch::Receiver<Life>,
        demands: mpsc::Sender<Demand>,
        outward: Outward,
        audit: Audit,
        board: Board,
    ) -> Admin {
        let queries = Arc::new(Semaphore::new(prometheus::AT_ONCE));
        Admin {
            desk,
            facts: Arc::new(facts),
            life,
            demands,
            history: Arc::default(),
            queries,
            pages: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            outward,
            audit,
            board,
        }
    }

    /// Writes a page that may be long, on another thread than the tick's.
    async fn page<T: IntoResponse>(
        &self,
        write: impl FnOnce(&Admin) -> T + Send + 'static,
    ) -> Result<Response, Refused> {
        let turn = self.pages.clone().acquire_owned().await;
        let admin = self.clone();
        beside(move || {
            let page = write(&admin).into_response();
            drop(turn);
            page
        })
        .await
    }
}

/// What may wait for a disk or takes its time, on another thread than the tick's.
async fn beside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|cause| Refused(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string()))
}

/// An error as every endpoint writes it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    pub error: String,
}

/// A status and its reason.
pub struct Refused(StatusCode, String);

/// Serves until the process leaves its runtime,
/// or is told to stop; then no connection is kept longer than its request.
pub async fn serve(listener: TcpListener, admin: Admin, stop: oneshot::Receiver<()>) -> std::io::Result<()> {
    let stopped = async {
        // Whoever drops the sender means the same.
        let _ = stop.await;
    };
    let service = router(admin).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/ready", get(inspect::ready))
        .route("/server_info", get(inspect::server_info))
        .route("/config_dump", get(inspect::config_dump))
        .route("/certificates", get(inspect::certificates))
        .route("/reload", post(inspect::reload))
        .route("/drain_listeners", post(drain::drain_listeners))
        .route("/metrics", get(metrics::metrics))
        .route("/stats/prometheus", get(metrics::stats_prometheus))
        .route("/rollouts", get(rollouts::list))
        .route("/rollouts/{name}", get(rollouts::show))
        .route("/rollouts/{name}/{command}", post(rollouts::command))
        .route("/splits", get(rollouts::splits))
        .route("/splits/{name}/weights", put(rollouts::weights))
        .route("/clusters", get(clusters::clusters))
        .route("/differences", get(differences::differences))
        .route("/events", get(events::events))
        .route("/history", get(events::history))
        .route("/gate/approve", get(gates::approve).post(gates::approve))
        .route("/gate/halt", get(gates::halt).post(gates::halt))
        .route("/gate/check", get(gates::check).post(gates::check))
        .route("/gate/open", get(gates::open).post(gates::open))
        .route("/gate/close", get(gates::close).post(gates::close))
        .route("/rollback/check", get(gates::rollback_check).post(gates::rollback_check))
        .route("/rollback/open", get(gates::rollback_open).post(gates::rollback_open))
        .route("/rollback/close", get(gates::rollback_close).post(gates::rollback_close))
        .route("/alerts/test", post(alerts::test))
        .route("/providers/{name}/query", post(providers::query))
        .route("/dead-letters", get(alerts::dead_letters))
        .route("/dead-letters/{id}/resend", post(alerts::resend))
        .route("/openapi.json", get(openapi::document))
        .route("/api/v1/query", get(prometheus::query).post(prometheus::query))
        .route("/api/v1/query_range", get(prometheus::query_range).post(prometheus::query_range))
        .route("/api/v1/series", get(prometheus::series).post(prometheus::series))
        .route("/api/v1/labels", get(prometheus::labels).post(prometheus::labels))
        .route("/api/v1/label/{name}/values", get(prometheus::values))
        .route("/api/v1/metadata", get(prometheus::metadata))
        .route("/api/v1/status/buildinfo", get(prometheus::buildinfo))
        .route("/api/v1/status/tsdb", get(prometheus::tsdb))
        .route("/api/v1/query_exemplars", get(prometheus::exemplars).post(prometheus::exemplars))
        .route("/api/v1/rules", get(prometheus::rules))
        .route("/api/v1/alerts", get(prometheus::alerts))
        .route("/federate", get(prometheus::federate))
        .route("/-/healthy", get(prometheus::healthy))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(axum::middleware::from_fn(same_origin))
        .layer(axum::middleware::from_fn_with_state(admin.clone(), audit::audit))
        .with_state(admin)
}

async fn nowhere(request: Request) -> Refused {
    let text = format!("there is nothing at {}; /openapi.json says what there is", request.uri().path());
    Refused(StatusCode::NOT_FOUND, text)
}

async fn not_so(request: Request) -> Refused {
    let text = format!("{} is not for {}", request.uri().path(), request.method());
    Refused(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// A page from elsewhere in an operator's browser may not act in their name.
async fn same_origin(request: Request, next: Next) -> Response {
    if is_foreign(&request) {
        let text = "the request comes from another origin".to_owned();
        return Refused(StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

/// Whether by its method it changes nothing.
fn is_safe(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !gates::TURNING.contains(&path)
}

fn is_foreign(request: &Request) -> bool {
    let is_safe = is_safe(request.method(), request.uri().path());
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).map(|origin| origin.rsplit("//").next().unwrap_or(origin));
    !is_safe && origin.is_some() && origin != text(header::HOST)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused(status, error) = self;
        (status, axum::Json(Failure { error })).into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let status = match &refusal {
            Refusal::Unknown { .. } => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Unavailable(_) | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused(status, refusal.to_string())
    }
}
