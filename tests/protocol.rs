//! HTTP itself: versions, bodies, trailers, headers and limits.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::app::{head, quiet, single};
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Conn, Origin, eventually, require, settled};

fn speaking(protocol: &str, upstream: SocketAddr) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    versions:\n      v1: {{role: primary, endpoints: [\"{upstream}\"], protocol: {protocol}}}\n",
        head(1)
    ))
}

/// What the origin saw, as it echoed it.
fn echoed(app: &App, ask: &Ask) -> serde_json::Value {
    app.conn().ask(ask).json()
}

/// All values of a header in an echo.
fn values<'a>(echo: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let pairs = echo["headers"].as_array().expect("an echo has headers").iter();
    pairs.filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str()).collect()
}

#[test]
fn connections_are_kept_alive_on_both_sides() {
    let origin = Origin::start("a");
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    for _ in 0..200 {
        assert_eq!(conn.get("/").status, 200);
    }
    assert_eq!(origin.connections(), 1, "200 requests in a row need one upstream connection");
    eventually("the client's connection is counted", || app.metric("serin_connections", &[]) == 1.0);
    drop(conn);
    eventually("and its end too", || app.metric("serin_connections", &[]) == 0.0);
}

#[test]
fn a_client_that_asks_to_close_is_closed_and_http_1_0_is_served() {
    let origin = Origin::start("a");
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    assert_eq!(conn.ask(&Ask::get("/").header("connection", "close")).status, 200);
    assert!(conn.is_closed_by_peer());
    let mut old = app.conn();
    old.write(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let reply = old.read_reply("GET").expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    assert!(old.is_closed_by_peer());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    let bytes: Vec<u8> = (0..10).flat_map(|n| Ask::post(&format!("/{n}"), format!("b{n}")).bytes()).collect();
    conn.write(&bytes);
    for n in 0..10 {
        let echo = conn.read_reply("POST").expect("an answer").json();
        assert_eq!(
            (echo["path"].as_str(), echo["body"].as_str()),
            (Some(&*format!("/{n}")), Some(&*format!("b{n}")))
        );
    }
}

#[test]
fn every_pairing_of_versions_carries_bodies_both_ways() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::echo());
        let app = speaking(protocol, origin.address);
        let version = if protocol == "http1" { "HTTP/1.1" } else { "HTTP/2.0" };
        let ask = Ask::post("/p?q=1", "the body").header("x-mine", "1");
        // Both client versions on the same port.
        let (one, two) = (app.conn().ask(&ask).json(), H2::open(app.address()).ask(&ask).json());
        for echo in [one, two] {
            assert_eq!(echo["version"], version);
            assert_eq!((echo["path"].as_str(), echo["body"].as_str()), (Some("/p?q=1"), Some("the body")));
            assert_eq!(values(&echo, "x-mine"), ["1"]);
        }
    }
}

#[test]
fn many_streams_share_one_connection_each_way() {
    let origin = Origin::answering("a", |_| Answer::echo().after(Duration::from_millis(50)));
    let app = speaking("http2", origin.address);
    let mut h2 = H2::open(app.address());
    let asks: Vec<_> = (0..80).map(|n| Ask::post(&format!("/{n}"), format!("b{n}"))).collect();
    for (n, reply) in h2.ask_together(&asks).iter().enumerate() {
        let echo = reply.json();
        assert_eq!(
            (echo["path"].as_str(), echo["body"].as_str()),
            (Some(&*format!("/{n}")), Some(&*format!("b{n}")))
        );
    }
    assert!(origin.connections() <= 8, "{} connections for 80 streams", origin.connections());
}

#[test]
fn trailers_pass_in_both_directions() {
    for protocol in ["http1", "http2"] {
        let origin =
            Origin::answering("a", |_| Answer::ok().header("trailer", "x-sum").trailer("x-sum", "42"));
        let app = speaking(protocol, origin.address);
        let reply = H2::open(app.address()).ask(&Ask::get("/").header("te", "trailers"));
        assert_eq!(reply.trailer("x-sum"), Some("42"), "{protocol} upstream, HTTP/2 client");
        let reply = app.conn().ask(&Ask::get("/").header("te", "trailers"));
        assert_eq!(reply.trailer("x-sum"), Some("42"), "{protocol} upstream, HTTP/1.1 client");
        origin.behave(|_| Answer::echo());
        let ask = Ask::new("POST", "/").header("trailer", "x-end");
        let echo =
            H2::open(app.address()).ask_with_trailers(&ask, &["one ", "two"], &[("x-end", "1")]).json();
        assert_eq!(
            (echo["body"].as_str(), echo["trailers"][0][0].as_str()),
            (Some("one two"), Some("x-end"))
        );
    }
}

