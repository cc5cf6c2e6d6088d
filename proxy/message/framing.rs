//! Where a message's body ends (RFC 9112, section 6), found by looking on while
//! its bytes pass unchanged.

use crate::fault::Kind;

/// Digits of a chunk's size: 2^60 bytes are enough for anybody.
const SIZE_DIGITS: u32 = 15;
/// Bytes of trailers and of one size line.
const MAX_LINE: usize = 8 * 1024;

#[derive(Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked(Chunked),
    /// Only an answer can end with its connection.
    UntilClose,
}

#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// Of the present chunk, or bytes of the present line.
    count: u64,
    digits: u32,
    /// Some servers pad the sizes of their chunks.
    padded: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer line, or of the empty one.
    Trailer,
    TrailerName,
    TrailerLine,
    TrailerLineEnd,
    LastEnd,
    Done,
}

impl Framing {
    pub fn chunked() -> Framing {
        Framing::Chunked(Chunked::default())
    }

    /// For answers: nothing stands behind their end that could be misread.
    pub fn chunked_padded() -> Framing {
        Framing::Chunked(Chunked { padded: true, ..Chunked::default() })
    }

    /// How many of `bytes` belong to the body.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Kind> {
        match self {
            Framing::Chunked(chunked) => chunked.advance(bytes),
            _ => Ok(self.data(bytes)),
        }
    }

    /// For who takes the body out of its framing: how many of `bytes` come before
    /// the next of its data, or before what is no longer the body's. Of these
    /// `trailers` gets the lines behind the last chunk.
    pub fn skip(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) -> Result<usize, Kind> {
        match self {
            Framing::Chunked(chunked) => chunked.skip(bytes, trailers),
            Framing::None | Framing::Length(_) | Framing::UntilClose => Ok(0),
        }
    }

    /// And how many of `bytes` are data.
    pub fn data(&mut self, bytes: &[u8]) -> usize {
        match self {
            Framing::None => 0,
            Framing::UntilClose => bytes.len(),
            Framing::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                count
            }
            Framing::Chunked(chunked) => chunked.data(bytes),
        }
    }

    /// Are more bytes than this known to come?
    pub fn exceeds(&self, bytes: usize) -> bool {
        matches!(self, Framing::Length(left) if *left > bytes as u64)
    }

    pub fn is_done(&self) -> bool {
        match self {
            Framing::None => true,
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.state == State::Done,
            Framing::UntilClose => false,
        }
    }
}

