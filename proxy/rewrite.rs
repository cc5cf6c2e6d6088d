//! Edits that every proxied message gets: connection fields taken off, where
//! the request came from put on.

use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::COOKIE;
use http::header::EXPECT;
use http::header::HOST;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::TE;
use http::header::TRANSFER_ENCODING;
use http::header::UPGRADE;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Uri, Version};

use crate::forwarded;
pub use crate::forwarded::Peer;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
pub const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
pub const EXPECTED_TIME: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
pub const CAUSE: HeaderName = HeaderName::from_static("x-serin-cause");
pub const MIRROR: HeaderName = HeaderName::from_static("x-serin-mirror");

/// In absolute form a target may have a query and no path: ours has one (RFC 9112,
/// 3.2.1). HTTP/2 has no such form.
pub fn root(parts: &mut Parts) {
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if parts.version == Version::HTTP_2 || !target.starts_with('?') {
        return;
    }
    let rooted = http::uri::PathAndQuery::try_from(format!("/{target}"));
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = rooted.ok().or(uri.path_and_query);
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// Makes a client's head ours to send.
pub fn request(parts: &mut Parts, peer: &Peer, random: impl FnOnce() -> [u64; 2]) {
    let headers = &mut parts.headers;
    // HTTP/2 has no such fields but `te: trailers`: h2 takes a head with others for
    // malformed.
    if parts.version != Version::HTTP_2 {
        let trailers = tokens(headers, &TE).any(|te| te.eq_ignore_ascii_case(b"trailers"));
        strip_connection_fields(headers);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    } else if headers.get_all(TE).iter().nth(1).is_some() {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(EXPECT);
    // An authority in the target outranks the field (RFC 9112, 3.2.2).
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
    peer.edit(headers, random);
}

/// Would [`request`] leave all of an HTTP/2 client's fields as they are, and is none
/// of them what we say ourselves?
pub fn is_plain(headers: &HeaderMap) -> bool {
    headers.keys().all(|name| !matches!(*name, EXPECT | TE) && !forwarded::is_field(name))
}

/// Puts the target into the form that the connection speaks. A client that
/// named no host gets the endpoint's.
pub fn target(parts: &mut Parts, http2: bool, endpoint: impl FnOnce() -> String) {
    if parts.headers.get(HOST).is_none_or(HeaderValue::is_empty) {
        let host = HeaderValue::from_str(&endpoint()).unwrap_or(HeaderValue::from_static("localhost"));
        parts.headers.insert(HOST, host);
    }
    let path = parts.uri.path_and_query().cloned();
    if !http2 {
        parts.version = Version::HTTP_11;
        join_cookies(&mut parts.headers);
        if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
            let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
            parts.uri = Uri::from(path);
        }
        return;
    }
    parts.version = Version::HTTP_2;
    let host = parts.headers.remove(HOST);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
    uri.path_and_query = path;
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

/// Whom a request is for, without the port.
pub fn host_of(parts: &Parts) -> Option<&str> {
    let field = || http::uri::Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok();
    match parts.uri.authority() {
        Some(authority) => Some(authority.host()),
        None => field().and_then(|_| {
            let value = parts.headers.get(HOST)?.to_str().ok()?;
            match value.rfind(':') {
                Some(colon) if !value.ends_with(']') => Some(&value[..colon]),
                _ => Some(value),
            }
        }),
    }
}

/// An HTTP/2 client may send its cookies one by one; HTTP/1 has one line for them
/// (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// The target of a request that goes up over TLS says so, where it says at all.
pub fn encrypted(parts: &mut Parts) {
    if parts.uri.scheme().is_some() {
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(Scheme::HTTPS);
        if let Ok(uri) = Uri::from_parts(uri) {
            parts.uri = uri;
        }
    }
}

/// Makes an upstream's head ours to send; `bare` is one without fields that speak
/// of its connection.
pub fn response(headers: &mut HeaderMap, bare: bool, service_time_us: u64) {
    if !bare {
        strip_connection_fields(headers);
    }
    headers.insert(SERVICE_TIME, milliseconds(service_time_us / 1000));
}

/// Short times, which are the most, cost no memory.
fn milliseconds(ms: u64) -> HeaderValue {
    const SHORT: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    match usize::try_from(ms).ok().and_then(|ms| SHORT.get(ms)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(ms),
    }
}

/// Fields that speak of one connection and not of the message (RFC 9110, 7.6.1).
pub fn strip_connection_fields(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

/// The comma-separated parts of a field, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_a_path_gets_one() {
        for (version, target, rooted) in [
            (Version::HTTP_11, "http://a?x=1", "http://a/?x=1"),
            (Version::HTTP_11, "http://a", "http://a/"),
            (Version::HTTP_11, "/b?x", "/b?x"),
            (Version::HTTP_11, "*", "*"),
        ] {
            let mut parts =
                http::Request::builder().version(version).uri(target).body(()).unwrap().into_parts().0;
            root(&mut parts);
            assert_eq!(parts.uri.to_string(), rooted);
            assert!(parts.uri.path_and_query().is_some_and(|path| !path.as_str().starts_with('?')));
        }
    }

    #[test]
    fn connection_fields_and_those_they_name_are_dropped() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-a, close, content-length"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("keep-alive", "5"),
            ("content-length", "3"),
            ("upgrade", "h2c"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_connection_fields(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-b"]);
    }
}
