//! One attempt to get an answer from one version: picks an endpoint, takes a
//! connection, sends. Another endpoint is tried only where the first could not
//! be reached; a kept connection that turns out to be closed is replaced once.

use std::rc::Rc;

use http::header::CONTENT_LENGTH;
use http::header::HeaderValue;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::body::RequestBody;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::lane::VersionView;
use crate::retry;
use crate::rewrite;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::upgrade;
use crate::upgrade::Change;
use crate::upstream::Backend;
use crate::upstream::Lease;
use crate::upstream::Wish;

/// Endpoints tried before a version counts as unreachable.
pub const MAX_TRIES: usize = 3;

/// The head of an answer, and the connection that its body still occupies.
pub struct Answer {
    pub response: Response<Incoming>,
    pub lease: Lease,
    /// The connection, or its stream, is no longer HTTP.
    pub switched: bool,
}

pub async fn attempt(
    version: &VersionView,
    plan: &VersionPlan,
    wish: &Wish<'_>,
    shard: &Shard,
    mut parts: Parts,
    body: RequestBody,
) -> Result<Answer, Fault> {
    let (backend, mut lease) = connect(version, plan, wish, shard).await?;
    rewrite::target(&mut parts, lease.is_http2(), || backend.host.authority());
    upgrade::target(&mut parts, lease.is_http2());
    // For a method that seldom has a body hyper would take none for granted.
    if !lease.is_http2() && !body.is_end_stream() && body.size_hint().exact().is_none() {
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let spare = lease.is_reused().then(|| repeatable(&parts, &body)).flatten();
    let change = parts.extensions.get::<Change>().cloned();
    let unsent = match lease.send(Request::from_parts(parts, body)).await {
        Ok(response) => return answered(response, lease, change.as_ref()),
        Err(unsent) => unsent,
    };
    // An endpoint may close a kept connection just as it is used again. What it
    // surely did not take, or may take twice, goes out once more on a new one.
    let again = match unsent.request {
        Some(request) if lease.is_reused() => *request,
        _ if unsent.fault.kind == Kind::Reset => spare.ok_or(unsent.fault)?,
        _ => return Err(unsent.fault),
    };
    shard.retries.add(1);
    let mut lease = backend.pool.dial(plan.connect_timeout).await?;
    match lease.send(again).await {
        Ok(response) => answered(response, lease, change.as_ref()),
        Err(unsent) => Err(unsent.fault),
    }
}

/// Nobody may change protocols who was not asked to; and an answer has one end.
fn answered(response: Response<Incoming>, lease: Lease, change: Option<&Change>) -> Result<Answer, Fault> {
    let (head, body) = response.into_parts();
    let has = |name| head.headers.contains_key(name);
    if !lease.is_http2() && has(TRANSFER_ENCODING) && has(CONTENT_LENGTH) {
        return Err(Fault::upstream(Kind::Garbage));
    }
    let switched = upgrade::has_switched(change, &head, lease.is_http2())?;
    Ok(Answer { response: Response::from_parts(head, body), lease, switched })
}

fn repeatable(parts: &Parts, body: &RequestBody) -> Option<Request<RequestBody>> {
    let repeatable = retry::is_idempotent(&parts.method) && matches!(body, RequestBody::Empty);
    repeatable.then(|| Request::from_parts(parts.clone(), RequestBody::Empty))
}

async fn connect(
    version: &VersionView,
    plan: &VersionPlan,
    wish: &Wish<'_>,
    shard: &Shard,
) -> Result<(Rc<Backend>, Lease), Fault> {
    let mut fault = Fault::upstream(Kind::NoHealthyUpstream);
    for tried in 0..version.picker.len().min(MAX_TRIES) {
        let Some(backend) = version.picker.pick(wish, tried as u32) else { break };
        if tried > 0 {
            shard.retries.add(1);
        }
        match backend.pool.lease(plan.connect_timeout).await {
            Ok(lease) => return Ok((backend, lease)),
            Err(failed) => fault = failed,
        }
    }
    Err(fault)
}
