//! Interim answers (1xx), such as early hints, on their way from a version to the
//! client.
//!
//! They are hints and nothing rests on them: one that cannot go out at once, or is
//! one too many, is dropped. `100 Continue` is not among them: the proxy gives
//! that leave itself, and asks no version for it. hyper tells of those that come
//! over HTTP/1 and can send none, so they go past it, between its own messages.
//! Over HTTP/2 it does neither.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use http::HeaderMap;
use http::Request;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::rewrite;

/// So many are passed on of one attempt.
pub const MOST: usize = 8;

/// Is this one for the client?
pub fn is_for_client(status: StatusCode) -> bool {
    status.is_informational() && !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
}

/// The two ends of a client's connection that hyper drives.
pub fn line() -> (Teller, Told) {
    let (sender, receiver) = mpsc::channel(MOST);
    (Teller(sender), Told { receiver, out: Vec::new(), between: true })
}

/// Goes with a request to whoever asks a version.
#[derive(Clone)]
pub struct Teller(mpsc::Sender<Vec<u8>>);

impl Teller {
    /// Has hyper tell of what comes before the answer to this request.
    pub fn listen<B>(self, request: &mut Request<B>) {
        let passed = AtomicUsize::new(0);
        hyper::ext::on_informational(request, move |interim| {
            if is_for_client(interim.status()) && passed.fetch_add(1, Ordering::Relaxed) < MOST {
                // Where there is no room the client has missed a hint.
                let _ = self.0.try_send(written(interim.status(), interim.headers().clone()));
            }
        });
    }
}

fn written(status: StatusCode, mut headers: HeaderMap) -> Vec<u8> {
    rewrite::strip_connection_fields(&mut headers);
    headers.remove(CONTENT_LENGTH);
    let mut head = Vec::new();
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or(""), "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// What is told, for whoever writes to the client.
pub struct Told {
    receiver: mpsc::Receiver<Vec<u8>>,
    /// What is left of one that has begun to go out.
    out: Vec<u8>,
    /// hyper holds nothing of an answer that the client has not yet.
    between: bool,
}

impl Told {
    /// hyper has handed over all that it had.
    pub fn flushed(&mut self) {
        self.between = true;
    }

    /// hyper is about to write: what has been told goes first, unless it would land
    /// in the middle of the answer to an earlier request.
    pub fn poll_before<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        ready!(self.poll_out(stream, cx))?;
        self.between = false;
        Poll::Ready(Ok(()))
    }

    pub fn poll_out<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        loop {
            while !self.out.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, &self.out))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => drop(self.out.drain(..count)),
                }
            }
            match self.receiver.poll_recv(cx) {
                Poll::Ready(Some(head)) if self.between => self.out = head,
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}
