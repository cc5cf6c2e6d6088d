//! What was told: as a stream of server-sent events, and as a list.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use tokio::sync::broadcast;

use super::{Admin, Failure, Refused};
use crate::events::{Filter, Since, Told, word};
use crate::rollout::EventKind;
use crate::tick::ask::Ask;

#[derive(Deserialize)]
pub struct From {
    /// For those who cannot set `Last-Event-ID`.
    after: Option<u64>,
    rollout: Option<String>,
    kind: Option<EventKind>,
}

/// What was told, as far as it is kept, oldest first; of more than `limit` the newest.
#[utoipa::path(
    get, path = "/history", tag = "rollouts",
    params(
        ("rollout" = Option<String>, Query, description = "Only of this rollout"),
        ("kind" = Option<EventKind>, Query, description = "Only of this kind"),
        ("since" = Option<u64>, Query, description = "Told then or later, in milliseconds since the Unix epoch"),
        ("limit" = Option<usize>, Query, description = "At most so many"),
    ),
    responses((status = 200, body = Vec<Told>), (status = 503, body = Failure)),
)]
pub async fn history(State(admin): State<Admin>, Query(filter): Query<Filter>) -> Result<Response, Refused> {
    let told = admin.desk.ask(|reply| Ask::History { filter, reply }).await?;
    admin.page(move |_| Json(told.iter().map(|told| Told::clone(told)).collect::<Vec<_>>())).await
}

/// Everything that rollouts tell, from now on or from after the last event seen.
#[utoipa::path(
    get, path = "/events", tag = "rollouts",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Send what came after it first, as far as kept"),
        ("after" = Option<u64>, Query, description = "The same, for those who cannot set the header"),
        ("rollout" = Option<String>, Query, description = "Only of this rollout"),
        ("kind" = Option<EventKind>, Query, description = "Only of this kind"),
    ),
    responses((status = 200, content_type = "text/event-stream", body = Told,
        description = "Each event has an id, its kind as the event name, and one such object as data")),
)]
pub async fn events(
    State(admin): State<Admin>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let last = header.or(from.after).map_or(Since::Now, Since::After);
    let subscription = admin.desk.ask(|reply| Ask::Subscribe { last, reply }).await?;
    let filter = Filter { rollout: from.rollout, kind: from.kind, ..Filter::default() };
    let state = (subscription.missed, subscription.coming, filter);
    let stream = unfold(state, |(mut missed, mut coming, filter)| async {
        loop {
            let told = next(&mut missed, &mut coming).await?;
            if filter.fits(&told) {
                return Some((Ok(written(&told)), (missed, coming, filter)));
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// `None` ends the stream: serin stops, or the listener is too slow to follow.
async fn next(
    missed: &mut VecDeque<Arc<Told>>,
    coming: &mut broadcast::Receiver<Arc<Told>>,
) -> Option<Arc<Told>> {
    match missed.pop_front() {
        Some(told) => Some(told),
        None => coming.recv().await.ok(),
    }
}

fn written(told: &Told) -> Event {
    let data = serde_json::to_string(told).expect("an event is plain data with text keys");
    Event::default().id(told.id.to_string()).event(word(told.event.kind)).data(data)
}
