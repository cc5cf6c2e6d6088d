//! Drives one client connection: plain HTTP/1.1 by our own relay, HTTP/2 (where
//! the client opens with its preface) and everything irregular by hyper.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;

use crate::answer::AnswerBody;
use crate::arrival::Arrived;
use crate::arrival::arrive;
use crate::clock;
use crate::connections::Busy;
use crate::connections::Connection;
use crate::connections::Ending;
use crate::connections::Watched;
use crate::cork::cork;
use crate::exchange::RequestTimeout;
use crate::exchange::answer_ourselves;
use crate::exchange::exchange;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::frames::Frames;
use crate::h1::Ended;
use crate::h1::Guard;
use crate::h1::relay;
use crate::interim;
use crate::lane::Lane;
use crate::manners::Manners;
use crate::model::Limits;
use crate::reply::Reply;
use crate::rewrite::Peer;
use crate::streams::Streams;
use crate::table::ListenerPlan;
use crate::tunnel::Tunnel;
use crate::wire::Wire;

/// What one stream may have waiting for its client's socket.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may reset before anybody has looked at them, and such
/// as break the protocol's rules. Past either the connection ends.
const RESETS: usize = 20;
const ERRORS: usize = 1024;

/// Returns when the connection has ended, for whatever reason.
pub async fn serve(
    lane: Rc<Lane>,
    connection: Rc<Connection>,
    wire: Wire,
    address: SocketAddr,
    plan: &ListenerPlan,
) {
    if let Some(arrived) = arrive(&lane, &connection, wire, address, plan).await {
        serve_arrived(lane, connection, arrived, plan).await;
    }
}

/// Serves our own load; no handshake is made with ourselves.
pub async fn serve_ourselves(lane: Rc<Lane>, connection: Rc<Connection>, wire: Wire, plan: &ListenerPlan) {
    let peer = Peer::load(plan.tls.is_some(), &plan.forwarded);
    serve_arrived(lane, connection, Arrived { wire, peer, http2: false }, plan).await;
}

async fn serve_arrived(lane: Rc<Lane>, connection: Rc<Connection>, arrived: Arrived, plan: &ListenerPlan) {
    let Arrived { wire, peer, http2 } = arrived;
    let (address, peer) = (peer.remote, Rc::new(peer));
    let relayed = if http2 {
        Ended::Irregular { wire, before: Vec::new(), http2 }
    } else {
        relay(&lane, &connection, &peer, wire, plan).await
    };
    let Ended::Irregular { wire, before, http2 } = relayed else { return };
    connection.set_irregular();
    let frames = http2.then(Frames::new);
    let watched = Watched { wire, before, connection: connection.clone(), frames };
    // Boxed: hyper's state is large, and most connections never need it.
    let served = Box::pin(serve_by_hyper(lane.clone(), connection.clone(), peer, watched, http2, plan));
    if let Err(error) = served.await {
        if connection.is_flooded() || is_flood(&error) {
            lane.counts.floods.add(1);
        }
        let cause = std::error::Error::source(&error);
        tracing::debug!(peer = %address, %error, cause, "client connection ended");
    }
}

