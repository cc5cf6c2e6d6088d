//! A connection that has stopped being HTTP: bytes go both ways unread, until
//! both sides have ended, one breaks, or neither says anything for too long.
//!
//! The request was counted when its head said yes. What becomes of the tunnel
//! afterwards is between its two ends and counts for and against nobody; only
//! its bytes are still added up.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::buffer::Buffers;
use crate::connections::Connection;
use crate::connections::Ending;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::lane::VersionView;
use crate::retry::MAX_TRIES;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::upstream::Link;
use crate::upstream::Wish;

/// The far side of a tunnel, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// The upstream's half of a tunnel, waiting for the client's.
pub struct Tunnel {
    upstream: Box<dyn Stream>,
    flight: Flight,
    /// The upstream connection's place among those that are bounded.
    _held: Box<dyn Any>,
}

impl Tunnel {
    /// `flight` is settled; it goes on as the tunnel's idle clock.
    pub fn new(upstream: impl Stream + 'static, flight: Flight, held: impl Any) -> Tunnel {
        flight.lane.flights.head_came(flight.key);
        flight.lane.flights.take_back(flight.key);
        Tunnel { upstream: Box::new(upstream), flight, _held: Box::new(held) }
    }

    /// Returns when the tunnel has ended. `connection` is the client's where it
    /// is the tunnel's alone, and may be told to end.
    pub async fn run(mut self, mut client: impl Stream, connection: Option<&Connection>) {
        let Tunnel { upstream, flight, .. } = &mut self;
        let buffers = &flight.lane.buffers;
        let (mut up, mut down) = (Half::default(), Half::default());
        let ended: io::Result<()> = poll_fn(|cx| {
            if connection.is_some_and(|connection| connection.ending(cx) == Ending::Now) {
                return Poll::Ready(Ok(()));
            }
            let sent = up.poll(&mut client, upstream, buffers, cx)?;
            let received = down.poll(upstream, &mut client, buffers, cx)?;
            if up.take_moved(&flight.shard().bytes_in) | down.take_moved(&flight.shard().bytes_out) {
                flight.lane.flights.progress(flight.key);
            }
            if sent.is_ready() && received.is_ready() {
                return Poll::Ready(Ok(()));
            }
            match flight.overdue(cx.waker()) {
                Some(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                None => Poll::Pending,
            }
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "tunnel broke");
        }
    }
}

/// One direction.
#[derive(Default)]
struct Half {
    buffer: Buffer,
    moved: u64,
    /// The source has ended.
    ended: bool,
    /// And the sink knows.
    closed: bool,
    unflushed: bool,
}

impl Half {
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin + ?Sized),
        to: &mut (impl AsyncWrite + Unpin + ?Sized),
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (from, mut to) = (&mut *from, Pin::new(to));
        while !self.closed {
            if !self.buffer.is_empty() {
                let count = ready!(to.as_mut().poll_write(cx, self.buffer.filled()))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.consume(count);
                self.moved += count as u64;
                self.unflushed = true;
                continue;
            }
            if self.ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.closed = true;
                continue;
            }
            match self.buffer.poll_fill(&mut &mut *from, buffers, cx) {
                Poll::Ready(Ok(0)) => {
                    self.buffer.release(buffers);
                    self.ended = true;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what has been moved since the last time; was there anything?
    fn take_moved(&mut self, count: &crate::tally::Count) -> bool {
        let moved = std::mem::take(&mut self.moved);
        count.add(moved);
        moved > 0
    }
}

/// A connection to an endpoint of a version, as it is, for a tunnel that ends here.
pub async fn reach(
    version: &VersionView,
    plan: &VersionPlan,
    wish: &Wish<'_>,
    shard: &Shard,
) -> Result<Link, Fault> {
    let mut fault = Fault::upstream(Kind::NoHealthyUpstream);
    for tried in 0..MAX_TRIES.min(version.picker.len() as u32) {
        let Some(backend) = version.picker.pick(wish, tried) else { break };
        if tried > 0 {
            shard.retries.add(1);
        }
        match backend.links.open(true, false, plan.connect_timeout, None).await {
            Ok(link) => return Ok(link),
            Err(failed) => fault = failed,
        }
    }
    Err(fault)
}
