//! HTTP/2 on either side: what may not pass to the other version, what has to be
//! said differently there, room that is given back, and connections that end in
//! an orderly way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::app::{head, quiet, single};
use crate::harness::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    block, frame, get, literal, post,
};
use crate::harness::h2::H2;
use crate::harness::raw::{Manner, Raw};
use crate::harness::{Answer, App, Ask, Origin, eventually, settled};

fn speaking(protocol: &str, upstream: SocketAddr) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    primary: {{endpoints: [\"{upstream}\"], protocol: {protocol}}}\n",
        head(1)
    ))
}

/// How a head of one stream fares: the status, 0 for a reset or a GOAWAY.
fn fate(app: &App, block: &[u8]) -> u16 {
    let mut frames = Frames::open(app.address());
    frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, block)).expect("the proxy reads");
    let told = std::iter::from_fn(|| frames.next());
    let told = told.into_iter().find(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
    told.and_then(|frame| frame.status()).unwrap_or(0)
}

fn pseudo(method: &str, scheme: &str, path: &str, authority: Option<&str>) -> Vec<u8> {
    let mut block = [literal(":method", method), literal(":scheme", scheme), literal(":path", path)].concat();
    block.extend(authority.map(|authority| literal(":authority", authority)).unwrap_or_default());
    block
}

#[test]
fn heads_that_would_say_something_else_in_http1_never_get_there() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = speaking("http1", origin.address);
    let fields = [
        ("x-a", "1\r\nx-injected: 1"),
        ("x-a", "1\nx-injected: 1"),
        ("x-a", "1\rx-injected: 1"),
        ("x-a", "1\0"),
        ("x-a\r\nx-injected", "1"),
        ("x-a: 1\r\nx-injected", "1"),
        ("x a", "1"),
        ("x-a:", "1"),
        ("X-Upper", "1"),
        ("", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("content-length", "5"),
        ("content-length", "-1"),
        ("host", "other.local"),
        (":path", "/again"),
        (":unknown", "1"),
    ];
    for (name, value) in fields {
        let status = fate(&app, &block("GET", "/", &[(name, value)]));
        assert!(matches!(status, 0 | 400), "{name:?}: {value:?} got {status}");
    }
    for (first, second) in [("0", "1"), ("0", "0")] {
        let twice = block("GET", "/", &[("content-length", first), ("content-length", second)]);
        assert!(matches!(fate(&app, &twice), 0 | 400), "{first} {second}");
    }
    for (method, scheme, path, authority) in [
        ("GET", "http", "", Some("a")),
        ("GET", "http", "x", Some("a")),
        ("GET", "http", "?x", Some("a")),
        ("OPTIONS", "http", "*?x", Some("a")),
        ("GET", "http", "*", Some("a")),
        ("GET", "http", "http://b/", Some("a")),
        ("GET", "http", "/ HTTP/1.1\r\nhost: b\r\n\r\n", Some("a")),
        ("GET", "http", "/a b", Some("a")),
        ("GET", "http", "/\0", Some("a")),
        ("GET /x HTTP/1.1\r\nx: ", "http", "/", Some("a")),
        ("GE T", "http", "/", Some("a")),
        ("GET", "http", "/", Some("a@b")),
        ("GET", "http", "/", Some("a b")),
        ("GET", "http", "/", Some("a\r\nx: 1")),
        ("GET", "http", "/", Some("a/b")),
        ("GET", "http", "/", Some("")),
        ("GET", "http", "/", None),
        ("GET", "ht tp", "/", Some("a")),
    ] {
        let status = fate(&app, &pseudo(method, scheme, path, authority));
        assert!(matches!(status, 0 | 400), "{method:?} {scheme:?} {path:?} {authority:?} got {status}");
    }
    assert_eq!(origin.requests(), 0, "{:?}", origin.seen());
    assert_eq!(fate(&app, &pseudo("GET", "http", "/", Some("a"))), 200);
    assert_eq!(fate(&app, &pseudo("OPTIONS", "http", "*", Some("a"))), 200);
    let host = [pseudo("GET", "http", "/", None), literal("host", "a")].concat();
    assert_eq!(fate(&app, &host), 200, "a host field may stand in for the authority");
}

