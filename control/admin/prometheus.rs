//! serin as a Prometheus: its query API over our own history, in its shapes and
//! with its errors, for Grafana, Flagger, Argo Rollouts, PipeCD and Kayenta.
//!
//! A query is evaluated on a thread of its own, over a copy of what it selects, and
//! whatever else looks at the history does so on such a thread, too: neither the
//! tick nor another endpoint waits for it. Few run at once.

mod answer;
mod parameters;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use promql_parser::label::Matchers;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Admin;
use super::metrics::text::{PROMETHEUS, sample};
use crate::query::{self, Answer, Query, QueryError, Span};
use crate::series::{Labels, NAME, Picked, Store, Usage, Wish};
use parameters::Parameters;

/// Queries evaluated at once; others wait, as long as their own time allows.
pub const AT_ONCE: usize = 4;
/// So long what has no time of its own waits for its turn.
const TURN: Duration = Duration::from_secs(20);
/// The version of Prometheus whose answers these are.
const LIKE: &str = "2.42.0";

/// What went wrong, by the words and statuses of Prometheus.
#[derive(Debug)]
enum Trouble {
    BadData(String),
    Execution(String),
    Timeout(String),
    Internal(String),
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let (status, kind, text) = match self {
            Trouble::BadData(text) => (StatusCode::BAD_REQUEST, "bad_data", text),
            Trouble::Execution(text) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", text),
            Trouble::Timeout(text) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", text),
            Trouble::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
        };
        let body = json!({"status": "error", "errorType": kind, "error": text});
        (status, axum::Json(body)).into_response()
    }
}

impl From<QueryError> for Trouble {
    fn from(error: QueryError) -> Trouble {
        match error {
            QueryError::Bad(text) => Trouble::BadData(format!("invalid parameter \"query\": {text}")),
            QueryError::Execution(text) => Trouble::Execution(text),
            QueryError::Timeout => Trouble::Timeout(error.to_string()),
        }
    }
}

type Told = Result<Response, Trouble>;

fn success(data: &Value) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

/// A query at one moment, as Prometheus answers it.
#[utoipa::path(
    method(get, post), path = "/api/v1/query", tag = "prometheus",
    params(("query" = Option<String>, Query), ("time" = Option<String>, Query), ("timeout" = Option<String>, Query)),
    responses((status = 200, body = Object), (status = 400, body = Object), (status = 422, body = Object), (status = 503, body = Object)),
)]
pub async fn query(State(admin): State<Admin>, RawQuery(raw): RawQuery, body: Bytes) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &body);
    let run = async {
        let at = parameters.time("time")?.unwrap_or_else(|| now(&admin));
        let timeout = parameters.timeout()?;
        let query = Query::parse(parameters.first("query").unwrap_or_default())?;
        evaluated(&admin, timeout, move |store, left| query.at(store, at, left)).await
    };
    run.await
}

/// A query at every step of a span, as Prometheus answers it.
#[utoipa::path(
    method(get, post), path = "/api/v1/query_range", tag = "prometheus",
    params(
        ("query" = Option<String>, Query), ("start" = Option<String>, Query), ("end" = Option<String>, Query),
        ("step" = Option<String>, Query), ("timeout" = Option<String>, Query),
    ),
    responses((status = 200, body = Object), (status = 400, body = Object), (status = 422, body = Object), (status = 503, body = Object)),
)]
pub async fn query_range(
    State(admin): State<Admin>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &body);
    let run = async {
        let (start, end) = (parameters.need_time("start")?, parameters.need_time("end")?);
        if end < start {
            return Err(parameters::invalid("end", "end timestamp must not be before start time"));
        }
        let step = parameters.step()?;
        if (end - start) / step > query::MOST_STEPS {
            let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
            return Err(Trouble::BadData(text.to_owned()));
        }
        let timeout = parameters.timeout()?;
        let query = Query::parse(parameters.first("query").unwrap_or_default())?;
        let span = Span { start, end, step };
        evaluated(&admin, timeout, move |store, left| query.over(store, span, left)).await
    };
    run.await
}