#[test]
fn the_grpc_status_decides_where_the_http_status_says_nothing() {
    // Code, and whether it is the server's failure.
    let codes = [(0, false), (1, false), (3, false), (5, false), (7, false), (13, true), (14, true)];
    let origin = Origin::answering("a", |seen| {
        let code = seen.path.rsplit('/').next().unwrap_or_default();
        let answer = Answer::ok().header("content-type", "application/grpc");
        match seen.path.starts_with("/only") {
            true => answer.text("").header("grpc-status", code),
            false => answer.trailer("grpc-status", code),
        }
    });
    let app = speaking("http2", origin.address);
    let mut h2 = H2::open(app.address());
    let (mut failures, mut successes) = (0, 0);
    for (code, fails) in codes {
        for kind in ["trailers", "only"] {
            let ask = Ask::post(&format!("/{kind}/{code}"), "\0\0\0\0\0")
                .header("content-type", "application/grpc");
            let reply = h2.ask(&ask.header("te", "trailers"));
            let status = reply.trailer("grpc-status").or(reply.header("grpc-status"));
            assert_eq!((reply.status, status), (200, Some(&*code.to_string())));
            if fails {
                failures += 1
            } else {
                successes += 1
            }
            eventually(&format!("grpc-status {code} in {kind} is counted as failure: {fails}"), || {
                app.requests(&[("outcome", "failure")]) == failures
                    && app.requests(&[("outcome", "success")]) == successes
            });
        }
    }
}

#[test]
fn a_grpc_status_is_only_missed_where_one_is_promised() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/web" => Answer::ok().header("content-type", "application/grpc-web+proto").text("\0\0\0\0\0"),
        "/web-text" => Answer::ok().header("content-type", "application/grpc-web-text"),
        "/none" => Answer::status(404).header("content-type", "application/grpc"),
        _ => Answer::ok().header("content-type", "application/grpc+proto"),
    });
    let app = speaking("http2", origin.address);
    let mut h2 = H2::open(app.address());
    for (path, status) in [("/web", 200), ("/web-text", 200), ("/none", 404)] {
        assert_eq!(h2.ask(&Ask::post(path, "x")).status, status, "{path}");
    }
    quiet(&app);
    assert_eq!((app.requests(&[("outcome", "success")]), app.requests(&[])), (3, 3));
    assert_eq!(h2.ask(&Ask::post("/grpc", "x")).status, 200);
    eventually("a gRPC answer without a status was cut short", || {
        app.requests(&[("outcome", "failure")]) == 1
    });
}

#[test]
fn an_answer_that_ends_by_a_frame_of_its_own_is_whole() {
    let origin = Origin::answering("a", |_| {
        Answer::ok().text("whole").header("content-length", "5").ends_apart().every(Duration::from_millis(30))
    });
    let app = speaking("http2", origin.address);
    let mut conn = app.conn();
    for _ in 0..10 {
        assert_eq!(conn.get("/").text(), "whole");
    }
    quiet(&app);
    assert_eq!((app.requests(&[("outcome", "success")]), app.requests(&[])), (10, 10));
}

