//! One attempt to get an answer from one endpoint: takes a connection and sends.
//! Whether there is another attempt is not decided here.

use http::header::CONTENT_LENGTH;
use http::header::HeaderValue;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;

use crate::body::RequestBody;
use crate::download::Download;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::interim::Teller;
use crate::preamble::Ends;
use crate::rewrite;
use crate::table::VersionPlan;
use crate::upgrade;
use crate::upgrade::Change;
use crate::upstream::Backend;
use crate::upstream::Lease;

/// The head of an answer, and the connection that its body still occupies.
pub struct Answer {
    pub response: Response<Download>,
    pub lease: Lease,
    /// The connection, or its stream, is no longer HTTP.
    pub switched: bool,
}

/// `fresh` asks for a connection that has carried no request yet.
pub async fn attempt(
    backend: &Backend,
    plan: &VersionPlan,
    fresh: bool,
    mut parts: Parts,
    body: RequestBody,
) -> Result<Answer, Fault> {
    let pool = backend.pool.of(rewrite::host_of(&parts));
    let ends = parts.extensions.get::<Ends>().copied();
    let mut lease = pool.lease(fresh, plan.connect_timeout, ends).await?;
    rewrite::target(&mut parts, lease.is_http2(), || backend.host.authority());
    if plan.carriage.tls.is_some() {
        rewrite::encrypted(&mut parts);
    }
    upgrade::target(&mut parts, lease.is_http2());
    // For a method that seldom has a body hyper would take none for granted.
    if !lease.is_http2() && !body.is_end_stream() && body.size_hint().exact().is_none() {
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let change = parts.extensions.get::<Change>().cloned();
    let teller = parts.extensions.remove::<Teller>();
    let mut request = Request::from_parts(parts, body);
    if let Some(teller) = teller {
        teller.listen(&mut request);
    }
    let (head, incoming) = lease.send(request).await?.into_parts();
    // An answer has one end, and nobody may change protocols who was not asked to.
    if !lease.is_http2() && !has_one_end(&head.headers) {
        return Err(Fault::upstream(Kind::Garbage));
    }
    let switched = upgrade::has_switched(change.as_ref(), &head, lease.is_http2())?;
    // A stream's frames are not read by the body.
    let look = !lease.is_http2() && !switched;
    let body = if look { Download::look(incoming).await? } else { Download::new(incoming) };
    Ok(Answer { response: Response::from_parts(head, body), lease, switched })
}

/// hyper reads an unknown coding as one that ends with the connection, and
/// looks at no length where there is no body.
fn has_one_end(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    match (codings.next(), lengths.next()) {
        (Some(_), Some(_)) => false,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none()
        }
        (None, Some(length)) => is_number(length) && lengths.all(|other| other == length),
        (None, None) => true,
    }
}
