//! Upstreams that fail in every way they do in life, and clients that vanish.
//! Each fault has its own answer, and each request is counted once, to whom it belongs.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::harness::app::{head, quiet, single, timed};
use crate::harness::h2::H2;
use crate::harness::raw::{Manner, Raw, closed, full};
use crate::harness::{Answer, App, Ask, Conn, Origin, eventually};

fn counted(app: &App, outcome: &str) -> u64 {
    app.requests(&[("outcome", outcome)])
}

/// With a route that sets these timeouts.
fn timed_app(upstream: SocketAddr, timeouts: &str) -> App {
    App::start(&format!("{}routes:\n  - {{name: all, service: web, {timeouts}}}\n", single(upstream)))
}

/// As `timed_app`, with an upstream that speaks this protocol.
fn speaking(protocol: &str, origin: &Origin, timeouts: &str) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    versions:\n      v1: {{role: primary, endpoints: [\"{}\"], protocol: {protocol}}}\n\
         routes:\n  - {{name: all, service: web, {timeouts}}}\n",
        head(2),
        origin.address
    ))
}

/// The one request so far is counted and against nobody; the next client is served.
fn nobodys(app: &App) {
    eventually("it is counted once", || app.requests(&[]) == 1);
    quiet(app);
    assert_eq!((counted(app, "uncounted"), counted(app, "failure"), counted(app, "success")), (1, 0, 0));
    assert_eq!(app.conn().get("/alive").status, 200, "the next client is served");
}

/// One GET through a fresh proxy: its status and cause, and that it was counted once, as a failure.
fn failing(app: &App) -> (u16, String) {
    let reply = app.conn().get("/");
    quiet(app);
    assert_eq!(counted(app, "failure"), 1, "{} {}", reply.status, reply.cause());
    assert_eq!(app.requests(&[]), 1);
    (reply.status, reply.cause().to_owned())
}

#[test]
fn a_refused_connection_is_a_connect_failure() {
    let dead = closed();
    let app = App::start(&single(dead.address));
    assert_eq!(failing(&app), (503, "connect-failure".into()));
    assert_eq!(app.metric("serin_responses_total", &[("class", "5xx")]), 1.0, "the user saw a 5xx");
}

