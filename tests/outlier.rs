//! Endpoints that fail their users are left alone for a while: when, how many,
//! for how long, and what becomes of the requests meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::app::{head, pair, quiet};
use crate::harness::h2::H2;
use crate::harness::raw::{Manner, Raw, closed};
use crate::harness::{Answer, App, Ask, Origin, eventually};
use crate::health::{await_flags, flags};

const EJECTED: &[&str] = &["failed_outlier_check"];

/// An origin that answers with this status.
fn answering(name: &str, status: u16) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let says = status.clone();
    (Origin::answering(name, move |_| Answer::status(says.load(Ordering::Relaxed))), status)
}

fn app(endpoints: &[SocketAddr], outliers: &str) -> App {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let primary = endpoints.join(", ");
    App::start(
        &(head(2) + &format!("services:\n  web:\n    primary: [{primary}]\n    outliers: {{{outliers}}}\n")),
    )
}

fn outliers(app: &App, cause: &str, result: &str) -> f64 {
    app.metric("serin_outliers_total", &[("cause", cause), ("result", result)])
}

#[test]
fn a_row_of_failures_ejects_and_its_end_brings_back() {
    let (good, _) = answering("a", 200);
    let (bad, says) = answering("b", 500);
    let terms = "consecutive5xx: 3, interval: 50ms, baseEjectionTime: 300ms, maxEjectionPercent: 50";
    let app = app(&[good.address, bad.address], terms);
    let mut conn = app.conn();
    eventually("it is ejected", || {
        conn.get("/");
        flags(&app, bad.address) == EJECTED
    });
    assert!(bad.requests() >= 3, "{} failures were enough", bad.requests());
    assert!(outliers(&app, "consecutive_5xx", "ejected") >= 1.0);
    assert!(app.log().contains("endpoint is ejected"), "{}", app.log());
    says.store(200, Ordering::Relaxed);
    await_flags(&app, bad.address, &[]);
    let asked = bad.requests();
    (0..10).for_each(|_| assert_eq!(conn.get("/").status, 200));
    assert!(bad.requests() > asked, "it gets requests again");
}

#[test]
fn an_ejected_endpoint_gets_nothing_from_either_codec() {
    let (good, _) = answering("a", 200);
    let (bad, _) = answering("b", 503);
    let terms = "consecutive5xx: 3, baseEjectionTime: 1h, maxEjectionTime: 2h, maxEjectionPercent: 50";
    let app = app(&[good.address, bad.address], terms);
    let (mut conn, mut h2) = (app.conn(), H2::open(app.address()));
    eventually("it is ejected", || {
        h2.ask(&Ask::get("/"));
        flags(&app, bad.address) == EJECTED
    });
    let asked = bad.requests();
    for _ in 0..20 {
        assert_eq!(conn.get("/").status, 200);
        assert_eq!(h2.ask(&Ask::get("/")).status, 200);
    }
    assert_eq!(bad.requests(), asked);
}

#[test]
fn a_success_ends_the_row() {
    let (good, _) = answering("a", 200);
    let nth = Arc::new(AtomicU16::new(0));
    let flaky = Origin::answering("b", move |_| {
        let nth = nth.fetch_add(1, Ordering::Relaxed);
        Answer::status(if nth % 3 == 2 { 200 } else { 500 })
    });
    let app =
        app(&[good.address, flaky.address], "consecutive5xx: 3, successRate: false, maxEjectionPercent: 50");
    let mut conn = app.conn();
    (0..60).for_each(|_| drop(conn.get("/")));
    quiet(&app);
    assert_eq!(flags(&app, flaky.address), Vec::<String>::new());
    assert_eq!(outliers(&app, "consecutive_5xx", "ejected"), 0.0);
    assert_eq!(flaky.requests(), 30, "it had its turn throughout");
}

#[test]
fn no_more_are_ejected_than_the_percentage_allows() {
    let origins: Vec<Origin> = (0..3).map(|nth| answering(&nth.to_string(), 500).0).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    for (percent, always, expected) in [(34, false, 1), (33, false, 0), (10, true, 1), (70, false, 2)] {
        let terms = format!(
            "consecutive5xx: 2, baseEjectionTime: 1h, maxEjectionTime: 1h, maxEjectionPercent: {percent}, \
             alwaysEjectOne: {always}"
        );
        let app = app(&addresses, &terms);
        let mut conn = app.conn();
        eventually("somebody is spared", || {
            conn.get("/");
            outliers(&app, "consecutive_5xx", "spared") >= 1.0
        });
        let ejected = addresses.iter().filter(|address| flags(&app, **address) == EJECTED).count();
        assert_eq!(ejected, expected, "{percent} percent of three");
    }
}

#[test]
fn where_all_are_ejected_all_are_asked() {
    let (only, says) = answering("a", 500);
    let terms = "consecutive5xx: 2, baseEjectionTime: 1h, maxEjectionTime: 1h";
    let app = app(&[only.address], terms);
    let mut conn = app.conn();
    eventually("it is ejected", || {
        conn.get("/");
        flags(&app, only.address) == EJECTED
    });
    says.store(200, Ordering::Relaxed);
    assert_eq!(conn.get("/").status, 200);
    quiet(&app);
    assert!(app.metric("serin_panic_total", &[]) >= 1.0);
}

