//! A byte stream to a client or an endpoint, whatever carries it: everything
//! above reads and writes one type and asks it whether the other side is there.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    /// Has the other side closed? Bytes it has sent stay where they are. `cx` is
    /// woken when there is more to know.
    pub fn is_gone(&self, cx: &mut Context<'_>) -> bool {
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
    pub async fn has_left(&self) -> bool {
        let ready = async {
            match self {
                Wire::Tcp(stream) => stream.ready(Interest::READABLE).await,
                Wire::Unix(stream) => stream.ready(Interest::READABLE).await,
            }
        };
        let mut ready = std::pin::pin!(ready);
        let polled = std::future::poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Nothing has come since the last read, not even its end. Unless the reactor
    /// has seen something this makes no system call.
    pub fn is_quiet(&self) -> bool {
        let read = match self {
            Wire::Tcp(stream) => stream.try_read(&mut [0]),
            Wire::Unix(stream) => stream.try_read(&mut [0]),
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Asks the kernel, where the reactor has not yet told.
    pub fn has_bytes(&self) -> bool {
        self.socket().peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }

    /// Nothing has come, not even an end: asks the kernel, as above.
    pub fn is_open(&self) -> bool {
        let peeked = self.socket().peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes the coming close a break that nobody takes for an end.
    pub fn break_off(&self) {
        // A socket that refuses is closed by its other side already.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Wire::Tcp(stream) => SockRef::from(stream),
            Wire::Unix(stream) => SockRef::from(stream),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Wire::Tcp(stream) => stream.poll_read_ready(cx),
            Wire::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn try_peek(&self) -> io::Result<usize> {
        let peek = || self.socket().peek(&mut [MaybeUninit::uninit()]);
        match self {
            Wire::Tcp(stream) => stream.try_io(Interest::READABLE, peek),
            Wire::Unix(stream) => stream.try_io(Interest::READABLE, peek),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
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
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
