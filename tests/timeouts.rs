//! How long a request may take in all, and who is to blame when it takes longer.

use std::time::{Duration, Instant};

use crate::harness::app::{head, quiet};
use crate::harness::h2::H2;
use crate::harness::raw::{Manner, Raw};
use crate::harness::{Answer, App, Ask, Origin, eventually};

fn app(endpoint: std::net::SocketAddr, route: &str) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    primary: {endpoint}\nroutes:\n  - {{name: all, service: web, {route}}}\n",
        head(1)
    ))
}

fn outcomes(app: &App) -> [u64; 3] {
    quiet(app);
    ["success", "failure", "uncounted"].map(|outcome| app.requests(&[("outcome", outcome)]))
}

#[test]
fn the_whole_answer_must_come_in_its_time() {
    for (field, cause) in [("totalTimeout", "timeout"), ("maxDuration", "max-duration")] {
        let stall = Raw::start(Manner::Stall);
        let late = app(stall.address, &format!("{field}: 400ms"));
        for reply in [late.conn().get("/"), H2::open(late.address()).ask(&Ask::get("/"))] {
            assert_eq!((reply.status, reply.cause()), (504, cause));
        }
        assert_eq!(outcomes(&late), [0, 2, 0], "{field}");
        // After the head it is a break.
        let endless = Origin::answering("a", |_| Answer::stream(1 << 40).every(Duration::from_millis(20)));
        let cut = app(endless.address, &format!("{field}: 400ms"));
        let start = Instant::now();
        assert!(cut.conn().try_ask(&Ask::get("/")).is_err(), "{field}");
        assert!(H2::open(cut.address()).try_ask(&Ask::get("/")).is_err(), "{field}");
        assert!(start.elapsed() >= Duration::from_millis(800), "{field}");
        assert_eq!(outcomes(&cut), [0, 2, 0], "{field}");
    }
}

#[test]
fn a_slow_upload_has_its_time_before_the_total_but_not_before_the_duration() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let upload = |app: &App| {
        let mut conn = app.conn();
        conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        // The pause is the case itself.
        std::thread::sleep(Duration::from_millis(900));
        conn.write(b"world");
        conn.read_reply("POST").map(|reply| reply.status)
    };
    let total = app(origin.address, "totalTimeout: 600ms");
    assert_eq!(upload(&total).ok(), Some(200));
    assert_eq!(outcomes(&total), [1, 0, 0]);
    let duration = app(origin.address, "maxDuration: 400ms");
    assert!(!matches!(upload(&duration), Ok(200)));
    assert_eq!(outcomes(&duration), [0, 0, 1], "the client was slow, not the version");
}

#[test]
fn the_total_covers_all_attempts_and_their_backoff() {
    let origin = Origin::answering("a", |_| Answer::status(503).after(Duration::from_millis(150)));
    let app = app(
        origin.address,
        "totalTimeout: 700ms, retry: {on: 5xx, retries: 20, backoff: {base: 100ms, max: 100ms}}",
    );
    let start = Instant::now();
    let reply = app.conn().get("/");
    assert_eq!((reply.status, reply.cause()), (504, "timeout"));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!((2..=5).contains(&origin.requests()), "{} attempts", origin.requests());
}

#[test]
fn a_grpc_caller_says_how_long_it_waits_up_to_a_bound() {
    let stall = Raw::start(Manner::Stall);
    let app = app(stall.address, "timeout: 60s, grpcTimeout: {max: 1s}");
    let ask = |said: Option<&str>, kind: &str| {
        let ask = Ask::post("/s/m", "x").header("content-type", kind);
        let ask = said.map_or(ask.clone(), |said| ask.header("grpc-timeout", said));
        let start = Instant::now();
        let reply = H2::open(app.address()).ask(&ask);
        assert_eq!((reply.status, reply.cause()), (200, "timeout"), "gRPC has its status in a field");
        assert!(reply.header("grpc-status").is_some_and(|status| status != "0"));
        start.elapsed()
    };
    let took = ask(Some("200m"), "application/grpc");
    assert!((200..900).contains(&took.as_millis()), "{took:?}");
    for said in [Some("1H"), None] {
        let took = ask(said, "application/grpc+proto");
        assert!((1000..20_000).contains(&took.as_millis()), "{said:?}: {took:?}");
    }
}

#[test]
fn kept_connections_wait_as_long_as_they_are_told() {
    for (idle, closed) in [("idleTimeout: 300ms", true), ("idleTimeout: 1h", false)] {
        let origin = Origin::start("a");
        let app = App::start(&format!(
            "{}services:\n  web:\n    primary: {{endpoints: {}, connections: {{{idle}}}}}\n",
            head(1),
            origin.address
        ));
        let mut conn = app.conn();
        conn.get("/");
        // Longer than the usual four seconds.
        std::thread::sleep(Duration::from_millis(if closed { 1_500 } else { 6_000 }));
        conn.get("/");
        let expected = if closed { 2 } else { 1 };
        eventually("connections are as expected", || origin.connections() == expected);
    }
}
