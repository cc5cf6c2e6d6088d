//! What an HTTP/2 connection writes, held back until its task has nothing more to
//! do, so that all the frames of one turn go out together.
//!
//! h2 writes and flushes for each DATA frame that is not tiny: a message of a
//! stream costs a system call, and so does each answer on a shared connection.
//! Here a flush is only noted. Whoever drives the connection lets out what is held
//! at the end of each of the task's turns: nothing ever waits for a timer, nor for
//! more to come.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is held of one connection at most.
const MOST: usize = 32 * 1024;
/// A piece as long as this goes straight to the socket where it need not wait for
/// others: to copy it would cost more than it saves.
const LONG: usize = 8 * 1024;

thread_local! {
    /// Memory for whoever holds something next. But where sockets are full no two
    /// connections of a worker hold anything at once.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The stream as its writer sees it.
pub struct Corked<S>(Rc<RefCell<Held<S>>>);

/// Lets out what is held.
pub struct Cork<S>(Rc<RefCell<Held<S>>>);

struct Held<S> {
    stream: S,
    bytes: Vec<u8>,
    /// Of `bytes`, how many the stream has taken.
    sent: usize,
    /// Why the stream took no more; its writer has yet to hear of it.
    broken: Option<io::Error>,
}

pub fn cork<S>(stream: S) -> (Corked<S>, Cork<S>) {
    let held = Rc::new(RefCell::new(Held { stream, bytes: Vec::new(), sent: 0, broken: None }));
    (Corked(held.clone()), Cork(held))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// To be called at the end of each turn of the task that writes.
    pub fn let_out(&self, cx: &mut Context<'_>) {
        let mut held = self.0.borrow_mut();
        if held.bytes.is_empty() || held.broken.is_some() {
            return;
        }
        if let Poll::Ready(Err(error)) = held.poll_let_out(cx) {
            held.broken = Some(error);
            // It reads on, and is told then.
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_let_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.sent = 0;
        self.bytes.clear();
        SPARE.set(std::mem::take(&mut self.bytes));
        Poll::Ready(Ok(()))
    }

    /// Makes room for so many bytes; false where they are to go past.
    fn poll_room(&mut self, count: usize, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        if self.bytes.len() + count > MOST {
            ready!(self.poll_let_out(cx))?;
        }
        Poll::Ready(Ok(!(self.bytes.is_empty() && count >= LONG)))
    }

    fn hold(&mut self, piece: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes = SPARE.take();
        }
        self.bytes.extend_from_slice(piece);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        match held.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut held.stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut held = self.0.borrow_mut();
        if !ready!(held.poll_room(buf.len(), cx))? {
            return Pin::new(&mut held.stream).poll_write(cx, buf);
        }
        held.hold(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.borrow_mut();
        let count = bufs.iter().map(|buf| buf.len()).sum();
        if !ready!(held.poll_room(count, cx))? {
            return Pin::new(&mut held.stream).poll_write_vectored(cx, bufs);
        }
        bufs.iter().for_each(|buf| held.hold(buf));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }

    /// What is held goes out when the task's turn ends.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        match held.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None if held.bytes.is_empty() => Pin::new(&mut held.stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        ready!(held.poll_let_out(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
    }
}

/// Runs what hyper spawns for a connection to an endpoint, on the worker's own
/// thread. The first of it drives the connection.
pub struct Driver<S>(Rc<Cell<Option<Cork<S>>>>);

impl<S> Clone for Driver<S> {
    fn clone(&self) -> Driver<S> {
        Driver(self.0.clone())
    }
}

impl<S> Driver<S> {
    pub fn new(cork: Cork<S>) -> Driver<S> {
        Driver(Rc::new(Cell::new(Some(cork))))
    }
}

impl<F, S> hyper::rt::Executor<F> for Driver<S>
where
    F: Future + 'static,
    S: AsyncWrite + Unpin + 'static,
{
    fn execute(&self, future: F) {
        let Some(cork) = self.0.take() else {
            tokio::task::spawn_local(async move {
                future.await;
            });
            return;
        };
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let driven = future.as_mut().poll(cx).map(drop);
                cork.let_out(cx);
                driven
            })
            .await;
        });
    }
}
