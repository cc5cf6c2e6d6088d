//! A request that failed is sent again as its route's policy says, no oftener,
//! and counted once. Each case runs over both codecs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::app::{head, quiet};
use crate::harness::client::Reply;
use crate::harness::h2::H2;
use crate::harness::origin::Seen;
use crate::harness::raw::{Manner, Raw, closed};
use crate::harness::refuser::{Refusal, Refuser};
use crate::harness::{Answer, App, Ask, Origin, eventually};

/// One service with these endpoints as its primary and this policy.
fn yaml(endpoints: &[SocketAddr], retry: &str, rest: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let mut yaml = head(1);
    yaml += &format!("services:\n  web:\n    primary: [{}]\n", endpoints.join(", "));
    yaml + &format!("routes:\n  - name: all\n    service: web\n    retry: {retry}\n{rest}")
}

fn app(endpoints: &[SocketAddr], retry: &str) -> App {
    App::start(&yaml(endpoints, retry, ""))
}

/// The same request by our own codec and by hyper's.
fn both(app: &App, ask: &Ask) -> [Reply; 2] {
    [app.conn().ask(ask), H2::open(app.address()).ask(ask)]
}

/// Answers with these statuses in turn, then with the last one for ever; begins
/// anew for every path.
fn sequence(statuses: &'static [u16]) -> impl Fn(&Seen) -> Answer + Send + Sync {
    let asked = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    move |seen| {
        let mut asked = asked.lock().expect("no holder panics");
        let count = asked.entry(seen.path.clone()).or_default();
        *count += 1;
        Answer::status(statuses[(*count - 1).min(statuses.len() - 1)])
    }
}

fn count(app: &App, name: &str) -> u64 {
    app.metric(name, &[("role", "primary")]) as u64
}

fn attempts(app: &App, result: &str) -> u64 {
    app.metric("serin_upstream_attempts_total", &[("role", "primary"), ("result", result)]) as u64
}

#[test]
fn a_status_is_retried_by_the_words_that_name_it_and_as_often_as_allowed() {
    let cases: [(&str, &[u16], u16, u64); 9] = [
        ("{on: 5xx}", &[500, 200], 200, 2),
        ("{on: 5xx, retries: 3}", &[500, 501, 599, 200], 200, 4),
        ("{on: 5xx, retries: 2}", &[503], 503, 3),
        ("{on: 5xx, retries: 0}", &[503], 503, 1),
        ("{on: gateway-error}", &[500, 200], 500, 1),
        ("{on: gateway-error}", &[504, 200], 200, 2),
        ("{on: retriable-4xx}", &[409, 200], 200, 2),
        ("{on: [reset, retriable-status-codes], statuses: [418]}", &[418, 200], 200, 2),
        ("{on: \"reset,connect-failure\"}", &[503, 200], 503, 1),
    ];
    for (retry, statuses, status, asked) in cases {
        let origin = Origin::answering("a", sequence(statuses));
        let app = app(&[origin.address], retry);
        for method in ["GET", "POST"] {
            let path = |codec: &str| format!("/{method}/{codec}");
            let replies = [
                app.conn().ask(&Ask::new(method, &path("h1")).body("some words")),
                H2::open(app.address()).ask(&Ask::new(method, &path("h2")).body("some words")),
            ];
            for reply in replies {
                assert_eq!(reply.status, status, "{retry} {method}");
            }
        }
        assert_eq!(origin.requests(), 4 * asked, "{retry}");
        assert!(origin.bodies().iter().all(|body| body == b"some words"), "{retry}");
        quiet(&app);
        // However often it was sent, a request is one.
        let (good, bad) = if status < 500 { (4, 0) } else { (0, 4) };
        assert_eq!(app.requests(&[("outcome", "success")]), good, "{retry}");
        assert_eq!(app.requests(&[("outcome", "failure")]), bad, "{retry}");
        let made = attempts(&app, "answered") + attempts(&app, "server-error");
        assert_eq!((made, count(&app, "serin_retries_total")), (4 * asked, 4 * (asked - 1)), "{retry}");
    }
}

#[test]
fn what_retries_came_to_is_counted() {
    let origin = Origin::answering("a", sequence(&[500, 500, 200]));
    let app = app(&[origin.address], "{on: 5xx, retries: 2}");
    assert_eq!(app.conn().get("/saved").status, 200);
    origin.behave(|_| Answer::status(500));
    assert_eq!(app.conn().get("/lost").status, 500);
    quiet(&app);
    assert_eq!(count(&app, "serin_retry_success_total"), 1);
    assert_eq!(count(&app, "serin_retry_limit_exceeded_total"), 1);
    assert_eq!((attempts(&app, "answered"), attempts(&app, "server-error")), (1, 5));
}