#[test]
fn a_connection_that_does_not_come_up_times_out() {
    let full = full();
    let app = App::start(&format!(
        "{}services:\n  web:\n    versions:\n      v1: {{role: primary, endpoints: [\"{}\"], connectTimeout: 300ms}}\n",
        head(1),
        full.address
    ));
    let (answer, took) = timed(|| failing(&app));
    assert_eq!(answer, (503, "connect-timeout".into()));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_upstream_that_resets_or_leaves_is_a_reset() {
    for manner in [Manner::ResetAtOnce, Manner::ResetAfterHead, Manner::CloseAfterHead, Manner::HalfClose] {
        let upstream = Raw::start(manner);
        let app = App::start(&single(upstream.address));
        assert_eq!(failing(&app), (503, "reset".into()), "{manner:?}");
    }
}

#[test]
fn garbage_from_upstream_is_never_passed_on() {
    let upstream = Raw::start(Manner::Garbage);
    let app = App::start(&single(upstream.address));
    let (status, cause) = failing(&app);
    assert!((502..=503).contains(&status), "{status}");
    assert_ne!(cause, "none");
}

#[test]
fn garbage_that_comes_with_a_head_is_an_answer_of_ours() {
    let upstream = Raw::start(Manner::GarbageChunk);
    // What a request nominates, or an unusual `te`, takes the library's way.
    let usual = Ask::get("/");
    let unusual = Ask::get("/").header("connection", "x-own").header("x-own", "1");
    let trailing = Ask::get("/").header("te", "trailers").header("connection", "te");
    for (http2, ask) in [(false, usual), (false, unusual), (false, trailing), (true, Ask::get("/"))] {
        let app = App::start(&single(upstream.address));
        let reply = if http2 { H2::open(app.address()).ask(&ask) } else { app.conn().ask(&ask) };
        assert_eq!((reply.status, reply.cause()), (502, "garbage"), "{ask:?}");
        quiet(&app);
        assert_eq!((counted(&app, "failure"), app.requests(&[])), (1, 1));
    }
}

#[test]
fn an_upstream_that_stalls_meets_the_request_timeout() {
    let upstream = Raw::start(Manner::Stall);
    let app = timed_app(upstream.address, "timeout: 400ms");
    let (answer, took) = timed(|| failing(&app));
    assert_eq!(answer, (504, "timeout".into()));
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_body_that_falls_silent_meets_the_idle_timeout() {
    let upstream = Raw::start(Manner::SilentBody);
    let app = timed_app(upstream.address, "timeout: 0s, idleTimeout: 400ms");
    let (reply, took) = timed(|| app.conn().try_ask(&Ask::get("/")));
    assert!(reply.is_err(), "a cut answer must look cut");
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(10), "{took:?}");
    quiet(&app);
    assert_eq!(counted(&app, "failure"), 1);
}

#[test]
fn a_slow_but_living_body_is_no_fault() {
    let origin = Origin::answering("a", |_| Answer::stream(12 * 16 * 1024).every(Duration::from_millis(100)));
    let app = timed_app(origin.address, "timeout: 1s, idleTimeout: 5s");
    let (reply, took) = timed(|| app.conn().get("/"));
    assert_eq!(reply.body.len(), 12 * 16 * 1024);
    assert!(took > Duration::from_secs(1), "the request timeout ends with the head, and this took {took:?}");
    let drip = Raw::start(Manner::Drip);
    let dripped = App::start(&single(drip.address));
    assert_eq!(dripped.conn().get("/").text(), "0123456789");
    quiet(&dripped);
    assert_eq!(counted(&dripped, "success"), 1);
}

#[test]
fn an_answer_that_is_cut_short_looks_cut_to_the_user_and_is_a_failure() {
    for manner in [Manner::PartialLength, Manner::PartialChunked] {
        let upstream = Raw::start(manner);
        let app = App::start(&single(upstream.address));
        let mut conn = app.conn();
        conn.write(&Ask::get("/").bytes());
        let mut reply = conn.read_head().expect("the head had come whole");
        assert_eq!(reply.status, 200);
        assert!(conn.read_body("GET", &mut reply).is_err(), "{manner:?} was passed off as whole");
        quiet(&app);
        assert_eq!((counted(&app, "failure"), counted(&app, "success")), (1, 0), "{manner:?}");
    }
}

#[test]
fn an_upstream_that_closes_kept_connections_fails_no_get() {
    let upstream = Raw::start(Manner::CloseAfterAnswer);
    let app = App::start(&single(upstream.address));
    let mut conn = app.conn();
    for nth in 0..300 {
        let reply = conn.get("/");
        assert_eq!(reply.status, 200, "request {nth}: {}", reply.cause());
    }
    quiet(&app);
    assert_eq!((counted(&app, "success"), app.requests(&[])), (300, 300));
    assert!(upstream.accepted() >= 300);
}

#[test]
fn a_dead_endpoint_comes_back_to_life_without_a_restart() {
    let address = {
        let origin = Origin::start("first");
        origin.address
    };
    let app = App::start(&single(address));
    assert_eq!(app.conn().get("/").status, 503);
    let listener = std::net::TcpListener::bind(address).expect("the port is free again");
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the proxy dials again");
        let mut conn = stream;
        let _ = conn.read(&mut [0; 1024]);
        let _ = std::io::Write::write_all(&mut conn, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback");
    });
    assert_eq!(app.conn().get("/").text(), "back");
    server.join().expect("it served one");
}

/// A request under way that the client leaves: counted `uncounted`, never a failure.
fn vanishes(origin: &Origin, leave: impl FnOnce(&App, Conn)) {
    let app = App::start(&single(origin.address));
    leave(&app, app.conn());
    eventually("the vanished client is counted once", || app.requests(&[]) == 1);
    quiet(&app);
    assert_eq!((counted(&app, "uncounted"), counted(&app, "failure"), counted(&app, "success")), (1, 0, 0));
    assert_eq!(app.conn().get("/alive").status, 200, "the next client is served");
}

#[test]
fn a_client_that_vanishes_before_the_answer_is_nobodys_failure() {
    let slow = |seen: &crate::harness::origin::Seen| match seen.path.as_str() {
        "/alive" => Answer::ok(),
        _ => Answer::ok().after(Duration::from_secs(60)),
    };
    let origin = Origin::answering("a", slow);
    vanishes(&origin, |_, mut conn| {
        conn.write(&Ask::get("/wait").bytes());
        eventually("the origin is asked", || origin.requests() == 1);
        conn.reset();
    });
}

#[test]
fn a_client_that_vanishes_amid_its_upload_is_nobodys_failure() {
    let origin = Origin::start("a");
    vanishes(&origin, |_, mut conn| {
        conn.write(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nonly so much");
        eventually("the origin is asked", || origin.requests() == 1);
        conn.reset();
    });
}

#[test]
fn a_client_that_vanishes_amid_the_answer_is_nobodys_failure() {
    let endless = |seen: &crate::harness::origin::Seen| match seen.path.as_str() {
        "/alive" => Answer::ok(),
        _ => Answer::stream(1 << 40),
    };
    let origin = Origin::answering("a", endless);
    vanishes(&origin, |_, mut conn| {
        conn.write(&Ask::get("/endless").bytes());
        assert_eq!(conn.read_head().expect("a head").status, 200);
        conn.reset();
    });
}

#[test]
fn a_client_that_vanishes_amid_its_upload_and_the_answer_is_nobodys_failure() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |seen| match seen.path.as_str() {
            "/alive" => Answer::ok(),
            _ => Answer::send_back(),
        });
        let app = speaking(protocol, &origin, "");
        let mut conn = app.conn();
        conn.write(b"POST /back HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nonly so much");
        let head = conn.read_head().expect("the answer begins before the upload ends");
        assert_eq!(head.status, 200);
        conn.reset();
        nobodys(&app);
    }
}

