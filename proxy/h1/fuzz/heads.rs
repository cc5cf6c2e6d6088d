//! What must hold of a head on its way, for any bytes: what a version is told
//! does not depend on which codec has read it.

use http::HeaderMap;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::request::Parts;

use crate::edit::Edits;
use crate::edit::InForce;
use crate::edit::Matched;
use crate::edit::Scene;
use crate::forwarded::Shown;
use crate::h1::field::MAX_FIELDS;
use crate::h1::lines::Lines;
use crate::h1::request;
use crate::h1::request::Extent;
use crate::h1::request::RequestHead;
use crate::h1::scan::Fields;
use crate::head::Head;
use crate::model;
use crate::model::ClientCertificateField;
use crate::model::ClientCertificateMode;
use crate::model::HeaderEdits;
use crate::model::HeaderPut;
use crate::model::HostRewrite;
use crate::model::PathRewrite;
use crate::model::Put;
use crate::model::Rewrite;
use crate::model::Substitution;
use crate::rewrite;
use crate::rewrite::Peer;

const RANDOM: [u64; 2] = [1, 2];

/// Two bytes of policy, then a client's head.
pub fn forwarded(bytes: &[u8]) {
    let [policy, mode, bytes @ ..] = bytes else { return };
    let peer = peer(*policy, *mode);
    let Some((lines, parts)) = told(bytes, &peer, |_, _, _| {}) else { return };
    assert_same(&lines, &parts, bytes);
    // Our own word is the last in a chain, whatever was there before.
    let chain = parts.headers.get("x-forwarded-for").map(HeaderValue::as_bytes);
    if policy & 1 != 0 && policy & 4 != 0 {
        assert!(chain.is_some_and(|chain| chain.rsplit(|byte| *byte == b',').next() == Some(b"10.0.0.5")));
    }
}

/// A line of edits, then a client's head.
pub fn edited(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(asked) = std::str::from_utf8(&bytes[..end]) else { return };
    let Some(edits) = read(asked) else { return };
    let head = &bytes[end + 1..];
    let peer = peer(1, 0);
    let told = told(head, &peer, |lines, parts, matched| {
        let (protocol, route) = (http::Version::HTTP_11, "route");
        let scene =
            Scene { peer: &peer, client: peer.remote, protocol, route, version: "web/canary", matched };
        let force = InForce { version: None, route: Some(&edits) };
        force.edit_request(&mut Lines(lines), &scene);
        force.edit_request(parts, &scene);
    });
    let Some((lines, parts)) = told else { return };
    assert_same(&lines, &parts, bytes);
}

/// The head as the relay sends it, and as hyper's way does.
fn told(
    bytes: &[u8],
    peer: &Peer,
    edit: impl Fn(&mut Vec<u8>, &mut Parts, Matched),
) -> Option<(Vec<u8>, Parts)> {
    let Extent::Whole(length) = request::extent(bytes, 0) else { return None };
    let mut memory = Fields::new();
    let head = request::parse(&bytes[..length], &mut memory).ok()?;
    let mut parts = parts(&head)?;
    Head::of(&parts).ok()?;
    rewrite::request(&mut parts, peer, || RANDOM);
    let mut lines = Vec::new();
    head.write(peer, || RANDOM, &mut lines);
    let path = head.target.split('?').next().unwrap_or_default();
    edit(&mut lines, &mut parts, Matched::Prefix(path.find('/').map_or(0, |slash| slash + 1)));
    Some((lines, parts))
}

/// As hyper would hand it over.
fn parts(head: &RequestHead<'_>) -> Option<Parts> {
    let mut parts =
        http::Request::builder().method(head.method).uri(head.target).body(()).ok()?.into_parts().0;
    for field in head.fields.list() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        parts.headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    // A path that it would not take as it is, it would not take at all.
    (parts.uri.path_and_query()?.as_str() == head.target).then_some(parts)
}