/// The series that selectors mean, by their labels.
#[utoipa::path(
    method(get, post), path = "/api/v1/series", tag = "prometheus",
    params(("match[]" = Option<Vec<String>>, Query), ("start" = Option<String>, Query), ("end" = Option<String>, Query)),
    responses((status = 200, body = Object), (status = 400, body = Object)),
)]
pub async fn series(State(admin): State<Admin>, RawQuery(raw): RawQuery, body: Bytes) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &body);
    if parameters.all("match[]").next().is_none() {
        return Err(Trouble::BadData("no match[] parameter provided".to_owned()));
    }
    let meant = Meant::read(&parameters)?;
    in_turn(&admin, TURN, move |store| success(&meant.of(store).iter().map(answer::labels).collect())).await
}

/// The names of labels.
#[utoipa::path(
    method(get, post), path = "/api/v1/labels", tag = "prometheus",
    params(("match[]" = Option<Vec<String>>, Query), ("start" = Option<String>, Query), ("end" = Option<String>, Query)),
    responses((status = 200, body = Object), (status = 400, body = Object)),
)]
pub async fn labels(State(admin): State<Admin>, RawQuery(raw): RawQuery, body: Bytes) -> impl IntoResponse {
    let meant = Meant::read(&Parameters::read(raw.as_deref(), &body))?;
    let told = move |store: &Store| {
        let found = meant.of(store);
        let mut names: Vec<&str> = found.iter().flat_map(Labels::iter).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        success(&json!(names))
    };
    in_turn(&admin, TURN, told).await
}

/// The values of one label.
#[utoipa::path(
    get, path = "/api/v1/label/{name}/values", tag = "prometheus",
    params(
        ("name" = String, Path), ("match[]" = Option<Vec<String>>, Query), ("start" = Option<String>, Query),
        ("end" = Option<String>, Query),
    ),
    responses((status = 200, body = Object), (status = 400, body = Object)),
)]
pub async fn values(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &[]);
    if !parameters::is_label(&name) {
        return Err(Trouble::BadData(format!("invalid label name: {name:?}")));
    }
    let meant = Meant::read(&parameters)?;
    let told = move |store: &Store| {
        let found = meant.of(store);
        let mut values: Vec<&str> = found.iter().filter_map(|labels| labels.get(&name)).collect();
        values.sort_unstable();
        values.dedup();
        success(&json!(values))
    };
    in_turn(&admin, TURN, told).await
}

/// What each family is.
#[utoipa::path(
    get, path = "/api/v1/metadata", tag = "prometheus",
    params(("metric" = Option<String>, Query), ("limit" = Option<String>, Query)),
    responses((status = 200, body = Object), (status = 400, body = Object)),
)]
pub async fn metadata(State(admin): State<Admin>, RawQuery(raw): RawQuery) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &[]);
    let limit = match parameters.first("limit") {
        None => usize::MAX,
        Some(text) => match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            Err(_) => return Err(Trouble::BadData("limit must be a number".to_owned())),
        },
    };
    let wanted = parameters.first("metric").filter(|name| !name.is_empty()).map(str::to_owned);
    let told = |(name, about): (&'static str, crate::series::About)| {
        (name.to_owned(), json!([{"type": about.kind, "help": about.help, "unit": ""}]))
    };
    in_turn(&admin, TURN, move |store| {
        let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let families = store.about().into_iter().filter(|(name, _)| is_wanted(name));
        success(&Value::Object(families.take(limit).map(told).collect()))
    })
    .await
}

