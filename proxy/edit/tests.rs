//! What edits do to a head, and which make no sense.

use http::HeaderMap;
use http::HeaderValue;

use super::*;
use crate::model::HeaderEdits;
use crate::model::HeaderPut;
use crate::model::HostRewrite;
use crate::model::PathRewrite;
use crate::model::Put;
use crate::model::Rewrite;
use crate::model::Substitution;

fn put(name: &str, value: &str, how: Put) -> HeaderPut {
    HeaderPut { name: name.into(), value: value.into(), how, keep_empty: false }
}

fn requests(remove: &[&str], put: Vec<HeaderPut>) -> model::Edits {
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    model::Edits { request: HeaderEdits { remove, put }, response: HeaderEdits::default() }
}

fn edited(edits: &Edits, target: &str, fields: &[(&str, &str)], matched: Matched) -> http::request::Parts {
    let mut request = http::Request::builder().uri(target).header("host", "a.b:80");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    let peer = Peer::new("10.0.0.1:5".parse().unwrap(), "10.0.0.2:80".parse().ok());
    let protocol = http::Version::HTTP_11;
    let scene =
        Scene { peer: &peer, client: peer.remote, protocol, route: "r", version: "web/canary", matched };
    InForce { version: None, route: Some(edits) }.edit_request(&mut parts, &scene);
    parts
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter().map(HeaderValue::to_str);
    values.map(|value| value.unwrap().to_owned()).collect()
}

