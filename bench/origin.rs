//! The upstream: answers every request with the same bytes and knows of HTTP only where a request ends.
//! It exists to cost as little as an upstream can, to check what reaches it and to count what each version got.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use crate::duo::Job;

/// One connection from a proxy (or from the load itself, when there is none between).
pub struct Connection {
    stream: TcpStream,
    pub version: usize,
    held: Vec<u8>,
    /// Bytes of the present request's body that have come, while it is not complete.
    body: Option<usize>,
    /// Answers not yet fully written, and how far the first of them is.
    owed: u64,
    written: usize,
}

pub enum Served {
    Requests(u64),
    Closed,
}

impl Connection {
    pub fn new(stream: TcpStream, version: usize) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, version, held: Vec::new(), body: None, owed: 0, written: 0 })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether an answer waits for the other end to take more.
    pub fn blocked(&self) -> bool {
        self.owed > 0
    }

    /// Takes what has come, and answers every complete request.
    pub fn serve(&mut self, scratch: &mut [u8], job: &Job) -> Served {
        let bytes = match self.stream.read(scratch) {
            Ok(0) => return Served::Closed,
            Ok(count) => &scratch[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Requests(0),
            Err(_) => return Served::Closed,
        };
        let requests =
            if job.upload.is_empty() { self.heads(bytes) } else { self.uploads(bytes, &job.upload) };
        let Some(requests) = requests else { return Served::Closed };
        self.owed += requests;
        if self.push(&job.answer).is_err() { Served::Closed } else { Served::Requests(requests) }
    }

    /// Writes what the other end takes.
    pub fn push(&mut self, answer: &[u8]) -> io::Result<()> {
        while self.owed > 0 {
            match self.stream.write(&answer[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.written == answer.len() {
                self.written = 0;
                self.owed -= 1;
            }
        }
        Ok(())
    }

    /// Complete requests, where none has a body.
    fn heads(&mut self, bytes: &[u8]) -> Option<u64> {
        let mut requests = 0;
        if self.held.is_empty() {
            let rest = skip_heads(bytes, &mut requests);
            self.held.extend_from_slice(rest);
        } else {
            self.held.extend_from_slice(bytes);
            let rest = skip_heads(&self.held, &mut requests).len();
            self.held.drain(..self.held.len() - rest);
        }
        Some(requests)
    }

    /// Complete requests, where each has this body and says how long it is. None: one has not.
    fn uploads(&mut self, mut bytes: &[u8], body: &[u8]) -> Option<u64> {
        let mut requests = 0;
        while !bytes.is_empty() {
            let Some(have) = self.body else {
                let before = self.held.len();
                self.held.extend_from_slice(bytes);
                let Some(end) = head_end(&self.held) else { break };
                if content_length(&self.held[..end]) != Some(body.len()) {
                    return None;
                }
                bytes = &bytes[end - before..];
                self.held.clear();
                self.body = Some(0);
                continue;
            };
            let (now, rest) = bytes.split_at(bytes.len().min(body.len() - have));
            if now != &body[have..have + now.len()] {
                return None;
            }
            bytes = rest;
            self.body = Some(have + now.len());
            if have + now.len() == body.len() {
                self.body = None;
                requests += 1;
            }
        }
        Some(requests)
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// The bytes after the last complete request head.
fn skip_heads<'a>(mut bytes: &'a [u8], requests: &mut u64) -> &'a [u8] {
    while let Some(end) = head_end(bytes) {
        *requests += 1;
        bytes = &bytes[end..];
    }
    bytes
}

/// Where the body starts. Looks at every fourth byte until one can belong to the blank line.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 3;
    while at < bytes.len() {
        at += match bytes[at] {
            b'\n' if &bytes[at - 3..at] == b"\r\n\r" => return Some(at + 1),
            b'\n' => 2,
            b'\r' => 1,
            _ => 4,
        };
    }
    None
}

/// A body that is the same nowhere nearby, so that a piece lost or doubled is seen.
pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|index| b'a' + ((index + index / 26 + index / 4096) % 26) as u8).collect()
}

/// The whole answer: status line, six fields, body.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: private, max-age=0\r\netag: \"5f3a-19c2\"\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_end_agrees_with_a_plain_search_at_every_offset() {
        for pad in 0..9 {
            for tail in
                ["", "\r", "\n", "\r\n", "\r\n\r", "\r\n\r\n", "\n\r\n\r\n", "\r\r\n\r\nbody", "\r\n\n\r\n"]
            {
                let text = format!("{}{tail}", "x".repeat(pad));
                let plain = text.find("\r\n\r\n").map(|at| at + 4);
                assert_eq!(head_end(text.as_bytes()), plain, "{text:?}");
            }
        }
    }

    #[test]
    fn split_heads_are_counted_once_and_the_rest_is_kept() {
        let mut requests = 0;
        assert_eq!(skip_heads(b"GET / HTTP/1.1\r\n\r\nGET / H", &mut requests), b"GET / H");
        assert_eq!(requests, 1);
    }

    fn connection() -> Connection {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let stream = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        Connection::new(stream, 0).expect("a fresh socket takes options")
    }

    #[test]
    fn uploads_count_only_when_every_byte_is_the_right_one() {
        let text = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        let twice = [&text[..], &text[..]].concat();
        for cut in 0..twice.len() {
            let mut connection = connection();
            let (first, second) = (&twice[..cut], &twice[cut..]);
            let counts = [first, second].map(|bytes| connection.uploads(bytes, b"hello"));
            assert_eq!(
                counts.map(|count| count.expect("the body is right")).iter().sum::<u64>(),
                2,
                "cut at {cut}"
            );
        }
        assert_eq!(connection().uploads(text, b"hullo"), None, "another body");
        assert_eq!(connection().uploads(text, b"hello!"), None, "another length");
    }
}
