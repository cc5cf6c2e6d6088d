//! The answer's body on its way down, watched to its end so that the request is
//! counted by what really came: whole, broken off, too late, or with a gRPC
//! status that says otherwise.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::Upload;
use crate::call::Arrival;
use crate::counting::Counting;
use crate::download::Download;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::flights::Key;
use crate::outcome;
use crate::outcome::Outcome;
use crate::tunnel::Tunnel;
use crate::upstream::Lease;

pub enum AnswerBody {
    Empty,
    /// An answer of our own, its body if it has one.
    Whole(Option<Bytes>),
    Relayed(Relayed),
    /// What follows the head is no body: the client's side has yet to switch.
    Switched(Tunnel),
}

/// A body as it comes from an endpoint.
pub enum Coming {
    Hyper(Download),
    Own(Box<Arrival>),
}

/// A body that a version sends.
pub struct Relayed {
    incoming: Coming,
    flight: Flight,
    lease: Option<Lease>,
    /// What the head said; the end of the body may say worse.
    outcome: Outcome,
    grpc: bool,
    /// The route's own rules of what counts as a failure.
    counting: Option<Arc<Counting>>,
    /// The client's body, which may still be on its way.
    upload: Option<Rc<Upload>>,
}

/// What the head of an answer said of its end.
pub struct Expected {
    pub outcome: Outcome,
    /// The outcome stands in trailers.
    pub grpc: bool,
    pub counting: Option<Arc<Counting>>,
    pub bodyless: bool,
}

impl AnswerBody {
    /// Watches `incoming`; one that has already ended is settled here and now.
    pub fn relay(
        incoming: Coming,
        flight: Flight,
        lease: Option<Lease>,
        upload: Option<Rc<Upload>>,
        expected: Expected,
    ) -> AnswerBody {
        let Expected { outcome, grpc, counting, bodyless } = expected;
        let mut relayed = Relayed { incoming, flight, lease, outcome, grpc, counting, upload };
        if relayed.incoming.is_end_stream() || bodyless {
            relayed.finish(None);
            return AnswerBody::Empty;
        }
        AnswerBody::Relayed(relayed)
    }
}

impl AnswerBody {
    /// The request by whose time the rest of the answer is measured.
    pub fn key(&self) -> Option<Key> {
        match self {
            AnswerBody::Relayed(relayed) => Some(relayed.flight.key),
            AnswerBody::Empty | AnswerBody::Whole(_) | AnswerBody::Switched(_) => None,
        }
    }
}

impl Relayed {
    fn finish(&mut self, trailers: Option<&http::HeaderMap>) {
        // A gRPC answer whose status never came was cut short.
        let failed = self.grpc && trailers.and_then(outcome::grpc_failure).unwrap_or(true);
        let outcome = if failed { self.outcome.failed() } else { self.outcome };
        let counting = self.counting.as_ref().filter(|_| self.grpc);
        let counts = counting.and_then(|counting| counting.of_trailers(trailers?));
        self.flight.settle(outcome.counted(counts));
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.flight.lane.flights.take_back(self.flight.key);
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(fault) = self.flight.overdue(cx.waker())
        {
            return Poll::Ready(Some(Err(self.fail(fault))));
        }
        match ready!(polled) {
            None => {
                self.finish(None);
                Poll::Ready(None)
            }
            Some(Err(fault)) => Poll::Ready(Some(Err(self.fail(fault)))),
            Some(Ok(frame)) => {
                self.flight.lane.flights.hand_over(self.flight.key);
                if let Some(data) = frame.data_ref() {
                    self.flight.shard().bytes_out.add(data.len() as u64);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.finish(Some(trailers));
                } else if self.incoming.is_end_stream() || self.has_all() {
                    self.finish(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// All that was announced has come, though the stream may still be open.
    /// Nobody asks it for more: an HTTP/1 client's answer is whole.
    fn has_all(&self) -> bool {
        !self.grpc && self.incoming.size_hint().exact() == Some(0)
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        let client_failed = self.upload.as_ref().is_some_and(|upload| upload.has_failed());
        let fault = if client_failed { Fault::downstream(Kind::ClientGone) } else { fault };
        let blamed = fault.at == At::Upstream;
        self.flight.settle(if blamed { self.outcome.failed() } else { self.outcome.uncounted() });
        self.lease = None;
        fault
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // The client left in the middle; unless settled before, nobody's fault.
        self.flight.settle(self.outcome.uncounted());
        if let Some(upload) = &self.upload {
            self.flight.shard().bytes_in.add(upload.bytes());
        }
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Coming::Hyper(download) => {
                let polled = Pin::new(download).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(|error| Fault::of_exchange(&error))))
            }
            Coming::Own(arrival) => Pin::new(&mut **arrival).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Coming::Hyper(download) => download.is_end_stream(),
            Coming::Own(arrival) => arrival.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Coming::Hyper(download) => download.size_hint(),
            Coming::Own(arrival) => arrival.size_hint(),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            AnswerBody::Empty | AnswerBody::Switched(_) => Poll::Ready(None),
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            AnswerBody::Relayed(relayed) => relayed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Empty | AnswerBody::Whole(None) | AnswerBody::Switched(_) => true,
            AnswerBody::Whole(Some(_)) => false,
            AnswerBody::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Empty | AnswerBody::Whole(None) | AnswerBody::Switched(_) => SizeHint::with_exact(0),
            AnswerBody::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}
