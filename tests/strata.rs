//! A canary that breaks one small route, or one tenant, is found out by that part of
//! the traffic, though all requests together look fine.

use std::time::Duration;

use crate::harness::app::pair;
use crate::harness::origin::Seen;
use crate::harness::{Answer, App, Ask, Load, Origin};

const ROUTES: &str = "routes:\n  - {name: checkout, match: {prefix: /checkout}, service: web}\n  \
                      - {name: all, service: web}\n";

/// Every tenth of the other requests fails, whoever answers it.
fn usual(seen: &Seen) -> Answer {
    if seen.path == "/" && seen.nth.is_multiple_of(10) { Answer::status(500) } else { Answer::ok() }
}

fn found_out(strata: &str, part: Ask, told: &str, breaks: fn(&Seen) -> bool) {
    let primary = Origin::answering("primary", usual);
    let canary = Origin::start("canary");
    canary.behave(move |seen| if breaks(seen) { Answer::status(500) } else { usual(seen) });
    let rollout = format!(
        "rollouts:\n  web:\n    steps: [{{weight: 10, for: 10m}}]\n    \
         analysis: {{window: 0s, slowdown: false, promotion: false, strata: {strata}}}\n"
    );
    let app = App::start(&(pair(primary.address, canary.address, "") + ROUTES + &rollout));
    let most = Load::start(app.address(), 4, Duration::from_millis(2), Ask::get("/"));
    let few = Load::start(app.address(), 1, Duration::from_millis(10), part);
    most.pass(100);
    app.command("web", "start");
    let status = app.await_phase("web", "rolled_back");
    let sentence = status["sentence"].as_str().expect("there is a sentence");
    assert!(sentence.contains(&format!("in {told} alone, ")), "{sentence}");
    few.stop();
    most.stop();
}

#[test]
fn canary_that_breaks_a_small_route_is_found_out_by_it() {
    found_out("[{route: checkout}]", Ask::get("/checkout"), "route checkout", |seen| {
        seen.path == "/checkout"
    });
}

#[test]
fn canary_that_breaks_one_tenant_is_found_out_by_it() {
    let part = Ask::get("/other").header("x-tenant", "acme");
    let strata = "[{route: checkout}, {header: X-Tenant, values: [initech, acme]}]";
    found_out(strata, part, "x-tenant acme", |seen| seen.header("x-tenant") == Some("acme"));
}
