//! The conformance suite of HTTP/2, whole and strict, against a listener.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use crate::harness::app::single;
use crate::harness::certs::Authority;
use crate::harness::{Answer, App, Origin, require_at};

/// What h2spec asks of a server that speaks HTTP/2 alone. Ours reads a wrong
/// preface as HTTP/1.1, answers 400 in it and closes; h2spec takes the answer for
/// a frame. With TLS the client has said before that it will speak HTTP/2.
const CLEARTEXT_ALONE: &str = "2: Sends invalid connection preface";

/// The titles of the cases that failed, and how many passed.
fn run(to: SocketAddr, arguments: &[&str]) -> Option<(BTreeSet<String>, u64)> {
    let h2spec = require_at("h2spec", &["target/tools/go/bin"])?;
    let mut command = Command::new(h2spec);
    command.args(["--strict", "--timeout", "10", "--host", &to.ip().to_string()]);
    let output = command.args(["--port", &to.port().to_string()]).args(arguments).output();
    let text = String::from_utf8_lossy(&output.expect("h2spec can be run").stdout).into_owned();
    let mut passed = None;
    let mut failed = BTreeSet::new();
    let summary = text.split("Failures:").nth(1).unwrap_or(&text);
    for line in summary.lines() {
        if let Some(title) = line.trim_start().strip_prefix("× ") {
            failed.insert(title.to_owned());
        }
    }
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(" tests, ") {
            passed = rest.split(' ').next().and_then(|count| count.parse().ok());
        }
    }
    println!("{summary}");
    Some((failed, passed.unwrap_or_else(|| panic!("no summary: {text}"))))
}

#[test]
fn the_listener_conforms_to_http2() {
    let origin = Origin::answering("a", |_| Answer::ok().text("a body of some bytes, for windows of one"));
    let app = App::start(&single(origin.address));
    let Some((failed, passed)) = run(app.address(), &[]) else { return };
    assert_eq!(failed, BTreeSet::from([CLEARTEXT_ALONE.to_owned()]));
    assert!(passed >= 145, "only {passed} cases were run");
    assert_eq!(app.conn().get("/").status, 200, "it goes on serving");
}

#[test]
fn the_listener_conforms_to_http2_over_tls() {
    let origin = Origin::answering("a", |_| Answer::ok().text("a body of some bytes, for windows of one"));
    let authority = Authority::new();
    let pair = authority.put("web", &authority.sign(&["web.example"]));
    let app = App::start(&format!(
        "listeners:\n  - name: secure\n    address: 127.0.0.1:0\n    tls: {{certificates: [{pair}]}}\n\
         admin: 127.0.0.1:0\nworkers: 1\nservices:\n  web: {{primary: {}}}\n",
        origin.address
    ));
    let Some((failed, passed)) = run(app.address(), &["--tls", "--insecure"]) else { return };
    assert_eq!(failed, BTreeSet::new());
    assert!(passed >= 146, "only {passed} cases were run");
}
