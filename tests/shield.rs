//! Where a canary fails a repeatable request the user gets the primary's answer,
//! and the failure still counts against the canary.

use std::net::SocketAddr;

use std::time::Duration;

use crate::harness::app::{pair, quiet};
use crate::harness::h2::H2;
use crate::harness::load::burst;
use crate::harness::raw::{Manner, Raw, closed};
use crate::harness::{Answer, App, Ask, Origin};

const HALF: &str = "weights: {primary: 50, canary: 50}";
const ALL: &str = "weights: {primary: 0, canary: 100}";
/// So wide that no test meets it by chance.
const WIDE: &str = "shield: {budget: 100, burst: 10000}";

fn app(primary: &Origin, canary: SocketAddr, weights: &str, shield: &str) -> App {
    App::start(&pair(primary.address, canary, &format!("{weights}\n{shield}")))
}

/// How many of these requests were answered with each status.
fn statuses(app: &App, count: u64, ask: &Ask) -> std::collections::BTreeMap<u16, u64> {
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::new());
    burst(
        app.address(),
        4,
        count,
        |_| ask.clone(),
        |_, reply| {
            *seen.lock().expect("no holder panics").entry(reply.status).or_default() += 1;
        },
    );
    quiet(app);
    seen.into_inner().expect("no holder panicked")
}

fn canary_failures(app: &App) -> u64 {
    app.requests(&[("version", "canary"), ("outcome", "failure")])
}

fn shielded(app: &App) -> u64 {
    app.metric("serin_shielded_total", &[("version", "canary")]) as u64
}

#[test]
fn a_failed_get_is_answered_by_the_primary_and_counts_against_the_canary() {
    for status in [500, 502, 503] {
        let primary = Origin::start("primary");
        let canary = Origin::answering("canary", move |_| Answer::status(status).text("sorry"));
        let app = app(&primary, canary.address, HALF, WIDE);
        assert_eq!(statuses(&app, 600, &Ask::get("/x?y=z").header("x-a", "b")), [(200, 600)].into());
        assert!(canary.requests() > 200, "the canary was asked {} times", canary.requests());
        assert_eq!(canary_failures(&app), canary.requests());
        assert_eq!(shielded(&app), canary.requests());
        assert_eq!(app.requests(&[("version", "canary"), ("outcome", "success")]), 0);
        assert_eq!(app.requests(&[("version", "primary"), ("outcome", "failure")]), 0);
        // Each request was the primary's in the end, and the canary's first try is no second request of it.
        assert_eq!(primary.requests(), 600);
        assert!(primary.seen().iter().all(|seen| seen.path == "/x?y=z" && seen.header("x-a") == Some("b")));
    }
}

#[test]
fn what_is_not_the_canarys_fault_is_passed_on() {
    for status in [200, 301, 404, 429] {
        let primary = Origin::start("primary");
        let canary = Origin::answering("canary", move |_| Answer::status(status));
        let app = app(&primary, canary.address, ALL, WIDE);
        assert_eq!(statuses(&app, 40, &Ask::get("/")), [(status, 40)].into());
        assert_eq!((canary_failures(&app), primary.requests()), (0, 0));
    }
}

#[test]
fn a_post_is_never_repeated() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(500));
    let app = app(&primary, canary.address, ALL, WIDE);
    for method in ["POST", "PATCH"] {
        assert_eq!(statuses(&app, 20, &Ask::new(method, "/").body("x")), [(500, 20)].into());
    }
    assert_eq!((primary.requests(), shielded(&app)), (0, 0));
    assert_eq!(canary_failures(&app), 40);
}

#[test]
fn a_put_within_the_bound_is_replayed_intact_and_a_larger_one_is_not() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(500));
    let app = app(&primary, canary.address, ALL, "shield: {maxBody: 64KiB, budget: 100, burst: 1000}");
    let small: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(app.conn().ask(&Ask::new("PUT", "/s").body(small.clone())).status, 200);
    assert!(primary.bodies() == canary.bodies() && primary.bodies() == [small]);
    assert_eq!(app.conn().ask(&Ask::new("PUT", "/l").body(vec![1; 200_000])).status, 500);
    assert_eq!((primary.requests(), canary.requests()), (1, 2));
    assert_eq!(app.conn().ask(&Ask::new("DELETE", "/d")).status, 200, "DELETE is idempotent");
}

#[test]
fn a_canary_that_cannot_be_reached_or_resets_is_shielded_too() {
    let dead = closed();
    let resetting = [Manner::ResetAtOnce, Manner::ResetAfterHead, Manner::CloseAfterHead, Manner::Garbage];
    let raws: Vec<_> = resetting.iter().map(|manner| (format!("{manner:?}"), Raw::start(*manner))).collect();
    let addresses = raws.iter().map(|(name, raw)| (name.clone(), raw.address));
    for (name, address) in addresses.chain([("closed".to_owned(), dead.address)]) {
        let primary = Origin::start("primary");
        let app = app(&primary, address, ALL, WIDE);
        assert_eq!(statuses(&app, 40, &Ask::get("/")), [(200, 40)].into(), "{name}");
        assert_eq!((canary_failures(&app), shielded(&app)), (40, 40), "{name}");
    }
}

