//! No more may be under way to a version than it was given, nothing is lost when
//! it is less, and connections end when they have done what they may.

use std::time::Duration;

use crate::harness::app::{head, quiet};
use crate::harness::client::Reply;
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Origin, eventually};

fn app(origin: &Origin, rest: &str) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    primary:\n      endpoints: {}\n      {rest}\n",
        head(2),
        origin.address
    ))
}

/// So many requests at once, each on a connection of its own.
fn together(app: &App, count: usize, ask: &Ask) -> Vec<Reply> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..count).map(|_| scope.spawn(|| app.conn().ask(ask))).collect();
        asked.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn good(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

fn overflown(replies: &[Reply]) -> usize {
    let is_told = |reply: &&Reply| {
        (reply.status, reply.cause(), reply.header("x-envoy-overloaded")) == (503, "overflow", Some("true"))
    };
    replies.iter().filter(is_told).count()
}

fn slow(_: &crate::harness::origin::Seen) -> Answer {
    Answer::ok().after(Duration::from_millis(1500))
}

#[test]
fn requests_beyond_the_bound_are_refused_at_once_over_both_codecs() {
    let origin = Origin::answering("a", slow);
    let app = app(&origin, "breaker: {requests: 3}");
    let replies = std::thread::scope(|scope| {
        let plain = scope.spawn(|| together(&app, 6, &Ask::get("/")));
        let mut replies = H2::open(app.address()).ask_together(&vec![Ask::get("/"); 6]);
        replies.extend(plain.join().expect("no panic"));
        replies
    });
    assert_eq!((good(&replies), overflown(&replies), origin.requests()), (3, 9, 3));
    quiet(&app);
    // Whoever was turned away was failed by the version.
    assert_eq!(app.requests(&[("outcome", "failure")]), 9);
    let overflow = [("role", "primary"), ("result", "overflow")];
    assert_eq!(app.metric("serin_upstream_attempts_total", &overflow), 9.0);
    assert_eq!(app.conn().get("/").status, 200, "what was taken is given back");
}

#[test]
fn an_open_breaker_is_seen() {
    let origin = Origin::answering("a", slow);
    let app = app(&origin, "breaker: {requests: 1}");
    let open = |app: &App| app.metric("serin_circuit_breaker_open", &[("breaker", "requests")]);
    assert_eq!(open(&app), 0.0);
    let mut conn = app.conn();
    conn.write(&Ask::get("/").bytes());
    eventually("the breaker is open", || open(&app) == 1.0);
    assert_eq!(conn.read_reply("GET").expect("an answer").status, 200);
    eventually("the breaker is closed", || open(&app) == 0.0);
}

#[test]
fn requests_wait_for_a_connection_and_all_are_served() {
    for protocol in ["http1", "http2"] {
        let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(50)));
        let app = app(
            &origin,
            &format!("protocol: {protocol}\n      connections: {{maxPerEndpoint: 1, maxStreams: 1}}"),
        );
        let replies = together(&app, 20, &Ask::post("/", "x"));
        assert_eq!(good(&replies), 20, "{protocol}");
        quiet(&app);
        // One for each of two workers; over HTTP/2 they cannot be told apart from clients.
        assert!(origin.connections() <= 2, "{protocol}: {} connections", origin.connections());
    }
}

#[test]
fn no_more_connections_over_all_workers_than_the_bound() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(50)));
    let app = app(&origin, "breaker: {connections: 3}");
    assert_eq!(good(&together(&app, 30, &Ask::get("/"))), 30);
    // The second worker may have its first when the others are taken.
    assert!(origin.connections() <= 4, "{} connections", origin.connections());
}

#[test]
fn who_may_not_wait_is_refused() {
    let origin = Origin::answering("a", slow);
    let app = app(&origin, "breaker: {pending: 2}\n      connections: {maxPerEndpoint: 1}");
    let replies = together(&app, 12, &Ask::get("/"));
    assert_eq!(good(&replies) + overflown(&replies), 12);
    // One connection for each of two workers, and two who waited.
    assert!((2..=4).contains(&good(&replies)), "{} were served", good(&replies));
}

#[test]
fn a_client_that_leaves_gives_up_its_place_in_the_queue() {
    let origin = Origin::answering("a", slow);
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary:\n      endpoints: {}\n      breaker: {{pending: 1}}\n      \
         connections: {{maxPerEndpoint: 1}}\n",
        head(1),
        origin.address
    ));
    let pending = || app.metric("serin_circuit_breaker_used", &[("breaker", "pending")]);
    let mut first = app.conn();
    first.write(&Ask::get("/").bytes());
    eventually("the origin is asked", || origin.requests() == 1);
    let mut second = app.conn();
    second.write(&Ask::get("/").bytes());
    eventually("the second waits", || pending() == 1.0);
    assert_eq!(overflown(&[app.conn().get("/")]), 1);
    second.reset();
    eventually("its place is free", || pending() == 0.0);
    assert_eq!(first.read_reply("GET").expect("an answer").status, 200);
    assert_eq!(app.conn().get("/").status, 200);
}

#[test]
fn http2_opens_another_connection_when_the_streams_are_all_taken() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(300)));
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary:\n      endpoints: {}\n      protocol: http2\n      \
         connections: {{maxStreams: 4}}\n",
        head(1),
        origin.address
    ));
    let replies = H2::open(app.address()).ask_together(&vec![Ask::get("/"); 12]);
    assert_eq!(good(&replies), 12);
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_connection_ends_when_it_has_done_what_it_may() {
    for (rule, protocol) in [
        ("maxRequests: 2", "http1"),
        ("maxRequests: 2", "http2"),
        ("maxAge: 1ms", "http1"),
        ("maxAge: 1ms", "http2"),
    ] {
        let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(5)));
        let app = app(&origin, &format!("protocol: {protocol}\n      connections: {{{rule}}}"));
        let mut conn = app.conn();
        for _ in 0..6 {
            assert_eq!(conn.get("/").status, 200);
        }
        let expected = if rule == "maxAge: 1ms" { 6 } else { 3 };
        assert_eq!(origin.connections(), expected, "{rule} {protocol}");
    }
}

#[test]
fn an_overflowing_canary_is_shielded() {
    let (primary, canary) = (Origin::start("primary"), Origin::answering("canary", slow));
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {}\n    canary: {{endpoints: {}, breaker: {{requests: 1}}}}\n    \
         weights: {{canary: 100}}\n    shield: true\n",
        head(1),
        primary.address,
        canary.address
    ));
    let replies = together(&app, 5, &Ask::get("/"));
    assert_eq!((good(&replies), canary.requests(), primary.requests()), (5, 1, 4));
    quiet(&app);
    assert_eq!(app.requests(&[("version", "canary"), ("outcome", "failure")]), 4);
}
