//! The shadow gets copies; the user's request must not feel it.

use std::time::Duration;

use crate::harness::app::{head, quiet, timed};
use crate::harness::load::tally;
use crate::harness::raw::{Manner, Raw, closed};
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, plausible, settled};

fn app(primary: &Origin, shadow: std::net::SocketAddr, mirror: &str) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    versions:\n      stable: {{role: primary, endpoints: [\"{}\"]}}\n      \
         next: {{role: other, endpoints: [\"{shadow}\"]}}\n    mirror: {{version: next, {mirror}}}\n",
        head(2),
        primary.address
    ))
}

/// Requests of the shadow by outcome; a copy is counted there and nowhere else.
fn shadowed(app: &App, outcome: &str) -> u64 {
    app.requests(&[("version", "next"), ("role", "shadow"), ("outcome", outcome)])
}

fn only_the_shadow_has_failed(app: &App) {
    assert_eq!(app.requests(&[("role", "primary"), ("outcome", "failure")]), 0);
    assert_eq!(app.requests(&[("version", "next"), ("role", "other")]), 0);
}

#[test]
fn every_copy_arrives_whole_and_is_counted_apart() {
    let (primary, shadow) = (Origin::start("primary"), Origin::start("shadow"));
    let app = app(&primary, shadow.address, "percent: 100");
    let mut conn = app.conn();
    for nth in 0..100 {
        let body = format!("body {nth} ").repeat(nth + 1);
        let reply = conn.ask(&Ask::post(&format!("/p?n={nth}"), body).header("x-mine", "yes"));
        assert_eq!((reply.status, reply.origin()), (200, "primary"));
    }
    eventually("the shadow has seen all", || shadowed(&app, "success") == 100);
    let (mut sent, mut copied) = (primary.bodies(), shadow.bodies());
    sent.sort();
    copied.sort();
    assert_eq!(sent, copied);
    let copy = shadow.seen().into_iter().find(|seen| seen.path == "/p?n=7").expect("the path is copied too");
    assert_eq!((copy.method.as_str(), copy.header("x-mine")), ("POST", Some("yes")));
    assert_eq!(app.requests(&[("role", "primary")]), 100);
    assert_eq!(app.metric("serin_mirrored_total", &[]), 100.0);
    only_the_shadow_has_failed(&app);
}

#[test]
fn a_quarter_of_the_traffic_is_copied() {
    let (primary, shadow) = (Origin::start("primary"), Origin::start("shadow"));
    let app = app(&primary, shadow.address, "percent: 25");
    assert_eq!(tally(app.address(), 4, 4_000, &Ask::get("/")).get("primary"), Some(&4_000));
    let copies = settled(Duration::from_millis(300), || shadow.requests());
    assert!(plausible(copies, 4_000, 0.25, 5.0), "{copies} copies of 4000 at 25 %");
}

#[test]
fn a_dead_shadow_is_not_felt() {
    let (primary, dead) = (Origin::start("primary"), closed());
    let app = app(&primary, dead.address, "percent: 100");
    assert_eq!(tally(app.address(), 4, 1_000, &Ask::get("/")).get("primary"), Some(&1_000));
    eventually("its failures are counted to it", || shadowed(&app, "failure") == 1_000);
    only_the_shadow_has_failed(&app);
}

#[test]
fn a_failing_shadow_is_not_felt() {
    let (primary, shadow) = (Origin::start("primary"), Origin::answering("shadow", |_| Answer::status(500)));
    let app = app(&primary, shadow.address, "percent: 100");
    assert_eq!(tally(app.address(), 4, 1_000, &Ask::post("/", "x")).get("primary"), Some(&1_000));
    eventually("its failures are counted to it", || shadowed(&app, "failure") == 1_000);
    only_the_shadow_has_failed(&app);
}

#[test]
fn a_slow_shadow_is_not_waited_for_and_its_copies_are_bounded() {
    let primary = Origin::start("primary");
    let shadow = Origin::answering("shadow", |_| Answer::ok().after(Duration::from_secs(2)));
    let app = app(&primary, shadow.address, "percent: 100, maxInFlight: 4");
    let load = Load::start(app.address(), 4, Duration::ZERO, Ask::get("/"));
    load.pass(2_000);
    let report = load.stop();
    assert_eq!(report.failures(), 0, "{:?}", report.words);
    assert!(report.slowest < Duration::from_millis(1_500), "a user waited {:?}", report.slowest);
    // Four copies at once for each of two workers; the rest is dropped and said so.
    let dropped = app.metric("serin_mirror_dropped_total", &[]);
    assert!(dropped > 0.0);
    eventually("the copies under way come home", || {
        shadowed(&app, "success") + app.metric("serin_mirror_dropped_total", &[]) as u64 == report.requests
    });
    only_the_shadow_has_failed(&app);
}

