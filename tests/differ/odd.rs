//! Requests that are wrong, or that servers have been known to read in two
//! ways. What matters most of them: that both proxies refuse the same, and that
//! what one passes on means the same at the origin.

use super::request::{Request, bytes};
use super::stage::CASE;
use crate::harness::Seeded;

/// One of the oddities below, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd(pub usize);

/// What it is called, the lines after the request's own, and the bytes after
/// the head. `{}` in a line stands for nothing; a line that begins with `^`
/// replaces the request line.
type Oddity = (&'static str, &'static str, &'static str);

pub const ODDITIES: [Oddity; 44] = [
    ("length and chunked", "content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
    ("chunked and length", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n"),
    ("two lengths", "content-length: 3\r\ncontent-length: 4\r\n", "abcd"),
    ("the same length twice", "content-length: 3\r\ncontent-length: 3\r\n", "abc"),
    ("a list of the same length", "content-length: 3, 3\r\n", "abc"),
    ("a signed length", "content-length: +3\r\n", "abc"),
    ("a negative length", "content-length: -3\r\n", "abc"),
    ("a length in hex", "content-length: 0x3\r\n", "abc"),
    ("an empty length", "content-length: \r\n", ""),
    ("a length past 64 bits", "content-length: 99999999999999999999\r\n", "abc"),
    ("a length with a blank inside", "content-length: 1 2\r\n", "abc"),
    ("an unknown coding", "transfer-encoding: gzip\r\n", "abc"),
    ("chunked after another coding", "transfer-encoding: gzip, chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("chunked before another coding", "transfer-encoding: chunked, gzip\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
    ("chunked in capitals", "Transfer-Encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("chunked with a tab", "transfer-encoding:\tchunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("nearly chunked", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
    ("chunked behind a comma", "transfer-encoding: , chunked\r\n", "0\r\n\r\n"),
    ("identity", "transfer-encoding: identity\r\ncontent-length: 3\r\n", "abc"),
    ("a blank before the colon", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
    ("a folded line", "x-fold: a\r\n b\r\n", ""),
    ("a bare line feed", "x-bare: a\nx-more: b\r\n", ""),
    ("a bare carriage return", "x-bare: a\rb\r\n", ""),
    ("a zero byte", "x-zero: a\0b\r\n", ""),
    ("a control byte", "x-control: a\x01b\r\n", ""),
    ("a delete byte", "x-control: a\x7fb\r\n", ""),
    ("a blank in a name", "x y: 1\r\n", ""),
    ("a name that is empty", ": 1\r\n", ""),
    ("a line without a colon", "nocolon\r\n", ""),
    ("a bracket in a name", "x(y): 1\r\n", ""),
    ("two hosts", "host: other.test\r\n", ""),
    ("a size that is none", "transfer-encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n"),
    ("a size with a sign", "transfer-encoding: chunked\r\n", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a size past 64 bits", "transfer-encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("a chunk longer than its size", "transfer-encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"),
    ("a size with blanks", "transfer-encoding: chunked\r\n", "3  \r\nabc\r\n0\r\n\r\n"),
    ("chunks by bare line feeds", "transfer-encoding: chunked\r\n", "3\nabc\n0\n\n"),
    ("a fragment", "^GET /a#b HTTP/1.1", ""),
    ("a version of two digits", "^GET /a HTTP/1.10", ""),
    ("a version in small letters", "^GET /a http/1.1", ""),
    ("two blanks", "^GET  /a HTTP/1.1", ""),
    ("a target without a slash", "^GET a HTTP/1.1", ""),
    ("the star", "^OPTIONS * HTTP/1.1", ""),
];

impl Odd {
    pub fn draw(dice: &mut Seeded) -> Odd {
        Odd(dice.below(ODDITIES.len()))
    }

    pub fn name(self) -> &'static str {
        ODDITIES[self.0].0
    }

    pub fn head(self, request: &Request, case: u64) -> Vec<u8> {
        let (_, lines, body) = ODDITIES[self.0];
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut text = match lines.strip_prefix('^') {
            Some(first) => format!("{first}\r\nhost: {}\r\n{CASE}: {case}\r\n", request.host()),
            None => {
                format!("{method} /a HTTP/1.1\r\nhost: {}\r\n{CASE}: {case}\r\n{lines}", request.host())
            }
        };
        text += "\r\n";
        bytes(&text)
    }

    pub fn body(self) -> Vec<u8> {
        bytes(ODDITIES[self.0].2)
    }
}
