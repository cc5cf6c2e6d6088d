//! An HTTP/2 client that writes its frames by hand: it can say what no library
//! would, and stay silent where one would answer.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status of a head that this is, where HPACK has a word for it.
    pub fn status(&self) -> Option<u16> {
        if self.kind != HEADERS {
            return None;
        }
        match self.payload.first()? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            // A literal: the name's index, the length, and digits in Huffman's code or plain.
            _ => Some(0),
        }
    }

    /// What an RST_STREAM or GOAWAY gives as its reason.
    pub fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field as a literal that no table keeps.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        number(text.len(), 7, 0, &mut bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An HPACK integer (RFC 7541, 5.1).
pub fn number(value: usize, bits: u32, first: u8, bytes: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return bytes.push(first | value as u8);
    }
    bytes.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// A header block: the pseudo-fields of a request, and what else.
pub fn block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [literal(":method", method), literal(":scheme", "http"), literal(":path", path)].concat();
    bytes.extend(literal(":authority", "test.local"));
    for (name, value) in fields {
        bytes.extend(literal(name, value));
    }
    bytes
}

/// A request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", path, &[]))
}

/// The head of one with a body.
pub fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block("POST", path, &[]))
}

pub struct Frames {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Frames {
    pub fn open(to: SocketAddr) -> Frames {
        Frames::with_settings(to, &[])
    }

    pub fn with_settings(to: SocketAddr, settings: &[(u16, u32)]) -> Frames {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the proxy accepts");
        stream.set_nodelay(true).expect("a socket can be made so");
        stream.set_read_timeout(Some(PATIENCE)).expect("a legal timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a legal timeout");
        let mut frames = Frames { stream, unread: Vec::new() };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &payload));
        bytes.extend(frame(SETTINGS, ACK, 0, &[]));
        frames.send(&bytes).expect("the proxy reads");
        frames
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// None once the connection has ended, in whatever way; patience running out
    /// fails the test.
    pub fn next(&mut self) -> Option<Frame> {
        self.read().unwrap_or_else(|()| panic!("the connection stands still and is not ended"))
    }

    /// None also when nothing comes in the socket's time.
    pub fn try_next(&mut self) -> Option<Frame> {
        self.read().ok().flatten()
    }

    fn read(&mut self) -> std::result::Result<Option<Frame>, ()> {
        loop {
            if let Some(length) = self.length()
                && self.unread.len() >= 9 + length
            {
                let bytes: Vec<u8> = self.unread.drain(..9 + length).collect();
                let stream = u32::from_be_bytes(bytes[5..9].try_into().expect("four bytes")) & !(1 << 31);
                return Ok(Some(Frame {
                    kind: bytes[3],
                    flags: bytes[4],
                    stream,
                    payload: bytes[9..].to_vec(),
                }));
            }
            let mut more = [0; 16 * 1024];
            match self.stream.read(&mut more) {
                Ok(0) => return Ok(None),
                Ok(count) => self.unread.extend_from_slice(&more[..count]),
                Err(error) => match error.kind() {
                    std::io::ErrorKind::Interrupted => {}
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => return Err(()),
                    _ => return Ok(None),
                },
            }
        }
    }

    fn length(&self) -> Option<usize> {
        let [a, b, c, ..] = self.unread[..] else { return None };
        Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)).filter(|_| self.unread.len() >= 9)
    }

    /// The next frame of this kind.
    pub fn await_kind(&mut self, kind: u8) -> Frame {
        std::iter::from_fn(|| self.next()).find(|frame| frame.kind == kind).expect("the connection lives")
    }

    /// Reads to the end; the last GOAWAY's reason, if one came.
    pub fn end(&mut self) -> Option<u32> {
        std::iter::from_fn(|| self.next())
            .filter(|frame| frame.kind == GOAWAY)
            .last()
            .map(|frame| frame.reason())
    }
}

#[test]
fn frames_by_hand_are_understood_by_a_server() {
    let origin = super::Origin::start("a");
    let mut frames = Frames::open(origin.address);
    frames.send(&get(1, "/by-hand")).expect("it reads");
    assert_eq!(frames.await_kind(HEADERS).status(), Some(200));
    assert_eq!(frames.await_kind(DATA).payload, b"a");
    assert_eq!(origin.seen()[0].path, "/by-hand");
}
