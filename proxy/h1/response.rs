//! An upstream's head: read strictly, and written anew for the client.

use std::mem::MaybeUninit;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::h1::field;
use crate::h1::field::MAX_FIELDS;
use crate::h1::field::Role;
use crate::h1::framing::Framing;
use crate::h1::scan::Fields;
use crate::head;
use crate::interim;
use crate::manners::Server;
use crate::message::answer::FirstLine;
use crate::message::answer::Meaning;

const SERVICE_TIME: &[u8] = b"x-envoy-upstream-service-time: ";

/// What is known of an answer once its head is in and has been passed on.
pub struct ResponseHead {
    pub status: http::StatusCode,
    /// Bytes of the head as it came.
    pub length: usize,
    pub framing: Framing,
    /// The connection may serve another request after this answer.
    pub keep: bool,
    /// The client must see its connection close to see the end.
    pub close_client: bool,
    /// A gRPC status in the head says that the server has failed.
    pub failed: bool,
    /// The endpoint wants no more requests.
    pub resigns: bool,
}

/// What to add to an answer's head.
pub struct Additions<'a> {
    pub service_time_us: u64,
    pub set_cookies: &'a [String],
    pub close: bool,
    /// Asked only where the upstream did not date its answer.
    pub date: fn() -> String,
    pub server: Option<&'a Server>,
}

/// `None` when the head has not ended yet. The answer to a HEAD request ends
/// with its head. Of an interim answer `out` gets what is for the client, if it is.
pub fn relay(
    bytes: &[u8],
    head_only: bool,
    additions: &Additions<'_>,
    out: &mut Vec<u8>,
) -> Result<Option<ResponseHead>, Fault> {
    let mut fields = Fields::new();
    let Some((first, status, meaning)) = read(bytes, &mut fields, head_only)? else { return Ok(None) };
    let length = first.length;
    if status.is_informational() {
        if interim::is_for_client(status) {
            pass(&first, bytes, &fields, &meaning, false, out);
            out.extend_from_slice(b"\r\n");
        }
        return Ok(Some(ResponseHead::interim(status, length)));
    }
    let close_client = additions.close || matches!(meaning.framing, Framing::UntilClose);
    let unsigned = additions.server.is_some_and(|server| server.overwrite);
    pass(&first, bytes, &fields, &meaning, unsigned, out);
    add(additions, &meaning, close_client, out);
    let Meaning { framing, keep, account, .. } = meaning;
    let (failed, resigns) = (account.has_failed(), account.resigns);
    Ok(Some(ResponseHead { status, length, framing, keep, close_client, failed, resigns }))
}

/// The same of an answer that nobody gets.
pub fn hear(bytes: &[u8], head_only: bool) -> Result<Option<ResponseHead>, Fault> {
    let mut fields = Fields::new();
    let Some((first, status, meaning)) = read(bytes, &mut fields, head_only)? else { return Ok(None) };
    let length = first.length;
    if status.is_informational() {
        return Ok(Some(ResponseHead::interim(status, length)));
    }
    let Meaning { framing, keep, account, .. } = meaning;
    let (failed, resigns) = (account.has_failed(), account.resigns);
    Ok(Some(ResponseHead { status, length, framing, keep, close_client: false, failed, resigns }))
}

type Read<'h> = (FirstLine<'h>, http::StatusCode, Meaning);

/// `None` when the head has not ended yet.
fn read<'h>(bytes: &'h [u8], fields: &mut Fields<'h>, head_only: bool) -> Result<Option<Read<'h>>, Fault> {
    let bad = Fault::upstream(Kind::Garbage);
    let Some(first) = FirstLine::of(bytes, fields)? else { return Ok(None) };
    let status = http::StatusCode::from_u16(first.code).map_err(|_| bad)?;
    if status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(bad);
    }
    let meaning = Meaning::read(fields, first.version, status, head_only)?;
    Ok(Some((first, status, meaning)))
}

/// Reads the fields of a whole head once more, for who asks of more than we know.
pub fn with_fields<T>(head: &[u8], ask: impl FnOnce(head::Fields<'_>) -> T) -> Option<T> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    config.parse_response_with_uninit_headers(&mut response, head, &mut fields).ok()?;
    Some(ask(head::Fields::List(response.headers)))
}

impl ResponseHead {
    /// The answer itself is still to come.
    fn interim(status: http::StatusCode, length: usize) -> ResponseHead {
        let framing = Framing::None;
        ResponseHead {
            status,
            length,
            framing,
            keep: true,
            close_client: false,
            failed: false,
            resigns: false,
        }
    }
}

/// Passes the line on, and the fields that are not of this connection alone;
/// `unsigned` without `server`.
fn pass(
    first: &FirstLine<'_>,
    bytes: &[u8],
    fields: &Fields<'_>,
    meaning: &Meaning,
    unsigned: bool,
    out: &mut Vec<u8>,
) {
    if first.plain.is_none() {
        for part in ["HTTP/1.1 ", itoa::Buffer::new().format(first.code), " ", first.reason, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    let mut has_length = false;
    fields.pass(bytes, 0, first.plain.unwrap_or(0), out, |header, role| match role {
        Role::ContentLength => !meaning.bare && !std::mem::replace(&mut has_length, true),
        Role::TransferEncoding => !meaning.bare,
        Role::Server => !unsigned,
        Role::Connection | Role::Drop | Role::Irregular | Role::ServiceTime => false,
        _ => !meaning.names(fields, header.name),
    });
}

/// What we say ourselves, and the end of the head.
fn add(additions: &Additions<'_>, meaning: &Meaning, close: bool, out: &mut Vec<u8>) {
    if let Some(server) = additions.server.filter(|server| server.overwrite || !meaning.has_server) {
        field::push(out, "server", server.value.as_bytes());
    }
    let mut digits = itoa::Buffer::new();
    let service_time = digits.format(additions.service_time_us / 1000);
    for part in [SERVICE_TIME, service_time.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    if !meaning.has_date {
        field::push(out, "date", (additions.date)().as_bytes());
    }
    for cookie in additions.set_cookies {
        field::push(out, "set-cookie", cookie.as_bytes());
    }
    if close {
        field::push(out, "connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(bytes: &str) -> Result<(ResponseHead, String), Fault> {
        let additions = Additions {
            service_time_us: 5000,
            set_cookies: &[],
            close: false,
            date: || "now".to_owned(),
            server: None,
        };
        let mut out = Vec::new();
        let head = relay(bytes.as_bytes(), false, &additions, &mut out)?.expect("the head is whole");
        Ok((head, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn connection_fields_stay_behind() {
        let (head, sent) = pass("HTTP/1.1 200 Fine\r\nConnection: close, X-B\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n\r\n").unwrap();
        let expected = "HTTP/1.1 200 Fine\r\nX-A: 1\r\nContent-Length: 3\r\nx-envoy-upstream-service-time: 5\r\ndate: now\r\n\r\n";
        assert_eq!(sent, expected);
        assert!(!head.keep && matches!(head.framing, Framing::Length(3)));
    }

    #[test]
    fn an_end_that_could_be_read_two_ways_is_garbage() {
        for fields in [
            "content-length: 3\r\ncontent-length: 4\r\n",
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "content-length: -3\r\n",
        ] {
            assert!(pass(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err(), "{fields}");
        }
        assert!(pass("HTTP/1.1 101 Switch\r\n\r\n").is_err());
        assert!(pass("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn without_a_length_the_end_is_the_connections() {
        let (head, sent) = pass("HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(head.close_client && !head.keep && sent.contains("connection: close\r\n"));
    }
}