fn assert_same(lines: &[u8], parts: &Parts, bytes: &[u8]) {
    assert_eq!(request::extent(lines, 0), Extent::Whole(lines.len()), "{}", lines.escape_ascii());
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS * 2];
    let mut written = httparse::Request::new(&mut fields);
    assert_eq!(written.parse(lines), Ok(httparse::Status::Complete(lines.len())), "{}", lines.escape_ascii());
    let target = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    assert_eq!(written.path, target, "{}", bytes.escape_ascii());
    let mut found: HeaderMap<&[u8]> = HeaderMap::default();
    for field in written.headers {
        found.append(HeaderName::from_bytes(field.name.as_bytes()).expect("it was read"), field.value);
    }
    let shown = |values: Vec<&[u8]>| {
        values.into_iter().map(|value| value.trim_ascii().escape_ascii().to_string()).collect::<Vec<_>>()
    };
    // The library says by itself how long a body is.
    let told = |name: &&HeaderName| **name != http::header::TRANSFER_ENCODING;
    for name in found.keys().chain(parts.headers.keys()).filter(told) {
        let ours = shown(found.get_all(name).iter().copied().collect());
        let theirs = shown(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect());
        assert_eq!(ours, theirs, "{name} of {}", bytes.escape_ascii());
    }
}

fn peer(policy: u8, mode: u8) -> Peer {
    use ClientCertificateMode::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
    let bit = |nth: u8| policy & 1 << nth != 0;
    let modes = [Sanitize, ForwardOnly, AppendForward, SanitizeSet, AlwaysForwardOnly];
    let client_certificate =
        ClientCertificateField { mode: modes[usize::from(mode) % modes.len()], details: Vec::new() };
    let internal = if bit(6) { vec!["10.0.0.0/8".parse().expect("a network")] } else { Vec::new() };
    let policy = model::Forwarded {
        edge: bit(0),
        trusted_hops: u32::from(bit(1)),
        append: bit(2),
        port: bit(3),
        keep_request_id: bit(4),
        internal,
        client_certificate,
    };
    let shown = match bit(5) {
        true => Shown::Certificate { element: (mode < 128).then(|| "Hash=1".to_owned()) },
        false => Shown::Nothing,
    };
    let (remote, local) = (([10, 0, 0, 5], 9).into(), Some(([10, 9, 9, 9], 443).into()));
    Peer::known(remote, local, bit(7), shown, &policy)
}

/// Words with a bar between: `-name` is removed, `=name=value` set, `+`, `?` and
/// `!` the other ways to put it; `p`, `f`, `s` are the ways to a path, `h`, `H`,
/// `P` those to a host.
fn read(asked: &str) -> Option<Box<Edits>> {
    let (mut request, mut rewrite) = (HeaderEdits::default(), Rewrite::default());
    for word in asked.split('|') {
        let mut letters = word.chars();
        let (kind, rest) = (letters.next()?, letters.as_str());
        let how = match kind {
            '=' => Put::Set,
            '+' => Put::Append,
            '?' => Put::SetIfAbsent,
            '!' => Put::SetIfPresent,
            _ => {
                other(kind, rest, &mut request, &mut rewrite)?;
                continue;
            }
        };
        let (name, value) = rest.split_once('=')?;
        let keep_empty = how == Put::SetIfPresent;
        request.put.push(HeaderPut { name: name.to_owned(), value: value.to_owned(), how, keep_empty });
    }
    let edits = model::Edits { request, response: HeaderEdits::default() };
    Edits::new(&[&edits], &rewrite).ok().flatten()
}

fn other(kind: char, rest: &str, request: &mut HeaderEdits, rewrite: &mut Rewrite) -> Option<()> {
    let text = rest.to_owned();
    let substitution = || {
        let (pattern, substitution) = rest.split_once('~')?;
        // What is fuzzed is not how long a pattern may take.
        (pattern.len() < 20)
            .then(|| Substitution { pattern: pattern.to_owned(), substitution: substitution.to_owned() })
    };
    match kind {
        '-' => request.remove.push(text),
        'p' => rewrite.path = Some(PathRewrite::Prefix(text)),
        'f' => rewrite.path = Some(PathRewrite::Full(text)),
        's' => rewrite.path = Some(PathRewrite::Regex(substitution()?)),
        'h' => rewrite.host = Some(HostRewrite::Literal(text)),
        'H' => rewrite.host = Some(HostRewrite::Header(text)),
        'P' => rewrite.host = Some(HostRewrite::Path(substitution()?)),
        'a' => rewrite.append_forwarded_host = true,
        _ => return None,
    }
    Some(())
}