/// Has h2 had enough of the client?
fn is_flood(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

async fn serve_by_hyper(
    lane: Rc<Lane>,
    connection: Rc<Connection>,
    peer: Rc<Peer>,
    watched: Watched,
    http2: bool,
    plan: &ListenerPlan,
) -> hyper::Result<()> {
    let (limits, manners) = (&plan.limits, plan.manners.clone());
    let max_headers = limits.max_headers;
    let request_timeout = extensions(limits);
    let switched = Rc::new(Cell::new(None));
    let (teller, told) = interim::line();
    let streams = Streams::new(&lane.flights);
    let service = {
        let (connection, switched, streams) = (connection.clone(), switched.clone(), streams.clone());
        service_fn(move |mut request: Request<Incoming>| {
            let busy = connection.begin();
            let (lane, peer, switched) = (lane.clone(), peer.clone(), switched.clone());
            let (request_timeout, teller) = (request_timeout.clone(), teller.clone());
            let manners = manners.clone();
            let clock = http2.then(|| streams.clock());
            // Boxed: hyper moves what it is given several times.
            Box::pin(async move {
                if let Some(refused) = refused(&lane, &busy, &request, max_headers, manners.as_deref()) {
                    let (head, body) = refused.into_parts();
                    let served = Response::from_parts(head, Served { body, _busy: busy });
                    return Ok::<_, Infallible>(served);
                }
                request.extensions_mut().extend(request_timeout);
                // An HTTP/1.0 client knows no interim answers.
                if request.version() == Version::HTTP_11 {
                    request.extensions_mut().insert(teller);
                }
                let stream = http2.then(|| hyper::upgrade::on(&mut request));
                let waits = !http2 && request.headers().contains_key(EXPECT);
                let (mut head, body) = attend(lane, peer, request, manners.as_deref()).await.into_parts();
                let body = match (body, stream) {
                    (AnswerBody::Switched(tunnel), Some(stream)) => {
                        tokio::task::spawn_local(on_stream(tunnel, stream, busy.again()));
                        AnswerBody::Empty
                    }
                    (AnswerBody::Switched(tunnel), None) => {
                        busy.connection().switch();
                        switched.set(Some(tunnel));
                        AnswerBody::Empty
                    }
                    (body, _) => body,
                };
                if waits {
                    announce_end(&mut head.headers, &body);
                }
                if let Some(clock) = clock {
                    clock.set(body.key());
                }
                Ok(Response::from_parts(head, Served { body, _busy: busy }))
            })
        })
    };
    if http2 {
        connection.set_multiplexed();
        let (corked, cork) = cork(watched);
        let served = http2_builder(streams, limits).serve_connection(TokioIo::new(corked), service);
        let served = pin!(served);
        return drive(served, &connection, http2::Connection::graceful_shutdown, |cx| cork.let_out(cx)).await;
    }
    let guard = Guard::new(watched, connection.clone(), limits.max_header_bytes).letting_out(told);
    serve_http1(guard, service, &connection, limits, &switched).await
}

/// After an answer of our own to a client that waits for leave to send its body,
/// what comes next could be that body or a request: the library closes. A client
/// that was not told would send its next request in vain.
fn announce_end(head: &mut HeaderMap, body: &AnswerBody) {
    if matches!(body, AnswerBody::Whole(_)) {
        head.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

async fn serve_http1<S>(
    guard: Guard<Watched>,
    service: S,
    connection: &Rc<Connection>,
    limits: &Limits,
    switched: &Cell<Option<Tunnel>>,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Served>, Error = Infallible> + Unpin,
{
    let mut served = http1::Builder::new()
        .max_header_size(limits.max_header_bytes)
        .max_headers(limits.max_headers)
        .serve_connection(TokioIo::new(guard), service);
    drive(Pin::new(&mut served), connection, http1::Connection::graceful_shutdown, |_| {}).await?;
    if let Some(tunnel) = switched.take() {
        let _busy = connection.occupy();
        let http1::Parts { io, read_buf, .. } = served.into_parts();
        let mut client = io.into_inner();
        client.go_through(&read_buf);
        Box::pin(tunnel.run(client, Some(connection))).await;
    }
    Ok(())
}

/// Answers a request as its listener has it.
async fn attend(
    lane: Rc<Lane>,
    peer: Rc<Peer>,
    mut request: Request<Incoming>,
    manners: Option<&Manners>,
) -> Response<AnswerBody> {
    let Some(manners) = manners else { return exchange(lane, peer, request).await };
    let greeting = manners.greet(&mut request, clock::now_us(), || lane.random());
    if greeting.limited {
        lane.counts.limited.add(1);
    }
    let mut response = match greeting.reply {
        Some(reply) => answer_ourselves(&lane, &request, reply),
        None => exchange(lane, peer, request).await,
    };
    response.headers_mut().extend(greeting.marks);
    manners.sign(response.headers_mut());
    response
}

fn http2_builder(streams: Streams, limits: &Limits) -> http2::Builder<Streams> {
    let settings = &limits.http2;
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_concurrent_streams(settings.max_streams)
        .max_frame_size(settings.max_frame_size)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .enable_connect_protocol();
    if let Some(keep_alive) = &settings.keep_alive {
        builder.keep_alive_interval(keep_alive.interval).keep_alive_timeout(keep_alive.timeout);
    }
    builder
}

/// An HTTP/2 client's stream becomes its end of the tunnel once the head is out.
async fn on_stream(tunnel: Tunnel, stream: OnUpgrade, _busy: Busy) {
    match stream.await {
        Ok(client) => tunnel.run(TokioIo::new(client), None).await,
        Err(error) => tracing::debug!(%error, "the client left before its tunnel stood"),
    }
}

/// `turned` is called after each turn.
async fn drive<C>(
    mut served: Pin<&mut C>,
    connection: &Connection,
    graceful: fn(Pin<&mut C>),
    turned: impl Fn(&mut Context<'_>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    poll_fn(|cx| {
        let ending = connection.ending(cx);
        if ending == Ending::Now {
            return Poll::Ready(Ok(()));
        }
        let mut polled = served.as_mut().poll(cx);
        // A request may have lain unread in the socket: it came in time.
        if ending == Ending::Graceful && polled.is_pending() {
            graceful(served.as_mut());
            polled = served.as_mut().poll(cx);
        }
        turned(cx);
        polled
    })
    .await
}

/// What the listener has to say to a request; mostly nothing, which costs nothing.
fn extensions(limits: &Limits) -> Extensions {
    let mut extensions = Extensions::new();
    if let Some(time) = limits.request_timeout {
        extensions.insert(RequestTimeout(clock::us(time)));
    }
    extensions
}

/// Where a request is not looked at any further.
fn refused(
    lane: &Lane,
    busy: &Busy,
    request: &Request<Incoming>,
    max_headers: usize,
    manners: Option<&Manners>,
) -> Option<Response<AnswerBody>> {
    let mut response = if lane.overload.refuses_requests() || busy.connection().is_surplus() {
        overloaded(lane, busy)
    } else if request.headers().len() > max_headers {
        too_many_headers()
    } else {
        return None;
    };
    if let Some(manners) = manners {
        manners.sign(response.headers_mut());
    }
    Some(response)
}

/// Said without a look at the request.
fn overloaded(lane: &Lane, busy: &Busy) -> Response<AnswerBody> {
    lane.overload.seats(lane.index).refused_requests.add(1);
    busy.connection().leave();
    let reply = Reply::of_fault(Fault { at: At::Proxy, kind: Kind::Overloaded });
    let mut response = Response::new(AnswerBody::Whole(Some(reply.body)));
    (*response.status_mut(), *response.headers_mut()) = (reply.status, reply.headers);
    response
}

fn too_many_headers() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Empty);
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// An answer's body that keeps its connection marked busy until it has ended.
struct Served {
    body: AnswerBody,
    _busy: Busy,
}

impl Body for Served {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