#[test]
fn a_get_with_a_body_of_chunks_passes_with_its_body() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::echo());
        let app = speaking(protocol, origin.address);
        let mut conn = app.conn();
        for method in ["GET", "DELETE", "OPTIONS"] {
            conn.write(
                format!("{method} /q HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes(),
            );
            conn.write(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
            let echo = conn.read_reply(method).expect("an answer").json();
            assert_eq!((echo["method"].as_str(), echo["body"].as_str()), (Some(method), Some("hello world")));
        }
        assert_eq!(conn.get("/next").json()["body"], "", "{protocol}: the connections are in step");
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn an_idle_http2_client_that_says_a_ping_is_not_writing_a_head() {
    let origin = Origin::start("a");
    let app = App::start(&format!(
        "listeners:\n  - {{name: default, address: \"127.0.0.1:0\", limits: {{headerTimeout: 400ms}}}}\n\
         admin: 127.0.0.1:0\nservices:\n  web:\n    primary: {}\n",
        origin.address
    ));
    let mut h2 = H2::pinging(app.address(), Duration::from_millis(250));
    assert_eq!(h2.ask(&Ask::get("/")).status, 200);
    h2.rest(Duration::from_millis(1_800));
    let reply = h2.try_ask(&Ask::get("/"));
    assert!(reply.as_ref().is_ok_and(|reply| reply.status == 200), "{reply:?}");
    assert_eq!(app.metric("serin_connections", &[]), 1.0);
}

#[test]
fn clients_that_do_not_read_hold_up_nobody_who_shares_their_connection() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/big" => Answer::stream(64 << 20),
        _ => Answer::ok(),
    });
    let app = speaking("http2", origin.address);
    let mut stalled: Vec<Conn> = (0..16).map(|_| app.conn()).collect();
    for conn in &mut stalled {
        conn.write(&Ask::get("/big").bytes());
        assert_eq!(conn.read_head().expect("a head").status, 200);
    }
    settled(Duration::from_millis(300), || origin.sent());
    let mut conn = app.conn();
    conn.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a legal timeout");
    for _ in 0..5 {
        assert_eq!(conn.get("/small").text(), "a");
    }
    assert_eq!(origin.connections(), 1, "they did share it");
}

#[test]
fn large_bodies_stream_through_unchanged() {
    const SIZE: usize = 12 << 20;
    let origin = Origin::answering("a", |_| Answer::send_back());
    let app = speaking("http1", origin.address);
    let body: Vec<u8> = (0..SIZE).map(|n| (n % 253) as u8).collect();
    let mut conn = app.conn();
    let mut sender = conn.stream.try_clone().expect("a socket can be cloned");
    let ask = Ask::post("/back", body.clone()).bytes();
    let sending = std::thread::spawn(move || sender.write_all(&ask));
    let reply = conn.read_reply("POST").expect("an answer");
    sending.join().expect("no panic").expect("all was read");
    assert!(reply.body == body, "12 MiB came back changed, {} bytes", reply.body.len());
    // The same by chunks of odd sizes.
    conn.write(b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for size in [1, 10, 4_097, 20_000] {
        conn.write(format!("{size:x};ext=1\r\n{}\r\n", "y".repeat(size)).as_bytes());
    }
    conn.write(b"0\r\n\r\n");
    assert_eq!(conn.read_reply("POST").expect("an answer").body.len(), 24_108);
    let reply = H2::open(app.address()).ask(&Ask::post("/h2", body.clone()));
    assert!(reply.body == body, "over HTTP/2 it came back changed");
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("linux says it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB")
}

#[test]
fn a_slow_reader_holds_the_origin_back_and_costs_bounded_memory() {
    const SIZE: u64 = 512 << 20;
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::stream(SIZE));
        let app = speaking(protocol, origin.address);
        assert_eq!(app.conn().ask(&Ask::new("HEAD", "/")).status, 200);
        let (before, sent) = (resident(app.pid()), origin.sent());
        let mut conn = app.conn();
        conn.write(&Ask::get("/").bytes());
        assert_eq!(conn.read_head().expect("a head").status, 200);
        let stuck = settled(Duration::from_millis(500), || origin.sent()) - sent;
        assert!(
            stuck < 64 << 20,
            "{protocol}: the origin could send {stuck} bytes to a reader that stands still"
        );
        let grown = resident(app.pid()).saturating_sub(before);
        assert!(grown < 32 << 10, "{protocol}: memory grew by {grown} KiB");
    }
}

#[test]
fn an_origin_that_does_not_read_holds_the_client_back() {
    const CHUNK: usize = 64 * 1024;
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_secs(60)));
    origin.stop_reading();
    let app = speaking("http1", origin.address);
    let before = resident(app.pid());
    let mut conn = app.conn();
    conn.stream.set_write_timeout(Some(Duration::from_millis(700))).expect("a legal timeout");
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n");
    let written = AtomicU64::new(0);
    while conn.stream.write_all(&[0; CHUNK]).is_ok() {
        let total = written.fetch_add(CHUNK as u64, Ordering::Relaxed);
        assert!(total < 64 << 20, "the client could send {total} bytes to an origin that stands still");
    }
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "memory grew by {grown} KiB");
}

#[test]
fn a_streamed_answer_reaches_the_client_before_it_ends() {
    let origin = Origin::answering("a", |_| Answer::stream(1 << 40).every(Duration::from_millis(5)));
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    conn.write(&Ask::get("/").bytes());
    assert_eq!(conn.read_head().expect("a head").status, 200);
    let mut first = [0; 1000];
    std::io::Read::read_exact(&mut conn.stream, &mut first).expect("bytes come while the body is under way");
}