#[test]
fn what_http1_says_in_one_line_is_put_into_one() {
    let origin = Origin::answering("a", |_| Answer::echo());
    for protocol in ["http1", "http2"] {
        let app = speaking(protocol, origin.address);
        let ask = Ask::get("/").host("b.test").header("cookie", "a=1").header("cookie", "b=2");
        let echo = H2::open(app.address()).ask(&ask.header("te", "trailers")).json();
        let fields = echo["headers"].as_array().expect("fields");
        let cookies: Vec<_> = fields.iter().filter(|pair| pair[0] == "cookie").map(|pair| &pair[1]).collect();
        if protocol == "http1" {
            assert_eq!(cookies, ["a=1; b=2"]);
        }
        assert_eq!(echo["authority"], "b.test", "{protocol}");
        assert!(fields.iter().any(|pair| pair[0] == "te" && pair[1] == "trailers"), "{protocol}");
    }
}

#[test]
fn answers_without_a_body_have_none_in_every_pairing() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/204" => Answer::status(204).text(""),
        "/304" => Answer::status(304).text("").header("etag", "\"x\""),
        _ => Answer::ok().text("four"),
    });
    for protocol in ["http1", "http2"] {
        let app = speaking(protocol, origin.address);
        let mut h2 = H2::open(app.address());
        let mut conn = app.conn();
        for (method, path, status) in [("HEAD", "/", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
            let ask = Ask::new(method, path);
            for reply in [h2.ask(&ask), conn.ask(&ask)] {
                assert_eq!((reply.status, reply.body.len()), (status, 0), "{method} {path} {protocol}");
                if method == "HEAD" && protocol == "http1" {
                    assert_eq!(reply.header("content-length"), Some("4"));
                }
            }
        }
        assert_eq!((h2.ask(&Ask::get("/")).text(), conn.get("/").text()), ("four".into(), "four".into()));
    }
}

#[test]
fn an_answer_shorter_than_it_says_is_broken_off_and_not_ended() {
    for manner in [Manner::PartialLength, Manner::PartialChunked] {
        let raw = Raw::start(manner);
        let app = speaking("http1", raw.address);
        let mut frames = Frames::open(app.address());
        frames.send(&get(1, "/")).expect("the proxy reads");
        assert_eq!(frames.await_kind(HEADERS).status(), Some(200), "{manner:?}");
        loop {
            let frame = frames.next().expect("the connection lives");
            if frame.kind == RST_STREAM {
                break;
            }
            assert!(frame.kind != DATA || frame.flags & END_STREAM == 0, "{manner:?}: no good end");
        }
        eventually("it is the version's failure", || app.requests(&[("outcome", "failure")]) == 1);
    }
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_no_request() {
    let origin = Origin::start("a");
    let app = speaking("http1", origin.address);
    for (length, data) in [("5", "abc"), ("2", "abc"), ("0", "a")] {
        let mut frames = Frames::open(app.address());
        let head = block("POST", "/", &[("content-length", length)]);
        frames.send(&frame(HEADERS, END_HEADERS, 1, &head)).expect("the proxy reads");
        frames.send(&frame(DATA, END_STREAM, 1, data.as_bytes())).expect("the proxy reads");
        let told =
            std::iter::from_fn(|| frames.next()).find(|frame| matches!(frame.kind, HEADERS | RST_STREAM));
        let told = told.and_then(|frame| frame.status()).unwrap_or(0);
        assert!(matches!(told, 0 | 400), "{length} for {data}: {told}");
    }
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "failure")]), 0, "nobody but the client is to blame");
}

