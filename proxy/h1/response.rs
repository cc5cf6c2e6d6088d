//! An upstream's head: read strictly, and written anew for the client.

use std::mem::MaybeUninit;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::h1::field;
use crate::h1::field::MAX_FIELDS;
use crate::h1::field::Persistence;
use crate::h1::field::Role;
use crate::h1::framing::Framing;
use crate::h1::scan;
use crate::h1::scan::Fields;
use crate::h1::scan::Says;
use crate::interim;
use crate::manners::Server;
use crate::outcome;
use crate::rewrite;

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
    let bad = Fault::upstream(Kind::Garbage);
    let mut fields = Fields::new();
    let first = match FirstLine::read(bytes, &mut fields) {
        Some(first) => first,
        None => match FirstLine::read_odd(bytes, &mut fields)? {
            Some(first) => first,
            None => return Ok(None),
        },
    };
    let FirstLine { version, code, length, .. } = first;
    let status = http::StatusCode::from_u16(code).map_err(|_| bad)?;
    if status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(bad);
    }
    let meaning = Meaning::read(&fields, version, status, head_only)?;
    if status.is_informational() {
        if interim::is_for_client(status) {
            first.pass(bytes, &fields, &meaning, false, out);
            out.extend_from_slice(b"\r\n");
        }
        let framing = Framing::None;
        return Ok(Some(ResponseHead {
            status,
            length,
            framing,
            keep: true,
            close_client: false,
            failed: false,
            resigns: false,
        }));
    }
    let close_client = additions.close || matches!(meaning.framing, Framing::UntilClose);
    let unsigned = additions.server.is_some_and(|server| server.overwrite);
    first.pass(bytes, &fields, &meaning, unsigned, out);
    add(additions, &meaning, close_client, out);
    let Meaning { framing, keep, failed, resigns, .. } = meaning;
    Ok(Some(ResponseHead { status, length, framing, keep, close_client, failed, resigns }))
}

/// How the answer begins, and how long its head is.
struct FirstLine<'h> {
    version: u8,
    code: u16,
    length: usize,
    /// Where the line ends, if it is spelled as we would spell it.
    plain: Option<usize>,
    reason: &'h str,
}

impl<'h> FirstLine<'h> {
    fn read(bytes: &'h [u8], fields: &mut Fields<'h>) -> Option<FirstLine<'h>> {
        let Says { code, end } = scan::status_line(bytes)?;
        let length = fields.read(bytes, end)?;
        Some(FirstLine { version: 1, code, length, plain: Some(end), reason: "" })
    }

    /// Reads what is no worse than odd; `None` where the head has not ended yet.
    fn read_odd(bytes: &'h [u8], fields: &mut Fields<'h>) -> Result<Option<FirstLine<'h>>, Fault> {
        let bad = Fault::upstream(Kind::Garbage);
        let mut memory = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut memory);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(bad),
        };
        let (Some(version), Some(code)) = (response.version, response.code) else { return Err(bad) };
        fields.adopt(response.headers).ok_or(bad)?;
        let reason = response.reason.unwrap_or("");
        Ok(Some(FirstLine { version, code, length, plain: None, reason }))
    }

    /// Passes the line on, and the fields that are not of this connection alone;
    /// `unsigned` without `server`.
    fn pass(&self, bytes: &[u8], fields: &Fields<'_>, meaning: &Meaning, unsigned: bool, out: &mut Vec<u8>) {
        if self.plain.is_none() {
            for part in ["HTTP/1.1 ", itoa::Buffer::new().format(self.code), " ", self.reason, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        let named = |name: &str| {
            meaning.persistence.names_fields
                && fields.iter().filter(|(_, role)| *role == Role::Connection).any(|(header, _)| {
                    let mut tokens = header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    tokens.any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
                })
        };
        let mut has_length = false;
        fields.pass(bytes, 0, self.plain.unwrap_or(0), out, |header, role| match role {
            Role::ContentLength => !meaning.bare && !std::mem::replace(&mut has_length, true),
            Role::TransferEncoding => !meaning.bare,
            Role::Server => !unsigned,
            Role::Connection | Role::Drop | Role::Irregular | Role::ServiceTime => false,
            _ => !named(header.name),
        });
    }
}

struct Meaning {
    framing: Framing,
    keep: bool,
    persistence: Persistence,
    has_date: bool,
    has_server: bool,
    /// No body, and no word of one may pass.
    bare: bool,
    failed: bool,
    resigns: bool,
}

impl Meaning {
    fn read(
        fields: &Fields<'_>,
        version: u8,
        status: http::StatusCode,
        head_only: bool,
    ) -> Result<Meaning, Fault> {
        let bad = Fault::upstream(Kind::Garbage);
        let (mut length, mut chunked, mut has_date) = (None, false, false);
        let (mut failed, mut resigns, mut has_server) = (false, false, false);
        let mut persistence = Persistence::default();
        for (header, role) in fields.iter() {
            match role {
                Role::Plain => {}
                Role::ContentLength => {
                    let known = field::content_length(header.value).ok_or(bad)?;
                    // The same length said twice is odd and harmless.
                    if length.is_some_and(|length| length != known) {
                        return Err(bad);
                    }
                    length = Some(known);
                }
                Role::TransferEncoding if !chunked && header.value.eq_ignore_ascii_case(b"chunked") => {
                    chunked = true
                }
                Role::TransferEncoding => return Err(bad),
                Role::Connection => persistence.read(header.value),
                Role::Date => has_date = true,
                Role::Server => has_server = true,
                Role::Resigns => resigns = true,
                Role::GrpcStatus => failed = outcome::is_grpc_failure(header.value),
                _ => {}
            }
        }
        if chunked && (length.is_some() || version == 0) {
            return Err(bad);
        }
        let bodyless =
            head_only || matches!(status, http::StatusCode::NO_CONTENT | http::StatusCode::NOT_MODIFIED);
        let framing = match (length, chunked) {
            _ if bodyless => Framing::None,
            (_, true) => Framing::chunked_padded(),
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::UntilClose,
        };
        let lasting = if version == 0 { persistence.keep_alive } else { !persistence.close };
        let bare = status == http::StatusCode::NO_CONTENT || status.is_informational();
        let unannounced = bare && (chunked || length.is_some_and(|length| length > 0));
        let keep = lasting && !unannounced && !matches!(framing, Framing::UntilClose);
        Ok(Meaning { framing, keep, persistence, has_date, has_server, bare, failed, resigns })
    }
}

/// What we say ourselves, and the end of the head.
fn add(additions: &Additions<'_>, meaning: &Meaning, close: bool, out: &mut Vec<u8>) {
    if let Some(server) = additions.server.filter(|server| server.overwrite || !meaning.has_server) {
        field::push(out, "server", server.value.as_bytes());
    }
    let mut digits = itoa::Buffer::new();
    let service_time = digits.format(additions.service_time_us / 1000);
    field::push(out, rewrite::SERVICE_TIME.as_str(), service_time.as_bytes());
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
