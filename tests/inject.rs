//! Injected faults: delays, aborts, by share and by header; and that they count
//! against nobody.

use std::time::Duration;

use crate::harness::app::{head, timed};
use crate::harness::ways::ways;
use crate::harness::{App, Ask, Origin, eventually, plausible};

fn app(origin: &Origin, faults: &[(&str, &str)]) -> App {
    let route = |(path, faults): &(&str, &str)| {
        format!("  - {{match: {{prefix: {path}}}, service: web, faults: {{{faults}}}}}\n")
    };
    let routes: String = faults.iter().map(route).collect();
    App::start(&format!("{}services:\n  web: {{primary: {}}}\nroutes:\n{routes}", head(1), origin.address))
}

#[test]
fn aborts_answer_in_the_callers_protocol_and_ask_nobody() {
    let origin = Origin::start("a");
    let app = app(&origin, &[("/grpc", "abort: {grpcStatus: 5}"), ("/", "abort: {status: 418}")]);
    for (path, http, grpc) in [("/x", 418, "2"), ("/grpc", 404, "5")] {
        for (way, reply) in ways(&app, &Ask::get(path)) {
            assert_eq!((reply.status, reply.cause()), (http, "fault-injected"), "{path} by {way}");
            assert_eq!(reply.text(), "fault filter abort", "{path} by {way}");
        }
        for (way, reply) in ways(&app, &Ask::post(path, "").header("content-type", "application/grpc")) {
            assert_eq!((reply.status, reply.header("grpc-status")), (200, Some(grpc)), "{path} by {way}");
        }
    }
    assert_eq!(origin.requests(), 0);
    eventually("the aborts are counted", || {
        app.metric("serin_faults_injected_total", &[("kind", "abort")]) == 12.0
    });
    assert_eq!(app.requests(&[]), 0, "no version has been asked");
}

#[test]
fn faults_meet_whom_they_are_meant_for() {
    let origin = Origin::start("a");
    let app = app(
        &origin,
        &[
            ("/share", "abort: {status: 503, percent: 30}"),
            ("/when", "when: [{name: x-test, exact: \"1\"}], abort: {status: 500}"),
            ("/none", "abort: {status: 500}, maxActive: 0"),
            ("/header", "abort: {byHeader: true, percent: 50}, delay: {byHeader: true}"),
        ],
    );
    let mut conn = app.conn();
    let aborted = (0..1000).filter(|_| conn.get("/share").status == 503).count() as u64;
    assert!(plausible(aborted, 1000, 0.3, 5.0), "{aborted} of 1000");
    assert_eq!(conn.get("/when").status, 200);
    assert_eq!(conn.ask(&Ask::get("/when").header("x-test", "1")).status, 500);
    assert_eq!(conn.get("/none").status, 200);
    let asked = |share: &str, status: &str| {
        Ask::get("/header")
            .header("x-envoy-fault-abort-request", status)
            .header("x-envoy-fault-abort-request-percentage", share)
    };
    assert_eq!(conn.ask(&asked("0", "503")).status, 200);
    assert_eq!(conn.ask(&asked("100", "99")).status, 200, "99 is no status to answer with");
    let aborted = (0..400).filter(|_| conn.ask(&asked("100", "503")).status == 503).count() as u64;
    assert!(plausible(aborted, 400, 0.5, 5.0), "{aborted} of 400: no more than the route allows");
}

#[test]
fn a_delay_comes_before_the_versions_time_begins() {
    let origin = Origin::start("a");
    let app = App::start(&format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n  - {{service: web, timeout: 2s, faults: {{delay: {{byHeader: true}}, abort: {{byHeader: true}}}}}}\n",
        head(1),
        origin.address
    ));
    for (way, (reply, took)) in [("plain", "300"), ("again", "300")].map(|(way, ms)| {
        let ask = Ask::get("/").header("x-envoy-fault-delay-request", ms);
        (way, timed(|| app.conn().ask(&ask)))
    }) {
        assert_eq!((reply.status, reply.origin()), (200, "a"), "{way}");
        assert!(took >= Duration::from_millis(300), "{way}: {took:?}");
    }
    let both = Ask::get("/")
        .header("x-envoy-fault-delay-request", "200")
        .header("x-envoy-fault-abort-grpc-request", "14");
    let (reply, took) = timed(|| app.conn().ask(&both));
    assert_eq!(reply.status, 503);
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert_eq!(app.metric("serin_faults_injected_total", &[("kind", "delay")]), 3.0);
}