#[test]
fn a_level_takes_its_values_before_it_changes_anything() {
    let level = requests(
        &["x-gone", "x-in-*"],
        vec![
            put("x-a", "new", Put::Set),
            put("x-b", "%REQ(x-a)%-%REQ(x-gone?x-c):2%", Put::Append),
            put("x-c", "again", Put::Append),
            put("x-d", "%REQ(x-none)%", Put::Append),
            put("x-e", "e", Put::SetIfPresent),
            put("x-f", "f", Put::SetIfAbsent),
            put("x-a", "absent", Put::SetIfAbsent),
        ],
    );
    let edits = Edits::new(&[&level], &Rewrite::default()).ok().flatten().unwrap();
    let sent = [("x-a", "old"), ("x-a", "older"), ("x-gone", "1"), ("x-in-side", "1"), ("x-c", "cold")];
    let headers = edited(&edits, "/", &sent, Matched::Whole).headers;
    assert_eq!(values(&headers, "x-a"), ["new"]);
    assert_eq!(values(&headers, "x-b"), ["old-co"]);
    assert_eq!(values(&headers, "x-c"), ["cold", "again"]);
    assert_eq!(values(&headers, "x-f"), ["f"]);
    for name in ["x-gone", "x-in-side", "x-d", "x-e"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn operators_see_the_request_as_it_came() {
    let value = "%DOWNSTREAM_REMOTE_ADDRESS%|%DOWNSTREAM_LOCAL_PORT%|%REQ(:PATH)%|%REQ(:authority)%|\
                 %REQ(:METHOD)%|%PROTOCOL%|%ROUTE_NAME%|%UPSTREAM_CLUSTER%|100%%";
    let rewrite = Rewrite {
        path: Some(PathRewrite::Prefix("/new".into())),
        host: Some(HostRewrite::Literal("other:81".into())),
        append_forwarded_host: true,
    };
    let edits = Edits::new(&[&requests(&[], vec![put("x", value, Put::Set)])], &rewrite);
    let edits = edits.ok().flatten().unwrap();
    let parts = edited(&edits, "/a/b?c", &[("x-forwarded-host", "z")], Matched::Prefix(2));
    let expected = "10.0.0.1:5|80|/a/b?c|a.b:80|GET|HTTP/1.1|r|web/canary|100%";
    assert_eq!(values(&parts.headers, "x"), [expected]);
    assert_eq!(parts.uri, "/new/b?c");
    for (name, value) in [
        ("host", "other:81"),
        ("x-envoy-original-path", "/a/b?c"),
        ("x-envoy-original-host", "a.b:80"),
        ("x-forwarded-host", "z,a.b:80"),
    ] {
        assert_eq!(values(&parts.headers, name), [value], "{name}");
    }
}

#[test]
fn a_path_is_rewritten_where_it_matched() {
    let regex = |pattern: &str, substitution: &str| {
        PathRewrite::Regex(Substitution { pattern: pattern.into(), substitution: substitution.into() })
    };
    for (rewrite, target, matched, expected) in [
        (PathRewrite::Prefix("/n/".into()), "/o/a?q=/o/", Matched::Prefix(3), "/n/a?q=/o/"),
        (PathRewrite::Prefix("/".into()), "/o/a", Matched::Segments(2), "/a"),
        (PathRewrite::Prefix("/".into()), "/o/a", Matched::Prefix(2), "//a"),
        (PathRewrite::Prefix("/".into()), "/o?x", Matched::Segments(2), "/?x"),
        (PathRewrite::Prefix("/x".into()), "/o/a?q", Matched::Whole, "/x?q"),
        (PathRewrite::Full("/x".into()), "/o/a?q", Matched::Prefix(1), "/x?q"),
        (PathRewrite::Full("/x?r".into()), "/o/a?q", Matched::Prefix(1), "/x?r"),
        (regex("^/o/([a-z]+)(/.*)?$", r"\2/\1"), "/o/ab/cd?o", Matched::Whole, "/cd/ab?o"),
        (regex("a", r"\0\0$1"), "/aba?a", Matched::Whole, "/aa$1baa$1?a"),
        (regex("^/", ""), "/x", Matched::Whole, "/x"),
    ] {
        let edit = PathEdit::new(&rewrite).unwrap();
        assert_eq!(edit.apply(target, matched), expected, "{rewrite:?} of {target}");
    }
    for (pattern, substitution) in [("a", r"\1"), ("a", r"\x"), ("a", r"\"), ("(", ""), ("a", "b c")] {
        assert!(PathEdit::new(&regex(pattern, substitution)).is_err(), "{pattern} {substitution}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (name, value) in [
        (":path", "/"),
        ("host", "a"),
        ("content-length", "1"),
        ("bad name", "1"),
        ("x", "%NOPE%"),
        ("x", "%REQ%"),
        ("x", "100%"),
        ("x", "%REQ(x-a)"),
        ("x", "%REQ(bad name)%"),
        ("x", "%DYNAMIC_METADATA(a:b)%"),
        ("x", "%RESPONSE_CODE%"),
        ("x", "%RESP(x)%"),
        ("x", "%START_TIME(%q)%"),
        ("x", "%PROTOCOL:3%"),
        ("x", "a\nb"),
    ] {
        let level = requests(&[], vec![put(name, value, Put::Append)]);
        assert!(Edits::new(&[&level], &Rewrite::default()).is_err(), "{name}: {value}");
    }
    for name in ["host", ":path", "*", "te"] {
        let level = requests(&[name], Vec::new());
        assert!(Edits::new(&[&level], &Rewrite::default()).is_err(), "removal of {name}");
    }
}

#[test]
fn answers_know_their_request() {
    let level = model::Edits {
        request: HeaderEdits::default(),
        response: HeaderEdits {
            remove: vec!["x-up".into()],
            put: vec![
                put("x-1", "%REQ(x-a)%|%RESPONSE_CODE%|%RESP(x-b)%|%RESP(:status)%", Put::Append),
                put("x-2", "%UPSTREAM_HOST%|%UPSTREAM_CLUSTER%", Put::Append),
            ],
        },
    };
    let edits = Edits::new(&[&level], &Rewrite::default()).ok().flatten().unwrap();
    let force = InForce { version: None, route: Some(&edits) };
    let parts = http::Request::builder().header("x-a", "asked").body(()).unwrap().into_parts().0;
    let peer = Peer::new("10.0.0.1:5".parse().unwrap(), None);
    let protocol = http::Version::HTTP_2;
    let scene = Scene {
        peer: &peer,
        client: peer.remote,
        protocol,
        route: "r",
        version: "web/canary",
        matched: Matched::Whole,
    };
    let kept = force.keep(&parts, &scene);
    let mut headers = HeaderMap::new();
    headers.insert("x-b", HeaderValue::from_static("said"));
    headers.insert("x-up", HeaderValue::from_static("1"));
    let upstream: std::net::SocketAddr = "10.0.0.9:80".parse().unwrap();
    let answered = Answered { status: 201, version: "web/primary", upstream: Some(&upstream) };
    force.edit_answer(&mut headers, &kept, &answered);
    assert_eq!(values(&headers, "x-1"), ["asked|201|said|201"]);
    assert_eq!(values(&headers, "x-2"), ["10.0.0.9:80|web/primary"]);
    assert!(!headers.contains_key("x-up"));
}

#[test]
fn what_has_no_path_keeps_none() {
    let rewrite = Rewrite { path: Some(PathRewrite::Full("/x".into())), ..Rewrite::default() };
    let edits = Edits::new(&[], &rewrite).ok().flatten().unwrap();
    for target in ["a.b:80", "*"] {
        let parts = edited(&edits, target, &[], Matched::Prefix(0));
        assert_eq!(parts.uri, target);
        assert!(!parts.headers.contains_key("x-envoy-original-path"));
    }
    assert_eq!(edited(&edits, "http://a.b/c?d", &[], Matched::Prefix(0)).uri, "http://a.b/x?d");
}
