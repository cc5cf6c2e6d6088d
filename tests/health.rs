//! Active health checks: who is asked what, how many answers decide, and that
//! requests go where it is well.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use hyper::Version;
use serde_json::Value;

use crate::harness::app::{head, pair, quiet};
use crate::harness::h2::H2;
use crate::harness::origin::Seen;
use crate::harness::raw::closed;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

/// An origin whose answer to its health check is this status, and 200 to all else.
struct Patient {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Patient {
    fn start(name: &str) -> Patient {
        let status = Arc::new(AtomicU16::new(200));
        let says = status.clone();
        let origin = Origin::answering(name, move |seen| match seen.path.as_str() {
            "/healthz" => Answer::status(says.load(Ordering::Relaxed)),
            _ => Answer::ok(),
        });
        Patient { origin, status }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn address(&self) -> SocketAddr {
        self.origin.address
    }
}

/// One service of one version at these endpoints; `rest` stands under the service.
fn app(endpoints: &[SocketAddr], protocol: &str, rest: &str) -> App {
    App::start(&config(endpoints, protocol, rest))
}

fn config(endpoints: &[SocketAddr], protocol: &str, rest: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let primary = format!("{{endpoints: [{}], protocol: {protocol}}}", endpoints.join(", "));
    head(2) + &format!("services:\n  web:\n    primary: {primary}\n    {rest}\n")
}

/// What is held against an endpoint.
pub fn flags(app: &App, endpoint: SocketAddr) -> Vec<String> {
    let clusters = app.get_json("/clusters?format=json");
    let versions = clusters.as_array().expect("a list of versions");
    let mut endpoints = versions.iter().flat_map(|version| version["endpoints"].as_array().expect("a list"));
    let found = endpoints.find(|view| view["address"] == endpoint.to_string());
    let found = found.unwrap_or_else(|| panic!("no {endpoint} in {clusters}"));
    let flags = found["health_flags"].as_array().expect("a list").iter();
    flags.map(|flag| flag.as_str().expect("a word").to_owned()).collect()
}

pub fn await_flags(app: &App, endpoint: SocketAddr, expected: &[&str]) {
    eventually(&format!("{endpoint} is {expected:?}"), || flags(app, endpoint) == expected);
}

/// Who answers so many requests, by name.
fn answered(app: &App, count: usize) -> std::collections::BTreeMap<String, usize> {
    let (mut conn, mut by) = (app.conn(), std::collections::BTreeMap::new());
    for _ in 0..count {
        let reply = conn.get("/");
        assert_eq!(reply.status, 200, "{}", reply.text());
        *by.entry(reply.origin().to_owned()).or_default() += 1;
    }
    by
}

const QUICK: &str = "timeout: 10s, interval: 20ms";

#[test]
fn requests_go_where_it_is_well() {
    let (a, b) = (Patient::start("a"), Patient::start("b"));
    let endpoints = [a.address(), b.address()];
    let app = app(&endpoints, "http1", &format!("health: {{http: /healthz, {QUICK}}}"));
    endpoints.iter().for_each(|endpoint| await_flags(&app, *endpoint, &[]));
    assert_eq!(answered(&app, 20).len(), 2);
    b.says(503);
    await_flags(&app, b.address(), &["failed_active_hc"]);
    assert_eq!(answered(&app, 20), [("a".to_owned(), 20)].into());
    assert_eq!(app.metric("serin_endpoint_healthy", &[("endpoint", &b.address().to_string())]), 0.0);
    assert!(app.metric("serin_health_checks_total", &[("result", "refused")]) >= 1.0);
    assert!(app.log().contains("fails its health check"), "{}", app.log());
    b.says(200);
    await_flags(&app, b.address(), &[]);
    assert_eq!(answered(&app, 20).len(), 2);
    let text = app.get("/clusters").text();
    let line = format!("web/primary::{}::health_flags::healthy", b.address());
    assert!(text.contains(&line), "{text}");
}

#[test]
fn a_check_says_who_asks_and_what_was_configured() {
    for (protocol, version) in [("http1", Version::HTTP_11), ("http2", Version::HTTP_2)] {
        let origin = Origin::answering("a", |_| Answer::status(204).text(""));
        let health = "health: {http: {path: /up?x=1, method: HEAD, host: web.local, headers: {x-check: one}, \
                      expect: [200-299]}, interval: 20ms}";
        let app = app(&[origin.address], protocol, health);
        await_flags(&app, origin.address, &[]);
        eventually("several checks over one connection", || origin.requests() > 3);
        let seen: Vec<Seen> = origin.seen();
        let check = &seen[0];
        assert_eq!((check.method.as_str(), check.path.as_str(), check.version), ("HEAD", "/up?x=1", version));
        assert_eq!((check.authority.as_str(), check.header("x-check")), ("web.local", Some("one")));
        assert_eq!(check.header("user-agent"), Some("serin/health-check"));
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn a_connection_for_each_check_where_that_is_asked_for() {
    let origin = Patient::start("a");
    let health = "health: {http: /healthz, interval: 20ms, reuseConnection: false}";
    let app = app(&[origin.address()], "http1", health);
    eventually("several checks", || origin.origin.connections() > 3);
    await_flags(&app, origin.address(), &[]);
    assert_eq!(origin.origin.requests(), origin.origin.connections());
}

/// A status that may pass counts like silence: three in a row.
#[test]
fn a_retriable_status_needs_the_threshold_and_a_refusal_does_not() {
    for (status, least) in [(429, 3), (500, 1)] {
        let origin = Patient::start("a");
        let other = Patient::start("b");
        let health = format!("health: {{http: {{path: /healthz, retry: [429]}}, {QUICK}}}");
        let app = app(&[origin.address(), other.address()], "http1", &health);
        await_flags(&app, origin.address(), &[]);
        origin.says(status);
        await_flags(&app, origin.address(), &["failed_active_hc"]);
        let result = if status == 429 { "retriable" } else { "refused" };
        let found = app.metric("serin_health_checks_total", &[("result", result)]);
        assert!(found >= f64::from(least), "{found} checks ended {result}");
    }
}

#[test]
fn a_closed_port_fails_a_connect_check_and_an_open_one_passes() {
    let (origin, dead) = (Origin::start("a"), closed());
    let app = app(&[origin.address, dead.address], "http1", "health: {tcp: true, interval: 20ms}");
    await_flags(&app, dead.address, &["failed_active_hc"]);
    await_flags(&app, origin.address, &[]);
    assert_eq!(answered(&app, 20), [("a".to_owned(), 20)].into());
}

/// Says `PONG` to `PING` while it is well, on a port of its own.
fn ponger() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let well = Arc::new(AtomicBool::new(true));
    let says = well.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut question = [0; 6];
            if stream.read_exact(&mut question).is_ok() && &question == b"PING\r\n" {
                let word: &[u8] = if says.load(Ordering::Relaxed) { b"+PONG\r\n" } else { b"-NO\r\n" };
                // The checker may be gone already; it asks again.
                let _ = stream.write_all(word);
            }
        }
    });
    (address, well)
}

