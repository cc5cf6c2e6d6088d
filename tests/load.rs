//! Load of serin's own: a service without traffic is judged by it, and nobody takes
//! it for users.

use std::time::{Duration, Instant};

use crate::harness::app::{pair, serin};
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

fn rollout(load: &str) -> String {
    format!(
        "rollouts:\n  web:\n    steps: [{{weight: 50, for: 1s}}]\n    bake: 100ms\n    \
         analysis: {{minRequests: 20, slowdown: false, promotion: false}}\n    load: {{{load}}}\n"
    )
}

fn app(origins: &[Origin; 2], load: &str) -> App {
    App::start(&(pair(origins[0].address, origins[1].address, "") + &rollout(load)))
}

fn origins() -> [Origin; 2] {
    [Origin::start("primary"), Origin::start("canary")]
}

fn asked(origins: &[Origin; 2]) -> u64 {
    origins.iter().map(Origin::requests).sum()
}

#[test]
fn a_service_without_traffic_is_promoted_on_load_that_no_user_count_knows() {
    let origins = origins();
    let app = app(
        &origins,
        "rate: 100/s, paths: [/a, {path: '/b?x=1', method: POST, body: hello}], headers: {x-probe: yes}",
    );
    assert_eq!(asked(&origins), 0, "nothing is sent before there is something to judge");
    app.command("web", "start");
    eventually("it is promoted", || app.phase("web") == "succeeded");
    let seen = origins[1].seen();
    let (posts, gets): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.method == "POST");
    assert!(!posts.is_empty() && !gets.is_empty(), "{} requests", seen.len());
    assert!(posts.iter().all(|seen| seen.path == "/b?x=1") && gets.iter().all(|seen| seen.path == "/a"));
    assert!(seen.iter().all(|seen| seen.header("x-probe") == Some("yes")));
    assert!(origins[1].bodies().iter().any(|body| body == b"hello"));
    // Everything is counted, and all of it as load.
    let load = app.requests(&[("role", "load")]);
    assert_eq!(load, asked(&origins));
    for role in ["primary", "canary"] {
        assert_eq!(app.requests(&[("role", role)]), 0);
    }
    let text = app.get("/metrics").text();
    let istio = text.lines().filter(|line| line.starts_with("istio_requests_total"));
    assert!(istio.clone().count() > 0 && istio.clone().all(|line| line.ends_with(" 0")), "{text}");
    let after = asked(&origins);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(asked(&origins), after, "it goes on after the promotion");
}

#[test]
fn a_bad_canary_is_rolled_back_on_load_alone_and_the_status_says_so() {
    let origins = origins();
    origins[1].behave(|_| Answer::status(500));
    let app = app(&origins, "rate: 200/s");
    app.command("web", "start");
    let mut sentence = String::new();
    eventually("it is rolled back", || {
        let status = app.rollout("web");
        if status["load_requests"].as_u64().is_some_and(|load| load > 0) && status["active"] == true {
            sentence = status["sentence"].as_str().expect("a sentence").to_owned();
        }
        status["phase"] == "rolled_back"
    });
    assert!(sentence.contains("requests judged are load of serin's own"), "{sentence}");
    let status = app.rollout("web");
    assert_eq!(status["versions"]["canary"]["failures"], 0, "no user has seen one");
    assert!(status["load_failures"].as_u64().is_some_and(|failures| failures > 3), "{status}");
    let after = origins[1].requests();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(origins[1].requests(), after, "the canary is asked after the rollback");
}

#[test]
fn load_makes_up_for_what_users_leave_missing_and_stops_for_a_pause() {
    let origins = origins();
    let yaml = rollout("rate: 20/s, mostAtOnce: 2").replace("for: 1s", "for: 1h");
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &yaml));
    let users = Load::start(app.address(), 1, Duration::from_millis(2), Ask::get("/"));
    users.pass(200);
    app.command("web", "start");
    let all = |role| app.requests(&[("role", role)]);
    // Users send far more than is asked for: after the first counts of them nothing is added.
    let mut before = 0;
    eventually("load has ended for want of a want", || {
        let (now, since) = (all("load"), Instant::now());
        while since.elapsed() < Duration::from_millis(500) {
            users.pass(10);
        }
        before = now;
        all("load") == now
    });
    users.stop();
    eventually("load goes on without users", || all("load") > before + 10);
    app.command("web", "pause");
    eventually("it stops", || {
        let now = all("load");
        std::thread::sleep(Duration::from_millis(200));
        all("load") == now
    });
    app.command("web", "resume");
    let paused = all("load");
    eventually("it goes on", || all("load") > paused);
}

#[test]
fn load_that_would_not_reach_its_service_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let check = |load: &str, routes: &str| {
        let path = folder.path().join("serin.yaml");
        let services = "services:\n  web: {primary: 127.0.0.1:9001, canary: 127.0.0.1:9002}\n  other: {primary: 127.0.0.1:9003}\n";
        let yaml = format!("listen: 127.0.0.1:0\n{services}{routes}{}", rollout(load));
        std::fs::write(&path, yaml).expect("it can be written");
        let output = serin(&["check", "-c", path.to_str().expect("a plain path")]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let routes =
        "routes:\n  - {match: {prefix: /other}, service: other}\n  - {hosts: web.example, service: web}\n";
    let (code, said) = check("rate: 5/s, paths: [/, /other/x]", routes);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("web.load") && said.contains("/other/x of host web.example goes to service `other`"),
        "{said}"
    );
    let (code, said) = check("rate: 5/s, host: nobody.example", routes);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/ of host nobody.example has no route"), "{said}");
    // The host of a route that leads there is found by itself.
    let (code, said) = check("rate: 5/s, path: /x", routes);
    assert_eq!(code, Some(0), "{said}");
    for (wrong, text) in [
        ("rate: 5", "expects a rate such as 20/s"),
        ("rate: 0/s", "more than 0"),
        ("rate: 5/s, path: x", "expects a path"),
        ("rate: 5/s, listener: nowhere", "there is no listener `nowhere`"),
        ("rate: 5/s, during: always", "during"),
        ("path: /x", "`rate` is missing"),
    ] {
        let (code, said) = check(wrong, "routes: [{service: web}]\n");
        assert_eq!(code, Some(1), "{wrong}: {said}");
        assert!(said.contains(text), "{wrong}: {said}");
    }
}
