//! The upstream: answers every request with the same 512 bytes and knows nothing else of HTTP.
//! It exists to cost as little as an upstream can and to count what each version really got.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

/// Bytes in the body of every answer.
pub const BODY_BYTES: usize = 512;

/// One connection from a proxy (or from the load itself, when there is none between).
pub struct Connection {
    stream: TcpStream,
    pub version: usize,
    held: Vec<u8>,
}

pub enum Served {
    Requests(u64),
    Closed,
}

impl Connection {
    pub fn new(stream: TcpStream, version: usize) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, version, held: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Answers every complete request that has arrived.
    pub fn serve(&mut self, scratch: &mut [u8], answer: &[u8]) -> Served {
        let bytes = match self.stream.read(scratch) {
            Ok(0) => return Served::Closed,
            Ok(count) => &scratch[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Requests(0),
            Err(_) => return Served::Closed,
        };
        let mut requests = 0;
        if self.held.is_empty() {
            let rest = skip_heads(bytes, &mut requests);
            self.held.extend_from_slice(rest);
        } else {
            self.held.extend_from_slice(bytes);
            let rest = skip_heads(&self.held, &mut requests).len();
            self.held.drain(..self.held.len() - rest);
        }
        for _ in 0..requests {
            // A send buffer that cannot take 700 bytes means a peer that stopped reading.
            if self.stream.write_all(answer).is_err() {
                return Served::Closed;
            }
        }
        Served::Requests(requests)
    }
}

/// The bytes after the last complete request head; requests here have no body.
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

pub fn body() -> Vec<u8> {
    (0..BODY_BYTES).map(|index| b'a' + (index % 26) as u8).collect()
}

/// The whole answer: status line, six fields, body.
pub fn answer() -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         content-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n\
         cache-control: private, max-age=0\r\netag: \"5f3a-19c2\"\r\n\r\n"
    )
    .into_bytes();
    answer.extend_from_slice(&body());
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
}
