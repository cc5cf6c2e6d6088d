//! Where redirects send clients, by every way through the proxy alike.

use crate::harness::app::head;
use crate::harness::ways::ways;
use crate::harness::{App, Ask};

fn app(redirects: &[(&str, &str)]) -> App {
    let route = |(path, to): &(&str, &str)| format!("  - {{match: {{{path}}}, redirect: {{{to}}}}}\n");
    App::start(&format!("{}routes:\n{}", head(1), redirects.iter().map(route).collect::<String>()))
}

#[test]
fn a_redirect_changes_what_it_says_and_keeps_the_rest() {
    let app = app(&[
        ("prefix: /scheme", "scheme: https"),
        ("prefix: /port", "scheme: https, port: 8443, status: 302"),
        ("prefix: /host", "host: other.example, path: /new, status: 308"),
        ("prefix: /query", "path: \"/new?own=1\", stripQuery: true, status: 303"),
        ("prefix: /strip", "stripQuery: true, status: 307"),
        ("prefix: /pre/", "prefix: /fix/"),
        ("segments: /seg", "prefix: /"),
        ("prefix: /re/", "regex: {pattern: \"^/re/([a-z]+)\", substitution: '/x/\\1/y'}, stripQuery: true"),
    ]);
    for (asked, host, status, location) in [
        ("/scheme/a?b", "a.example", 301, "https://a.example/scheme/a?b"),
        ("/scheme", "a.example:80", 301, "https://a.example/scheme"),
        ("/scheme", "a.example:443", 301, "https://a.example:443/scheme"),
        ("/scheme", "a.example:8080", 301, "https://a.example:8080/scheme"),
        ("/scheme", "[::1]:80", 301, "https://[::1]/scheme"),
        ("/port", "a.example:99", 302, "https://a.example:8443/port"),
        ("/host/x?q", "a.example:99", 308, "http://other.example/new?q"),
        ("/query?q", "a.example:99", 303, "http://a.example:99/new?own=1"),
        ("/strip/x?q", "a.example", 307, "http://a.example/strip/x"),
        ("/pre/a?q", "a.example", 301, "http://a.example/fix/a?q"),
        ("/seg/a", "a.example", 301, "http://a.example/a"),
        ("/seg", "a.example", 301, "http://a.example/"),
        ("/re/abc/def?q", "a.example", 301, "http://a.example/x/abc/y/def"),
    ] {
        for (way, reply) in ways(&app, &Ask::get(asked).host(host)) {
            let found = (reply.status, reply.header("location"));
            assert_eq!(found, (status, Some(location)), "{asked} at {host} by {way}");
            assert!(reply.body.is_empty(), "{asked} by {way}");
        }
    }
}

#[test]
fn a_client_that_came_by_https_keeps_its_scheme() {
    let app = App::start(
        "listeners: [{name: in, address: \"127.0.0.1:0\", forwarded: {edge: false}}]\nadmin: 127.0.0.1:0\nroutes:\n\
         \x20 - {match: {prefix: /to-http}, redirect: {scheme: http}}\n\
         \x20 - {match: {prefix: /}, redirect: {path: /new}}\n",
    );
    for (path, location) in [("/", "https://a.example:443/new"), ("/to-http", "http://a.example/to-http")] {
        let ask = Ask::get(path).host("a.example:443").header("x-forwarded-proto", "https");
        for (way, reply) in ways(&app, &ask) {
            assert_eq!(reply.header("location"), Some(location), "{path} by {way}");
        }
    }
}

#[test]
fn a_redirected_upload_does_not_confuse_the_connection() {
    let app = app(&[("prefix: /", "path: /new")]);
    let mut conn = app.conn();
    for size in [0, 10, 5000, 1_000_000] {
        let reply = conn.ask(&Ask::post("/x", "b".repeat(size)));
        assert_eq!(reply.status, 301, "{size} bytes");
        // Whose body is not all there is told to go.
        if reply.header("connection") == Some("close") {
            assert!(conn.is_closed_by_peer());
            conn = app.conn();
        }
    }
    assert_eq!(conn.ask(&Ask::new("HEAD", "/x")).status, 301);
    assert_eq!(conn.get("/x").status, 301);
}
