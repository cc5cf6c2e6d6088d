//! Requests that want their connection, or their HTTP/2 stream, to stop being
//! HTTP: read from one version of the protocol and said in the other.
//!
//! Three forms mean the same to routing: an HTTP/1.1 `upgrade`, an HTTP/2
//! extended CONNECT (RFC 8441), and a plain CONNECT. The first two are seen as
//! the GET that they are; only the last has no path. Nothing here moves a byte
//! of what comes after the switch.

use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::header::SEC_WEBSOCKET_KEY;
use http::header::TRANSFER_ENCODING;
use http::header::UPGRADE;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri, Version, response};
use hyper::ext::Protocol;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::model::Connect;
use crate::model::Upgrades;

/// What RFC 6455, 4.2.2 has a server append to the key.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: &[u8] = b"websocket";
const H2C: &[u8] = b"h2c";

/// What a request wants to turn into. Travels with its head.
#[derive(Clone, Debug)]
pub struct Change {
    into: Aim,
    /// The client speaks HTTP/2: one of its streams changes, not the connection.
    on_stream: bool,
    /// The key of a WebSocket; made up where the client's version has none.
    key: HeaderValue,
}

#[derive(Clone, Debug)]
enum Aim {
    /// The protocol of this name.
    Protocol(HeaderValue),
    /// Plain bytes to and from this authority.
    Tunnel(Authority),
}

/// Takes the change out of a client's head. What is left of an extended CONNECT is
/// the GET that an HTTP/1.1 client would have sent.
pub fn read(parts: &mut Parts, random: impl FnOnce() -> [u64; 2]) -> Result<Option<Change>, Fault> {
    let bad = Fault::downstream(Kind::BadRequest);
    let on_stream = parts.version == Version::HTTP_2;
    let into = if parts.method != Method::CONNECT {
        match wanted(parts) {
            Some(protocol) => Aim::Protocol(protocol),
            None => return Ok(None),
        }
    } else if let Some(protocol) = parts.extensions.remove::<Protocol>() {
        parts.method = Method::GET;
        Aim::Protocol(HeaderValue::from_str(protocol.as_str()).map_err(|_| bad)?)
    } else {
        Aim::Tunnel(parts.uri.authority().ok_or(bad)?.clone())
    };
    // Where a body ends and the switched bytes begin could be read two ways.
    if !on_stream && announces_body(&parts.headers) {
        return Err(bad);
    }
    let key = match parts.headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if !on_stream => key.clone(),
        _ => made_up_key(random()),
    };
    Ok(Some(Change { into, on_stream, key }))
}

/// The protocol that an HTTP/1.1 client asks for. `h2c` is passed over: whoever
/// asks for it goes on just as well without.
fn wanted(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !has_token(&parts.headers, &CONNECTION, b"upgrade") {
        return None;
    }
    let mut lines = parts.headers.get_all(UPGRADE).iter();
    let first = lines.next()?;
    if lines.next().is_some() {
        // A choice, which nobody is allowed to make for the client.
        return Some(HeaderValue::from_static("several"));
    }
    (!first.as_bytes().eq_ignore_ascii_case(H2C)).then(|| first.clone())
}

fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
}

impl Change {
    pub fn is_allowed(&self, upgrades: &Upgrades) -> bool {
        match &self.into {
            Aim::Tunnel(_) => upgrades.connect.is_some(),
            Aim::Protocol(wanted) => upgrades
                .protocols
                .iter()
                .any(|allowed| wanted.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())),
        }
    }

    /// Are we the ones to say yes, before any version is asked?
    pub fn ends_here(&self, upgrades: &Upgrades) -> bool {
        matches!(self.into, Aim::Tunnel(_)) && upgrades.connect == Some(Connect::Terminate)
    }

    fn is_websocket(&self) -> bool {
        matches!(&self.into, Aim::Protocol(name) if name.as_bytes().eq_ignore_ascii_case(WEBSOCKET))
    }
}

