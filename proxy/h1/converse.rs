//! The two directions of one exchange: the client's body on its way up, the
//! answer on its way down. Both are polled side by side by one task, and each
//! says whom it waits for, so that nobody is blamed for another's silence.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::buffer::LARGE;
use crate::buffer::SMALL;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::h1::framing::Framing;

/// The client's body.
pub struct Upload {
    framing: Framing,
    /// Bytes at the front of the buffer that are known to be the body's.
    ready: usize,
    pub bytes: u64,
    waiting: bool,
    /// The last read used all its room.
    flows: bool,
    ended: bool,
    /// It broke the rules before it was ever waited for.
    bad: bool,
    /// What has gone up beyond the head, as long as it is short enough to be kept
    /// for another attempt.
    kept: Option<Vec<u8>>,
    keep: usize,
}

impl Upload {
    /// Of the body so much is kept at most. What rides along with the head is
    /// kept with it.
    pub fn new(framing: Framing, keep: usize) -> Upload {
        let ended = framing.is_done();
        let kept = Some(Vec::new());
        Upload { framing, ready: 0, bytes: 0, waiting: false, flows: false, ended, bad: false, kept, keep }
    }

    /// Can it be sent from its beginning?
    pub fn is_whole(&self) -> bool {
        self.kept.is_some()
    }

    pub fn kept(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// There will be no other attempt.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    fn keep(&mut self, sent: &[u8]) {
        if let Some(kept) = &mut self.kept {
            if kept.len() + sent.len() <= self.keep {
                kept.extend_from_slice(sent);
            } else {
                self.kept = None;
            }
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Lets what is here of the body already ride along with the head.
    /// Answers with how many bytes that were.
    pub fn ride(&mut self, head: &mut Vec<u8>, here: &[u8]) -> usize {
        let here = &here[..here.len().min(RIDE_ALONG)];
        let Ok(count) = self.framing.advance(here) else {
            self.bad = true;
            return 0;
        };
        head.extend_from_slice(&here[..count]);
        self.bytes += count as u64;
        self.ended = self.framing.is_done();
        count
    }

    /// Resolves when all has been sent, or when either side gave up. A broken
    /// upstream is no error here: its answer, or the lack of one, says more.
    pub fn poll<R, W>(
        &mut self,
        from: &mut R,
        buffer: &mut Buffer,
        to: &mut W,
        flight: &Flight,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let gone = Fault::downstream(Kind::ClientGone);
        if self.bad {
            return Poll::Ready(Err(Fault::downstream(Kind::BadRequest)));
        }
        loop {
            if self.ready > 0 {
                match ready!(Pin::new(&mut *to).poll_write(cx, &buffer.filled()[..self.ready])) {
                    Ok(count @ 1..) => {
                        self.keep(&buffer.filled()[..count]);
                        buffer.consume(count);
                        self.ready -= count;
                        self.bytes += count as u64;
                        continue;
                    }
                    Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                }
            }
            if self.framing.is_done() {
                self.ended = true;
                flight.lane.flights.request_ended(flight.key);
                return Poll::Ready(Ok(()));
            }
            if !buffer.is_empty() {
                let bad = |_| Fault::downstream(Kind::BadRequest);
                self.ready = self.framing.advance(buffer.filled()).map_err(bad)?;
                continue;
            }
            let room = room(&self.framing, self.flows);
            match buffer.poll_fill_room(room, from, &flight.lane.buffers, cx) {
                Poll::Pending => {
                    self.waiting = true;
                    flight.lane.flights.hand_over(flight.key);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(1..)) => {
                    if std::mem::take(&mut self.waiting) {
                        flight.lane.flights.take_back(flight.key);
                    }
                    flight.lane.flights.progress(flight.key);
                    self.flows = buffer.is_full();
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(gone)),
            }
        }
    }
}

/// The answer: a head that is ready to be sent, and the body behind it.
pub struct Download {
    head: Vec<u8>,
    sent: usize,
    pub framing: Framing,
    ready: usize,
    flows: bool,
    handed: bool,
}

/// Room for the next read of a body: much where much is known to come, or where
/// the read before found more than it had room for.
fn room(framing: &Framing, flows: bool) -> usize {
    if flows || framing.exceeds(SMALL) { LARGE } else { SMALL }
}

/// Body bytes up to this many ride along with the head in one write.
pub const RIDE_ALONG: usize = 16 * 1024;

impl Download {
    /// `buffer` holds what came of the body with the head.
    pub fn new(
        mut head: Vec<u8>,
        mut framing: Framing,
        buffer: &mut Buffer,
    ) -> Result<(Download, usize), Fault> {
        let rest = &buffer.filled()[..buffer.filled().len().min(RIDE_ALONG)];
        let count = framing.advance(rest).map_err(Fault::upstream)?;
        head.extend_from_slice(&rest[..count]);
        buffer.consume(count);
        Ok((Download { head, sent: 0, framing, ready: 0, flows: false, handed: false }, count))
    }

    pub fn into_memory(self) -> Vec<u8> {
        self.head
    }

    /// Resolves when the client's socket has taken the whole answer.
    pub fn poll<R, W>(
        &mut self,
        from: &mut R,
        buffer: &mut Buffer,
        to: &mut W,
        flight: &Flight,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.sent < self.head.len() {
                let written = Pin::new(&mut *to).poll_write(cx, &self.head[self.sent..]);
                self.sent += ready!(self.taken(written, flight))?;
                continue;
            }
            if self.ready > 0 {
                let written = Pin::new(&mut *to).poll_write(cx, &buffer.filled()[..self.ready]);
                let count = ready!(self.taken(written, flight))?;
                buffer.consume(count);
                self.ready -= count;
                continue;
            }
            if self.framing.is_done() {
                return Poll::Ready(Ok(()));
            }
            if !buffer.is_empty() {
                self.ready = self.framing.advance(buffer.filled()).map_err(Fault::upstream)?;
                flight.shard().bytes_out.add(self.ready as u64);
                continue;
            }
            let room = room(&self.framing, self.flows);
            let count = ready!(buffer.poll_fill_room(room, from, &flight.lane.buffers, cx));
            flight.lane.flights.progress(flight.key);
            match count {
                Ok(1..) => self.flows = buffer.is_full(),
                Ok(0) if matches!(self.framing, Framing::UntilClose) => return Poll::Ready(Ok(())),
                Ok(0) | Err(_) => return Poll::Ready(Err(Fault::upstream(Kind::Reset))),
            }
        }
    }

    /// While the client does not take more, it is the one we wait for.
    fn taken(&mut self, written: Poll<io::Result<usize>>, flight: &Flight) -> Poll<Result<usize, Fault>> {
        match written {
            Poll::Pending => {
                self.handed = true;
                flight.lane.flights.hand_over(flight.key);
                Poll::Pending
            }
            Poll::Ready(written) => {
                if std::mem::take(&mut self.handed) {
                    flight.lane.flights.take_back(flight.key);
                }
                Poll::Ready(match written {
                    Ok(count @ 1..) => Ok(count),
                    Ok(0) | Err(_) => Err(Fault::downstream(Kind::ClientGone)),
                })
            }
        }
    }
}
