//! The stream of what was told, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use tokio::sync::broadcast;

use super::{Admin, Refused};
use crate::events::{Told, word};
use crate::tick::ask::Ask;

#[derive(Deserialize)]
pub struct From {
    /// For those who cannot set `Last-Event-ID`.
    after: Option<u64>,
}

/// Everything that rollouts tell, from now on or from after the last event seen.
#[utoipa::path(
    get, path = "/events", tag = "rollouts",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Send what came after it first, as far as kept"),
        ("after" = Option<u64>, Query, description = "The same, for those who cannot set the header"),
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
    let last = header.or(from.after);
    let subscription = admin.desk.ask(|reply| Ask::Subscribe { last, reply }).await?;
    let state = (subscription.missed, subscription.coming);
    let stream = unfold(state, |(mut missed, mut coming)| async {
        let told = next(&mut missed, &mut coming).await?;
        Some((Ok(written(&told)), (missed, coming)))
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
