//! Load of serin's own: a service without traffic is judged by it, and nobody takes
//! it for users.

use std::time::{Duration, Instant};

use crate::harness::app::{head, pair, serin};
use crate::harness::{Answer, App, Ask, Conn, Load, Origin, eventually};

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
    // What was under way has a second to end; then everything is counted, and all of it as load.
    let mut ended = 0;
    eventually("it has ended", || {
        let before = std::mem::replace(&mut ended, asked(&origins));
        std::thread::sleep(Duration::from_millis(300));
        ended == before
    });
    let load = app.requests(&[("role", "load")]);
    assert!(load <= ended && load + 8 >= ended, "{load} of {ended}: only what was broken off is in no count");
    for role in ["primary", "canary"] {
        assert_eq!(app.requests(&[("role", role)]), 0);
    }
    let text = app.get("/metrics").text();
    let istio = text.lines().filter(|line| line.starts_with("istio_requests_total"));
    assert!(istio.clone().count() > 0 && istio.clone().all(|line| line.ends_with(" 0")), "{text}");
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

/// Waits until no load is sent any more; answers with how much there was.
fn rests(app: &App) -> f64 {
    let mut before = -1.0;
    eventually("load rests", || {
        let now = app.requests(&[("role", "load")]) as f64;
        let rests = std::mem::replace(&mut before, now) == now;
        std::thread::sleep(Duration::from_millis(200));
        rests
    });
    before
}

#[test]
fn load_stops_while_there_is_too_much_of_anything_and_goes_on_after() {
    let origins = origins();
    let yaml = rollout("rate: 100/s, mostAtOnce: 2").replace("for: 1s", "for: 1h");
    let ceiling = "overload: {connections: 100}\n";
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &yaml + ceiling));
    let all = || app.requests(&[("role", "load")]);
    app.command("web", "start");
    eventually("load is sent", || all() > 50);
    // Users whose requests do not end take nine tenths of the connections.
    let mut held: Vec<Conn> = (0..93).map(|_| app.conn()).collect();
    for conn in &mut held {
        conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345");
    }
    eventually("there is too much", || app.metric("serin_overload_stage", &[]) >= 1.0);
    let rested = rests(&app);
    assert!(app.metric("serin_overload_stage", &[]) >= 1.0, "there still is");
    assert_eq!(app.phase("web"), "running", "and it is still wanted");
    for conn in &mut held {
        conn.write(b"67890");
        assert_eq!(conn.read_reply("POST").expect("users are served").status, 200);
    }
    drop(held);
    eventually("it goes on", || all() as f64 > rested + 20.0);
}

#[test]
fn load_of_testers_passes_a_trial_and_nobody_else_meets_the_canary() {
    let origins = origins();
    let trial = "match: [{headers: [{name: x-group, exact: b}]}]\n    steps: [{matched: 100, iterations: 5, interval: 100ms}]";
    let yaml = rollout("rate: 100/s, headers: {x-group: b}").replace("steps: [{weight: 50, for: 1s}]", trial);
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &yaml));
    app.command("web", "start");
    eventually("testers are sent", || origins[1].requests() > 0);
    let met = app.conn().ask(&Ask::get("/").header("x-user", "yes")).origin().to_owned();
    let share = app.canary_percent("web");
    eventually("it is promoted", || app.phase("web") == "succeeded");
    assert!(share > 0.0 || met == "primary", "a user met the canary in the trial");
    let seen = origins[1].seen();
    assert!(seen.iter().filter(|seen| seen.header("x-group") == Some("b")).count() >= 20);
    assert_eq!(app.requests(&[("role", "canary")]), u64::from(met == "canary"));
}

#[test]
fn copies_of_load_are_counted_as_load() {
    let origins = origins();
    let mirrored = "steps: [{mirrored: 100, for: 500ms}, {weight: 50, for: 1h}]";
    let yaml = rollout("rate: 100/s").replace("steps: [{weight: 50, for: 1s}]", mirrored);
    let metrics = "metrics: {families: [istio, envoy]}\n";
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &yaml + metrics));
    app.command("web", "start");
    eventually("copies were enough", || app.canary_percent("web") == 50.0);
    let mirrored = |role: &str| app.metric("serin_mirrored_total", &[("role", role)]);
    assert!(mirrored("load") >= 20.0, "{}", mirrored("load"));
    assert_eq!((mirrored("primary"), mirrored("canary")), (0.0, 0.0));
    assert_eq!(app.requests(&[("role", "shadow")]), 0, "no copy of a user's");
    app.command("web", "abort");
    rests(&app);
    assert_eq!(app.requests(&[("role", "load")]), asked(&origins));
    let text = app.get("/metrics").text();
    let istio = text.lines().filter(|line| line.starts_with("istio_requests_total"));
    assert!(istio.clone().count() > 0 && istio.clone().all(|line| line.ends_with(" 0")), "{text}");
}

#[test]
fn load_goes_on_while_all_returns_to_the_primarys_servers() {
    let origins = origins();
    let yaml = |primary: &str, canary: &str| {
        let version = |name: &str, nth: usize, release: &str| {
            format!("    {name}: {{endpoints: {}, release: {release}}}\n", origins[nth].address)
        };
        let rollout = rollout("rate: 200/s").replace("for: 1s", "for: 200ms");
        let rollout =
            rollout.replace("bake: 100ms", "bake: 100ms\n    wayBack: {weight: 50, interval: 300ms}");
        let versions = version("primary", 0, primary) + &version("canary", 1, canary);
        format!("{}services:\n  web:\n{versions}{rollout}", head(2))
    };
    let app = App::start(&yaml("one", "two"));
    app.command("web", "start");
    app.await_phase("web", "promoting");
    let before = asked(&origins);
    eventually("load goes on at the canary", || asked(&origins) > before + 20);
    let primary = origins[0].requests();
    assert_eq!(app.reload(&yaml("two", "two")).status, 200);
    let mut shares = Vec::new();
    eventually("all is back", || {
        shares.push(app.canary_percent("web"));
        app.phase("web") == "succeeded"
    });
    shares.dedup();
    assert!(shares.ends_with(&[50.0, 0.0]), "{shares:?}");
    assert!(origins[0].requests() > primary, "the primary's servers were tried by load alone");
    rests(&app);
}
