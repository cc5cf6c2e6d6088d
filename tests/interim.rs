//! Interim answers (1xx): what a version says before its answer, and leave to
//! send a body.

use std::io::{Read, Write};

use crate::harness::app::{quiet, single};
use crate::harness::client::Reply;
use crate::harness::h2::H2;
use crate::harness::script::Script;
use crate::harness::{App, Ask, Conn, eventually};

const HINTED: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-mine\r\nx-mine: 1\r\n\r\n\
    HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Heads up to and with the final one, and the body of that.
fn heads(conn: &mut Conn, method: &str) -> Vec<Reply> {
    let mut heads = Vec::new();
    loop {
        let mut reply = conn.read_head().expect("a head");
        let interim = (100..200).contains(&reply.status);
        if !interim {
            conn.read_body(method, &mut reply).expect("a body");
        }
        heads.push(reply);
        if !interim {
            return heads;
        }
    }
}

fn statuses(heads: &[Reply]) -> Vec<u16> {
    heads.iter().map(|reply| reply.status).collect()
}

/// What makes hyper drive the client's connection, without another difference.
const UNUSUAL: (&str, &str) = ("te", "trailers");

#[test]
fn early_hints_reach_the_client_on_either_codec() {
    let origin = Script::saying(HINTED);
    let app = App::start(&single(origin.address));
    for unusual in [false, true] {
        let mut conn = app.conn();
        for _ in 0..3 {
            let ask = Ask::get("/");
            conn.write(&if unusual { ask.header(UNUSUAL.0, UNUSUAL.1) } else { ask }.bytes());
            let heads = heads(&mut conn, "GET");
            // Leave to go on is the proxy's own to give.
            assert_eq!(statuses(&heads), [103, 102, 200], "unusual: {unusual}");
            assert_eq!(heads[0].header("link"), Some("</a.css>; rel=preload"));
            let connection = ["connection", "x-mine", "date", "x-envoy-upstream-service-time"];
            assert!(connection.iter().all(|name| heads[0].header(name).is_none()), "{:?}", heads[0]);
            assert_eq!(heads[2].text(), "ok");
        }
    }
    assert!(origin.accepted() <= 2, "hints cost no connection");
    quiet(&app);
    assert_eq!((app.requests(&[("outcome", "success")]), app.requests(&[])), (6, 6));
}

#[test]
fn a_hint_comes_before_its_answer_is_there() {
    let (said, hear) = std::sync::mpsc::channel::<()>();
    let hear = std::sync::Mutex::new(hear);
    let origin = Script::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")?;
        hear.lock().expect("no holder panics").recv().expect("the test lives");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let app = App::start(&single(origin.address));
    for unusual in [false, true] {
        let mut conn = app.conn();
        let ask = Ask::get("/");
        conn.write(&if unusual { ask.header(UNUSUAL.0, UNUSUAL.1) } else { ask }.bytes());
        assert_eq!(conn.read_head().expect("the hint").status, 103, "unusual: {unusual}");
        said.send(()).expect("the origin lives");
        assert_eq!(conn.read_head().expect("the answer").status, 200);
    }
}

#[test]
fn who_cannot_take_a_hint_gets_the_answer_alone() {
    let origin = Script::saying(HINTED);
    let app = App::start(&single(origin.address));
    let mut old = app.conn();
    old.write(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!(statuses(&heads(&mut old, "GET")), [200]);
    let reply = H2::open(app.address()).ask(&Ask::get("/"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
}

#[test]
fn hints_without_end_are_passed_on_up_to_a_bound() {
    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200);
    let origin = Script::start(move |_, stream| {
        stream.write_all(&hint)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let app = App::start(&single(origin.address));
    for unusual in [false, true] {
        let ask = Ask::get("/");
        let mut conn = app.conn();
        conn.write(&if unusual { ask.header(UNUSUAL.0, UNUSUAL.1) } else { ask }.bytes());
        let heads = heads(&mut conn, "GET");
        assert!((2..=9).contains(&heads.len()), "{} heads, unusual: {unusual}", heads.len());
        assert_eq!(heads.last().expect("there is one").text(), "ok");
    }
}

#[test]
fn pipelined_answers_and_their_hints_keep_their_order() {
    let origin = Script::start(|head, stream| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = "x".repeat(50_000);
        write!(stream, "HTTP/1.1 103 Early Hints\r\nlink: {path}\r\n\r\n")?;
        write!(stream, "HTTP/1.1 200 OK\r\nx-path: {path}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    });
    let app = App::start(&single(origin.address));
    for unusual in [false, true] {
        let mut conn = app.conn();
        let ask = |n: usize| {
            let ask = Ask::get(&format!("/{n}"));
            if unusual { ask.header(UNUSUAL.0, UNUSUAL.1) } else { ask }
        };
        conn.write(&(0..20).flat_map(|n| ask(n).bytes()).collect::<Vec<_>>());
        for n in 0..20 {
            let heads = heads(&mut conn, "GET");
            let (path, last) = (format!("/{n}"), heads.last().expect("there is one"));
            assert_eq!(last.header("x-path"), Some(path.as_str()), "unusual: {unusual}");
            // A hint that would land in an earlier answer is left out.
            assert!(heads[..heads.len() - 1].iter().all(|hint| hint.header("link") == Some(path.as_str())));
        }
    }
}

#[test]
fn leave_to_send_a_body_is_the_proxys_and_only_where_somebody_reads_it() {
    let origin = Script::start(|head, stream| {
        // One that asks for leave would wait for it.
        assert!(!head.contains("expect"), "{head}");
        let mut body = [0; 5];
        if head.starts_with("POST") {
            stream.read_exact(&mut body)?;
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")?;
        stream.write_all(&body)
    });
    let routes = "routes:\n  - {name: here, match: {prefix: /here}, service: web}\n";
    let app = App::start(&(single(origin.address) + routes));
    let ask = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
    };
    let mut conn = app.conn();
    conn.write(ask("/here").as_bytes());
    assert_eq!(conn.read_head().expect("leave").status, 100);
    conn.write(b"hello");
    let last = heads(&mut conn, "POST");
    assert_eq!((statuses(&last), last[0].text()), (vec![200], "hello".to_owned()));
    conn.write(ask("/nowhere").as_bytes());
    let nobody = heads(&mut conn, "POST");
    assert_eq!(statuses(&nobody), [404], "nobody wants this body");
    assert_eq!(nobody[0].header("connection"), Some("close"), "the client is told");
    assert!(conn.is_closed_by_peer(), "what comes next could be a body or a request");
    eventually("the origin saw one request", || origin.heads().len() == 1);
}