#[test]
fn expect_continue_is_answered_before_the_body_is_sent() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(conn.read_head().expect("an interim answer").status, 100);
    conn.write(b"hello");
    let reply = conn.read_reply("POST").expect("an answer");
    assert_eq!((reply.status, reply.json()["body"].as_str()), (200, Some("hello")));
}

#[test]
fn hop_by_hop_fields_end_here_in_both_directions() {
    let origin = Origin::answering("a", |_| {
        Answer::echo().header("connection", "x-secret").header("x-secret", "1").header("x-kept", "2")
    });
    let app = speaking("http1", origin.address);
    let ask = Ask::get("/")
        .header("connection", "keep-alive, x-drop")
        .header("x-drop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "basic x")
        .header("x-keep", "1");
    let reply = app.conn().ask(&ask);
    let echo = reply.json();
    for name in ["x-drop", "keep-alive", "proxy-connection"] {
        assert_eq!(values(&echo, name), [] as [&str; 0], "{name} went through");
    }
    assert_eq!(values(&echo, "x-keep"), ["1"]);
    assert_eq!((reply.header("x-secret"), reply.header("x-kept")), (None, Some("2")));
    let reply = H2::open(app.address()).ask(&Ask::get("/"));
    assert_eq!((reply.header("connection"), reply.header("x-secret")), (None, None));
}

#[test]
fn the_origin_learns_who_asked_and_under_which_id() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = speaking("http1", origin.address);
    let echo = echoed(&app, &Ask::get("/").host("shop.example.com"));
    assert_eq!(values(&echo, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&echo, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&echo, "x-forwarded-host"), ["shop.example.com"]);
    assert_eq!(values(&echo, "host"), ["shop.example.com"]);
    let other = echoed(&app, &Ask::get("/"));
    let (one, two) = (values(&echo, "x-request-id"), values(&other, "x-request-id"));
    assert!(one.len() == 1 && two.len() == 1 && one != two && one[0].len() >= 16, "{one:?} {two:?}");
    let ask = Ask::get("/").header("x-forwarded-for", "10.1.2.3").header("x-request-id", "mine-7");
    let echo = echoed(&app, &ask);
    assert_eq!(values(&echo, "x-forwarded-for"), ["10.1.2.3,127.0.0.1"]);
    // We stand at an edge unless told otherwise: what a stranger says is not believed.
    assert!(values(&echo, "x-request-id")[0].len() == 36, "{:?}", values(&echo, "x-request-id"));
    let ask = ["10.1.2.3", "10.4.5.6, 10.7.8.9"]
        .iter()
        .fold(Ask::get("/"), |ask, via| ask.header("x-forwarded-for", via));
    let echo = echoed(&app, &ask);
    assert_eq!(values(&echo, "x-forwarded-for"), ["10.1.2.3,10.4.5.6, 10.7.8.9,127.0.0.1"]);
}

#[test]
fn a_client_without_a_host_is_served_under_the_endpoints_and_a_host_that_is_none_is_refused() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::echo());
        let app = speaking(protocol, origin.address);
        let mut old = app.conn();
        old.write(b"GET /old HTTP/1.0\r\n\r\n");
        let reply = old.read_reply("GET").expect("an answer");
        assert_eq!(reply.status, 200, "{protocol}: {}", reply.cause());
        assert_eq!(reply.json()["authority"], origin.address.to_string(), "{protocol}");
        for host in ["a b", "a/b", "a@b c", "\u{e9}"] {
            let mut conn = app.conn();
            conn.write(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
            let reply = conn.read_reply("GET").expect("an answer");
            assert_eq!((reply.status, reply.cause()), (400, "bad-request"), "{protocol}: {host:?}");
        }
        assert_eq!(origin.requests(), 1);
        assert_eq!((app.requests(&[]), app.metric("serin_unrouted_requests_total", &[])), (1, 4.0));
    }
}

#[test]
fn the_answer_says_how_long_upstream_took() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(120)));
    let app = speaking("http1", origin.address);
    let reply = app.conn().get("/");
    let took = reply.header("x-envoy-upstream-service-time").and_then(|text| text.parse::<u64>().ok());
    assert!(took.is_some_and(|took| (120..5_000).contains(&took)), "{took:?} ms");
}

