//! Watches the frames that an HTTP/2 client sends, so that what costs it little
//! and us something has a bound.
//!
//! h2 bounds what it would have to keep: header lists and their CONTINUATIONs,
//! small DATA frames, resets of streams that nobody has taken up yet. It does not
//! bound how often a client may make it work for nothing. So frames are counted
//! here, before h2 sees them; only their nine bytes of head are looked at.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use crate::clock;

/// What the client says before its first frame.
const PREFACE: usize = 24;
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// PING, SETTINGS, PRIORITY and frames nobody knows: at once and in a second.
const CONTROL: i64 = 10_000;
/// WINDOW_UPDATEs beyond those that our own bytes give reason for.
const UPDATES: i64 = 10_000;
/// Bytes that we send for each WINDOW_UPDATE: a frame of one byte may be answered
/// by one for its stream and one for the connection.
const BYTES_PER_UPDATE: i64 = (HEAD as i64 + 1) / 2;
/// Resets of a burst, and in a second beyond one for every second stream.
const RESETS: i64 = 500;
const RESETS_PER_SECOND: i64 = 100;
/// Frames in a row that hold nothing and end nothing.
const EMPTY: u32 = 10;

/// The frames of one connection.
pub struct Frames {
    head: [u8; HEAD],
    /// Of `head`, how many bytes have come.
    have: usize,
    /// Bytes to pass over before the next head.
    skip: usize,
    empty: u32,
    control: Bucket,
    updates: Bucket,
    /// In halves of a reset.
    resets: Bucket,
}

/// The client does what no good one does; in a word what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client floods us with {0}")]
pub struct Flood(pub &'static str);

/// Refills with time, up to its full size.
struct Bucket {
    left: i64,
    full: i64,
    per_second: i64,
    at_us: u64,
}

impl Bucket {
    fn new(full: i64, per_second: i64, now_us: u64) -> Bucket {
        Bucket { left: full, full, per_second, at_us: now_us }
    }

    fn add(&mut self, count: i64) {
        self.left = self.left.saturating_add(count).min(self.full);
    }

    fn take(&mut self, count: i64, now_us: u64) -> bool {
        self.left -= count;
        if self.left < 0 {
            let waited_us = i64::try_from(now_us.saturating_sub(self.at_us)).unwrap_or(i64::MAX);
            let more = waited_us.saturating_mul(self.per_second) / 1_000_000;
            if more > 0 {
                self.at_us = now_us;
                self.add(more);
            }
        }
        self.left >= 0
    }
}

impl Frames {
    pub fn new() -> Frames {
        let now_us = clock::now_us();
        Frames {
            head: [0; HEAD],
            have: 0,
            skip: PREFACE,
            empty: 0,
            control: Bucket::new(CONTROL, CONTROL, now_us),
            updates: Bucket::new(UPDATES, UPDATES, now_us),
            resets: Bucket::new(2 * RESETS, 2 * RESETS_PER_SECOND, now_us),
        }
    }

    /// We have sent so many bytes.
    pub fn sent(&mut self, count: usize) {
        self.updates.add(i64::try_from(count).unwrap_or(i64::MAX) / BYTES_PER_UPDATE + 1);
    }

    /// The client has sent these bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        self.read_at(bytes, clock::now_us())
    }

    fn read_at(&mut self, mut bytes: &[u8], now_us: u64) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEAD {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.count(kind, flags, now_us)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: u8, flags: u8, now_us: u64) -> Result<(), Flood> {
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        self.empty = match kind {
            DATA | HEADERS | CONTINUATION if self.skip == 0 && !ends => self.empty + 1,
            _ => 0,
        };
        if self.empty > EMPTY {
            return Err(Flood("empty frames"));
        }
        let (fine, what) = match kind {
            DATA | CONTINUATION => return Ok(()),
            HEADERS => {
                self.resets.add(1);
                return Ok(());
            }
            RST_STREAM => (self.resets.take(2, now_us), "resets"),
            WINDOW_UPDATE => (self.updates.take(1, now_us), "window updates"),
            _ => (self.control.take(1, now_us), "control frames"),
        };
        if fine { Ok(()) } else { Err(Flood(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes =
            vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + length, 7);
        bytes
    }

    /// How many of these in a row pass, read in pieces of so many bytes.
    fn passing(frames: &[Vec<u8>], piece: usize, most: usize) -> usize {
        let mut watch = Frames::new();
        watch.read(&[0; PREFACE]).unwrap();
        for n in 0..most {
            let bytes = frames.concat();
            if bytes.chunks(piece).any(|piece| watch.read(piece).is_err()) {
                return n;
            }
        }
        most
    }

    #[test]
    fn good_traffic_passes_however_its_bytes_are_cut() {
        let request =
            [frame(30, HEADERS, 4), frame(1000, DATA, 0), frame(0, DATA, 0), frame(0, DATA, END_STREAM)];
        for piece in [1, 2, 7, 9, 10, 4096] {
            assert_eq!(passing(&request, piece, 2_000), 2_000);
        }
    }

    #[test]
    fn half_of_all_streams_may_be_reset_for_ever() {
        let [open, reset] = [frame(30, HEADERS, 5), frame(4, RST_STREAM, 0)];
        assert_eq!(passing(&[open.clone(), open.clone(), reset.clone()], 4096, 50_000), 50_000);
        let rapid = passing(&[open, reset], 4096, 50_000);
        assert!((900..20_000).contains(&rapid), "{rapid}");
    }

    #[test]
    fn floods_are_told_from_traffic() {
        for kind in [2, 4, 6, 8, 77] {
            let passed = passing(&[frame(8, kind, 0)], 4096, 1_000_000);
            assert!((10_000..500_000).contains(&passed), "{kind}: {passed}");
        }
        for kind in [DATA, HEADERS, CONTINUATION] {
            assert_eq!(passing(&[frame(0, kind, 0)], 4096, 100), 10);
        }
    }

    #[test]
    fn what_we_send_gives_reason_for_window_updates() {
        let mut watch = Frames::new();
        watch.read(&[0; PREFACE]).unwrap();
        for _ in 0..200_000 {
            watch.sent(10);
            watch.read(&[frame(4, WINDOW_UPDATE, 0), frame(4, WINDOW_UPDATE, 0)].concat()).unwrap();
        }
    }
}
