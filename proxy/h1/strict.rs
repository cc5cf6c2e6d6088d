//! Whether a head has one reading, asked of every request of a client that
//! speaks HTTP/1, whoever acts on it afterwards.
//!
//! hyper is kinder than a proxy may be: what it reads one way, the next server
//! may read another. So it only sees heads that have passed here.

use std::mem::MaybeUninit;

use crate::h1::field;
use crate::h1::field::MAX_FIELDS;
use crate::h1::framing::Framing;
use crate::head::is_authority;

/// What follows a head that has one reading.
#[derive(Debug)]
pub struct Passed {
    pub framing: Framing,
    /// The client may go on in another language than HTTP.
    pub may_switch: bool,
}

/// The head is such that nobody should act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// Reads a head that is whole and whose lines all end with CR and LF.
pub fn inspect(head: &[u8]) -> Result<Passed, Ambiguous> {
    let mut few = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut many = Vec::new();
    let mut request = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let mut parsed = config.parse_request_with_uninit_headers(&mut request, head, &mut few);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        // Whether they are too many is not decided here, only what they say.
        many.resize_with(head.iter().filter(|byte| **byte == b'\n').count(), MaybeUninit::uninit);
        request = httparse::Request::new(&mut []);
        parsed = config.parse_request_with_uninit_headers(&mut request, head, &mut many);
    }
    let Ok(httparse::Status::Complete(_)) = parsed else { return Err(Ambiguous) };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Ambiguous);
    };
    let (mut host, mut length, mut chunked, mut upgrade) = (None, None, false, false);
    for header in request.headers.iter() {
        match field::role(header.name) {
            field::Role::Host if host.is_none() => host = Some(header.value),
            field::Role::ContentLength if length.is_none() => {
                length = Some(field::content_length(header.value).ok_or(Ambiguous)?);
            }
            field::Role::TransferEncoding
                if !chunked && version == 1 && header.value.eq_ignore_ascii_case(b"chunked") =>
            {
                chunked = true;
            }
            field::Role::Host | field::Role::ContentLength | field::Role::TransferEncoding => {
                return Err(Ambiguous);
            }
            _ => upgrade |= header.name.eq_ignore_ascii_case("upgrade"),
        }
    }
    let host = host.map(|host| std::str::from_utf8(host).map_err(|_| Ambiguous)).transpose()?;
    if !names_one(method, target, host, version) {
        return Err(Ambiguous);
    }
    let framing = match (length, chunked) {
        (Some(_), true) => return Err(Ambiguous),
        (None, true) => Framing::chunked(),
        (Some(length @ 1..), false) => Framing::Length(length),
        (Some(0) | None, false) => Framing::None,
    };
    Ok(Passed { framing, may_switch: upgrade || method == "CONNECT" })
}

/// Do the target and the host field name one resource of one host?
fn names_one(method: &str, target: &str, host: Option<&str>, version: u8) -> bool {
    match host {
        None if version == 1 => return false,
        Some(host) if !host.is_empty() && !is_authority(host.as_bytes()) => return false,
        _ => {}
    }
    // Ours are heads, not documents: a fragment never leaves the user's browser.
    if target.contains('#') {
        return false;
    }
    if method == "CONNECT" {
        return is_authority(target.as_bytes()) && target.contains(':');
    }
    if target == "*" {
        return method == "OPTIONS";
    }
    if target.starts_with('/') {
        return true;
    }
    let Some(rest) = without_scheme(target) else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    is_authority(authority.as_bytes()) && host.is_none_or(|host| host.eq_ignore_ascii_case(authority))
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clear(head: &str) -> bool {
        inspect(head.as_bytes()).is_ok()
    }

    #[test]
    fn target_and_host_must_agree() {
        for (line, host) in [
            ("GET /", "a"),
            ("GET /", ""),
            ("GET http://a/x", "a"),
            ("GET HTTP://a:80?x", "A:80"),
            ("OPTIONS *", "a"),
            ("CONNECT a:443", "a:443"),
        ] {
            assert!(is_clear(&format!("{line} HTTP/1.1\r\nhost: {host}\r\n\r\n")), "{line} {host}");
        }
        for (line, host) in [
            ("GET http://a/", "b"),
            ("GET http://u@a/", "u@a"),
            ("GET *", "a"),
            ("GET a", "a"),
            ("GET ftp://a/", "a"),
            ("GET /#a", "a"),
            ("CONNECT a", "a"),
            ("CONNECT /", "a"),
            ("GET /", "a, b"),
        ] {
            assert!(!is_clear(&format!("{line} HTTP/1.1\r\nhost: {host}\r\n\r\n")), "{line} {host}");
        }
        assert!(is_clear("GET / HTTP/1.0\r\n\r\n") && !is_clear("GET / HTTP/1.1\r\n\r\n"));
    }
}
