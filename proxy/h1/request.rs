//! A client's head: read strictly, and written anew for the upstream.
//!
//! Whatever is unusual is not judged here. It is called irregular, and hyper
//! reads the same bytes again.

use crate::forwarded;
use crate::forwarded::Field;
use crate::forwarded::Peer;
use crate::h1::field;
use crate::h1::field::Persistence;
use crate::h1::field::Role;
use crate::h1::framing::Framing;
use crate::h1::scan;
use crate::h1::scan::Asks;
use crate::h1::scan::Fields;
use crate::head;
use crate::head::is_authority;

/// A head that has passed, and what its fields say of the message.
pub struct RequestHead<'h> {
    pub method: &'h str,
    pub target: &'h str,
    pub host: &'h str,
    pub fields: &'h Fields<'h>,
    bytes: &'h [u8],
    /// Bytes of the head.
    pub length: usize,
    /// Where the first line ends.
    begin: usize,
    /// The client has sent an `x-forwarded-for`.
    chained: bool,
    pub framing: Framing,
    pub close: bool,
    pub grpc: bool,
}

/// Why a head is not for this codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The bytes need another reader.
    Irregular,
    /// No reader should act on them: the end of the message could be read in
    /// two ways.
    Ambiguous,
}

/// Reads the head at the front of `bytes`. `fields` lends the memory.
pub fn parse<'h>(bytes: &'h [u8], fields: &'h mut Fields<'h>) -> Result<RequestHead<'h>, Unfit> {
    let Asks { method, target, end: begin } = scan::request_line(bytes).ok_or(Unfit::Irregular)?;
    let length = fields.read(bytes, begin).ok_or(Unfit::Irregular)?;
    let fields: &'h Fields<'h> = fields;
    let mut regular = method != "CONNECT";
    let (mut host, mut body, mut chunked, mut chained, mut grpc) = (None, None, false, false, false);
    let mut persistence = Persistence::default();
    for (field, role) in fields.iter() {
        match role {
            Role::Plain => {}
            Role::Host if host.is_none() => host = authority(field.value),
            Role::ContentLength if body.is_none() => body = Some(field::content_length(field.value)),
            Role::TransferEncoding if !chunked && field.value.eq_ignore_ascii_case(b"chunked") => {
                chunked = true;
            }
            Role::TransferEncoding => return Err(Unfit::Ambiguous),
            Role::Connection => persistence.read(field.value),
            Role::ContentType => grpc = head::is_grpc(field.value),
            Role::Forwarded(Field::For) => chained = true,
            Role::Host | Role::ContentLength | Role::Irregular => regular = false,
            _ => {}
        }
    }
    let framing = match (body, chunked) {
        (None, false) | (Some(Some(0)), false) => Framing::None,
        (Some(Some(body)), false) => Framing::Length(body),
        (None, true) => Framing::chunked(),
        (Some(_), true) => return Err(Unfit::Ambiguous),
        (Some(None), false) => return Err(Unfit::Irregular),
    };
    match host {
        Some(host) if regular && !persistence.names_fields => {
            let close = persistence.close;
            Ok(RequestHead {
                method,
                target,
                host,
                fields,
                bytes,
                length,
                begin,
                chained,
                framing,
                close,
                grpc,
            })
        }
        _ => Err(Unfit::Irregular),
    }
}

impl RequestHead<'_> {
    /// The head as the upstream gets it.
    pub fn write(&self, peer: &Peer, random: impl FnOnce() -> [u64; 2], out: &mut Vec<u8>) {
        let mut kept = forwarded::Fields::default();
        self.fields.pass(self.bytes, 0, self.begin, out, |_, role| match role {
            Role::Connection | Role::Drop => false,
            Role::Forwarded(field) => {
                let keeps = peer.keeps(field, self.chained);
                if keeps {
                    kept.add(field);
                }
                keeps
            }
            _ => true,
        });
        let nothing_kept = kept == forwarded::Fields::default() && !self.chained;
        if nothing_kept && peer.introduces() {
            return peer.introduce(self.host.as_bytes(), random, out);
        }
        peer.says(kept, Some(self.host.as_bytes()), random, |field, word| {
            out.extend_from_slice(field.as_str().as_bytes());
            out.extend_from_slice(b": ");
            if peer.extends(field) {
                self.chain(field, out);
            }
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        });
        out.extend_from_slice(b"\r\n");
    }

    /// What the client says in this field, for our own word to follow.
    fn chain(&self, field: Field, out: &mut Vec<u8>) {
        for (header, role) in self.fields.iter() {
            if role == Role::Forwarded(field) {
                out.extend_from_slice(header.value);
                out.push(b',');
            }
        }
    }
}

