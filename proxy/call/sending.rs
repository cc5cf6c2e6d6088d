//! A request on its way up: its head as HTTP/1.1 has it, and the body behind it,
//! as much of it in one write as there is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use http::header::COOKIE;
use http::header::HOST;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::body::RequestBody;
use crate::call::Told;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::message::field;

/// More of the body is taken while less than this waits to be written.
const MOST: usize = 32 * 1024;

/// How the body's end is told.
pub enum Coding {
    None,
    /// So much is still to come.
    Length(u64),
    Chunked,
}

/// Writes the head and says what has to follow it. A client that named no host gets
/// the endpoint's; cookies that came one by one go in one line (RFC 9113, 8.2.3).
pub fn write_head(
    parts: &Parts,
    body: &RequestBody,
    told: Option<Told<'_>>,
    endpoint: impl FnOnce() -> String,
    out: &mut Vec<u8>,
) -> Coding {
    // An authority in the target outranks the field (RFC 9112, 3.2.2).
    let authority = told.and_then(|_| parts.uri.authority()).map(http::uri::Authority::as_str);
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    for part in [parts.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(authority) = authority {
        field::push(out, HOST.as_str(), authority.as_bytes());
    }
    let (coding, said) = coding(parts, body);
    let mut cookies = false;
    for (name, value) in &parts.headers {
        match *name {
            TRANSFER_ENCODING => {}
            CONTENT_LENGTH if !said => {}
            HOST if authority.is_some() || value.is_empty() => {}
            COOKIE => {
                if !std::mem::replace(&mut cookies, true) {
                    let lines = parts.headers.get_all(COOKIE).iter().map(|value| value.as_bytes());
                    push_joined(out, lines);
                }
            }
            _ => field::push(out, name.as_str(), value.as_bytes()),
        }
    }
    if authority.is_none() && parts.headers.get(HOST).is_none_or(|host| host.is_empty()) {
        field::push(out, HOST.as_str(), endpoint().as_bytes());
    }
    match coding {
        Coding::Length(length) if !said => {
            field::push(out, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
        }
        Coding::Chunked => field::push(out, TRANSFER_ENCODING.as_str(), b"chunked"),
        Coding::Length(_) | Coding::None => {}
    }
    match (told, authority) {
        (Some(Told { peer, id }), Some(authority)) => peer.introduce(authority.as_bytes(), || id, out),
        _ => out.extend_from_slice(b"\r\n"),
    }
    coding
}

/// And whether the head says the length already, or may say that there is none.
fn coding(parts: &Parts, body: &RequestBody) -> (Coding, bool) {
    if body.is_end_stream() {
        return (Coding::None, true);
    }
    let said = parts.headers.get(CONTENT_LENGTH).and_then(|value| field::content_length(value.as_bytes()));
    match (said, body.size_hint().exact()) {
        (Some(length), _) => (Coding::Length(length), true),
        (None, Some(length)) => (Coding::Length(length), false),
        (None, None) => (Coding::Chunked, false),
    }
}

fn push_joined<'a>(out: &mut Vec<u8>, lines: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(b"cookie: ");
    for (n, line) in lines.enumerate() {
        if n > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\r\n");
}

pub struct Sending {
    out: Vec<u8>,
    /// Of `out`, how many bytes the socket has taken.
    sent: usize,
    /// The socket has taken something.
    begun: bool,
    body: RequestBody,
    coding: Coding,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The body has more.
    Open,
    /// All there is of it waits to be written.
    Whole,
    Sent,
    /// The endpoint takes no more.
    Broken,
}

impl Sending {
    pub fn new(head: Vec<u8>, body: RequestBody, coding: Coding) -> Sending {
        let state = if matches!(coding, Coding::None) { State::Whole } else { State::Open };
        Sending { out: head, sent: 0, begun: false, body, coding, state }
    }

    /// Resolves when all has been sent, or when the endpoint takes no more, which is
    /// no error: its answer, or the lack of one, says more.
    pub fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            if let Err(fault) = self.gather(cx) {
                return Poll::Ready(Err(fault));
            }
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                match self.state {
                    State::Open => return Poll::Pending,
                    State::Whole => self.state = State::Sent,
                    State::Sent | State::Broken => {}
                }
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut *to).poll_write(cx, &self.out[self.sent..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count @ 1..)) => {
                    self.begun = true;
                    self.sent += count;
                }
                Poll::Ready(Ok(0) | Err(_)) => self.give_up(),
            }
        }
    }

    /// Takes of the body what there is.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.state == State::Open && self.out.len() - self.sent < MOST {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { break };
            // Whose fault it is, the body itself knows.
            let broken = |_| Fault::upstream(Kind::Reset);
            match frame.transpose().map_err(broken)? {
                None => self.end()?,
                Some(frame) => {
                    // Trailers that were not announced stay behind.
                    if let Ok(data) = frame.into_data() {
                        self.push(&data)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Fault> {
        match &mut self.coding {
            Coding::Length(left) => {
                let count = data.len() as u64;
                *left = left.checked_sub(count).ok_or(Fault::downstream(Kind::BadRequest))?;
                self.out.extend_from_slice(data);
            }
            Coding::Chunked if data.is_empty() => {}
            Coding::Chunked => {
                // Writing to memory does not fail.
                let _ = io::Write::write_fmt(&mut self.out, format_args!("{:x}\r\n", data.len()));
                self.out.extend_from_slice(data);
                self.out.extend_from_slice(b"\r\n");
            }
            Coding::None => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.state = State::Whole;
        match self.coding {
            Coding::Length(1..) => return Err(Fault::downstream(Kind::BadRequest)),
            Coding::Chunked => self.out.extend_from_slice(b"0\r\n\r\n"),
            Coding::Length(0) | Coding::None => {}
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.state = State::Broken;
        self.sent = self.out.len();
    }

    /// All of the request is with the endpoint.
    pub fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    pub fn has_sent_nothing(&self) -> bool {
        !self.begun
    }

    /// What it wrote from, once that is of no more use.
    pub fn memory(&mut self) -> Option<Vec<u8>> {
        self.is_sent().then(|| std::mem::take(&mut self.out))
    }
}
