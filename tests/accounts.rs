//! Books that balance: whatever an upstream does under load, every request that
//! was sent is counted once, as answered or as a fault, nobody waits longer than
//! the timeouts allow, and memory stays bounded.

use std::process::Command;
use std::time::Duration;

use crate::harness::app::{head, pair, quiet};
use crate::harness::dns::{NameServer, Says};
use crate::harness::h2::H2;
use crate::harness::load::Report;
use crate::harness::nginx::Nginx;
use crate::harness::raw::{Manner, Raw};
use crate::harness::{App, Ask, Load, Origin, eventually, require};

/// Half of the traffic each, and no patience with the silent.
const HALVES: &str = "weights: {primary: 50%, canary: 50%}";
const ROUTES: &str = "routes:\n  - {name: all, service: web, timeout: 500ms, idleTimeout: 500ms}\n";
/// The timeouts above, with room for a crowded machine.
const SLOWEST: Duration = Duration::from_secs(15);
const MEMORY: f64 = 200e6;

fn start(canary: std::net::SocketAddr, origin: &Origin) -> App {
    App::start(&(pair(origin.address, canary, HALVES) + ROUTES))
}

/// What the users saw against what was counted.
fn balance(app: &App, report: &Report, beyond: u64, told: &str) {
    quiet(app);
    let sent = report.requests + report.broken + beyond;
    let unrouted = app.metric("serin_unrouted_requests_total", &[]) as u64;
    assert_eq!(app.requests(&[]) + unrouted, sent, "{told}: {report:?}");
    assert!(report.slowest < SLOWEST, "{told}: somebody waited {:?}", report.slowest);
    let resident = app.metric("process_resident_memory_bytes", &[]);
    assert!(resident < MEMORY, "{told}: {resident} bytes resident");
}

#[test]
fn every_request_is_counted_once_whatever_the_canary_does() {
    let manners = [
        Manner::ResetAtOnce,
        Manner::ResetAfterHead,
        Manner::CloseAfterHead,
        Manner::Stall,
        Manner::HalfClose,
        Manner::Garbage,
        Manner::PartialLength,
        Manner::PartialChunked,
        Manner::SilentBody,
        Manner::Drip,
        Manner::CloseAfterAnswer,
    ];
    for manner in manners {
        let (origin, canary) = (Origin::start("a"), Raw::start(manner));
        let app = start(canary.address, &origin);
        let load = Load::start(app.address(), 4, Duration::ZERO, Ask::get("/"));
        let posts = Load::start(app.address(), 2, Duration::ZERO, Ask::post("/", "a body"));
        let mut h2 = H2::open(app.address());
        let streams = vec![Ask::get("/"); 20];
        let answered = h2.try_together(&streams);
        load.pass(60);
        eventually("the bad canary was asked", || canary.accepted() > 0);
        let (mut report, others) = (load.stop(), posts.stop());
        report.requests += others.requests;
        report.broken += others.broken;
        report.slowest = report.slowest.max(others.slowest);
        assert_eq!(answered.len(), streams.len(), "each stream ends");
        balance(&app, &report, streams.len() as u64, &format!("{manner:?}"));
    }
}

#[test]
fn an_upstream_that_freezes_thaws_and_is_killed_loses_no_request() {
    let Some(program) = require("nginx") else { return };
    let (origin, nginx) = (Origin::start("a"), Nginx::start(&program, "return 200 v2;"));
    let app = start(nginx.v2, &origin);
    let load = Load::start(app.address(), 6, Duration::from_millis(1), Ask::get("/"));
    load.pass(200);
    nginx.signal("STOP");
    eventually("requests to the frozen canary time out", || {
        app.metric("serin_requests_total", &[("version", "canary"), ("outcome", "failure")]) > 3.0
    });
    nginx.signal("CONT");
    let thawed = nginx.logged("v2");
    eventually("the canary is asked again", || nginx.logged("v2") > thawed + 20);
    nginx.signal("KILL");
    load.pass(200);
    let report = load.stop();
    assert_eq!(report.broken, 0, "{:?}", report.words);
    balance(&app, &report, 0, "frozen, thawed and killed");
}

#[test]
fn a_name_that_flaps_loses_no_request() {
    let server = NameServer::start();
    let origins = Origin::twins(&["one", "two"]);
    server.say("web.test", Says::loopback(&[1], 0));
    let app = App::start(&format!(
        "{}dns: {{servers: [\"{}\"], refresh: 20ms}}\nservices:\n  web: {{primary: \"web.test:{}\"}}\n{ROUTES}",
        head(1),
        server.address,
        origins[0].address.port()
    ));
    eventually("the name is known", || app.metric("serin_endpoints", &[]) == 1.0);
    let load = Load::start(app.address(), 4, Duration::from_millis(1), Ask::get("/"));
    let ended = |result: &str| app.metric("serin_dns_resolutions_total", &[("result", result)]);
    for turn in 0..8 {
        let endpoints = match turn % 4 {
            0 => server_says(&server, &[1, 2]),
            1 => {
                let failed = ended("failed");
                server.say("web.test", Says::Failure);
                eventually("failures are seen", || ended("failed") > failed + 1.0);
                2
            }
            2 => {
                server.say("web.test", Says::NoSuchName);
                0
            }
            _ => server_says(&server, &[2]),
        };
        eventually("what the name server says is in force", || {
            app.metric("serin_endpoints", &[]) == f64::from(endpoints)
        });
        load.pass(40);
    }
    let report = load.stop();
    assert_eq!(report.broken, 0, "{:?}", report.words);
    assert!(report.statuses.keys().all(|status| [200, 503].contains(status)), "{:?}", report.statuses);
    assert!(report.by("one") > 0 && report.by("two") > 0, "{:?}", report.origins);
    balance(&app, &report, 0, "a name that flaps");
}

/// Answers with how many there are.
fn server_says(server: &NameServer, last: &[u8]) -> u32 {
    server.say("web.test", Says::loopback(last, 0));
    last.len() as u32
}

impl Nginx {
    /// To the workers, which are what answers; a killed one is replaced.
    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("pkill").args([&format!("-{name}"), "-P", &pid]).status();
        assert!(sent.expect("pkill can be run").success(), "signal {name}");
    }
}
