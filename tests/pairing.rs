//! Clients that speak HTTP/2 before endpoints that speak HTTP/1.1: what each says
//! in its own way arrives as the other would have said it, and the endpoints'
//! connections are the same that HTTP/1.1 clients use.

use std::time::Duration;

use crate::harness::app::{head, single};
use crate::harness::h2::H2;
use crate::harness::recorder::Recorder;
use crate::harness::{Answer, App, Ask, Origin, eventually};

/// The lines of the only request that the recorder has, without its body.
fn lines(recorder: &Recorder) -> (String, Vec<String>, Vec<u8>) {
    eventually("the request is there", || recorder.requests().len() == 1);
    let seen = recorder.requests().remove(0);
    let end = seen.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let text = String::from_utf8(seen[..end].to_vec()).expect("text");
    let mut lines = text.split("\r\n").map(str::to_owned);
    let first = lines.next().expect("a request line");
    (first, lines.collect(), seen[end + 4..].to_vec())
}

fn count(lines: &[String], name: &str) -> usize {
    lines.iter().filter(|line| line.split(':').next() == Some(name)).count()
}

#[test]
fn a_request_goes_up_as_http1_says_it() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let ask = Ask::get("/a/b?c=d%20e").host("b.test:81").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(H2::open(app.address()).ask(&ask.header("x-own", "1")).text(), "ok");
    let (first, lines, body) = lines(&recorder);
    assert_eq!(first, "GET /a/b?c=d%20e HTTP/1.1");
    for line in ["host: b.test:81", "cookie: a=1; b=2", "x-own: 1"] {
        assert!(lines.iter().any(|other| other == line), "{line} in {lines:?}");
    }
    for name in ["host", "cookie"] {
        assert_eq!(count(&lines, name), 1, "{name}: {lines:?}");
    }
    for name in ["content-length", "transfer-encoding", "connection", ":path"] {
        assert_eq!(count(&lines, name), 0, "{name}: {lines:?}");
    }
    assert!(body.is_empty());
}

#[test]
fn a_body_ends_where_http1_is_told_that_it_ends() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut h2 = H2::open(app.address());
    assert_eq!(h2.ask(&Ask::post("/", "twelve bytes")).text(), "ok");
    let (_, known, body) = lines(&recorder);
    assert!(known.iter().any(|line| line == "content-length: 12"), "{known:?}");
    assert_eq!((count(&known, "transfer-encoding"), body.as_slice()), (0, &b"twelve bytes"[..]));
    recorder.forget();
    // Trailers that were not announced stay behind.
    assert_eq!(
        h2.ask_with_trailers(&Ask::new("PUT", "/"), &["twelve", " bytes"], &[("x-t", "1")]).text(),
        "ok"
    );
    let (_, unknown, body) = lines(&recorder);
    assert!(unknown.iter().any(|line| line == "transfer-encoding: chunked"), "{unknown:?}");
    assert_eq!(count(&unknown, "content-length"), 0);
    assert_eq!(String::from_utf8_lossy(&body), "6\r\ntwelve\r\n6\r\n bytes\r\n0\r\n\r\n");
}

#[test]
fn an_answer_in_chunks_arrives_whole_and_with_its_trailers() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut h2 = H2::open(app.address());
    let head = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 Fine\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Mixed: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    recorder.answer_next(
        format!("{head}5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-sum: 11\r\nx-more: a b\r\n\r\n").as_bytes(),
    );
    let reply = h2.ask(&Ask::get("/asked"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello world"));
    assert_eq!((reply.trailer("x-sum"), reply.trailer("x-more")), (Some("11"), Some("a b")));
    assert_eq!(reply.header("x-mixed"), Some("2"));
    for name in ["connection", "x-hop", "transfer-encoding", "link"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    recorder.answer_next(format!("{head}2\r\nok\r\n0\r\n\r\n").as_bytes());
    let reply = h2.ask(&Ask::get("/asked"));
    assert_eq!((reply.text().as_str(), reply.trailers.len()), ("ok", 0));
    recorder.answer_next(b"HTTP/1.0 200 OK\r\n\r\nas long as it lasts");
    assert_eq!(h2.ask(&Ask::get("/asked")).text(), "as long as it lasts");
}

#[test]
fn what_follows_an_answer_unasked_is_nobodys() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut h2 = H2::open(app.address());
    for first in ["content-length: 2\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let second = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        recorder.answer_next(format!("HTTP/1.1 200 OK\r\n{first}{second}").as_bytes());
        assert_eq!(h2.ask(&Ask::get("/asked")).text(), "ok");
        assert_eq!(h2.ask(&Ask::get("/")).text(), "ok");
    }
}

#[test]
fn a_kept_connection_serves_clients_of_either_version() {
    let origin = Origin::start("a");
    let app = App::start(&format!("{}services:\n  web: {{primary: {}}}\n", head(1), origin.address));
    let (mut h2, mut conn) = (H2::open(app.address()), app.conn());
    for round in 0..20 {
        assert_eq!(h2.ask(&Ask::get("/")).text(), "a");
        assert_eq!(h2.ask(&Ask::post("/", vec![b'x'; 100 * round])).text(), "a");
        assert_eq!(h2.ask(&Ask::new("HEAD", "/")).status, 200);
        assert_eq!(conn.get("/").text(), "a");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    let origin = Origin::answering("a", |_| Answer::send_back());
    let app = App::start(&single(origin.address));
    let mut h2 = H2::open(app.address());
    for size in [1, 5_000, 70_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let reply = h2.ask(&Ask::post("/", body.clone()));
        assert!(reply.body == body, "{size}: {} bytes came back", reply.body.len());
    }
}

#[test]
fn a_slow_answer_holds_up_none_that_shares_its_connection() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/slow" => Answer::stream(40_000).every(Duration::from_millis(5)),
        _ => Answer::ok(),
    });
    let app = App::start(&single(origin.address));
    let mut h2 = H2::open(app.address());
    let asks: Vec<_> = ["/slow", "/", "/", "/slow", "/"].iter().map(|path| Ask::get(path)).collect();
    let replies = h2.ask_together(&asks);
    assert_eq!(replies[0].body.len(), 40_000);
    assert_eq!((replies[1].text(), replies[4].text()), ("a".to_owned(), "a".to_owned()));
}