#[test]
fn a_client_that_falls_silent_amid_its_upload_is_nobodys_failure() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::start("a");
        let app = speaking(protocol, &origin, "timeout: 300ms, idleTimeout: 600ms");
        let mut conn = app.conn();
        conn.write(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nonly so much");
        nobodys(&app);
        assert!(conn.is_closed_by_peer(), "what is left of the body can be no request");
    }
}

/// The time in which we wait for the client is not the version's.
#[test]
fn a_client_slower_than_the_timeout_succeeds_while_it_sends() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::echo());
        let app = speaking(protocol, &origin, "timeout: 1s, idleTimeout: 20s");
        let mut conn = app.conn();
        conn.write(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        // The pause is the case itself.
        std::thread::sleep(Duration::from_millis(1_600));
        conn.write(b"world");
        let reply = conn.read_reply("POST").expect("an answer");
        assert_eq!((reply.status, reply.json()["length"].as_u64()), (200, Some(10)), "{}", reply.cause());
        quiet(&app);
        assert_eq!(counted(&app, "success"), 1);
    }
}

#[test]
fn an_upstream_that_reads_nothing_of_a_large_body_meets_the_request_timeout() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_secs(60)));
        origin.stop_reading();
        let app = speaking(protocol, &origin, "timeout: 500ms, idleTimeout: 60s");
        let mut conn = app.conn();
        let mut sender = conn.stream.try_clone().expect("a socket can be cloned");
        let ask = Ask::post("/", vec![0; 32 << 20]).bytes();
        let ((sending, reply), took) = timed(|| {
            // It breaks off when the answer has come and nobody reads on.
            let sending = std::thread::spawn(move || drop(std::io::Write::write_all(&mut sender, &ask)));
            (sending, conn.read_reply("POST").expect("an answer"))
        });
        assert_eq!((reply.status, reply.cause()), (504, "timeout"));
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(10), "{took:?}");
        assert_eq!((counted(&app, "failure"), app.requests(&[])), (1, 1));
        // What nobody takes is not kept for ever.
        eventually("the client is let go", || app.metric("serin_connections", &[]) == 0.0);
        sending.join().expect("no panic");
    }
}

#[test]
fn a_client_that_never_finishes_its_head_is_turned_away_and_counted_nowhere() {
    let origin = Origin::start("a");
    let app = App::start(&format!(
        "listeners:\n  - {{name: default, address: \"127.0.0.1:0\", limits: {{headerTimeout: 400ms}}}}\n\
         admin: 127.0.0.1:0\nservices:\n  web:\n    primary: {}\n",
        origin.address
    ));
    // The second could still become HTTP/2, or a PUT.
    for beginning in [&b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "[..], b"P", b"PRI * HTTP/2.0\r\n"] {
        let mut conn = app.conn();
        conn.write(beginning);
        let (closed, took) = timed(|| conn.is_closed_by_peer());
        assert!(closed && took < Duration::from_secs(10), "{beginning:?}: still open after {took:?}");
    }
    assert_eq!((origin.requests(), app.requests(&[])), (0, 0));
}

/// As in Envoy and nginx: the end of the client's side is the end of its interest.
#[test]
fn a_client_that_ends_its_sending_side_has_left() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(200)));
    let app = App::start(&single(origin.address));
    let mut conn = app.conn();
    conn.write(&Ask::get("/").header("connection", "close").bytes());
    eventually("the origin is asked", || origin.requests() == 1);
    conn.stream.shutdown(Shutdown::Write).expect("the socket is ours");
    assert!(conn.read_reply("GET").is_err());
    quiet(&app);
    assert_eq!((counted(&app, "uncounted"), counted(&app, "failure")), (1, 0));
}

#[test]
fn a_failing_version_without_a_shield_shows_its_own_answer() {
    let origin = Origin::answering("a", |_| Answer::status(500).text("own words"));
    let app = App::start(&single(origin.address));
    let reply = app.conn().get("/");
    assert_eq!((reply.status, reply.text().as_str(), reply.cause()), (500, "own words", "none"));
    quiet(&app);
    assert_eq!(counted(&app, "failure"), 1);
}