#[test]
fn heads_past_the_limits_are_refused() {
    let origin = Origin::start("a");
    let app = speaking("http1", origin.address);
    let big = app.conn().ask(&Ask::get("/").header("x-big", &"b".repeat(70 * 1024)));
    assert_eq!(big.status, 431);
    let mut many = Ask::get("/");
    for n in 0..120 {
        many = many.header(&format!("x-{n}"), "1");
    }
    assert_eq!(app.conn().ask(&many).status, 431);
    // Over HTTP/2 a refusal may be an answer or a reset, but never a visit to the origin.
    if let Ok(reply) = H2::open(app.address()).try_ask(&many) {
        assert_eq!(reply.status, 431);
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(app.conn().ask(&Ask::get("/").header("x-fit", &"b".repeat(40 * 1024))).status, 200);
    assert_eq!(app.requests(&[]), 1, "what is refused before a route is nobody's request");
}

#[test]
fn malformed_requests_are_refused_and_reach_nobody() {
    let origin = Origin::start("a");
    let app = App::start(&single(origin.address));
    let cases: [(&str, &[u8]); 6] = [
        ("no request line", b"hello\r\n\r\n"),
        ("no such version", b"GET / HTTP/9.9\r\nhost: a\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc"),
        ("a length that is none", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3x\r\n\r\nabc"),
        ("a space in a name", b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n"),
        ("an unknown coding", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: zip\r\n\r\nabc"),
    ];
    for (name, bytes) in cases {
        let mut conn = app.conn();
        conn.write(bytes);
        if let Ok(reply) = conn.read_reply("GET") {
            assert_eq!(reply.status, 400, "{name}");
        }
        assert!(conn.is_closed_by_peer(), "{name}: the connection must not be used on");
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(app.conn().get("/").status, 200);
}

#[test]
fn a_body_with_two_framings_cannot_smuggle_a_request() {
    let origin = Origin::start("a");
    let app = App::start(&single(origin.address));
    let mut conn = app.conn();
    conn.write(
        b"POST /outer HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
          0\r\n\r\nGET /inner HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    while conn.read_reply("POST").is_ok() {}
    // Refused whole, or the chunked framing wins and the length goes no further.
    for seen in origin.seen() {
        let both = seen.header("content-length").is_some() && seen.header("transfer-encoding").is_some();
        assert!(!both && seen.header("content-length") != Some("4"), "{seen:?}");
    }
}

#[test]
fn connections_past_the_cap_are_closed_and_idle_ones_in_time() {
    let origin = Origin::start("a");
    let app = App::start(&format!(
        "listeners:\n  - {{name: default, address: \"127.0.0.1:0\", limits: {{maxConnections: 2, idleTimeout: 600ms}}}}\n\
         admin: 127.0.0.1:0\nworkers: 1\nservices:\n  web:\n    primary: {}\n",
        origin.address
    ));
    let (mut one, mut two) = (app.conn(), app.conn());
    assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
    let mut three = Conn::open(app.address());
    assert!(three.is_closed_by_peer());
    assert!(one.is_closed_by_peer() && two.is_closed_by_peer());
    eventually("there is room again", || {
        app.conn().try_ask(&Ask::get("/")).is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn answers_without_bodies_keep_the_connection_in_step() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/204" => Answer::status(204).text(""),
        "/304" => Answer::status(304).text(""),
        "/empty" => Answer::ok().text(""),
        _ => Answer::ok(),
    });
    let app = speaking("http1", origin.address);
    let mut conn = app.conn();
    for (method, path, status, length) in [
        ("GET", "/204", 204, 0),
        ("HEAD", "/", 200, 0),
        ("GET", "/304", 304, 0),
        ("GET", "/empty", 200, 0),
        ("GET", "/", 200, 1),
    ] {
        let reply = conn.ask(&Ask::new(method, path));
        assert_eq!((reply.status, reply.body.len()), (status, length), "{method} {path}");
    }
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "success")]), 5);
}

#[test]
fn the_nghttp2_load_generator_finds_no_fault() {
    let Some(h2load) = require("h2load") else { return };
    let origin = Origin::start("a");
    for protocol in ["http1", "http2"] {
        let app = speaking(protocol, origin.address);
        let output = Command::new(&h2load)
            .args(["-n", "4000", "-c", "8", "-m", "10", &format!("http://{}/", app.address())])
            .output()
            .expect("it can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
        assert!(text.contains("4000 2xx"), "{text}");
        quiet(&app);
        assert_eq!(app.requests(&[("outcome", "success")]), 4_000);
    }
}