#[test]
fn what_cannot_be_reached_or_hangs_up_is_ejected() {
    let (good, _) = answering("a", 200);
    let (dead, resetting) = (closed(), Raw::start(Manner::ResetAfterHead));
    for (address, extra, cause) in [
        (dead.address, "consecutive5xx: 3", "consecutive_5xx"),
        (resetting.address, "consecutive5xx: 3", "consecutive_5xx"),
        (resetting.address, "consecutiveGatewayFailures: 3", "consecutive_gateway_failure"),
        (
            dead.address,
            "splitLocalOriginErrors: true, consecutiveLocalOriginFailures: 3",
            "consecutive_local_origin_failure",
        ),
    ] {
        let terms = format!("{extra}, baseEjectionTime: 1h, maxEjectionTime: 1h, maxEjectionPercent: 50");
        let app = app(&[good.address, address], &terms);
        let mut conn = app.conn();
        eventually("it is ejected", || {
            conn.get("/");
            flags(&app, address) == EJECTED
        });
        assert_eq!(outliers(&app, cause, "ejected"), 1.0, "{extra}");
    }
}

#[test]
fn a_finding_that_is_not_enforced_is_only_counted() {
    let (good, _) = answering("a", 200);
    let (bad, _) = answering("b", 500);
    let terms = "consecutive5xx: {count: 2, enforcing: 0}, maxEjectionPercent: 100";
    let app = app(&[good.address, bad.address], terms);
    let mut conn = app.conn();
    eventually("it is noticed", || {
        conn.get("/");
        outliers(&app, "consecutive_5xx", "not_enforced") >= 1.0
    });
    assert_eq!(flags(&app, bad.address), Vec::<String>::new());
}

#[test]
fn who_is_far_worse_than_the_others_is_ejected() {
    let mut origins: Vec<Origin> = (0..4).map(|nth| answering(&nth.to_string(), 200).0).collect();
    let nth = Arc::new(AtomicU16::new(0));
    origins.push(Origin::answering("bad", move |_| {
        Answer::status(if nth.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { 500 } else { 200 })
    }));
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    for (terms, cause) in [
        ("successRate: {minimumRequests: 10}", "success_rate"),
        ("successRate: false, failurePercentage: {threshold: 40, minimumRequests: 10}", "failure_percentage"),
    ] {
        let app = app(
            &addresses,
            &format!(
                "{terms}, consecutive5xx: false, interval: 300ms, maxEjectionPercent: 40, baseEjectionTime: 1h, maxEjectionTime: 1h"
            ),
        );
        let mut conn = app.conn();
        eventually("it is ejected", || {
            (0..20).for_each(|_| drop(conn.get("/")));
            flags(&app, addresses[4]) == EJECTED
        });
        assert_eq!(outliers(&app, cause, "ejected"), 1.0, "{cause}");
        assert!(addresses[..4].iter().all(|address| flags(&app, *address).is_empty()));
    }
}

#[test]
fn a_passed_check_ends_an_ejection() {
    let (good, _) = answering("a", 200);
    let bad = Origin::answering("b", |seen| Answer::status(if seen.path == "/healthz" { 200 } else { 500 }));
    let config = |eject: &str| {
        head(2)
            + &format!(
                "services:\n  web:\n    primary: [{}, {}]\n    health: {{http: /healthz, interval: 50ms}}\n    \
                 outliers: {{consecutive5xx: 2, baseEjectionTime: 1h, maxEjectionTime: 1h, maxEjectionPercent: 50{eject}}}\n",
                good.address, bad.address
            )
    };
    let app = App::start(&config(""));
    let mut conn = app.conn();
    eventually("it was ejected", || {
        conn.get("/");
        outliers(&app, "consecutive_5xx", "ejected") >= 1.0
    });
    await_flags(&app, bad.address, &[]);
    assert!(app.log().contains("ejection ends by a passed health check"), "{}", app.log());
}

#[test]
fn an_ejected_canary_hands_its_requests_to_the_primary() {
    let primary = Origin::start("primary");
    let (canary, _) = answering("canary", 500);
    let rest = "weights: {primary: 50, canary: 50}\n\
                outliers: {consecutive5xx: 3, baseEjectionTime: 1h, maxEjectionTime: 1h}";
    let app = App::start(&pair(primary.address, canary.address, rest));
    let mut conn = app.conn();
    eventually("it is ejected", || {
        conn.get("/");
        flags(&app, canary.address) == EJECTED
    });
    let asked = canary.requests();
    (0..40).for_each(|_| assert_eq!(conn.get("/").origin(), "primary"));
    quiet(&app);
    assert_eq!(canary.requests(), asked);
    let fallback = app.metric("serin_fallback_total", &[("version", "canary")]) as u64;
    assert!(fallback > 5, "{fallback} of 40 were the canary's by the coin");
    assert_eq!(app.requests(&[("version", "canary"), ("outcome", "failure")]), asked + fallback);
}