/// Says the change that a head carries, if any, in the version that the upstream
/// speaks. The rest of the head is ready.
pub fn target(parts: &mut Parts, http2: bool) {
    let Some(change) = parts.extensions.get::<Change>().cloned() else { return };
    match &change.into {
        Aim::Tunnel(authority) => {
            parts.method = Method::CONNECT;
            parts.uri = Uri::from(authority.clone());
        }
        Aim::Protocol(protocol) if http2 => {
            parts.method = Method::CONNECT;
            parts.headers.remove(SEC_WEBSOCKET_KEY);
            parts.extensions.insert(Protocol::from(protocol.to_str().unwrap_or_default()));
        }
        Aim::Protocol(protocol) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol.clone());
            if change.is_websocket() {
                parts.headers.insert(SEC_WEBSOCKET_KEY, change.key.clone());
            }
        }
    }
}

/// Has the upstream switched? An answer that could be taken for a switch and is
/// none is refused.
pub fn has_switched(change: Option<&Change>, head: &response::Parts, http2: bool) -> Result<bool, Fault> {
    let garbage = Err(Fault::upstream(Kind::Garbage));
    let status = head.status;
    let Some(change) = change else {
        return if status == StatusCode::SWITCHING_PROTOCOLS { garbage } else { Ok(false) };
    };
    let switched = match &change.into {
        _ if http2 => status == StatusCode::OK,
        Aim::Tunnel(_) => status.is_success(),
        Aim::Protocol(_) => status == StatusCode::SWITCHING_PROTOCOLS,
    };
    match &change.into {
        _ if http2 => {}
        Aim::Tunnel(_) if status == StatusCode::SWITCHING_PROTOCOLS => return garbage,
        Aim::Protocol(wanted) if switched => {
            let got = head.headers.get(UPGRADE).map(HeaderValue::as_bytes);
            let agreed = got.is_some_and(|got| got.eq_ignore_ascii_case(wanted.as_bytes()));
            // A key that the client does not know is checked by nobody else.
            let accepted = || head.headers.get(SEC_WEBSOCKET_ACCEPT) == Some(&accept_of(&change.key));
            if !agreed || (change.on_stream && change.is_websocket() && !accepted()) {
                return garbage;
            }
        }
        Aim::Tunnel(_) | Aim::Protocol(_) => {}
    }
    let looks_switched = status.is_success() && (change.on_stream || matches!(change.into, Aim::Tunnel(_)));
    if !switched && looks_switched { garbage } else { Ok(switched) }
}

/// Makes the head of a switched answer say so in the client's version.
pub fn agree(change: &Change, head: &mut response::Parts) {
    let headers = &mut head.headers;
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let Aim::Protocol(protocol) = &change.into else { return };
    if change.on_stream {
        head.status = StatusCode::OK;
        headers.remove(SEC_WEBSOCKET_ACCEPT);
        return;
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
    if change.is_websocket() {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept_of(&change.key));
    }
}

