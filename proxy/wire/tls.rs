//! A byte stream with TLS on it, after its handshake.
//!
//! What came may be looked at before anybody reads it: the session takes records
//! from the socket and keeps their text, within its own bound. So it is known
//! whether the other side has closed, which the socket alone could not tell.

use std::io;
use std::io::{BufRead, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Wire;

/// Text that one write takes at most: what is encrypted waits in memory until
/// the socket has taken it.
const MOST_AT_ONCE: usize = 64 * 1024;

pub struct Tls {
    wire: Wire,
    session: Connection,
    /// Text that is encrypted and of which the writer does not know yet.
    taken: usize,
    /// No close is announced: the coming end is to be seen as a break.
    broken: bool,
}

/// What can be said of the other side without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Bytes,
    /// It has closed, rightly or not, or what it sent makes no sense.
    End,
}

impl Tls {
    pub fn new(wire: Wire, session: Connection) -> Tls {
        Tls { wire, session, taken: 0, broken: false }
    }

    /// Takes in what has come. `cx` is woken when there is more; without it only
    /// what is there now is asked for.
    pub fn look_ahead(&mut self, mut cx: Option<&mut Context<'_>>) -> Seen {
        loop {
            match self.session.reader().fill_buf() {
                Ok(text) => return if text.is_empty() { Seen::End } else { Seen::Bytes },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Seen::End,
            }
            let taken = match &mut cx {
                Some(cx) => self.take_records(cx),
                None => self.session.read_tls(&mut Now(&self.wire)).map_or_else(unready, found),
            };
            match taken {
                Poll::Pending => return Seen::Nothing,
                Poll::Ready(Err(_)) => return Seen::End,
                Poll::Ready(Ok(_)) => {
                    if self.session.process_new_packets().is_err() {
                        return Seen::End;
                    }
                }
            }
        }
    }

    /// What both sides have agreed to speak.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    pub fn under(&self) -> &Wire {
        &self.wire
    }

    pub fn break_off(&mut self) {
        self.broken = true;
        self.wire.break_off();
    }

    /// Announces the close that is about to come, as far as the socket takes it
    /// at once.
    pub fn say_goodbye(&mut self) {
        if self.broken {
            return;
        }
        self.session.send_close_notify();
        while self.session.wants_write() {
            match self.session.write_tls(&mut Now(&self.wire)) {
                Ok(1..) => {}
                // Whoever reads so slowly learns of the end by the socket's.
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn take_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Polled { wire: &mut self.wire, cx };
        self.session.read_tls(&mut socket).map_or_else(unready, found)
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Polled { wire: &mut self.wire, cx };
            match ready!(self.session.write_tls(&mut socket).map_or_else(unready, found))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                _ => continue,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Why the other side's records make no sense; it is told so.
    fn failed(&mut self, error: rustls::Error) -> io::Error {
        let _ = self.session.write_tls(&mut Now(&self.wire));
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.session.reader().read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // An end that was not announced is an error: somebody may have cut it.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
            ready!(this.take_records(cx))?;
            if let Err(error) = this.session.process_new_packets() {
                return Poll::Ready(Err(this.failed(error)));
            }
            // An answer to what was asked of the session itself, such as new keys.
            if this.session.wants_write()
                && this.taken == 0
                && let Poll::Ready(Err(error)) = this.poll_send(cx)
            {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl AsyncWrite for Tls {
    /// Text counts as written when the socket has taken it, as it does without
    /// TLS. Until then the same text must be offered again.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |mut writer| writer.write(&buf[..buf.len().min(MOST_AT_ONCE)]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |mut writer| writer.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Says it once, however often it is asked.
        this.session.send_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

impl Tls {
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        encrypt: impl FnOnce(rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            ready!(self.poll_send(cx))?;
            self.taken = encrypt(self.session.writer())?;
        }
        ready!(self.poll_send(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }
}

fn found(count: usize) -> Poll<io::Result<usize>> {
    Poll::Ready(Ok(count))
}

fn unready(error: io::Error) -> Poll<io::Result<usize>> {
    if error.kind() == io::ErrorKind::WouldBlock { Poll::Pending } else { Poll::Ready(Err(error)) }
}

/// A wire as the session's reader and writer: what would wait is `WouldBlock`,
/// and the task is woken when it need not.
struct Polled<'a, 'b, 'c> {
    wire: &'a mut Wire,
    cx: &'b mut Context<'c>,
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Polled<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut room = ReadBuf::new(buf);
        now(Pin::new(&mut *self.wire).poll_read(self.cx, &mut room))?;
        Ok(room.filled().len())
    }
}

impl Write for Polled<'_, '_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.wire).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.wire).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same without a task to wake: the kernel is asked, whatever the reactor knows.
struct Now<'a>(&'a Wire);

impl Read for Now<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0.socket()).read(buf)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.socket().send(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
