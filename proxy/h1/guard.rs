//! Stands between a client that speaks HTTP/1 and hyper: bytes pass once it is
//! sure that they have one reading, and a message that has two never does.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::Connection;
use crate::h1::framing::Framing;
use crate::h1::request;
use crate::h1::request::Extent;
use crate::h1::strict;
use crate::h1::strict::Passed;
use crate::interim::Told;

/// How much is read at once while a head is looked for.
const PIECE: usize = 8 * 1024;
/// No request begins like this, so hyper answers 400 and closes.
const NONSENSE: &[u8] = b"\0";

pub struct Guard<S> {
    stream: S,
    /// What is to go out between hyper's messages.
    told: Option<Told>,
    connection: Rc<Connection>,
    state: State,
    /// Read and not yet passed on.
    held: Vec<u8>,
    /// Of `held`, how many bytes may pass.
    cleared: usize,
    /// Of `held`, how many bytes were looked at for the end of a head.
    seen: usize,
    /// A head longer than this is hyper's to refuse.
    max_head: usize,
}

enum State {
    Head,
    Body(Framing),
    /// After a request that may end HTTP here: what follows waits for the answer.
    Switching,
    /// HTTP has ended, or hyper will end it.
    Through,
    Refused,
    /// It was told; what comes after it is never read.
    Ended,
}

impl<S: AsyncRead + Unpin> Guard<S> {
    pub fn new(stream: S, connection: Rc<Connection>, max_head: usize) -> Guard<S> {
        Guard {
            stream,
            told: None,
            connection,
            state: State::Head,
            held: Vec::new(),
            cleared: 0,
            seen: 0,
            max_head,
        }
    }

    /// Lets interim answers out to the client.
    pub fn letting_out(mut self, told: Told) -> Guard<S> {
        self.told = Some(told);
        self
    }

    #[cfg(any(test, fuzzing))]
    pub fn has_refused(&self) -> bool {
        matches!(self.state, State::Refused | State::Ended)
    }

    /// HTTP has ended: all that comes is the client's and passes as it is, first
    /// of all what was passed on and not read.
    pub fn go_through(&mut self, unread: &[u8]) {
        self.held.splice(..0, unread.iter().copied());
        self.cleared = self.held.len();
        self.state = State::Through;
    }

    /// Passes on what is cleared and fits.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.cleared.min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// Looks for a whole head at the front of what is held.
    fn inspect(&mut self) {
        // Empty lines before a request line are nobody's (RFC 9112, 2.2).
        let length = match request::extent(&self.held, self.seen) {
            Extent::Whole(length) if length <= self.max_head => length,
            Extent::Partial if self.held.len() <= self.max_head => {
                self.seen = self.held.len();
                return;
            }
            Extent::Irregular => {
                self.state = State::Refused;
                return;
            }
            Extent::Whole(_) | Extent::Partial => {
                self.state = State::Through;
                self.cleared = self.held.len();
                return;
            }
        };
        self.seen = 0;
        self.state = match strict::inspect(&self.held[..length]) {
            Ok(Passed { may_switch: true, .. }) => State::Switching,
            Ok(Passed { framing: Framing::None, .. }) => State::Head,
            Ok(Passed { framing, .. }) => State::Body(framing),
            Err(strict::Ambiguous) => State::Refused,
        };
        if !matches!(self.state, State::Refused) {
            self.cleared = length;
        }
    }

    /// Reads on into what is held; zero at the end.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE];
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        self.held.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// The body passes as it comes; what came behind its end is held.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let State::Body(framing) = &mut self.state else { return Poll::Ready(Ok(())) };
        if !self.held.is_empty() {
            self.cleared = framing.advance(&self.held).map_err(|_| ambiguous())?;
        } else {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let count = framing.advance(&buf.filled()[before..]).map_err(|_| ambiguous())?;
            self.held.extend_from_slice(&buf.filled()[before + count..]);
            buf.set_filled(before + count);
        }
        if framing.is_done() {
            self.state = State::Head;
        }
        Poll::Ready(Ok(()))
    }
}

fn ambiguous() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a body whose end could be read in two ways")
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let before = buf.filled().len();
        loop {
            if guard.cleared > 0 {
                guard.pass(buf);
                return Poll::Ready(Ok(()));
            }
            match guard.state {
                State::Head => {
                    if guard.held.len() > guard.seen {
                        guard.inspect();
                        continue;
                    }
                    if ready!(guard.poll_hold(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Body(_) => {
                    ready!(guard.poll_body(cx, buf))?;
                    if guard.cleared == 0 && guard.held.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Switching if guard.connection.has_switched() => {
                    guard.state = State::Through;
                    guard.cleared = guard.held.len();
                }
                State::Switching if !guard.connection.is_busy() => guard.state = State::Head,
                // Read on a little, to see a client that leaves.
                State::Switching if guard.held.len() < PIECE => {
                    if ready!(guard.poll_hold(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Switching => return Poll::Pending,
                State::Through => return Pin::new(&mut guard.stream).poll_read(cx, buf),
                State::Refused => {
                    guard.held = NONSENSE.to_vec();
                    guard.cleared = NONSENSE.len();
                    guard.state = State::Ended;
                }
                State::Ended => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Guard { stream, told, .. } = self.get_mut();
        if let Some(told) = told {
            ready!(told.poll_before(stream, cx))?;
        }
        Pin::new(stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Guard { stream, told, .. } = self.get_mut();
        if let Some(told) = told {
            told.flushed();
            ready!(told.poll_out(stream, cx))?;
        }
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Guard { stream, told, .. } = self.get_mut();
        if let Some(told) = told {
            ready!(told.poll_before(stream, cx))?;
        }
        Pin::new(stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