/// What this answers like. Grafana asks for it to know what it may ask.
#[utoipa::path(get, path = "/api/v1/status/buildinfo", tag = "prometheus", responses((status = 200, body = Object)))]
pub async fn buildinfo() -> impl IntoResponse {
    success(&json!({
        "version": LIKE,
        "revision": concat!("serin-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// How much of the past is kept, and what memory it takes.
#[utoipa::path(get, path = "/api/v1/status/tsdb", tag = "prometheus", responses((status = 200, body = Object)))]
pub async fn tsdb(State(admin): State<Admin>) -> impl IntoResponse {
    in_turn(&admin, TURN, |store| {
        let Usage { series, moments, bytes, refused } = store.usage();
        let each = bytes / series.max(1);
        success(&json!({
            "headStats": {
                "numSeries": series, "seconds": moments, "bytes": bytes, "bytesPerSeries": each,
                "refusedSeries": refused,
            },
        }))
    })
    .await
}

/// There are none here; Grafana asks all the same.
#[utoipa::path(
    method(get, post), path = "/api/v1/query_exemplars", tag = "prometheus",
    responses((status = 200, body = Object)),
)]
pub async fn exemplars() -> impl IntoResponse {
    success(&json!([]))
}

/// There are none here; Grafana asks for those that record.
#[utoipa::path(get, path = "/api/v1/rules", tag = "prometheus", responses((status = 200, body = Object)))]
pub async fn rules() -> impl IntoResponse {
    success(&json!({"groups": []}))
}

/// Nor are there alerts of this kind.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "prometheus", responses((status = 200, body = Object)))]
pub async fn alerts() -> impl IntoResponse {
    success(&json!({"alerts": []}))
}

/// The latest of all series that are meant, with its moment: what another
/// Prometheus scrapes to have the very same samples.
#[utoipa::path(
    get, path = "/federate", tag = "prometheus", params(("match[]" = Option<Vec<String>>, Query)),
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String), (status = 400, body = Object)),
)]
pub async fn federate(State(admin): State<Admin>, RawQuery(raw): RawQuery) -> impl IntoResponse {
    let parameters = Parameters::read(raw.as_deref(), &[]);
    let wanted = parameters.selectors()?;
    let told = move |store: &Store| {
        let is_meant = |labels: &Labels| wanted.iter().any(|wanted| query::is_meant(wanted, labels));
        let mut latest = store.latest(&is_meant);
        latest.sort_by(|a, b| a.0.cmp(&b.0));
        let mut page = String::new();
        for (labels, point) in latest {
            let name = labels.get(NAME).unwrap_or_default();
            sample(&mut page, [name, ""], labels.iter().filter(|(name, _)| *name != NAME), point.value);
            page += &format!(" {}\n", point.at);
        }
        ([(header::CONTENT_TYPE, PROMETHEUS)], page).into_response()
    };
    in_turn(&admin, TURN, told).await
}

/// As Kayenta asks whether its store is there.
#[utoipa::path(get, path = "/-/healthy", tag = "prometheus", responses((status = 200, body = String)))]
pub async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

fn now(admin: &Admin) -> i64 {
    i64::try_from(admin.facts.clock.now().0).unwrap_or(i64::MAX)
}

/// What `match[]` and its moments mean; all where there is none.
struct Meant {
    wanted: Vec<Matchers>,
    from: i64,
    to: i64,
}

impl Meant {
    fn read(parameters: &Parameters) -> Result<Meant, Trouble> {
        let wanted = parameters.selectors()?;
        let (from, to) = (parameters.time("start")?, parameters.time("end")?);
        Ok(Meant { wanted, from: from.unwrap_or(i64::MIN), to: to.unwrap_or(i64::MAX) })
    }

    /// The labels of these series, in order.
    fn of(&self, store: &Store) -> Vec<Labels> {
        let Meant { wanted, from, to } = self;
        let is_meant = |labels: &Labels| {
            wanted.is_empty() || wanted.iter().any(|wanted| query::is_meant(wanted, labels))
        };
        let wish = Wish { is_meant: &is_meant, from: *from, to: *to };
        let picked = store.pick(&[wish]).into_iter().flatten();
        let mut labels: Vec<Labels> = picked.filter(Picked::is_there).map(|picked| picked.labels).collect();
        labels.sort_unstable();
        labels
    }
}

async fn evaluated(
    admin: &Admin,
    timeout: Duration,
    run: impl FnOnce(&Store, Duration) -> Result<Answer, QueryError> + Send + 'static,
) -> Told {
    let run = move |store: &Store| run(store, timeout).map(|answer| answer::text(&answer));
    let body = in_turn(admin, timeout, run).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Waits for its turn, then looks at the history on a thread that has stack enough.
async fn in_turn<T: Send + 'static>(
    admin: &Admin,
    patience: Duration,
    look: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Trouble> {
    let turn = tokio::time::timeout(patience, admin.queries.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Trouble::Timeout("query timed out in query queue".to_owned()));
    };
    let store: Arc<Store> = admin.history.clone();
    let (reply, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("query".to_owned()).stack_size(query::STACK);
    let spawned = thread.spawn(move || {
        let seen = look(&store);
        drop(turn);
        // Who asked may have gone away meanwhile.
        let _ = reply.send(seen);
    });
    spawned.map_err(|cause| Trouble::Internal(format!("cannot start a thread: {cause}")))?;
    answer.await.map_err(|_| Trouble::Internal("the evaluation has ended without an answer".to_owned()))
}