#[test]
fn headers_of_the_answer_and_of_the_request_decide() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/limited" => Answer::status(429).header("x-envoy-ratelimited", "true"),
        "/overloaded" => Answer::status(503).header("x-envoy-overloaded", "true"),
        "/limited-5xx" => Answer::status(503).header("x-envoy-ratelimited", "true"),
        "/again" => Answer::ok().header("x-again", "please"),
        _ => Answer::ok().header("grpc-status", "14"),
    });
    let cases = [
        ("{on: envoy-ratelimited}", "/limited", 2),
        ("{on: 5xx}", "/overloaded", 1),
        ("{on: 5xx}", "/limited-5xx", 1),
        ("{on: retriable-headers, headers: [{name: x-again, prefix: ple}]}", "/again", 2),
        ("{on: retriable-headers, headers: [{name: x-again, exact: no}]}", "/again", 1),
        ("{on: unavailable}", "/grpc", 2),
        ("{on: [internal, cancelled, deadline-exceeded, resource-exhausted]}", "/grpc", 1),
    ];
    for (retry, path, asked) in cases {
        let app = app(&[origin.address], retry);
        let before = origin.requests();
        both(&app, &Ask::get(path));
        assert_eq!(origin.requests() - before, 2 * asked, "{retry}");
    }
    origin.behave(|_| Answer::status(500));
    let app = app(&[origin.address], "{on: 5xx, requestHeaders: [{name: x-safe, present: true}]}");
    for (ask, asked) in [(Ask::get("/"), 1), (Ask::get("/").header("x-safe", ""), 2)] {
        let before = origin.requests();
        both(&app, &ask);
        assert_eq!(origin.requests() - before, 2 * asked);
    }
}

#[test]
fn a_connection_that_breaks_is_retried_where_asked_whatever_the_method() {
    for manner in [Manner::ResetAfterHead, Manner::CloseAfterHead, Manner::Garbage] {
        for (retry, asked) in [("{on: reset, retries: 2}", 3), ("{on: connect-failure, retries: 2}", 1)] {
            let upstream = Raw::start(manner);
            let app = app(&[upstream.address], retry);
            let replies = both(&app, &Ask::post("/", "body"));
            let status = if matches!(manner, Manner::Garbage) { 502 } else { 503 };
            assert!(replies.iter().all(|reply| reply.status == status), "{manner:?} {retry}");
            assert_eq!(upstream.accepted(), 2 * asked, "{manner:?} {retry}");
        }
    }
}

#[test]
fn an_endpoint_that_failed_is_passed_by() {
    let bad = Origin::answering("bad", |_| Answer::status(503));
    let good = Origin::start("good");
    let app = app(&[bad.address, good.address], "{on: 5xx, retries: 1}");
    let (mut conn, mut h2) = (app.conn(), H2::open(app.address()));
    for _ in 0..20 {
        assert_eq!((conn.get("/").origin(), h2.ask(&Ask::get("/")).origin()), ("good", "good"));
    }
    assert!(bad.requests() >= 10, "it was asked {} times", bad.requests());
}

#[test]
fn a_refused_connection_is_retried_on_another_endpoint_and_counted_as_such() {
    let dead = closed();
    let good = Origin::start("good");
    let app = app(&[dead.address, good.address], "istio");
    for _ in 0..6 {
        let replies = both(&app, &Ask::post("/", "body"));
        assert!(replies.iter().all(|reply| reply.status == 200));
    }
    quiet(&app);
    assert!(attempts(&app, "connect-failure") >= 4);
    assert_eq!((attempts(&app, "answered"), good.requests()), (12, 12));
}

#[test]
fn a_body_longer_than_what_is_kept_is_not_sent_again() {
    let origin = Origin::answering("a", |_| Answer::status(503));
    let app = app(&[origin.address], "{on: 5xx, retries: 2, maxBody: 100KiB}");
    let body: Vec<u8> = (0..90_000u32).map(|n| (n % 251) as u8).collect();
    both(&app, &Ask::post("/small", body.clone()));
    assert_eq!(origin.requests(), 6);
    assert!(origin.bodies().iter().all(|seen| *seen == body), "a body was not sent as it came");
    both(&app, &Ask::post("/large", vec![7; 300_000]));
    assert_eq!(origin.requests(), 8);
}