#[test]
fn a_shadow_that_never_reads_costs_a_bounded_body_and_no_time() {
    const SIZE: usize = 8 << 20;
    let primary = Origin::start("primary");
    let shadow = Raw::start(Manner::Deaf);
    let app = app(&primary, shadow.address, "percent: 100, maxBody: 64KiB");
    let mut conn = app.conn();
    let (reply, took) = timed(|| conn.ask(&Ask::post("/big", vec![b'z'; SIZE])));
    assert_eq!(reply.status, 200);
    assert!(took < Duration::from_secs(10), "the upload took {took:?}");
    assert_eq!(primary.bodies()[0].len(), SIZE);
    eventually("the copy is given up and counted", || app.metric("serin_mirror_dropped_total", &[]) == 1.0);
    quiet(&app);
    assert_eq!(shadowed(&app, "success"), 0);
    only_the_shadow_has_failed(&app);
}

#[test]
fn a_user_who_leaves_does_not_take_the_copy_for_a_failure() {
    let primary = Origin::answering("primary", |_| Answer::ok().after(Duration::from_secs(30)));
    let shadow = Origin::start("shadow");
    let app = app(&primary, shadow.address, "percent: 100");
    let mut conn = app.conn();
    conn.write(&Ask::get("/").bytes());
    eventually("the copy is under way", || shadow.requests() == 1);
    conn.reset();
    eventually("the user is counted", || app.requests(&[("role", "primary"), ("outcome", "uncounted")]) == 1);
    assert_eq!(shadowed(&app, "failure"), 0);
}

#[test]
fn copies_of_plain_requests_share_kept_connections() {
    let (primary, shadow) = (Origin::start("primary"), Origin::start("shadow"));
    let app = app(&primary, shadow.address, "percent: 100");
    let mut conn = app.conn();
    for nth in 0..200 {
        let ask = if nth % 2 == 0 { Ask::get("/g") } else { Ask::post("/p", "some") };
        assert_eq!(conn.ask(&ask).status, 200);
        // Each has come home before the next sets out, so one connection is enough.
        eventually("the copy is counted", || shadowed(&app, "success") == nth + 1);
    }
    assert!(shadow.connections() <= 2, "{} connections for one copy at a time", shadow.connections());
    let seen = shadow.seen();
    let told = seen.iter().filter(|seen| seen.header("x-serin-mirror") == Some("1")).count();
    assert_eq!(told, seen.len(), "every copy says that it is one");
    let ids = |seen: Vec<crate::harness::origin::Seen>| {
        let mut ids: Vec<_> =
            seen.iter().map(|seen| seen.header("x-request-id").unwrap_or_default().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(primary.seen()), ids(seen), "a copy has its request's id");
    only_the_shadow_has_failed(&app);
}

#[test]
fn answers_of_every_length_are_read_off_and_their_bytes_counted() {
    let primary = Origin::start("primary");
    let shadow = Origin::answering("shadow", |seen| {
        let length = [0, 10, 20_000, 3_000_000][seen.nth as usize % 4];
        Answer::ok().text(&"x".repeat(length))
    });
    let app = app(&primary, shadow.address, "percent: 100");
    let mut conn = app.conn();
    for nth in 0..40 {
        assert_eq!(conn.ask(&Ask::get("/")).origin(), "primary");
        eventually("the copy is counted", || shadowed(&app, "success") == nth + 1);
    }
    let read = app.metric("serin_bytes_total", &[("role", "shadow"), ("direction", "out")]);
    assert_eq!(read as u64, 10 * 3_020_010);
    only_the_shadow_has_failed(&app);
}

#[test]
fn shadows_that_break_off_stall_or_talk_nonsense_are_not_felt() {
    for (manner, fails) in [
        (Manner::ResetAfterHead, true),
        (Manner::CloseAfterHead, true),
        (Manner::Garbage, true),
        (Manner::PartialLength, true),
        (Manner::PartialChunked, true),
        (Manner::Drip, false),
        (Manner::CloseAfterAnswer, false),
        (Manner::Stall, false),
        (Manner::SilentBody, false),
    ] {
        let (primary, shadow) = (Origin::start("primary"), Raw::start(manner));
        let app = app(&primary, shadow.address, "percent: 100, maxInFlight: 32");
        let (answers, took) = timed(|| tally(app.address(), 4, 200, &Ask::get("/")));
        assert_eq!(answers.get("primary"), Some(&200), "{manner:?}");
        assert!(took < Duration::from_secs(10), "{manner:?} cost the users {took:?}");
        if fails {
            eventually("its failures are counted to it", || {
                shadowed(&app, "failure") as f64 + app.metric("serin_mirror_dropped_total", &[]) >= 200.0
            });
            assert!(shadowed(&app, "failure") > 0, "{manner:?}");
        }
        only_the_shadow_has_failed(&app);
    }
}

#[test]
fn a_body_that_comes_later_than_its_head_is_copied_whole() {
    let (primary, shadow) = (Origin::start("primary"), Origin::start("shadow"));
    let app = app(&primary, shadow.address, "percent: 100");
    let mut conn = app.conn();
    assert_eq!(conn.ask(&Ask::get("/")).status, 200);
    let bytes = Ask::post("/late", "in two pieces").bytes();
    let cut = bytes.len() - 5;
    conn.write(&bytes[..cut]);
    eventually("the first piece is on its way", || primary.requests() == 2 || shadow.requests() >= 1);
    conn.write(&bytes[cut..]);
    assert_eq!(conn.read_reply("POST").expect("an answer").status, 200);
    eventually("both are copied", || shadowed(&app, "success") == 2);
    assert_eq!(shadow.bodies(), primary.bodies());
}