#[test]
fn bytes_are_sent_and_expected() {
    let (origin, other) = (Origin::start("a"), Origin::start("b"));
    let (address, well) = ponger();
    let health = format!(
        r#"health: {{tcp: {{send: "PING\r\n", receive: ["hex:2b50", ONG]}}, port: {}, interval: 20ms}}"#,
        address.port()
    );
    let app = app(&[origin.address, other.address], "http1", &health);
    await_flags(&app, origin.address, &[]);
    well.store(false, Ordering::Relaxed);
    await_flags(&app, origin.address, &["failed_active_hc"]);
}

/// A `HealthCheckResponse` with this status, framed.
fn grpc(status: u8) -> Answer {
    let frame = String::from_utf8(vec![0, 0, 0, 0, 2, 8, status]).expect("small bytes are text");
    Answer::ok().text(&frame).header("content-type", "application/grpc").trailer("grpc-status", "0")
}

#[test]
fn a_grpc_server_is_asked_in_its_own_protocol() {
    let status = Arc::new(AtomicU16::new(1));
    let says = status.clone();
    let origin = Origin::answering("a", move |seen| {
        if seen.path == "/grpc.health.v1.Health/Check" {
            match says.load(Ordering::Relaxed) {
                12 => Answer::ok()
                    .text("")
                    .header("content-type", "application/grpc")
                    .trailer("grpc-status", "12"),
                status => grpc(status as u8),
            }
        } else {
            Answer::ok()
        }
    });
    let other = Origin::answering("b", |_| grpc(1));
    let health = "health: {grpc: {service: shop.Cart, authority: shop.local}, interval: 20ms}";
    let app = app(&[origin.address, other.address], "http2", health);
    await_flags(&app, origin.address, &[]);
    let seen = &origin.seen()[0];
    assert_eq!((seen.method.as_str(), seen.version), ("POST", Version::HTTP_2));
    assert_eq!((seen.authority.as_str(), seen.header("te")), ("shop.local", Some("trailers")));
    assert_eq!(origin.bodies()[0], b"\0\0\0\0\x0b\x0a\x09shop.Cart");
    for wrong in [2, 0, 12] {
        status.store(wrong, Ordering::Relaxed);
        await_flags(&app, origin.address, &["failed_active_hc"]);
        status.store(1, Ordering::Relaxed);
        await_flags(&app, origin.address, &[]);
    }
}

