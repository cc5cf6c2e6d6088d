//! An answer's body, of which what came with the head is looked at before the
//! head is passed on: garbage there can still become an answer of our own. It
//! does not wait for what has not come, because a head may precede its body by
//! minutes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::fault::Fault;
use crate::fault::Kind;

type Polled = Option<Result<Frame<Bytes>, hyper::Error>>;

pub struct Download {
    incoming: Incoming,
    /// What the look found, until somebody takes it.
    first: Option<First>,
}

enum First {
    Data(Bytes),
    /// Trailers, the end or a break: rare, and large beside the rest.
    Other(Box<Polled>),
}

impl Download {
    /// As it comes.
    pub fn new(incoming: Incoming) -> Download {
        Download { incoming, first: None }
    }

    /// Only garbage is a fault here: what breaks off has begun.
    pub async fn look(mut incoming: Incoming) -> Result<Download, Fault> {
        if incoming.is_end_stream() {
            return Ok(Download::new(incoming));
        }
        let first = std::future::poll_fn(|cx| match Pin::new(&mut incoming).poll_frame(cx) {
            Poll::Ready(polled) => Poll::Ready(Some(polled)),
            Poll::Pending => Poll::Ready(None),
        });
        let Some(polled) = first.await else { return Ok(Download::new(incoming)) };
        let first = match polled {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => First::Data(data),
                Err(frame) => First::Other(Box::new(Some(Ok(frame)))),
            },
            Some(Err(error)) => match Fault::of_exchange(&error) {
                fault if fault.kind == Kind::Garbage => return Err(fault),
                _ => First::Other(Box::new(Some(Err(error)))),
            },
            None => First::Other(Box::new(None)),
        };
        Ok(Download { incoming, first: Some(first) })
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        match self.first.take() {
            Some(First::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(First::Other(polled)) => Poll::Ready(*polled),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let Some(First::Data(data)) = &self.first else { return rest };
        let rest = rest.exact().map(|rest| rest + data.len() as u64);
        rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