#[test]
fn an_attempt_has_its_own_time_and_the_whole_its() {
    let origin = Origin::answering("a", |seen| match seen.nth % 2 {
        1 => Answer::ok().after(Duration::from_secs(60)),
        _ => Answer::ok(),
    });
    let app = app(&[origin.address], "{on: reset, retries: 1, perTryTimeout: 300ms}");
    for reply in both(&app, &Ask::get("/")) {
        assert_eq!(reply.status, 200);
    }
    quiet(&app);
    assert_eq!((attempts(&app, "per-try-timeout"), attempts(&app, "answered")), (2, 2));
    let stall = Raw::start(Manner::Stall);
    let app = App::start(&yaml(
        &[stall.address],
        "{on: reset, retries: 9, perTryTimeout: 200ms, backoff: {base: 1ms}}",
        "    timeout: 700ms\n",
    ));
    for reply in both(&app, &Ask::get("/")) {
        assert_eq!((reply.status, reply.cause()), (504, "timeout"), "the whole is never retried");
    }
    let tries = stall.accepted();
    assert!((2..=8).contains(&tries), "{tries} attempts of 200 ms in twice 700 ms");
}

#[test]
fn retries_spent_on_silence_tell_so() {
    let stall = Raw::start(Manner::Stall);
    for field in ["perTryTimeout", "perTryIdleTimeout"] {
        let before = stall.accepted();
        let app = app(&[stall.address], &format!("{{on: 5xx, retries: 2, {field}: 150ms}}"));
        for reply in both(&app, &Ask::get("/")) {
            assert_eq!((reply.status, reply.cause()), (504, "per-try-timeout"), "{field}");
        }
        assert_eq!(stall.accepted() - before, 6, "{field}");
    }
}

#[test]
fn no_more_retries_at_once_than_the_budget_allows() {
    let origin = Origin::answering("a", |seen| match seen.header("x-attempt") {
        _ if seen.path == "/slow" => Answer::ok().after(Duration::from_secs(2)),
        _ => Answer::status(503).after(Duration::from_millis(300)),
    });
    // Twenty fail together; of five under way one may be retried, and three always.
    let app = app(&[origin.address], "{on: 5xx, retries: 1, backoff: {base: 300ms}}");
    let mut h2 = H2::open(app.address());
    let replies = h2.ask_together(&vec![Ask::get("/"); 20]);
    assert!(replies.iter().all(|reply| reply.status == 503));
    quiet(&app);
    let refused = count(&app, "serin_retry_overflow_total");
    let retried = count(&app, "serin_retries_total");
    assert_eq!(refused + retried, 20);
    assert!((3..=8).contains(&retried), "{retried} retries beside {refused} refused");
    assert_eq!(origin.requests(), 20 + retried);
}

#[test]
fn retries_on_the_version_come_first_then_the_shields_primary() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(503));
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {}\n    canary: {}\n    weights: {{canary: 100}}\n    \
         shield: {{budget: 100, burst: 1000}}\n    retry: {{on: 5xx, retries: 2}}\n",
        head(1),
        primary.address,
        canary.address
    ));
    for reply in both(&app, &Ask::get("/")) {
        assert_eq!((reply.status, reply.origin()), (200, "primary"));
    }
    assert_eq!((canary.requests(), primary.requests()), (6, 2));
    for reply in both(&app, &Ask::post("/", "x")) {
        assert_eq!((reply.status, reply.origin()), (503, "canary"), "no shield for what is not repeatable");
    }
    quiet(&app);
    assert_eq!(app.requests(&[("version", "canary"), ("outcome", "failure")]), 4);
    assert_eq!(app.requests(&[("version", "primary")]), 0, "both were the canary's by the coin");
}

#[test]
fn the_version_that_the_policy_names_steps_in_at_last() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(503));
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {}\n    canary: {}\n    weights: {{canary: 100}}\n    \
         shield: false\n    retry: {{on: 5xx, retries: 1, then: primary}}\n",
        head(1),
        primary.address,
        canary.address
    ));
    for reply in both(&app, &Ask::post("/", "x")) {
        assert_eq!((reply.status, reply.origin()), (200, "primary"));
    }
    assert_eq!((canary.requests(), primary.requests()), (4, 2));
    quiet(&app);
    assert_eq!(app.requests(&[("version", "canary"), ("outcome", "failure")]), 2);
}

#[test]
fn both_sides_can_be_told_the_count_of_attempts() {
    let origin = Origin::answering("a", sequence(&[503, 503, 200]));
    let app = App::start(&yaml(
        &[origin.address],
        "{on: 5xx, retries: 2}",
        "    tell: {attempts: true, attemptsToClient: true, timeLeft: true}\n    timeout: 10s\n",
    ));
    let told = Ask::post("/h1", "body");
    let replies = [
        app.conn().ask(&told),
        H2::open(app.address()).ask(&Ask::post("/h2", "body")),
        app.conn().ask(&Ask::post("/said", "body").header("x-envoy-attempt-count", "9")),
    ];
    for reply in replies {
        assert_eq!((reply.status, reply.header("x-envoy-attempt-count")), (200, Some("3")));
    }
    for path in ["/h1", "/h2", "/said"] {
        let seen: Vec<Seen> = origin.seen().into_iter().filter(|seen| seen.path == path).collect();
        let counts: Vec<_> = seen.iter().filter_map(|seen| seen.header("x-envoy-attempt-count")).collect();
        assert_eq!(counts, ["1", "2", "3"], "{path}");
        let left = |seen: &Seen| seen.header("x-envoy-expected-rq-timeout-ms")?.parse::<u64>().ok();
        let left: Vec<u64> = seen.iter().filter_map(left).collect();
        assert!(left.len() == 3 && left[0] <= 10_000 && left.is_sorted_by(|a, b| a >= b), "{left:?}");
    }
    assert!(origin.bodies().iter().all(|body| body == b"body"));
}

