//! A client's connection: the next head, and the ways it can end.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::buffer::Buffer;
use crate::connections::Connection;
use crate::connections::Ending;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::h1::copy::Copy;
use crate::h1::question::Question;
use crate::h1::request;
use crate::h1::request::Extent;
use crate::h1::request::Unfit;
use crate::lane::Lane;
use crate::manners::Manners;
use crate::model::Limits;
use crate::rewrite::Peer;
use crate::wire::Wire;

/// How much and how long is read on from a client whose connection ends.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection and what was read of it.
pub struct Client<'a> {
    pub lane: &'a Rc<Lane>,
    pub connection: &'a Rc<Connection>,
    pub peer: &'a Peer,
    pub manners: Option<&'a Manners>,
    pub wire: Wire,
    pub input: Buffer,
    /// Of the last request, while its answer is missing.
    pub copy: Option<Box<Copy>>,
}

impl Client<'_> {
    /// Within how many bytes the next head ends; `None` when there is none to come.
    pub async fn next_head(&mut self, limits: &Limits) -> Option<Result<usize, Unfit>> {
        let (mut seen, most) = (0, limits.max_header_bytes);
        loop {
            let filled = self.input.filled();
            if filled.len() <= most && request::is_whole(filled) {
                return Some(Ok(filled.len()));
            }
            match request::extent(filled, seen) {
                Extent::Whole(length) if length <= most => return Some(Ok(length)),
                Extent::Whole(_) => return Some(Err(Unfit::Irregular)),
                Extent::Irregular => return Some(Err(Unfit::Ambiguous)),
                Extent::Partial if filled.is_empty() => {}
                Extent::Partial => {
                    self.connection.heard();
                    seen = filled.len();
                }
            }
            if seen >= most || !self.input.reserve(most) {
                return Some(Err(Unfit::Irregular));
            }
            let (connection, wire) = (self.connection, &mut self.wire);
            let (input, buffers, copy) = (&mut self.input, &self.lane.buffers, &mut self.copy);
            let filled = poll_fn(|cx| {
                if let Some(waiting) = copy.take() {
                    *copy = waiting.look(cx);
                }
                match connection.ending(cx) {
                    Ending::Now => Poll::Ready(Ok(0)),
                    // A request may lie unread in the socket: it came in time.
                    Ending::Graceful => match input.poll_fill(wire, buffers, cx) {
                        Poll::Pending if input.is_empty() && !wire.has_bytes() => Poll::Ready(Ok(0)),
                        polled => polled,
                    },
                    Ending::None => input.poll_fill(wire, buffers, cx),
                }
            });
            if let Ok(0) | Err(_) = filled.await {
                return None;
            }
        }
    }

    /// Sends the copy of a request, where there is one that was not sent. One whose
    /// answer is still missing has to go its own way.
    pub async fn send_copy(&mut self, question: &mut Question) {
        let Some(copy) = question.copy.take() else { return };
        let slot = &mut self.copy;
        let mut copy = Some(copy);
        poll_fn(|cx| {
            if let Some(late) = slot.take().and_then(|late| late.look(cx)) {
                late.go_alone();
            }
            *slot = copy.take().and_then(|copy| copy.set_out(cx));
            Poll::Ready(())
        })
        .await;
    }

    /// Reads on for a moment after the last answer: bytes that nobody reads
    /// would make the kernel reset the connection, answer and all.
    pub async fn linger(&mut self) {
        let Self { wire, input, lane, .. } = self;
        let discard = async {
            wire.shutdown().await?;
            let mut left = LINGER_BYTES;
            while left > 0 {
                input.release(&lane.buffers);
                match poll_fn(|cx| input.poll_fill(wire, &lane.buffers, cx)).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        // Whatever comes of it, the connection ends here.
        let _ = tokio::time::timeout(LINGER, discard).await;
    }

    /// The future's output, or that the client has left meanwhile.
    pub async fn unless_gone<F: Future>(&mut self, future: F) -> Result<F::Output, Fault> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.wire.is_gone(cx) => Poll::Ready(Err(Fault::downstream(Kind::ClientGone))),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}