#[test]
fn what_has_reached_the_user_cannot_be_taken_back() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| {
        Answer::stream(1 << 20).every(Duration::from_millis(1)).broken_after(100_000)
    });
    let app = app(&primary, canary.address, ALL, WIDE);
    assert!(app.conn().try_ask(&Ask::get("/")).is_err(), "a cut answer must look cut");
    quiet(&app);
    assert_eq!((canary_failures(&app), shielded(&app), primary.requests()), (1, 0, 0));
}

#[test]
fn the_budget_runs_out() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(500));
    let app = app(&primary, canary.address, ALL, "shield: {budget: 1, burst: 10}");
    let seen = statuses(&app, 2_000, &Ask::get("/"));
    let good = seen.get(&200).copied().unwrap_or(0);
    // A burst of ten for each of two workers, and one percent of what came.
    assert!((10..=60).contains(&good), "{good} of 2000 were shielded");
    assert_eq!((shielded(&app), canary_failures(&app)), (good, 2_000));
}

#[test]
fn it_can_be_switched_off_and_is_off_without_a_rollout() {
    for shield in ["shield: false", ""] {
        let primary = Origin::start("primary");
        let canary = Origin::answering("canary", |_| Answer::status(500));
        let app = app(&primary, canary.address, ALL, shield);
        assert_eq!(statuses(&app, 20, &Ask::get("/")), [(500, 20)].into());
        assert_eq!(primary.requests(), 0);
    }
}

#[test]
fn the_primary_is_nobodys_shield_for_itself() {
    let primary = Origin::answering("primary", |_| Answer::status(500));
    let canary = Origin::start("canary");
    let app = app(&primary, canary.address, "weights: {primary: 100, canary: 0}", WIDE);
    assert_eq!(statuses(&app, 20, &Ask::get("/")), [(500, 20)].into());
    assert_eq!((primary.requests(), canary.requests(), shielded(&app)), (20, 0, 0));
}

#[test]
fn http2_users_are_shielded_alike() {
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| Answer::status(500));
    let app = app(&primary, canary.address, ALL, WIDE);
    let mut h2 = H2::open(app.address());
    let replies = h2.ask_together(&vec![Ask::get("/"); 50]);
    assert!(replies.iter().all(|reply| (reply.status, reply.origin()) == (200, "primary")));
    quiet(&app);
    assert_eq!(canary_failures(&app), 50);
}

#[test]
fn a_shielded_canary_gets_as_much_time_as_anybody() {
    let slow = |_: &crate::harness::origin::Seen| Answer::ok().after(Duration::from_millis(700));
    let (primary, canary) = (Origin::answering("primary", slow), Origin::answering("canary", slow));
    let app = App::start(
        &(pair(primary.address, canary.address, &format!("{ALL}\n{WIDE}"))
            + "routes:\n  - {name: all, service: web, timeout: 1s}\n"),
    );
    assert_eq!((app.conn().get("/").origin(), shielded(&app)), ("canary", 0));
    quiet(&app);
    assert_eq!(app.requests(&[("version", "canary"), ("outcome", "success")]), 1);
    assert_eq!((canary_failures(&app), primary.requests()), (0, 0));
}

#[test]
fn a_second_try_gets_its_own_time() {
    let primary = Origin::answering("primary", |_| Answer::ok().after(Duration::from_millis(600)));
    let canary = Raw::start(Manner::Stall);
    let app = App::start(
        &(pair(primary.address, canary.address, &format!("{ALL}\n{WIDE}"))
            + "routes:\n  - {name: all, service: web, timeout: 1s}\n"),
    );
    let reply = app.conn().get("/");
    assert_eq!((reply.status, reply.origin(), shielded(&app)), (200, "primary", 1));
    quiet(&app);
    assert_eq!(canary_failures(&app), 1);
}

/// Its upload goes on while the answer comes: who may not try again must not take it away.
#[test]
fn a_refused_second_try_shows_the_canarys_own_answer_whole() {
    const HALF: usize = 20_000;
    let primary = Origin::start("primary");
    let canary = Origin::answering("canary", |_| {
        let mut answer = Answer::send_back();
        answer.status = 503;
        answer
    });
    let app = app(&primary, canary.address, ALL, "shield: {budget: 1, burst: 0}");
    let mut conn = app.conn();
    for _ in 0..3 {
        conn.write(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 2 * HALF).as_bytes());
        conn.write(&[b'x'; HALF]);
        let mut reply = conn.read_head().expect("a head");
        conn.write(&[b'x'; HALF]);
        conn.read_body("PUT", &mut reply).expect("the answer comes whole");
        assert_eq!((reply.status, reply.origin(), reply.cause()), (503, "canary", "none"));
        assert!(reply.body == [b'x'; 2 * HALF], "{} bytes came", reply.body.len());
    }
    quiet(&app);
    assert_eq!((canary_failures(&app), primary.requests(), shielded(&app)), (3, 0, 0));
}
