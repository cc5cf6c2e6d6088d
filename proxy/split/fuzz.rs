//! What must hold of cookies for any bytes: both codecs find the same, and a user
//! who sends back what was handed out stands where they stood.

use http::HeaderMap;
use http::header::COOKIE;
use http::header::HeaderName;
use http::header::HeaderValue;

use super::sticky::Compiled;
use crate::head::Head;
use crate::model::Sticky;
use crate::model::StickyKey;

/// A name, and lines of cookies.
pub fn cookies(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(name) = lines.next().and_then(|name| std::str::from_utf8(name).ok()) else { return };
    // The file takes tokens alone.
    if HeaderName::try_from(name).is_err() {
        return;
    }
    let mut lines: Vec<&[u8]> = lines.filter(|line| HeaderValue::from_bytes(line).is_ok()).collect();
    let found = found(&lines, name);
    assert_eq!(found.as_deref(), lines.iter().find_map(|line| plainly(line, name)));
    let key = StickyKey::Issue { cookie: name.to_owned(), max_age: None, path: "/".to_owned() };
    let sticky = Compiled::new(&Sticky { key }, "web").expect("a token is a name");
    let random = xxhash_rust::xxh64::xxh64(bytes, 0);
    let (unit, issued) = placed(&lines, &sticky, random);
    assert_eq!(issued.is_none(), found.is_some(), "one is handed out where there is none");
    let Some(issued) = issued else { return };
    let pair = issued.split(';').next().unwrap_or_default().to_owned();
    for first in [true, false] {
        lines.insert(if first { 0 } else { lines.len() }, pair.as_bytes());
        assert_eq!(placed(&lines, &sticky, !random), (unit, None), "{pair}");
        lines.remove(if first { 0 } else { lines.len() - 1 });
    }
}

/// As RFC 6265 has it, in so many words.
fn plainly<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let value = pair[equals + 1..].trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (pair[..equals].trim_ascii() == name.as_bytes()).then_some(unquoted.unwrap_or(value))
    })
}

fn found(lines: &[&[u8]], name: &str) -> Option<Vec<u8>> {
    both(lines, |head| head.cookie(name).map(<[u8]>::to_vec))
}

fn placed(lines: &[&[u8]], sticky: &Compiled, random: u64) -> (u64, Option<String>) {
    both(lines, |head| {
        let place = sticky.place(head, random).expect("who has no cookie gets one");
        (place.unit, place.set_cookie)
    })
}

/// The same of a head as hyper keeps it and as our own codec does.
fn both<T: PartialEq + std::fmt::Debug>(lines: &[&[u8]], look: impl Fn(&Head<'_>) -> T) -> T {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("a"));
    for line in lines {
        headers.append(COOKIE, HeaderValue::from_bytes(line).expect("only such are kept"));
    }
    let mut parts = http::Request::new(()).into_parts().0;
    parts.headers = headers;
    let list: Vec<_> = lines.iter().map(|value| httparse::Header { name: "Cookie", value }).collect();
    let of_map = look(&Head::of(&parts).expect("one host and nothing else"));
    assert_eq!(of_map, look(&Head::of_list("GET", "/", "a", &list)));
    of_map
}