/// A host that every reader reads alike: a name or address and perhaps a port.
fn authority(value: &[u8]) -> Option<&str> {
    is_authority(value).then(|| scan::ascii(value))
}

/// Do these bytes surely hold a whole head? One that has come alone does so by
/// how it ends; where the head ends is then for `parse` to find.
pub fn is_whole(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n")
}

/// What is known of a head by its line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It has ended after this many bytes.
    Whole(usize),
    Partial,
    /// A line feed stands alone: the end of a line for some readers only.
    Irregular,
}

/// Looks for the end of a head that begins at the front; the first `seen` bytes
/// have been looked at before.
pub fn extent(bytes: &[u8], seen: usize) -> Extent {
    for at in memchr::memchr_iter(b'\n', &bytes[seen..]).map(|at| at + seen) {
        if at == 0 || bytes[at - 1] != b'\r' {
            return Extent::Irregular;
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Extent::Whole(at + 1);
        }
    }
    Extent::Partial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> Result<String, Unfit> {
        let Extent::Whole(length) = extent(bytes.as_bytes(), 0) else { return Err(Unfit::Irregular) };
        assert_eq!(length, bytes.len());
        let mut fields = Fields::new();
        let head = parse(bytes.as_bytes(), &mut fields)?;
        let mut out = Vec::new();
        let peer = Peer::new("10.0.0.1:5".parse().unwrap(), None);
        head.write(&peer, || [0; 2], &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_regular_head_is_passed_on_with_what_we_know() {
        let sent = read(
            "GET /a?b HTTP/1.1\r\nHost: a.b:80\r\nX-A: 1\r\nConnection: keep-alive\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nx-request-id: 7\r\n\r\n",
        );
        let expected = "GET /a?b HTTP/1.1\r\nHost: a.b:80\r\nX-A: 1\r\nx-forwarded-for: 1.1.1.1,2.2.2.2,10.0.0.1\r\nx-forwarded-host: a.b:80\r\nx-forwarded-proto: http\r\nx-request-id: 00000000-0000-4000-8000-000000000000\r\n\r\n";
        assert_eq!(sent.unwrap(), expected);
    }

    #[test]
    fn what_is_said_in_one_piece_is_what_is_said_field_by_field() {
        for https in [false, true] {
            let policy = crate::model::Forwarded::default();
            let peer =
                Peer::known("10.0.0.1:5".parse().unwrap(), None, https, forwarded::Shown::Nothing, &policy);
            let random = || [u64::MAX / 3, 0x0123_4567_89ab_cdef];
            let (mut whole, mut each) = (Vec::new(), Vec::new());
            assert!(peer.introduces());
            peer.introduce(b"a.b:80", random, &mut whole);
            peer.says(forwarded::Fields::default(), Some(b"a.b:80"), random, |field, word| {
                field::push(&mut each, field.as_str(), word);
            });
            each.extend_from_slice(b"\r\n");
            assert_eq!(String::from_utf8(whole), String::from_utf8(each));
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_left_to_hyper() {
        let irregular = [
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\" HTTP/1.1\r\nhost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a:b:c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: [::0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: [::1]:8:8\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        ];
        for head in irregular {
            assert_eq!(read(head).err(), Some(Unfit::Irregular), "{}", head.escape_debug());
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_reads_break() {
        let bytes = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET";
        for seen in 0..27 {
            assert_eq!(extent(&bytes[..seen], 0), Extent::Partial);
            assert_eq!(extent(bytes, seen), Extent::Whole(27), "after {seen}");
        }
        assert_eq!(extent(b"\n", 0), Extent::Irregular);
    }

    #[test]
    fn what_has_no_sure_end_is_for_nobody() {
        for fields in [
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "expect: 100-continue\r\ntransfer-encoding: chunked, identity\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            assert_eq!(read(&head).err(), Some(Unfit::Ambiguous), "{fields}");
        }
    }
}
