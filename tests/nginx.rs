//! Real nginx behind, wrk before: software that was not written for this test.

use std::process::Command;

use crate::harness::app::{pair, quiet};
use crate::harness::nginx::Nginx;
use crate::harness::{App, plausible, require};

/// Requests that wrk made, none of which may have failed.
fn wrk(program: &std::path::Path, app: &App, seconds: &str) -> u64 {
    let url = format!("http://{}/", app.address());
    let output =
        Command::new(program).args(["-t2", "-c16", "-d", seconds, &url]).output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{text}");
    for word in ["Non-2xx", "Socket errors"] {
        assert!(!text.contains(word), "{text}");
    }
    let line = text.lines().find(|line| line.contains("requests in")).expect("wrk says how many");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn wrk_through_serin_to_two_nginx_servers_sees_no_error_and_the_right_split() {
    let (Some(nginx), Some(wrk_program)) = (require("nginx"), require("wrk")) else { return };
    let nginx = Nginx::start(&nginx, "return 200 v2;");
    let app = App::start(&pair(nginx.v1, nginx.v2, "weights: {primary: 90, canary: 10}"));
    let requests = wrk(&wrk_program, &app, "3s");
    quiet(&app);
    let (v1, v2) = (nginx.logged("v1"), nginx.logged("v2"));
    assert!(plausible(v2, v1 + v2, 0.1, 5.0), "nginx v2 was asked {v2} of {} times at 10 %", v1 + v2);
    // wrk cuts off what is under way when its time is up: those are its own and nobody's failure.
    assert!((requests..=requests + 64).contains(&(v1 + v2)), "wrk {requests}, nginx {v1} + {v2}");
    assert_eq!(app.requests(&[("outcome", "failure")]), 0);
    let counted = app.requests(&[("outcome", "success")]);
    assert!((requests..=v1 + v2).contains(&counted), "wrk {requests}, serin {counted}, nginx {}", v1 + v2);
}

#[test]
fn wrk_never_sees_a_failing_nginx_canary_behind_the_shield() {
    let (Some(nginx), Some(wrk_program)) = (require("nginx"), require("wrk")) else { return };
    let nginx = Nginx::start(&nginx, "return 500 broken;");
    let rest = "weights: {primary: 90, canary: 10}\nshield: {budget: 50, burst: 1000}";
    let app = App::start(&pair(nginx.v1, nginx.v2, rest));
    let requests = wrk(&wrk_program, &app, "2s");
    quiet(&app);
    let failures = app.requests(&[("version", "canary"), ("outcome", "failure")]);
    assert!(plausible(failures, requests, 0.1, 6.0), "{failures} canary failures in {requests} requests");
    assert_eq!(app.requests(&[("version", "primary"), ("outcome", "failure")]), 0);
}