impl Chunked {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Kind> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            match self.data(&bytes[at..]) {
                0 => {
                    self.state = self.next(bytes[at])?;
                    at += 1;
                }
                count => at += count,
            }
        }
        Ok(at)
    }

    fn skip(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) -> Result<usize, Kind> {
        let mut at = 0;
        while at < bytes.len() && !matches!(self.state, State::Data | State::Done) {
            if self.state >= State::Trailer {
                trailers.push(bytes[at]);
            }
            self.state = self.next(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn data(&mut self, bytes: &[u8]) -> usize {
        if self.state != State::Data {
            return 0;
        }
        let count = usize::try_from(self.count).unwrap_or(usize::MAX).min(bytes.len());
        self.count -= count as u64;
        if self.count == 0 {
            self.state = State::DataReturn;
        }
        count
    }

    fn next(&mut self, byte: u8) -> Result<State, Kind> {
        let bad = Kind::Garbage;
        Ok(match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, b' ' | b'\t') if self.digits > 0 && self.padded => State::Extension,
            (State::Size, digit) => {
                let value = char::from(digit).to_digit(16).ok_or(bad)?;
                self.digits += 1;
                if self.digits > SIZE_DIGITS {
                    return Err(bad);
                }
                self.count = self.count << 4 | u64::from(value);
                State::Size
            }
            (State::Extension, b'\r') => State::SizeEnd,
            // A line feed alone ends the line for some readers and not for others.
            (State::Extension, b'\t' | b' '..=b'~') => self.in_line(State::Extension)?,
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.count == 0 { State::Trailer } else { State::Data }
            }
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastEnd,
            (State::TrailerName, b':') => self.in_line(State::TrailerLine)?,
            (State::Trailer | State::TrailerName, byte) if is_token(byte) => {
                self.in_line(State::TrailerName)?
            }
            (State::TrailerLine, b'\r') => State::TrailerLineEnd,
            (State::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => self.in_line(State::TrailerLine)?,
            (State::TrailerLineEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Done,
            _ => return Err(bad),
        })
    }

    /// Lines outside the data are bounded; `digits` is free to count them.
    fn in_line(&mut self, state: State) -> Result<State, Kind> {
        self.digits += 1;
        if self.digits as usize > MAX_LINE { Err(Kind::Garbage) } else { Ok(state) }
    }
}

/// A character of a field's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the body when they come in pieces of `step`, or that they are bad.
    fn body(bytes: &[u8], step: usize) -> Option<usize> {
        let mut framing = Framing::chunked();
        let mut count = 0;
        for piece in bytes.chunks(step) {
            let taken = framing.advance(piece).ok()?;
            count += taken;
            if framing.is_done() {
                return Some(count);
            }
            assert_eq!(taken, piece.len(), "a body that goes on takes all there is");
        }
        None
    }

    #[test]
    fn the_end_is_found_wherever_reads_break() {
        let message = b"4\r\nWiki\r\n00A\r\n0123456789\r\n0\r\nx-t: 1\r\ny: 2\r\n\r\nGET /";
        for step in 1..message.len() {
            assert_eq!(body(message, step), Some(message.len() - 5), "step {step}");
        }
    }

    #[test]
    fn what_others_could_read_differently_is_refused() {
        let bad: [&[u8]; 16] = [
            b"\r\n",
            b"4\nWiki\r\n0\r\n\r\n",
            b"4\r\nWiki0\r\n\r\n",
            b"4\r\nWiki\n0\r\n\r\n",
            b"+4\r\nWiki\r\n0\r\n\r\n",
            b"0x4\r\nWiki\r\n0\r\n\r\n",
            b" 4\r\nWiki\r\n0\r\n\r\n",
            b"4 \r\nWiki\r\n0\r\n\r\n",
            b"4;a\nb\r\nWiki\r\n0\r\n\r\n",
            b"4;a\rb\r\nWiki\r\n0\r\n\r\n",
            b"1111111111111111\r\n",
            b"0\r\nx: 1\n\r\n",
            b"0\r\n\n",
            b"0\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n",
            b"0\r\n x: 1\r\n\r\n",
            b"0\r\nx: \0\r\n\r\n",
        ];
        for message in bad {
            assert_eq!(body(message, 1), None, "{}", message.escape_ascii());
        }
        let mut padded = Framing::chunked_padded();
        assert_eq!(padded.advance(b"4  \r\nWiki\r\n0 \r\n\r\n"), Ok(17));
        assert!(body(b"4;a=\"b\"\r\nWiki\r\n0\r\n\r\n", 3).is_some());
    }

    #[test]
    fn data_and_trailers_are_taken_out_wherever_reads_break() {
        let message = b"4\r\nWiki\r\n00A;x\r\n0123456789\r\n0\r\nx-t: 1\r\ny: 2\r\n\r\nGET /";
        for step in 1..message.len() {
            let (mut framing, mut data, mut trailers) = (Framing::chunked(), Vec::new(), Vec::new());
            for piece in message.chunks(step) {
                let mut rest = piece;
                while !rest.is_empty() && !framing.is_done() {
                    let skipped = framing.skip(rest, &mut trailers).unwrap();
                    let count = framing.data(&rest[skipped..]);
                    data.extend_from_slice(&rest[skipped..skipped + count]);
                    rest = &rest[skipped + count..];
                }
            }
            assert!(framing.is_done(), "step {step}");
            assert_eq!(
                (data.as_slice(), trailers.as_slice()),
                (&b"Wiki0123456789"[..], &b"x-t: 1\r\ny: 2\r\n\r\n"[..])
            );
        }
    }

    #[test]
    fn a_length_takes_no_more_than_it_says() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.advance(b"abc"), Ok(3));
        assert_eq!(framing.advance(b"defg"), Ok(2));
        assert!(framing.is_done());
    }
}
