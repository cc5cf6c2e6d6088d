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
use http::header::HeaderName;
use http::header::HeaderValue;
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
    Live {
        upload: Rc<Upload>,
        reader: u32,
        /// The next of what was kept; none once that has all been read.
        kept: Option<usize>,
    },
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
    kept: Pieces,
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

/// Data in its order, and what trails it. A client chooses how its body is cut, and
/// each piece of it holds on to what it was read into: small ones are copied into
/// one, so that the memory held is about that of the bytes.
#[derive(Default)]
struct Pieces {
    list: VecDeque<Bytes>,
    /// Small ones, behind all others.
    last: Vec<u8>,
    /// Of all data.
    bytes: usize,
    trailers: Option<HeaderMap>,
}

/// A piece from this size on is worth a place of its own.
const LARGE: usize = 4 * 1024;

impl Pieces {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            if data.len() < LARGE {
                self.last.extend_from_slice(data);
            } else {
                self.seal();
                self.list.push_back(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }

    /// What comes now is no more put to what was there.
    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.list.push_back(Bytes::from(std::mem::take(&mut self.last)));
        }
    }

    /// The first of what is left is taken out.
    fn pop(&mut self) -> Option<Frame<Bytes>> {
        if self.list.is_empty() {
            self.seal();
        }
        match self.list.pop_front() {
            Some(data) => {
                self.bytes -= data.len();
                Some(Frame::data(data))
            }
            None => self.trailers.take().map(Frame::trailers),
        }
    }

    /// The piece at this place; all are sealed.
    fn get(&self, at: usize) -> Option<Frame<Bytes>> {
        match self.list.get(at) {
            Some(data) => Some(Frame::data(data.clone())),
            None if at == self.list.len() => self.trailers.clone().map(Frame::trailers),
            None => None,
        }
    }
}

/// What a frame adds to the bytes that were transferred.
fn length(frame: &Frame<Bytes>) -> usize {
    let of_fields =
        |fields: &HeaderMap| fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    frame.data_ref().map_or_else(|| frame.trailers_ref().map_or(0, of_fields), Bytes::len)
}

/// The memory that it takes to keep one: fields are more than their bytes.
fn weight(frame: &Frame<Bytes>) -> usize {
    let places = frame.trailers_ref().map_or(0, HeaderMap::capacity);
    length(frame) + places * size_of::<(HeaderName, HeaderValue)>()
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
            kept: Pieces::default(),
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
        state.kept.seal();
        RequestBody::Live { upload: self.clone(), reader: state.reader, kept: Some(0) }
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
        kept: &mut Option<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.state.borrow_mut();
        if state.reader != reader {
            return Poll::Ready(Some(Err(Broken::Superseded)));
        }
        if let Some(at) = kept {
            if let Some(frame) = state.kept.get(*at) {
                *at += 1;
                return Poll::Ready(Some(Ok(frame)));
            }
            *kept = None;
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut state.incoming).poll_frame(cx) else {
            state.waker = Some(cx.waker().clone());
            self.flights.hand_over(self.key);
            return Poll::Pending;
        };
        self.flights.take_back(self.key);
        self.flights.progress(self.key);
        let frame = match frame {
            None => {
                self.finish(&mut state);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.failed.set(true);
                return Poll::Ready(Some(Err(Broken::Client(error))));
            }
            Some(Ok(frame)) => frame,
        };
        state.begun = true;
        self.bytes.set(self.bytes.get() + length(&frame) as u64);
        if let Some(tee) = &state.tee {
            tee.push(&frame);
        }
        state.keep(&frame);
        if state.incoming.is_end_stream() {
            self.finish(&mut state);
        }
        Poll::Ready(Some(Ok(frame)))
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
        let kept = state.kept.bytes as u64;
        let rest = state.incoming.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(kept + rest),
            None => SizeHint::default(),
        }
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.keep == 0 {
            return;
        }
        if self.kept.bytes + weight(frame) > self.keep {
            self.keep = 0;
            self.kept = Pieces::default();
            return;
        }
        self.kept.push(frame);
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
            RequestBody::Live { upload, reader, kept } => upload.poll(*reader, kept, cx),
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
    pieces: Pieces,
    ended: bool,
    abandoned: bool,
    waker: Option<Waker>,
}

impl Tee {
    /// `length` is what the client declared, if it did.
    pub fn new(limit: usize, length: Option<u64>) -> Rc<Tee> {
        Rc::new(Tee { queue: RefCell::default(), limit, length })
    }

    fn push(&self, frame: &Frame<Bytes>) {
        let mut queue = self.queue.borrow_mut();
        if queue.abandoned {
            return;
        }
        if queue.pieces.bytes + weight(frame) > self.limit {
            drop(queue);
            return self.abandon();
        }
        queue.pieces.push(frame);
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
        queue.pieces = Pieces::default();
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
        if let Some(frame) = queue.pieces.pop() {
            return Poll::Ready(Some(Ok(frame)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pieces: &mut Pieces) -> Vec<Bytes> {
        std::iter::from_fn(|| pieces.pop()).filter_map(|frame| frame.into_data().ok()).collect()
    }

    #[test]
    fn what_is_kept_takes_about_the_memory_of_its_bytes_however_it_is_cut() {
        let mut pieces = Pieces::default();
        let buffer = Bytes::from(vec![7; 16 * 1024]);
        for at in 0..buffer.len() {
            pieces.push(&Frame::data(buffer.slice(at..at + 1)));
        }
        assert!(buffer.is_unique(), "nothing holds on to what it was read into");
        assert!(pieces.last.capacity() <= 2 * buffer.len() && pieces.list.is_empty());
        pieces.push(&Frame::data(buffer.slice(..LARGE)));
        assert_eq!((pieces.bytes, pieces.list.len()), (buffer.len() + LARGE, 2));
        assert_eq!(data(&mut pieces).concat(), [&buffer[..], &buffer[..LARGE]].concat());
        assert_eq!(pieces.bytes, 0);
    }

    #[test]
    fn trailers_weigh_what_their_fields_take_and_come_last() {
        let mut fields = HeaderMap::new();
        for nth in 0..100_u8 {
            fields.append("x", HeaderValue::from(u16::from(nth)));
        }
        let trailers = Frame::trailers(fields);
        assert!(weight(&trailers) > length(&trailers));
        let mut pieces = Pieces::default();
        pieces.push(&Frame::data(Bytes::from_static(b"ab")));
        pieces.push(&trailers);
        pieces.seal();
        assert!(pieces.get(0).is_some_and(|frame| frame.is_data()));
        assert!(pieces.get(1).is_some_and(|frame| frame.is_trailers()) && pieces.get(2).is_none());
        assert!(pieces.pop().is_some_and(|frame| frame.is_data()));
        assert!(pieces.pop().is_some_and(|frame| frame.is_trailers()) && pieces.pop().is_none());
    }
}