#[test]
fn uploads_that_stand_still_hold_nobody_up_who_shares_their_connection() {
    let (stuck, free) =
        (Origin::answering("stuck", |_| Answer::ok().after(Duration::from_secs(60))), Origin::start("a"));
    stuck.stop_reading();
    for protocol in ["http1", "http2"] {
        let app = App::start(&format!(
            "{}services:\n  stuck: {{primary: {{endpoints: [\"{}\"], protocol: {protocol}}}}}\n  web: {{primary: {}}}\n\
             routes:\n  - match: {{prefix: /stuck}}\n    service: stuck\n  - service: web\n",
            head(1),
            stuck.address,
            free.address
        ));
        let before = resident(app.pid());
        let mut frames = Frames::open(app.address());
        let mut sent = 0;
        // As much as the windows allow: 64 KiB before the settings are known, then what we are given.
        let mut room = [65_535_i64; 8];
        for nth in 0..8_u32 {
            frames.send(&post(2 * nth + 1, "/stuck")).expect("the proxy reads");
        }
        let mut all = 65_535_i64;
        let quiet_for = Duration::from_millis(500);
        frames.stream.set_read_timeout(Some(quiet_for)).expect("a legal timeout");
        let mut last = Instant::now();
        while last.elapsed() < quiet_for {
            for (nth, room) in (0_u32..).zip(&mut room) {
                while *room >= 16_000 && all >= 16_000 {
                    *room -= 16_000;
                    all -= 16_000;
                    frames.send(&frame(DATA, 0, 2 * nth + 1, &[7; 16_000])).expect("the proxy reads");
                    sent += 16_000;
                    last = Instant::now();
                }
            }
            let Some(update) = frames.try_next() else { continue };
            if update.kind == WINDOW_UPDATE {
                let more = i64::from(update.reason());
                match update.stream as usize {
                    0 => all += more,
                    stream => room[stream / 2] += more,
                }
            } else if update.kind == SETTINGS && update.flags & ACK == 0 {
                for setting in update.payload.chunks(6).filter(|setting| setting[1] == 4) {
                    let window = i64::from(u32::from_be_bytes(setting[2..6].try_into().expect("four bytes")));
                    room.iter_mut().for_each(|room| *room += window - 65_535);
                }
            }
        }
        assert!(sent < 64 << 20, "{protocol}: {sent} bytes went to an origin that stands still");
        let grown = resident(app.pid()).saturating_sub(before);
        assert!(grown < 48 << 10, "{protocol}: memory grew by {grown} KiB");
        frames.stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a legal timeout");
        frames.send(&get(101, "/free")).expect("the proxy reads");
        while frames.await_kind(HEADERS).stream != 101 {}
    }
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("linux says it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB")
}

#[test]
fn more_requests_than_an_upstream_takes_at_once_wait_for_their_turn() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(100)));
    let app = speaking("http2", origin.address);
    // The origin takes 200 streams a connection.
    let asks: Vec<_> = (0..450).map(|n| Ask::get(&format!("/{n}"))).collect();
    let replies = H2::open(app.address()).ask_together(&asks);
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(settled(Duration::from_millis(100), || origin.requests()), 450);
}

#[test]
fn a_drain_says_goodbye_in_two_steps_and_serves_what_comes_between() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(300)));
    let mut app = App::start(&single(origin.address));
    let mut frames = Frames::open(app.address());
    frames.send(&get(1, "/under-way")).expect("the proxy reads");
    eventually("it is under way", || origin.requests() == 1);
    app.signal("TERM");
    let first = frames.await_kind(GOAWAY);
    assert_eq!((last_stream(&first.payload), first.reason()), ((1 << 31) - 1, 0), "not yet");
    let ping = frames.await_kind(PING);
    // Sent before the client can know.
    frames.send(&get(3, "/between")).expect("the proxy reads");
    frames.send(&frame(PING, ACK, 0, &ping.payload)).expect("the proxy reads");
    let mut answered = Vec::new();
    let mut last = None;
    while let Some(frame) = frames.next() {
        match frame.kind {
            HEADERS => answered.push((frame.stream, frame.status())),
            GOAWAY => last = Some(last_stream(&frame.payload)),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [(1, Some(200)), (3, Some(200))]);
    assert_eq!(last, Some(3));
    assert_eq!(app.ended(), Some(0));
}

fn last_stream(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("four bytes"))
}

fn listening(limits: &str, upstream: SocketAddr) -> App {
    App::start(&format!(
        "admin: 127.0.0.1:0\nworkers: 1\nlisteners:\n  - name: web\n    address: 127.0.0.1:0\n    {limits}\n\
         services:\n  web: {{primary: {upstream}}}\n"
    ))
}