/// An HTTP/1.1 connection that was to switch and does not is closed: what the
/// client sends on it from now on may be anything.
pub fn decline(change: &Change, headers: &mut HeaderMap) {
    if !change.on_stream {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn made_up_key(random: [u64; 2]) -> HeaderValue {
    let bytes = [random[0].to_be_bytes(), random[1].to_be_bytes()].concat();
    HeaderValue::from_str(&base64(&bytes)).expect("base64 is visible ASCII")
}

fn accept_of(key: &HeaderValue) -> HeaderValue {
    let text = [key.as_bytes(), WEBSOCKET_GUID].concat();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::from_str(&base64(digest.as_ref())).expect("base64 is visible ASCII")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let joined = three.iter().fold(0u32, |joined, byte| joined << 8 | u32::from(*byte));
        let joined = joined << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(joined >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let uri = if method == "CONNECT" { "a.b:443" } else { "/chat" };
        let mut request = http::Request::builder().method(method).version(version).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn change(parts: &mut Parts) -> Option<Change> {
        read(parts, || [1, 2]).unwrap()
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const UP: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn only_a_named_protocol_is_allowed() {
        let chat = Upgrades { protocols: vec!["websocket".into()], connect: None };
        for (upgrade, allowed) in [("WebSocket", true), ("websocket, x", false), ("TLS/1.2", false)] {
            let mut parts = head("GET", Version::HTTP_11, &[UP, ("upgrade", upgrade), KEY]);
            assert_eq!(change(&mut parts).unwrap().is_allowed(&chat), allowed, "{upgrade}");
        }
        let two = [UP, ("upgrade", "websocket"), ("upgrade", "websocket")];
        assert!(!change(&mut head("GET", Version::HTTP_11, &two)).unwrap().is_allowed(&chat));
        let connect = change(&mut head("CONNECT", Version::HTTP_11, &[])).unwrap();
        assert!(!connect.is_allowed(&chat));
    }

    #[test]
    fn what_asks_for_no_switch_is_none() {
        assert!(change(&mut head("GET", Version::HTTP_11, &[("upgrade", "websocket")])).is_none());
        assert!(change(&mut head("GET", Version::HTTP_11, &[UP])).is_none());
        assert!(change(&mut head("GET", Version::HTTP_10, &[UP, ("upgrade", "websocket")])).is_none());
        assert!(change(&mut head("GET", Version::HTTP_11, &[UP, ("upgrade", "h2c")])).is_none());
    }

    #[test]
    fn a_body_before_the_switch_is_refused() {
        for body in [("content-length", "3"), ("transfer-encoding", "chunked")] {
            let mut parts = head("GET", Version::HTTP_11, &[UP, ("upgrade", "websocket"), body]);
            assert!(read(&mut parts, || [0; 2]).is_err());
            assert!(read(&mut head("CONNECT", Version::HTTP_11, &[body]), || [0; 2]).is_err());
        }
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade_and_back() {
        let mut parts = head("CONNECT", Version::HTTP_2, &[]);
        parts.extensions.insert(Protocol::from("websocket"));
        let asked = change(&mut parts).unwrap();
        assert_eq!(parts.method, Method::GET);
        parts.extensions.insert(asked.clone());
        target(&mut parts, false);
        assert_eq!(
            (&parts.headers[UPGRADE], &parts.headers[CONNECTION]),
            (&"websocket".parse().unwrap(), &"upgrade".parse().unwrap())
        );
        assert_eq!(parts.headers[SEC_WEBSOCKET_KEY].len(), 24);
        let mut answer = http::Response::builder().status(101).header("upgrade", "websocket");
        answer = answer.header("sec-websocket-accept", accept_of(&asked.key));
        let mut answer = answer.body(()).unwrap().into_parts().0;
        assert_eq!(has_switched(Some(&asked), &answer, false), Ok(true));
        agree(&asked, &mut answer);
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key(SEC_WEBSOCKET_ACCEPT)), (200, false));
    }

    #[test]
    fn the_accepting_word_is_that_of_the_rfc() {
        assert_eq!(accept_of(&HeaderValue::from_static(KEY.1)), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            (base64(b"f"), base64(b"fo"), base64(b"foo")),
            ("Zg==".into(), "Zm8=".into(), "Zm9v".into())
        );
    }

    #[test]
    fn what_only_looks_like_a_switch_is_garbage() {
        let answer = |status: u16| http::Response::builder().status(status).body(()).unwrap().into_parts().0;
        let upgrade =
            change(&mut head("GET", Version::HTTP_11, &[UP, ("upgrade", "websocket"), KEY])).unwrap();
        let tunnel = change(&mut head("CONNECT", Version::HTTP_2, &[])).unwrap();
        assert!(has_switched(None, &answer(101), false).is_err());
        assert!(has_switched(Some(&upgrade), &answer(101), false).is_err(), "to nothing in particular");
        assert_eq!(has_switched(Some(&upgrade), &answer(200), false), Ok(false));
        assert!(has_switched(Some(&tunnel), &answer(204), true).is_err());
        assert_eq!(has_switched(Some(&tunnel), &answer(403), true), Ok(false));
    }
}