#[test]
fn our_own_answer_tells_the_count_of_attempts_too() {
    let closed = [closed(), closed()];
    let app = App::start(&yaml(
        &[closed[0].address, closed[1].address],
        "{on: connect-failure, retries: 3}",
        "    tell: {attemptsToClient: true}\n",
    ));
    let (plain, hyper) = (app.conn().get("/"), H2::open(app.address()).ask(&Ask::get("/")));
    for reply in [&plain, &hyper] {
        assert_eq!((reply.status, reply.cause()), (503, "connect-failure"));
    }
    let counts = [&plain, &hyper].map(|reply| reply.header("x-envoy-attempt-count"));
    assert!(counts[0].is_some_and(|count| count != "1") && counts[0] == counts[1], "{counts:?}");
}

#[test]
fn an_answer_that_says_when_is_asked_again_then() {
    let origin = Origin::answering("a", |seen| match seen.nth % 2 {
        1 => Answer::status(503).header("retry-after", "1"),
        _ => Answer::ok(),
    });
    let app = app(&[origin.address], "{on: 5xx, rateLimited: {headers: [{name: retry-after}]}}");
    let start = Instant::now();
    assert_eq!(app.conn().get("/").status, 200);
    assert!(start.elapsed() >= Duration::from_secs(1), "it waited only {:?}", start.elapsed());
}

#[test]
fn what_an_endpoint_has_not_taken_is_repeated_once_even_a_post() {
    for refusal in [Refusal::Reset, Refusal::GoAway] {
        for (refused, status) in [(1, 200), (2, 503)] {
            let upstream = Refuser::start(refusal, refused);
            let app = App::start(&format!(
                "{}services:\n  web:\n    primary: {{endpoints: {}, protocol: http2}}\n",
                head(1),
                upstream.address
            ));
            let reply = app.conn().ask(&Ask::post("/", "body"));
            assert_eq!((reply.status, upstream.seen()), (status, 2), "{refusal:?}: {}", reply.cause());
            if status == 503 {
                assert_eq!(reply.cause(), "refused-stream", "{refusal:?}");
            }
            quiet(&app);
            assert_eq!(attempts(&app, "refused"), refused, "{refusal:?}");
        }
    }
}

#[test]
fn a_refusal_beyond_that_is_the_policys() {
    let upstream = Refuser::start(Refusal::Reset, 3);
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {{endpoints: {}, protocol: http2}}\n    \
         retry: {{on: refused-stream, retries: 2}}\n",
        head(1),
        upstream.address
    ));
    assert_eq!(app.conn().ask(&Ask::post("/", "body")).status, 200);
    assert_eq!(upstream.seen(), 4);
}

#[test]
fn a_post_finds_no_closed_connection_in_the_pool() {
    let upstream = Raw::start(Manner::CloseAfterAnswer);
    let app = app(&[upstream.address], "false");
    let (mut conn, mut h2) = (app.conn(), H2::open(app.address()));
    // Time for the close to arrive, which is the case itself.
    let closed = || std::thread::sleep(Duration::from_millis(5));
    for _ in 0..50 {
        assert_eq!(conn.ask(&Ask::post("/", "")).status, 200);
        closed();
        assert_eq!(h2.ask(&Ask::post("/", "")).status, 200);
        closed();
    }
}

#[test]
fn an_early_refusal_amid_an_upload_is_retried_with_all_of_the_body() {
    let origin = Origin::answering("a", |seen| match seen.nth {
        1 => Answer::status(503),
        _ => Answer::echo(),
    });
    origin.stop_reading();
    let app = app(&[origin.address], "{on: 5xx, retries: 1}");
    let mut conn = app.conn();
    conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 40000\r\n\r\n");
    conn.write(&[b'x'; 20_000]);
    eventually("the first answer came", || origin.requests() >= 1);
    origin.read_again();
    conn.write(&[b'x'; 20_000]);
    let reply = conn.read_reply("POST").expect("an answer");
    assert_eq!(reply.status, 200);
    assert_eq!(origin.requests(), 2);
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "success")]), 1);
}
