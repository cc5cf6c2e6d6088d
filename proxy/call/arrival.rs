//! An answer's body as it comes, taken out of its framing. At its end the connection
//! goes back to those that are kept, if it may.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;
use http::header::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use crate::buffer::SMALL;
use crate::call::sending::Sending;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::message::answer::Meaning;
use crate::message::field::MAX_FIELDS;
use crate::message::framing::Framing;
use crate::upstream::Link;
use crate::upstream::Links;

/// Room for a read where much is known to come, or the one before found much.
const MUCH: usize = 64 * 1024;
/// A piece up to this size is copied into memory of its own, so that whoever keeps
/// it keeps no more.
const LITTLE: usize = 4 * 1024;

pub struct Arrival {
    /// None once it is of no more use here.
    link: Option<Link>,
    links: Rc<Links>,
    keep: bool,
    framing: Framing,
    /// Read and not yet passed on.
    here: Bytes,
    trailers: Vec<u8>,
    /// What was wrong behind the piece that was passed on last.
    bad: Option<Fault>,
    /// Others had their turn since it broke off.
    paused: bool,
    room: Vec<u8>,
    flows: bool,
    /// The request, as long as the endpoint has not all of it.
    sending: Option<Sending>,
}

impl Arrival {
    /// `here` came with the head. Garbage in it can still become an answer of ours.
    pub fn new(
        link: Link,
        links: Rc<Links>,
        meaning: Meaning,
        here: Bytes,
        sending: Sending,
    ) -> Result<Arrival, Fault> {
        let sending = Some(sending).filter(|sending| !sending.is_sent());
        let mut arrival = Arrival {
            link: Some(link),
            links,
            keep: meaning.keep,
            framing: meaning.framing,
            here,
            trailers: Vec::new(),
            bad: None,
            paused: false,
            room: Vec::new(),
            flows: false,
            sending,
        };
        arrival.skip()?;
        arrival.part();
        Ok(arrival)
    }

    /// Passes over what is no data.
    fn skip(&mut self) -> Result<(), Fault> {
        let count = self.framing.skip(&self.here, &mut self.trailers).map_err(Fault::upstream)?;
        self.here.advance(count);
        Ok(())
    }

    /// Lets the connection go once the answer has ended.
    fn part(&mut self) {
        if !self.framing.is_done() {
            return;
        }
        let Some(link) = self.link.take() else { return };
        if self.keep && self.here.is_empty() && self.sending.is_none() {
            self.links.give_back(link);
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(link) = &mut self.link else { return Poll::Ready(Err(Fault::upstream(Kind::Reset))) };
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(&mut link.wire, cx)
        {
            sent?;
            self.keep &= sending.is_sent();
            self.sending = None;
        }
        let size = if self.flows || self.framing.exceeds(SMALL) { MUCH } else { SMALL };
        let read = poll_read(&mut self.room, size, &mut link.wire, cx);
        if read.is_pending() {
            // Who waits holds no memory.
            self.room = Vec::new();
        }
        match ready!(read) {
            Ok(count @ 1..) => {
                self.flows = count == self.room.capacity();
                self.here = if count <= LITTLE {
                    let here = Bytes::copy_from_slice(&self.room);
                    self.room.clear();
                    here
                } else {
                    Bytes::from(std::mem::take(&mut self.room))
                };
            }
            Ok(0) if matches!(self.framing, Framing::UntilClose) => self.framing = Framing::None,
            Ok(0) | Err(_) => return Poll::Ready(Err(Fault::upstream(Kind::Reset))),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        if let Some(bad) = self.bad {
            return Poll::Ready(Err(bad));
        }
        loop {
            let count = self.framing.data(&self.here);
            if count > 0 {
                let piece = self.here.split_to(count);
                // What follows is looked at for the end alone.
                self.bad = self.skip().err();
                self.part();
                return Poll::Ready(Ok(Some(Frame::data(piece))));
            }
            if self.framing.is_done() {
                self.part();
                return Poll::Ready(self.end());
            }
            if self.here.is_empty() {
                ready!(self.poll_more(cx))?;
            }
            self.skip()?;
        }
    }

    fn end(&mut self) -> Result<Option<Frame<Bytes>>, Fault> {
        let lines = std::mem::take(&mut self.trailers);
        if lines.len() <= END.len() {
            Ok(None)
        } else {
            trailers(&lines).map(|map| Some(Frame::trailers(map)))
        }
    }
}

/// How the trailers end, also where there are none.
const END: &[u8] = b"\r\n";

fn trailers(lines: &[u8]) -> Result<HeaderMap, Fault> {
    let bad = Fault::upstream(Kind::Garbage);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(lines, &mut fields) else {
        return Err(bad);
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad)?;
        map.append(name, HeaderValue::from_bytes(field.value).map_err(|_| bad)?);
    }
    Ok(map)
}

/// Reads into `room`, which is empty and gets as much memory as is said.
fn poll_read<R: AsyncRead + Unpin>(
    room: &mut Vec<u8>,
    size: usize,
    from: &mut R,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    room.reserve_exact(size);
    let mut buffer = ReadBuf::uninit(room.spare_capacity_mut());
    ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
    let count = buffer.filled().len();
    // SAFETY: so many bytes of the spare capacity are filled, and so they are initialised.
    unsafe { room.set_len(room.len() + count) };
    Poll::Ready(Ok(count))
}

impl Body for Arrival {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = ready!(self.poll_piece(cx));
        // What has come goes out before the break is told, which would take it back.
        if let Err(fault) = polled
            && !std::mem::replace(&mut self.paused, true)
        {
            self.bad = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(polled.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.framing.is_done() && self.trailers.len() <= END.len()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::None => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }
}
