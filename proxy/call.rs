//! One request to an endpoint that speaks HTTP/1.1, on a connection of our own
//! codec, for a client that speaks HTTP/2.
//!
//! Everything happens in the task of the request itself: head and body are written
//! and the answer is read where they are wanted, so no other task is woken, and the
//! connections are those that HTTP/1.1 clients' requests use. What is unusual is
//! left to hyper, by [`fits`]. It knows of one attempt and of no route.

mod arrival;
mod sending;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::TRAILER;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Version};

use crate::body::RequestBody;
use crate::buffer::Buffer;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::lane::Lane;
use crate::message::answer::Account;
use crate::message::answer::FirstLine;
use crate::message::answer::Meaning;
use crate::message::field::Role;
use crate::message::growing::Growing;
use crate::message::scan::Fields;
use crate::model::Protocol;
use crate::preamble::Ends;
use crate::rewrite;
use crate::rewrite::Peer;
use crate::table::VersionPlan;
use crate::upgrade::Change;
use crate::upstream::Backend;
use crate::upstream::Link;
use crate::upstream::Links;

pub use arrival::Arrival;
use sending::Sending;

/// An endpoint's head may be this long.
const MAX_HEAD: usize = 256 * 1024;

/// Is there nothing in this request that only hyper knows how to do? Trailers go
/// up where they were announced, and interim answers down to HTTP/1.1 clients.
pub fn fits(plan: &VersionPlan, parts: &Parts) -> bool {
    is_http1(plan) && is_usual(parts)
}

/// The part of it that is the version's.
pub fn is_http1(plan: &VersionPlan) -> bool {
    plan.carriage.protocol == Protocol::Http1
}

/// And the part that is the request's.
pub fn is_usual(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2
        && parts.method != Method::CONNECT
        && parts.extensions.get::<Change>().is_none()
        && !parts.headers.contains_key(TRAILER)
}

/// How an endpoint is to be asked.
pub struct Call<'a> {
    pub lane: &'a Lane,
    pub backend: &'a Backend,
    pub plan: &'a VersionPlan,
    /// On a connection that has carried no request yet.
    pub fresh: bool,
    /// The request may be sent twice.
    pub repeatable: bool,
    /// Where it is not among the request's fields.
    pub told: Option<Told<'a>>,
}

/// What a version is told of the client.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub peer: &'a Peer,
    /// Of the request.
    pub id: [u64; 2],
}

impl Call<'_> {
    /// The answer's head, and its body as it comes.
    pub async fn make(
        &self,
        parts: &Parts,
        body: RequestBody,
    ) -> Result<(Response<Arrival>, Account), Fault> {
        let backend = self.backend;
        let links = match backend.links.asks_for_host().then(|| rewrite::host_of(parts)).flatten() {
            Some(host) => backend.links.of(host),
            None => backend.links.clone(),
        };
        let link = self.connect(&links, parts).await?;
        let head_only = parts.method == Method::HEAD;
        let mut out = self.lane.texts.take();
        let coding = sending::write_head(parts, &body, self.told, || backend.host.authority(), &mut out);
        self.converse(link, links, Sending::new(out, body, coding), head_only).await
    }

    async fn connect(&self, links: &Rc<Links>, parts: &Parts) -> Result<Link, Fault> {
        let kept = if self.fresh { None } else { links.take(self.repeatable)? };
        match kept {
            Some(link) => Ok(link),
            None => {
                let ends = parts.extensions.get::<Ends>().copied();
                links.open(self.fresh, self.repeatable, self.plan.connect_timeout, ends).await
            }
        }
    }

    /// Sends the request and waits for the answer's head.
    async fn converse(
        &self,
        mut link: Link,
        links: Rc<Links>,
        mut sending: Sending,
        head_only: bool,
    ) -> Result<(Response<Arrival>, Account), Fault> {
        let buffers = &self.lane.buffers;
        let (mut input, mut growing) = (Buffer::default(), Growing::default());
        loop {
            if !input.reserve(MAX_HEAD) {
                return Err(Fault::upstream(Kind::Garbage));
            }
            let heard = poll_fn(|cx| {
                // Who does not take the request may have answered it.
                if let Poll::Ready(Err(fault)) = sending.poll(&mut link.wire, cx) {
                    return Poll::Ready(Err(fault));
                }
                input.poll_fill(&mut link.wire, buffers, cx).map(Ok)
            });
            match heard.await? {
                Ok(0) | Err(_) => return Err(broken(&link, &sending, input.is_empty())),
                Ok(_) => {}
            }
            while !input.is_empty() && growing.is_ripe(input.filled()) {
                let text = Bytes::copy_from_slice(input.filled());
                let Some(head) = read(&text, head_only)? else { break };
                input.consume(head.length);
                if head.status.is_informational() {
                    growing = Growing::default();
                    continue;
                }
                input.release(buffers);
                if let Some(text) = sending.memory() {
                    self.lane.texts.give(text);
                }
                let (here, account) = (text.slice(head.length..), head.meaning.account);
                let arrival = Arrival::new(link, links, head.meaning, here, sending)?;
                let mut response = Response::new(arrival);
                *response.status_mut() = head.status;
                *response.headers_mut() = head.fields;
                return Ok((response, account));
            }
        }
    }
}

/// Why there is no answer; before a word of it, a kept connection may just have
/// been closed.
fn broken(link: &Link, sending: &Sending, silent: bool) -> Fault {
    Fault::upstream(match (link.reused, silent) {
        (true, true) if sending.has_sent_nothing() => Kind::Unsent,
        (true, true) => Kind::Stale,
        _ => Kind::Reset,
    })
}

struct Head {
    status: StatusCode,
    fields: HeaderMap,
    length: usize,
    meaning: Meaning,
}

/// `None` where the head has not ended yet. What speaks of the connection alone
/// is not among the fields.
fn read(text: &Bytes, head_only: bool) -> Result<Option<Head>, Fault> {
    let bad = Fault::upstream(Kind::Garbage);
    let mut fields = Fields::new();
    let Some(first) = FirstLine::of(text, &mut fields)? else { return Ok(None) };
    let FirstLine { version, code, length, .. } = first;
    let status = StatusCode::from_u16(code).map_err(|_| bad)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(bad);
    }
    let meaning = Meaning::read(&fields, version, status, head_only)?;
    if status.is_informational() {
        return Ok(Some(Head { status, fields: HeaderMap::new(), length, meaning }));
    }
    let mut map = HeaderMap::with_capacity(fields.list().len() + 2);
    let mut has_length = false;
    for (header, role) in fields.iter() {
        let passes = match role {
            Role::ContentLength => !meaning.bare && !std::mem::replace(&mut has_length, true),
            Role::Connection | Role::Drop | Role::Irregular | Role::TransferEncoding | Role::ServiceTime => {
                false
            }
            _ => !meaning.names(&fields, header.name),
        };
        if passes {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| bad)?;
            let value = HeaderValue::from_maybe_shared(text.slice_ref(header.value)).map_err(|_| bad)?;
            map.append(name, value);
        }
    }
    Ok(Some(Head { status, fields: map, length, meaning }))
}
