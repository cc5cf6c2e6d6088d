//! The request's body on its way up: relayed as it comes, kept for a second try
//! within a bound, and copied to a mirror within another.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::flights::Flights;
use crate::flights::Key;

/// Why a body that we send upstream breaks off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the client's body broke off")]
    Client(#[source] hyper::Error),
    #[error("another attempt reads this body now")]
    Superseded,
    #[error("the mirrored body was abandoned")]
    Abandoned,
}

/// A body as one attempt sends it.
pub enum RequestBody {
    Empty,
    Live { upload: Rc<Upload>, reader: u32, position: usize },
    Copy(Rc<Tee>),
}

/// A client's body, shared by the attempts that may send it.
pub struct Upload {
    state: RefCell<State>,
    flights: Rc<Flights>,
    key: Key,
    bytes: Cell<u64>,
    failed: Cell<bool>,
}

struct State {
    incoming: Incoming,
    kept: Vec<Part>,
    kept_bytes: usize,
    /// Bytes kept at most; zero once they were too many.
    keep: usize,
    /// Something of it was read.
    begun: bool,
    ended: bool,
    /// Only the newest attempt may read.
    reader: u32,
    /// Of the attempt that waits for more.
    waker: Option<Waker>,
    tee: Option<Rc<Tee>>,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    fn of(frame: Frame<Bytes>) -> Option<Part> {
        match frame.into_data() {
            Ok(data) => Some(Part::Data(data)),
            Err(frame) => frame.into_trailers().ok().map(Part::Trailers),
        }
    }

    fn len(&self) -> usize {
        match self {
            Part::Data(data) => data.len(),
            Part::Trailers(fields) => {
                fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Part::Data(data) => Frame::data(data),
            Part::Trailers(fields) => Frame::trailers(fields),
        }
    }
}

impl Upload {
    pub fn new(
        incoming: Incoming,
        keep: usize,
        tee: Option<Rc<Tee>>,
        flights: Rc<Flights>,
        key: Key,
    ) -> Rc<Upload> {
        let state = State {
            incoming,
            kept: Vec::new(),
            kept_bytes: 0,
            keep,
            begun: false,
            ended: false,
            reader: 0,
            waker: None,
            tee,
        };
        Rc::new(Upload {
            state: RefCell::new(state),
            flights,
            key,
            bytes: Cell::new(0),
            failed: Cell::new(false),
        })
    }

    /// The body from its beginning; whoever read it before is cut off.
    pub fn read(self: &Rc<Self>) -> RequestBody {
        let mut state = self.state.borrow_mut();
        state.reader += 1;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        RequestBody::Live { upload: self.clone(), reader: state.reader, position: 0 }
    }

    /// Can the body be sent from its beginning?
    pub fn is_whole(&self) -> bool {
        let state = self.state.borrow();
        !self.failed.get() && (state.keep != 0 || !state.begun)
    }

    /// Did the client break off or send nonsense?
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn poll(
        &self,
        reader: u32,
        position: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.state.borrow_mut();
        if state.reader != reader {
            return Poll::Ready(Some(Err(Broken::Superseded)));
        }
        if let Some(part) = state.kept.get(*position) {
            *position += 1;
            return Poll::Ready(Some(Ok(part.clone().into_frame())));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut state.incoming).poll_frame(cx) else {
                state.waker = Some(cx.waker().clone());
                self.flights.hand_over(self.key);
                return Poll::Pending;
            };
            self.flights.take_back(self.key);
            self.flights.progress(self.key);
            let part = match frame {
                None => {
                    self.finish(&mut state);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.failed.set(true);
                    return Poll::Ready(Some(Err(Broken::Client(error))));
                }
                Some(Ok(frame)) => Part::of(frame),
            };
            let Some(part) = part else { continue };
            state.begun = true;
            self.bytes.set(self.bytes.get() + part.len() as u64);
            if let Some(tee) = &state.tee {
                tee.push(part.clone());
            }
            state.keep(&part, position);
            if state.incoming.is_end_stream() {
                self.finish(&mut state);
            }
            return Poll::Ready(Some(Ok(part.into_frame())));
        }
    }

    fn finish(&self, state: &mut State) {
        if !state.ended {
            state.ended = true;
            self.flights.request_ended(self.key);
            if let Some(tee) = &state.tee {
                tee.end();
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        let kept = state.kept_bytes as u64;
        let rest = state.incoming.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(kept + rest),
            None => SizeHint::default(),
        }
    }
}

impl State {
    fn keep(&mut self, part: &Part, position: &mut usize) {
        if self.keep == 0 {
            return;
        }
        if self.kept_bytes + part.len() > self.keep {
            self.keep = 0;
            self.kept = Vec::new();
            *position = 0;
            return;
        }
        self.kept_bytes += part.len();
        self.kept.push(part.clone());
        *position = self.kept.len();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let (false, Some(tee)) = (state.ended, &state.tee) {
            tee.abandon();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Live { upload, reader, position } => upload.poll(*reader, position, cx),
            RequestBody::Copy(tee) => tee.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, RequestBody::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Live { upload, .. } => upload.size_hint(),
            RequestBody::Copy(tee) => tee.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// The bounded queue between an upload and its mirrored copy. The upload never
/// waits for it: a copy that falls too far behind is given up.
pub struct Tee {
    queue: RefCell<Queue>,
    limit: usize,
    length: Option<u64>,
}

#[derive(Default)]
struct Queue {
    parts: VecDeque<Part>,
    bytes: usize,
    ended: bool,
    abandoned: bool,
    waker: Option<Waker>,
}

impl Tee {
    /// `length` is what the client declared, if it did.
    pub fn new(limit: usize, length: Option<u64>) -> Rc<Tee> {
        Rc::new(Tee { queue: RefCell::default(), limit, length })
    }

    fn push(&self, part: Part) {
        let mut queue = self.queue.borrow_mut();
        if queue.abandoned {
            return;
        }
        queue.bytes += part.len();
        if queue.bytes > self.limit {
            drop(queue);
            return self.abandon();
        }
        queue.parts.push_back(part);
        queue.wake();
    }

    fn end(&self) {
        let mut queue = self.queue.borrow_mut();
        queue.ended = true;
        queue.wake();
    }

    pub fn abandon(&self) {
        let mut queue = self.queue.borrow_mut();
        queue.abandoned = true;
        queue.parts = VecDeque::new();
        queue.wake();
    }

    pub fn is_abandoned(&self) -> bool {
        self.queue.borrow().abandoned
    }

    /// Has the client's body come to its end?
    pub fn has_ended(&self) -> bool {
        self.queue.borrow().ended
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut queue = self.queue.borrow_mut();
        if queue.abandoned {
            return Poll::Ready(Some(Err(Broken::Abandoned)));
        }
        if let Some(part) = queue.parts.pop_front() {
            queue.bytes -= part.len();
            return Poll::Ready(Some(Ok(part.into_frame())));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
