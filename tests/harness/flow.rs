//! What an origin is told to answer, and the body that carries it out.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};

const CHUNK: u64 = 16 * 1024;

/// An answer to be given, built up from one of the first four.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub delay: Duration,
    pub(super) content: Content,
    trailers: Vec<(String, String)>,
    gap: Duration,
    break_after: Option<u64>,
    ends_apart: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The origin's name.
    Name,
    /// The request as JSON.
    Echo,
    /// The request's body and trailers as they come.
    SendBack,
    Text(Bytes),
    /// So many bytes, in chunks, of no announced length.
    Stream(u64),
}

impl Answer {
    pub fn ok() -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            delay: Duration::ZERO,
            content: Content::Name,
            trailers: Vec::new(),
            gap: Duration::ZERO,
            break_after: None,
            ends_apart: false,
        }
    }

    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::ok() }
    }

    pub fn echo() -> Answer {
        Answer { content: Content::Echo, ..Answer::ok() }
    }

    pub fn stream(bytes: u64) -> Answer {
        Answer { content: Content::Stream(bytes), ..Answer::ok() }
    }

    pub fn send_back() -> Answer {
        Answer { content: Content::SendBack, ..Answer::ok() }
    }

    pub fn text(mut self, text: &str) -> Answer {
        self.content = Content::Text(Bytes::from(text.to_owned()));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Answer {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// Waits before the head.
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    /// Waits between chunks.
    pub fn every(mut self, gap: Duration) -> Answer {
        self.gap = gap;
        self
    }

    /// Breaks the body off after so many bytes.
    pub fn broken_after(mut self, bytes: u64) -> Answer {
        self.break_after = Some(bytes);
        self
    }

    /// Ends the body by an empty frame of its own, after the last of its bytes.
    pub fn ends_apart(mut self) -> Answer {
        self.ends_apart = true;
        self
    }

    pub fn is_failure(&self) -> bool {
        self.status >= 500 || self.break_after.is_some()
    }
}

/// The body of an answer.
pub struct Flow {
    source: Source,
    left: u64,
    break_in: Option<u64>,
    gap: Duration,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    trailers: Option<HeaderMap>,
    ends_apart: bool,
    sent: Arc<AtomicU64>,
    /// An unread request body, kept so that nobody tells the sender to stop.
    _kept: Option<Incoming>,
}

enum Source {
    Bytes(Bytes),
    Filler,
    Back(Incoming),
}

impl Flow {
    pub(super) fn new(answer: &Answer, content: Content, sent: Arc<AtomicU64>) -> Flow {
        let (source, left) = match content {
            Content::Text(bytes) => {
                let left = bytes.len() as u64;
                (Source::Bytes(bytes), left)
            }
            Content::Stream(bytes) => (Source::Filler, bytes),
            Content::Name | Content::Echo | Content::SendBack => (Source::Bytes(Bytes::new()), 0),
        };
        let mut trailers = HeaderMap::new();
        for (name, value) in &answer.trailers {
            let name: HeaderName = name.parse().expect("tests write legal names");
            trailers.insert(name, HeaderValue::from_str(value).expect("tests write legal values"));
        }
        Flow {
            source,
            left,
            break_in: answer.break_after,
            gap: answer.gap,
            wait: None,
            trailers: (!trailers.is_empty()).then_some(trailers),
            ends_apart: answer.ends_apart,
            sent,
            _kept: None,
        }
    }

    pub(super) fn back(body: Incoming) -> Flow {
        Flow {
            source: Source::Back(body),
            left: 0,
            break_in: None,
            gap: Duration::ZERO,
            wait: None,
            trailers: None,
            ends_apart: false,
            sent: Arc::default(),
            _kept: None,
        }
    }

    pub(super) fn holding(self, kept: Option<Incoming>) -> Flow {
        Flow { _kept: kept, ..self }
    }

    fn next(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        if self.break_in == Some(0) {
            return Some(Err(ErrorKind::ConnectionAborted.into()));
        }
        if self.left == 0 {
            return self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
        }
        let size = self.left.min(CHUNK).min(self.break_in.unwrap_or(CHUNK));
        self.left -= size;
        self.break_in = self.break_in.map(|bytes| bytes - size);
        self.sent.fetch_add(size, Ordering::Relaxed);
        Some(Ok(Frame::data(match &mut self.source {
            Source::Bytes(bytes) => bytes.split_to(size as usize),
            _ => Bytes::from_static(&[b'x'; CHUNK as usize]).slice(..size as usize),
        })))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Source::Back(body) = &mut self.source {
            let frame = ready!(Pin::new(body).poll_frame(context));
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::other)));
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        let frame = self.next();
        if !self.gap.is_zero() {
            self.wait = Some(Box::pin(tokio::time::sleep(self.gap)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Back(body) => body.is_end_stream(),
            _ => !self.ends_apart && self.left == 0 && self.break_in != Some(0) && self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.source {
            Source::Bytes(_) if self.trailers.is_none() && self.break_in.is_none() => {
                hyper::body::SizeHint::with_exact(self.left)
            }
            Source::Back(body) => body.size_hint(),
            _ => hyper::body::SizeHint::default(),
        }
    }
}