#[test]
fn a_connection_that_is_old_enough_ends_with_what_is_under_way() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/slow" => Answer::ok().after(Duration::from_secs(2)),
        _ => Answer::ok(),
    });
    let app = listening("limits: {maxDuration: 1s}", origin.address);
    let mut frames = Frames::open(app.address());
    frames.send(&get(1, "/slow")).expect("the proxy reads");
    let mut conn = app.conn();
    let goaway = frames.await_kind(GOAWAY);
    assert_eq!(goaway.reason(), 0);
    let ping = frames.await_kind(PING);
    frames.send(&frame(PING, ACK, 0, &ping.payload)).expect("the proxy reads");
    assert_eq!(frames.await_kind(HEADERS).status(), Some(200), "what was under way is answered");
    while frames.next().is_some() {}
    assert!(conn.is_closed_by_peer(), "and an HTTP/1 connection that carries nothing is closed");
    let mut busy = app.conn();
    let reply = busy.ask(&Ask::get("/slow"));
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(busy.is_closed_by_peer());
}

#[test]
fn clients_that_say_nothing_to_a_goodbye_are_let_go_all_the_same() {
    let origin = Origin::start("a");
    for limits in ["idleTimeout: 300ms", "maxDuration: 1s"] {
        let app = listening(&format!("limits: {{{limits}, headerTimeout: 1s}}"), origin.address);
        let mut frames = Frames::open(app.address());
        frames.send(&get(1, "/")).expect("the proxy reads");
        assert_eq!(frames.await_kind(HEADERS).status(), Some(200));
        let told = (frames.await_kind(GOAWAY).reason(), Instant::now());
        while frames.next().is_some() {}
        assert!(told.0 == 0 && told.1.elapsed() > Duration::from_millis(500), "{limits}: in due time");
        assert_eq!(app.metric("serin_http2_floods_total", &[]), 0.0);
    }
}

#[test]
fn clients_that_do_not_answer_pings_are_given_up() {
    let origin = Origin::start("a");
    let app = listening("http2: {keepAlive: {interval: 300ms, timeout: 1s}}", origin.address);
    let mut lively = H2::open(app.address());
    let mut silent = Frames::open(app.address());
    assert_eq!(silent.await_kind(PING).payload.len(), 8);
    assert_eq!(lively.ask(&Ask::get("/")).status, 200);
    while silent.next().is_some() {}
    lively.rest(Duration::from_millis(300));
    assert_eq!(lively.ask(&Ask::get("/")).status, 200);
    eventually("one is left", || app.metric("serin_connections", &[]) == 1.0);
}

/// An HTTP/2 server by hand: on each connection it answers the first stream, and
/// when it has two says goodbye to the second.
fn leaving() -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = seen.clone();
    std::thread::spawn(move || {
        for (nth, stream) in listener.incoming().flatten().enumerate() {
            let seen = shared.clone();
            // An error here only means that the proxy left first.
            std::thread::spawn(move || drop(leave(stream, nth, &seen)));
        }
    });
    (address, seen)
}

fn leave(mut stream: TcpStream, nth: usize, seen: &Mutex<Vec<u32>>) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload)?;
        let id = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if head[4] & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            HEADERS => {
                seen.lock().expect("no holder panics").push(id);
                if nth == 0 && id == 1 {
                    continue;
                }
                if nth == 0 {
                    stream.write_all(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]))?;
                }
                let answered = if nth == 0 { 1 } else { id };
                // Let the goodbye arrive first.
                std::thread::sleep(Duration::from_millis(300));
                stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, answered, &[0x88]))?;
            }
            _ => {}
        }
    }
}

#[test]
fn streams_that_an_upstream_leaves_behind_go_to_a_new_connection() {
    let (address, seen) = leaving();
    let app = speaking("http2", address);
    let mut h2 = H2::open(app.address());
    let replies = h2.ask_together(&[Ask::get("/1"), Ask::get("/2")]);
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert_eq!(*seen.lock().expect("no holder panics"), [1, 3, 1], "the first was not sent again");
    assert_eq!(h2.ask(&Ask::get("/3")).status, 200);
    assert_eq!(app.requests(&[("outcome", "success")]), 3);
}