/// A whole process, so that it can be stopped where it stands.
fn freezable() -> App {
    App::start(&(head(1) + "routes:\n  - {name: all, direct: {status: 200, body: frozen}}\n"))
}

#[test]
fn a_frozen_server_is_left_alone_and_taken_back() {
    let (frozen, other) = (freezable(), Patient::start("b"));
    let health = "health: {http: /healthz, timeout: 200ms, interval: 20ms}";
    let app = app(&[frozen.address(), other.address()], "http1", health);
    await_flags(&app, frozen.address(), &[]);
    frozen.signal("STOP");
    await_flags(&app, frozen.address(), &["failed_active_hc", "active_hc_timeout"]);
    assert_eq!(answered(&app, 20), [("b".to_owned(), 20)].into());
    assert!(app.metric("serin_health_checks_total", &[("result", "timeout")]) >= 3.0, "the threshold");
    frozen.signal("CONT");
    await_flags(&app, frozen.address(), &[]);
}

#[test]
fn before_the_first_check_has_ended_an_endpoint_may_be_well() {
    let slow = |seen: &Seen| match seen.path.as_str() {
        "/healthz" => Answer::ok().after(Duration::from_secs(60)),
        _ => Answer::ok(),
    };
    let origin = Origin::answering("a", slow);
    let app = app(&[origin.address], "http1", "health: {http: /healthz, timeout: 50s}");
    assert_eq!(answered(&app, 5), [("a".to_owned(), 5)].into());
    assert_eq!(flags(&app, origin.address), ["failed_active_hc", "pending_active_hc"]);
    assert_eq!(app.metric("serin_panic", &[]), 0.0);
}

