//! What must hold of the codec for any bytes.

mod heads;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use crate::connections::Connections;
use crate::h1::field::MAX_FIELDS;
use crate::h1::framing::Framing;
use crate::h1::guard::Guard;
use crate::h1::request;
use crate::h1::request::Extent;
use crate::h1::request::Unfit;
use crate::h1::response;
use crate::h1::response::Additions;
use crate::h1::scan;
use crate::h1::scan::Fields;
use crate::h1::strict;
use crate::model::Limits;
use crate::rewrite::Peer;

pub use heads::{edited, forwarded};

/// What the relay passes on has one reading, and it is the one the relay had.
pub fn request_head(bytes: &[u8]) {
    let Extent::Whole(length) = request::extent(bytes, 0) else { return };
    let mut memory = Fields::new();
    let strictly = strict::inspect(&bytes[..length]);
    let head = match request::parse(&bytes[..length], &mut memory) {
        Ok(head) => head,
        Err(Unfit::Ambiguous) => {
            assert!(strictly.is_err(), "ambiguous for the relay alone");
            return;
        }
        Err(Unfit::Irregular) => return,
    };
    let strictly = strictly.expect("the relay is no kinder than the guard");
    let mut theirs = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut other = httparse::Request::new(&mut theirs);
    assert_eq!(other.parse(&bytes[..length]), Ok(httparse::Status::Complete(length)));
    assert_eq!((other.method, other.path, other.version), (Some(head.method), Some(head.target), Some(1)));
    assert_eq!(other.headers, head.fields.list(), "the fields are read alike");
    assert_eq!(format!("{:?}", head.framing), format!("{:?}", strictly.framing));
    let (peer, mut out) = (Peer::new(([127, 0, 0, 1], 1).into(), None), Vec::new());
    head.write(&peer, || [1, 2], &mut out);
    assert_eq!(request::extent(&out, 0), Extent::Whole(out.len()), "{}", out.escape_ascii());
    let written = strict::inspect(&out).expect("what is written has one reading");
    assert_eq!(format!("{:?}", head.framing), format!("{:?}", written.framing));
}

/// What is read in one pass of an answer's head, httparse reads alike.
fn scanned_answer(bytes: &[u8]) {
    let Some(first) = scan::status_line(bytes) else { return };
    let mut fields = Fields::new();
    let Some(length) = fields.read(bytes, first.end) else { return };
    let mut theirs = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut other = httparse::Response::new(&mut theirs);
    assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(length)));
    assert_eq!((other.version, other.code), (Some(1), Some(first.code)));
    assert_eq!(other.headers, fields.list(), "the fields are read alike");
}

/// An answer's head is passed on as one head.
pub fn answer_head(bytes: &[u8]) {
    scanned_answer(bytes);
    let additions = Additions {
        service_time_us: 1,
        set_cookies: &["a=b".to_owned()],
        close: false,
        date: || "now".to_owned(),
        server: None,
    };
    for head_only in [false, true] {
        let mut out = Vec::new();
        let Ok(Some(head)) = response::relay(bytes, head_only, &additions, &mut out) else { continue };
        assert!(head.length <= bytes.len());
        if head.status.is_informational() {
            continue;
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 8];
        let mut again = httparse::Response::new(&mut fields);
        assert_eq!(again.parse(&out), Ok(httparse::Status::Complete(out.len())), "{}", out.escape_ascii());
        let count = |name: &str| again.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count();
        assert!(count("content-length") + count("transfer-encoding") <= 1, "{}", out.escape_ascii());
    }
}

/// A body ends at the same place however its bytes are cut.
pub fn body(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let whole = |step: usize| {
        let (mut framing, mut count) = (Framing::chunked(), 0);
        for piece in bytes.chunks(step) {
            match framing.advance(piece) {
                Ok(taken) => count += taken,
                Err(_) => return None,
            }
            if framing.is_done() {
                return Some((count, true));
            }
        }
        Some((count, false))
    };
    assert_eq!(whole(bytes.len().max(1)), whole(usize::from(*step).max(1)));
}

/// What the guard lets through it would let through again, unchanged, however it
/// comes.
pub fn guarded(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*step).max(1);
    let (passed, clean) = pass(bytes, step);
    if clean {
        assert_eq!(pass(&passed, 7), (passed.clone(), true));
    }
    let (other, also) = pass(bytes, 1);
    assert_eq!((clean, clean.then_some(&passed)), (also, clean.then_some(&other)), "cut by {step} and by 1");
}

/// All that passes, and whether nothing was refused.
fn pass(bytes: &[u8], step: usize) -> (Vec<u8>, bool) {
    let connection = Connections::default().open(0, &Limits::default());
    let mut guard = Guard::new(Pieces { bytes, step }, connection, 64 * 1024);
    let (mut passed, mut memory) = (Vec::new(), [0; 64]);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut room = ReadBuf::new(&mut memory);
        let polled = Pin::new(&mut guard).poll_read(&mut cx, &mut room);
        if guard.has_refused() {
            return (passed, false);
        }
        match polled {
            Poll::Ready(Ok(())) if room.filled().is_empty() => return (passed, true),
            Poll::Ready(Ok(())) => passed.extend_from_slice(room.filled()),
            Poll::Ready(Err(_)) => return (passed, false),
            Poll::Pending => panic!("nobody is waited for"),
        }
    }
}

struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.step.min(self.bytes.len()).min(buf.remaining());
        buf.put_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Poll::Ready(Ok(()))
    }
}
