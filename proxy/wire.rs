//! A byte stream to a client or an endpoint, whatever carries it: everything
//! above reads and writes one type and asks it whether the other side is there.

mod tls;

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use tls::Seen;
pub use tls::Tls;

pub enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Tls>),
}

impl Wire {
    /// Has the other side closed? Bytes it has sent stay where they are. `cx` is
    /// woken when there is more to know.
    pub fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if let Wire::Tls(tls) = self {
            return tls.look_ahead(Some(cx)) == Seen::End;
        }
        loop {
            match self.poll_read_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) => {}
            }
            match self.try_peek() {
                Ok(count) => return count == 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
    }

    /// Has the other side closed, whatever it sent before?
    pub async fn has_left(&mut self) -> bool {
        if let Wire::Tls(tls) = self
            && tls.look_ahead(None) == Seen::End
        {
            return true;
        }
        let socket = self.bottom();
        let ready = async {
            match socket {
                Wire::Tcp(stream) => stream.ready(Interest::READABLE).await,
                Wire::Unix(stream) => stream.ready(Interest::READABLE).await,
                Wire::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            }
        };
        let mut ready = std::pin::pin!(ready);
        let polled = std::future::poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Nothing has come since the last read, not even its end. Unless the reactor
    /// has seen something this makes no system call.
    pub fn is_quiet(&mut self) -> bool {
        let read = match self {
            Wire::Tcp(stream) => stream.try_read(&mut [0]),
            Wire::Unix(stream) => stream.try_read(&mut [0]),
            Wire::Tls(tls) => return tls.look_ahead(None) == Seen::Nothing,
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Asks the kernel, where the reactor has not yet told.
    pub fn has_bytes(&mut self) -> bool {
        if let Wire::Tls(tls) = self {
            return tls.look_ahead(None) == Seen::Bytes;
        }
        self.socket().peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }

    /// Nothing has come, not even an end: asks the kernel, as above.
    pub fn is_open(&mut self) -> bool {
        if let Wire::Tls(tls) = self {
            return tls.look_ahead(None) == Seen::Nothing;
        }
        let peeked = self.socket().peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Has the other side chosen HTTP/2 in the handshake?
    pub fn has_chosen_http2(&self) -> bool {
        matches!(self, Wire::Tls(tls) if tls.protocol() == Some(b"h2"))
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Wire::Tls(_))
    }

    /// The address of our end, where there is one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Wire::Tcp(stream) => stream.local_addr().ok(),
            Wire::Unix(_) => None,
            Wire::Tls(tls) => tls.under().local_address(),
        }
    }

    /// Makes the coming close a break that nobody takes for an end.
    pub fn break_off(&mut self) {
        if let Wire::Tls(tls) = self {
            return tls.break_off();
        }
        // A socket that refuses is closed by its other side already.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// Announces the close that is about to come, where there is a way to.
    pub fn say_goodbye(&mut self) {
        if let Wire::Tls(tls) = self {
            tls.say_goodbye();
        }
    }

    /// The socket that carries it all.
    fn bottom(&self) -> &Wire {
        match self {
            Wire::Tls(tls) => tls.under().bottom(),
            socket => socket,
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Wire::Tcp(stream) => SockRef::from(stream),
            Wire::Unix(stream) => SockRef::from(stream),
            Wire::Tls(tls) => tls.under().socket(),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Tcp(stream) => stream.poll_read_ready(cx),
            Wire::Unix(stream) => stream.poll_read_ready(cx),
            Wire::Tls(tls) => tls.under().poll_read_ready(cx),
        }
    }

    fn try_peek(&self) -> io::Result<usize> {
        let peek = || self.socket().peek(&mut [MaybeUninit::uninit()]);
        match self {
            Wire::Tcp(stream) => stream.try_io(Interest::READABLE, peek),
            Wire::Unix(stream) => stream.try_io(Interest::READABLE, peek),
            Wire::Tls(_) => peek(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
