//! Bytes read and not yet used, and where such memory comes from.
//!
//! A worker lends its buffers out and takes them back, so a connection that
//! waits holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Room for a head and the beginning of a body.
pub const SMALL: usize = 16 * 1024;
/// What a buffer grows to while a body flows.
pub const LARGE: usize = 256 * 1024;
/// Buffers a worker keeps for the next user: small ones, and large ones. Memory of
/// that size comes from the system page by page, which costs more than to fill it.
const KEPT: usize = 256;
const KEPT_LARGE: usize = 16;

#[derive(Default)]
pub struct Buffers {
    free: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
    }

    fn take_large(&self) -> Box<[u8]> {
        let large = self.large.borrow_mut().pop();
        large.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice())
    }

    /// Keeps nothing any longer: memory is short.
    pub fn shed(&self) {
        self.free.take();
        self.large.take();
    }

    fn give(&self, bytes: Box<[u8]>) {
        let (pool, most) = match bytes.len() {
            SMALL => (&self.free, KEPT),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut free = pool.borrow_mut();
        if free.len() < most {
            free.push(bytes);
        }
    }
}

/// Growing texts that are written, sent and forgotten: heads.
#[derive(Default)]
pub struct Texts {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Texts {
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    pub fn give(&self, mut text: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if text.capacity() <= 2 * SMALL && free.len() < KEPT {
            text.clear();
            free.push(text);
        }
    }
}

/// Takes memory when it is read into and returns it when it is let go.
#[derive(Default)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "consumed {count} beyond what was filled");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the memory back; what was in it is lost.
    pub fn release(&mut self, buffers: &Buffers) {
        if !self.bytes.is_empty() {
            buffers.give(std::mem::take(&mut self.bytes));
        }
        self.start = 0;
        self.end = 0;
    }

    /// Makes room for more, within `most` bytes in all; false when there is none.
    pub fn reserve(&mut self, most: usize) -> bool {
        if self.end < self.bytes.len() || self.bytes.is_empty() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return true;
        }
        self.grow(most)
    }

    fn grow(&mut self, most: usize) -> bool {
        let size = (self.bytes.len() * 2).clamp(SMALL, most.max(SMALL));
        if size <= self.bytes.len() {
            return false;
        }
        let mut bytes = vec![0; size].into_boxed_slice();
        bytes[..self.end].copy_from_slice(&self.bytes[..self.end]);
        self.bytes = bytes;
        true
    }

    /// Reads what there is; zero at the end. Holds no memory while it waits with
    /// nothing in it. There must be room.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_room(SMALL, reader, buffers, cx)
    }

    /// The same with as much room as is said, [`SMALL`] or [`LARGE`], where nothing
    /// is in the buffer yet.
    pub fn poll_fill_room<R: AsyncRead + Unpin>(
        &mut self,
        room: usize,
        reader: &mut R,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() && self.bytes.len() < room {
            let other = if room > SMALL { buffers.take_large() } else { buffers.take() };
            buffers.give(std::mem::replace(&mut self.bytes, other));
        }
        debug_assert!(self.end < self.bytes.len(), "no room to read into");
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        let polled = Pin::new(reader).poll_read(cx, &mut room);
        let count = room.filled().len();
        if polled.is_pending() && self.is_empty() {
            self.release(buffers);
        }
        ready!(polled)?;
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Has the last read used all room there was?
    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.filled().to_vec()
    }
}
