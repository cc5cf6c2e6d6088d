//! Clients that take their time: each way of being slow has its bound.

use std::io::{Read, Write};
use std::time::Duration;

use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Origin, eventually};

fn yaml(origin: &Origin, limits: &str, more: &str) -> String {
    format!(
        "admin: 127.0.0.1:0\nworkers: 2\nlisteners:\n  - name: one\n    address: \"127.0.0.1:0\"\n    \
         limits: {{{limits}}}\nservices:\n  web:\n    primary: {}\n{more}",
        origin.address
    )
}

#[test]
fn an_upload_that_does_not_end_in_time_gets_a_408() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, "requestTimeout: 500ms", ""));
    let mut conn = app.conn();
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..6 {
        conn.write(b"x");
        std::thread::sleep(Duration::from_millis(50));
    }
    let reply = conn.read_reply("POST").expect("an answer");
    assert_eq!((reply.status, reply.cause()), (408, "request-timeout"));
    assert!(conn.is_closed_by_peer());
    let mut quick = app.conn();
    assert_eq!(quick.ask(&Ask::post("/", "whole")).status, 200);
    assert_eq!(quick.get("/").status, 200);
    eventually("it counts against nobody", || {
        app.requests(&[("outcome", "uncounted")]) == 1 && app.requests(&[("outcome", "failure")]) == 0
    });
}

#[test]
fn an_upload_that_does_not_end_in_time_gets_a_408_on_the_other_codec_too() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, "requestTimeout: 500ms", ""));
    let mut conn = app.conn();
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-length: 1000\r\n\r\n");
    for _ in 0..6 {
        conn.write(b"x");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(conn.read_reply("POST").expect("an answer").status, 408);
}

#[test]
fn an_answer_may_take_longer_than_the_request_had_to() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(900)));
    let app = App::start(&yaml(&origin, "requestTimeout: 300ms", ""));
    assert_eq!(app.conn().ask(&Ask::post("/", "whole")).status, 200);
    assert_eq!(app.conn().get("/").status, 200);
    assert_eq!(H2::open(app.address()).ask(&Ask::post("/", "whole")).status, 200);
}

#[test]
fn an_upload_that_falls_silent_gets_a_408() {
    let origin = Origin::start("a");
    let routes = "routes:\n  - {name: web, service: web, idleTimeout: 400ms}\n";
    let app = App::start(&yaml(&origin, "", routes));
    let mut conn = app.conn();
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nsome");
    assert_eq!(conn.read_reply("POST").expect("an answer").status, 408);
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let origin = Origin::answering("a", |_| Answer::stream(64 << 20));
    let app = App::start(&yaml(&origin, "writeTimeout: 1s", ""));
    let mut conn = app.conn();
    conn.write(&Ask::get("/").bytes());
    eventually("it is under way", || app.metric("serin_requests_in_flight", &[]) == 1.0);
    eventually("it is given up", || app.metric("serin_connections", &[]) == 0.0);
    assert_eq!(app.requests(&[("outcome", "failure")]), 0, "no version is to blame");
    assert_eq!(app.requests(&[]), 1, "and it is counted");
}

#[test]
fn a_connection_lives_so_long_and_ends_between_requests() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, "maxDuration: 1s", ""));
    let (mut busy, mut idle) = (app.conn(), app.conn());
    assert_eq!(idle.get("/").header("connection"), None);
    let mut answers = 0;
    eventually("an answer says good-bye", || {
        let reply = busy.get("/");
        assert_eq!(reply.status, 200);
        answers += 1;
        reply.header("connection") == Some("close")
    });
    assert!(answers > 5);
    assert!(busy.is_closed_by_peer());
    assert!(idle.is_closed_by_peer());
}

#[test]
fn a_connection_carries_so_many_requests() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, "maxRequests: 3", ""));
    let mut conn = app.conn();
    let closes: Vec<bool> = (0..3).map(|_| conn.get("/").header("connection") == Some("close")).collect();
    assert_eq!(closes, [false, false, true]);
    assert!(conn.is_closed_by_peer());
    // One that both codecs have looked at is one.
    let mut conn = app.conn();
    for ask in [Ask::get("/"), Ask::get("/").header("te", "trailers"), Ask::get("/")] {
        assert_eq!(conn.try_ask(&ask).ok().map(|reply| reply.status), Some(200), "{ask:?}");
    }
    assert!(conn.is_closed_by_peer());
    let mut h2 = H2::open(app.address());
    for _ in 0..3 {
        assert_eq!(h2.ask(&Ask::get("/")).status, 200);
    }
    eventually("the connection has its good-bye", || h2.try_ask(&Ask::get("/")).is_err());
}

#[test]
fn a_head_that_trickles_is_cut_off() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, "headerTimeout: 500ms", ""));
    let mut conn = app.conn();
    let mut sent = 0;
    eventually("it is cut off", || {
        sent += 1;
        let alive = conn.stream.write_all(if sent == 1 { b"GET / HTTP/1.1\r\nx: " } else { b"y" });
        let _ = conn.stream.set_read_timeout(Some(Duration::from_millis(50)));
        alive.is_err() || matches!(conn.stream.read(&mut [0; 64]), Ok(0))
    });
    assert!(sent > 2);
    assert_eq!(origin.requests(), 0);
}
