//! What an origin does when it is asked, drawn by dice, and how it looks in bytes.

use crate::harness::Seeded;

/// One answer, or what comes in its place.
#[derive(Clone, Debug)]
pub struct Deed {
    pub interim: Vec<u16>,
    pub minor: u8,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: usize,
    pub framing: Framing,
    /// In so many pieces, with a pause between them.
    pub pieces: usize,
    pub closes: bool,
    pub mishap: Option<Mishap>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked { trailers: Vec<(String, String)> },
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The head is read, the body is not, no answer.
    ResetAtOnce,
    CloseAtOnce,
    /// The whole request is read, no answer.
    ResetUnanswered,
    CloseUnanswered,
    CloseAmidHead,
    ResetAmidBody,
    CloseAmidBody,
    /// Nothing is ever said.
    Stall,
    /// Half of the body, and nothing more is ever said.
    StallAmidBody,
    /// Answered before the body is read; it is read then.
    Early,
    /// More bytes than announced.
    Excess,
    /// A head or body no reader should accept, by number.
    Garbage(usize),
}

/// Heads that are wrong, and chunked bodies that are.
pub const GARBAGE: [&str; 17] = [
    "no http at all\r\n\r\n",
    "HTTP/1.1 xyz OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-y : 1\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-y: 1\r\n folded\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-nul: a\0b\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
];

const STATUSES: [u16; 22] = [
    200, 200, 200, 200, 200, 201, 202, 203, 204, 205, 206, 301, 302, 304, 400, 404, 409, 429, 500, 502, 503,
    599,
];
const FIELDS: [(&str, &str); 20] = [
    ("content-type", "text/plain"),
    ("x-b", "1"),
    ("x-b", "2"),
    ("set-cookie", "a=1; path=/"),
    ("set-cookie", "b=2"),
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=3"),
    ("vary", "accept"),
    ("vary", "x-a"),
    ("server", "origin/1"),
    ("date", "Tue, 01 Jan 2019 00:00:00 GMT"),
    ("etag", "\"x\""),
    ("location", "/next?x=1"),
    ("x-envoy-upstream-service-time", "7"),
    ("x-request-id", "from-origin"),
    ("x-empty", ""),
    ("x-latin", "caf\u{e9}"),
    ("via", "1.1 other"),
    ("connection", "x-b"),
    ("keep-alive", "timeout=5"),
];

impl Deed {
    /// A plain answer.
    pub fn plain(status: u16, body: usize) -> Deed {
        Deed {
            interim: Vec::new(),
            minor: 1,
            status,
            fields: Vec::new(),
            body,
            framing: Framing::Length,
            pieces: 1,
            closes: false,
            mishap: None,
        }
    }

    pub fn draw(dice: &mut Seeded) -> Deed {
        let body = match dice.below(12) {
            0 | 1 => 0,
            2 => 1,
            3 => 70_000,
            4 => 300_000,
            _ => dice.below(3_000),
        };
        let mut deed = Deed::plain(dice.pick(&STATUSES), body);
        for _ in 0..dice.below(4) {
            let (name, value): (&str, &str) = dice.pick(&FIELDS);
            let alone =
                matches!(name, "date" | "server" | "location" | "etag" | "x-envoy-upstream-service-time");
            if !(alone && deed.fields.iter().any(|(known, _)| known == name)) {
                deed.fields.push((name.to_owned(), value.to_owned()));
            }
        }
        deed.framing = match dice.below(10) {
            0..5 => Framing::Length,
            5..7 => Framing::Chunked { trailers: Vec::new() },
            7 => Framing::Chunked { trailers: vec![("x-sum".into(), "42".into())] },
            _ => Framing::UntilClose,
        };
        if dice.chance(10) {
            deed.minor = 0;
        }
        if dice.chance(15) {
            deed.interim = vec![dice.pick(&[100, 102, 103])];
        }
        if dice.chance(15) {
            deed.pieces = 2 + dice.below(4);
        }
        deed.closes = dice.chance(15);
        if dice.chance(18) {
            deed.mishap = Some(mishap(dice));
        }
        deed
    }

    /// One of several tries; the earlier ones mostly fail.
    pub fn draw_try(dice: &mut Seeded, early: bool) -> Deed {
        if !early || dice.chance(20) {
            return Deed::draw(dice);
        }
        let mut deed = Deed::plain(dice.pick(&[500, 502, 503, 504, 409, 429, 404]), dice.below(100));
        if dice.chance(35) {
            deed.mishap = Some(dice.pick(&[
                Mishap::ResetAtOnce,
                Mishap::CloseUnanswered,
                Mishap::ResetUnanswered,
                Mishap::CloseAmidHead,
                Mishap::ResetAmidBody,
                Mishap::Stall,
            ]));
        }
        if dice.chance(10) {
            deed.fields.push(("x-envoy-ratelimited".to_owned(), "true".to_owned()));
        }
        deed
    }

    /// The answer's head, as the origin of this name writes it.
    pub fn head(&self, origin: &str) -> Vec<u8> {
        let mut text = String::new();
        for status in &self.interim {
            text += &format!("HTTP/1.1 {status} Interim\r\nx-interim: 1\r\n\r\n");
        }
        text += &format!("HTTP/1.{} {} Said\r\nx-origin: {origin}\r\n", self.minor, self.status);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        let bare = self.status == 204;
        match &self.framing {
            Framing::Length if !bare => text += &format!("content-length: {}\r\n", self.body),
            Framing::Chunked { .. } if !bare && self.minor == 1 => text += "transfer-encoding: chunked\r\n",
            _ => {}
        }
        if self.closes {
            text += "connection: close\r\n";
        }
        text += "\r\n";
        // Latin-1 on the wire, as servers of old write it.
        text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect()
    }

    pub fn content(&self) -> Vec<u8> {
        (0..self.body).map(|n| b'a' + (n % 23) as u8).collect()
    }

    pub fn has_body(&self, method: &str) -> bool {
        method != "HEAD" && self.status != 204 && self.status != 304
    }

    /// The answer ends where the connection does.
    pub fn ends_by_close(&self, method: &str) -> bool {
        let unframed = match self.framing {
            Framing::UntilClose => true,
            Framing::Chunked { .. } => self.minor == 0,
            Framing::Length => false,
        };
        self.closes || self.minor == 0 || (unframed && self.has_body(method))
    }

    /// The body in its frame, in one piece.
    pub fn framed(&self) -> Vec<u8> {
        let content = self.content();
        let Framing::Chunked { trailers } = &self.framing else { return content };
        if self.minor == 0 {
            return content;
        }
        let mut bytes = Vec::new();
        for chunk in content.chunks(1_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

fn mishap(dice: &mut Seeded) -> Mishap {
    match dice.below(24) {
        0 => Mishap::ResetAtOnce,
        1 => Mishap::CloseAtOnce,
        2 | 3 => Mishap::ResetUnanswered,
        4 | 5 => Mishap::CloseUnanswered,
        6 => Mishap::CloseAmidHead,
        7 | 8 => Mishap::ResetAmidBody,
        9 | 10 => Mishap::CloseAmidBody,
        11 => Mishap::Stall,
        12 => Mishap::StallAmidBody,
        13 | 14 => Mishap::Early,
        15 | 16 => Mishap::Excess,
        _ => Mishap::Garbage(dice.below(GARBAGE.len())),
    }
}