#[test]
fn where_all_are_failed_all_are_asked() {
    let (a, b) = (Patient::start("a"), Patient::start("b"));
    let endpoints = [a.address(), b.address()];
    let app = app(&endpoints, "http1", &format!("health: {{http: /healthz, {QUICK}}}"));
    a.says(500);
    b.says(500);
    endpoints.iter().for_each(|endpoint| await_flags(&app, *endpoint, &["failed_active_hc"]));
    assert_eq!(answered(&app, 20).len(), 2);
    assert_eq!(app.metric("serin_panic", &[("version", "primary")]), 1.0);
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload_and_checks_can_be_dropped() {
    let (a, b) = (Patient::start("a"), Patient::start("b"));
    b.says(500);
    let both = [a.address(), b.address()];
    let health = |interval: &str| format!("health: {{http: /healthz, interval: {interval}, timeout: 10s}}");
    let app = app(&both, "http1", &health("20ms"));
    await_flags(&app, b.address(), &["failed_active_hc"]);
    await_flags(&app, a.address(), &[]);
    // No check ends in this hour, so what is known is from before.
    let reply = app.reload(&config(&both, "http1", &health("1h")));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(flags(&app, b.address()), ["failed_active_hc"]);
    assert_eq!(answered(&app, 20), [("a".to_owned(), 20)].into());
    let reply = app.reload(&config(&both, "http1", "outliers: false"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(flags(&app, b.address()), Vec::<String>::new());
    assert_eq!(answered(&app, 20).len(), 2);
    let asked = (a.origin.requests(), b.origin.requests());
    quiet(&app);
    assert_eq!(asked, (a.origin.requests(), b.origin.requests()), "nobody is checked any more");
}

#[test]
fn an_unknown_form_of_clusters_is_text() {
    let origin = Origin::start("a");
    let app = app(&[origin.address], "http1", "fallback: true");
    let reply = app.admin(&Ask::get("/clusters?format=text"));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    let json: Value = app.get_json("/clusters?format=json");
    assert_eq!(json[0]["endpoints"][0]["healthy"], true, "{json}");
}

/// Both ways of saying that it wants no more: for HTTP/1.1 and through hyper.
#[test]
fn an_answer_can_ask_to_be_left_alone() {
    for http2 in [false, true] {
        let resigning = Arc::new(AtomicBool::new(true));
        let says = resigning.clone();
        let leaving = Origin::answering("a", move |seen| match seen.path.as_str() {
            "/healthz" => Answer::ok(),
            _ if says.load(Ordering::Relaxed) => {
                Answer::ok().header("x-envoy-immediate-health-check-fail", "1")
            }
            _ => Answer::ok(),
        });
        let other = Patient::start("b");
        let health = "health: {http: /healthz, interval: 1h, unhealthyInterval: 50ms, healthyEdgeInterval: 50ms, noTrafficInterval: 50ms}";
        let app = app(&[leaving.address, other.address()], "http1", health);
        await_flags(&app, leaving.address, &[]);
        await_flags(&app, other.address(), &[]);
        let (mut conn, mut h2) = (app.conn(), H2::open(app.address()));
        eventually("it has resigned", || {
            let reply = if http2 { h2.ask(&Ask::get("/")) } else { conn.get("/") };
            assert_eq!(reply.status, 200);
            app.log().contains("fails its health check")
        });
        assert!(app.log().contains("x-envoy-immediate-health-check-fail"), "{}", app.log());
        resigning.store(false, Ordering::Relaxed);
        await_flags(&app, leaving.address, &[]);
    }
}

const HALF: &str =
    "weights: {primary: 50, canary: 50}\nhealth: {http: /healthz, interval: 20ms, timeout: 10s}\n";

struct Versions {
    app: App,
    primary: Patient,
    canary: Patient,
}

/// A primary and a canary, half and half, of which one or both fail their checks.
fn versions(primary_well: bool, canary_well: bool, rest: &str) -> Versions {
    let (primary, canary) = (Patient::start("primary"), Patient::start("canary"));
    for (version, well) in [(&primary, primary_well), (&canary, canary_well)] {
        version.says(if well { 200 } else { 500 });
    }
    let app = App::start(&pair(primary.address(), canary.address(), rest));
    for (version, well) in [(&primary, primary_well), (&canary, canary_well)] {
        await_flags(&app, version.address(), if well { &[] } else { &["failed_active_hc"] });
    }
    Versions { app, primary, canary }
}

impl Versions {
    fn fallback(&self, version: &str) -> u64 {
        self.app.metric("serin_fallback_total", &[("version", version)]) as u64
    }

    fn ended(&self, version: &str, outcome: &str) -> u64 {
        self.app.requests(&[("version", version), ("outcome", outcome)])
    }
}

#[test]
fn a_canary_without_a_healthy_endpoint_is_answered_for_and_has_failed() {
    let world = versions(true, false, &(HALF.to_owned() + "shield: {budget: 0, burst: 0}"));
    let (mut conn, mut h2) = (world.app.conn(), H2::open(world.app.address()));
    for method in ["GET", "POST", "PATCH"] {
        for _ in 0..20 {
            let ask = Ask::new(method, "/x").body("body");
            assert_eq!(conn.ask(&ask).origin(), "primary");
            assert_eq!(h2.ask(&ask).origin(), "primary");
        }
    }
    quiet(&world.app);
    let fallback = world.fallback("canary");
    assert!((30..90).contains(&fallback), "{fallback} of 120 were the canary's by the coin");
    assert_eq!((world.ended("canary", "failure"), world.ended("canary", "success")), (fallback, 0));
    assert_eq!(world.ended("primary", "success"), 120 - fallback);
    assert_eq!(world.app.metric("serin_shielded_total", &[]), 0.0, "no budget was needed");
    assert!(world.canary.origin.seen().iter().all(|seen| seen.path == "/healthz"));
    assert!(world.primary.origin.bodies().iter().filter(|body| *body == b"body").count() >= 100);
}

#[test]
fn a_primary_without_a_healthy_endpoint_is_answered_for_by_who_has_weight() {
    let world = versions(false, true, HALF);
    let mut conn = world.app.conn();
    (0..20).for_each(|_| assert_eq!(conn.get("/").origin(), "canary"));
    quiet(&world.app);
    assert_eq!(world.ended("primary", "failure"), world.fallback("primary"));
    // A canary without weight is not trusted: the primary is asked in a panic.
    world.app.put_weights("web", &[("primary", 100.0), ("canary", 0.0)]);
    let before = world.fallback("primary");
    (0..20).for_each(|_| assert_eq!(conn.get("/").origin(), "primary"));
    quiet(&world.app);
    assert_eq!(world.fallback("primary"), before);
    assert!(world.app.metric("serin_panic_total", &[("version", "primary")]) >= 20.0);
}

#[test]
fn nobody_falls_back_where_it_is_switched_off_or_where_nobody_is_well() {
    for (primary_well, rest) in [(true, HALF.to_owned() + "fallback: false"), (false, HALF.to_owned())] {
        let world = versions(primary_well, false, &rest);
        assert_eq!(answered(&world.app, 60).len(), 2, "both are asked");
        quiet(&world.app);
        assert_eq!((world.fallback("canary"), world.fallback("primary")), (0, 0));
        assert_eq!(world.ended("canary", "failure"), 0);
    }
}

/// What the coin gave to the canary is evidence against it, though every user is content.
#[test]
fn a_rollout_of_a_canary_that_is_not_well_is_rolled_back() {
    let (primary, canary) = (Patient::start("primary"), Patient::start("canary"));
    canary.says(503);
    let rest = "health: {http: /healthz, interval: 20ms, timeout: 10s}\nshield: false";
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 50, for: 10m}]\n";
    let app = App::start(&(pair(primary.address(), canary.address(), rest) + rollout));
    await_flags(&app, canary.address(), &["failed_active_hc"]);
    await_flags(&app, primary.address(), &[]);
    app.command("web", "start");
    let load = Load::start(app.address(), 2, Duration::from_millis(1), Ask::get("/"));
    let status = app.await_phase("web", "rolled_back");
    assert!(status.to_string().contains("canary"), "{status}");
    let report = load.stop();
    assert_eq!((report.failures(), report.by("canary")), (0, 0), "{report:?}");
}
