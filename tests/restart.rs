//! Hot restarts: another process goes on with the same sockets, and neither a
//! request nor a count nor a decision is lost on the way.

use std::process::Child;
use std::time::Duration;

use crate::harness::app::{head, pair, quiet, single};
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Conn, Load, Origin, eventually};

/// More by `SERIN_HOT_RESTARTS`; 100 take two minutes.
const RESTARTS: u32 = 8;

fn ended(mut child: Child) {
    let mut code = None;
    eventually("the old process ends by itself", || match child.try_wait() {
        Ok(Some(status)) => {
            code = status.code();
            true
        }
        _ => false,
    });
    assert_eq!(code, Some(0));
}

fn restarts() -> u32 {
    let asked = std::env::var("SERIN_HOT_RESTARTS");
    asked.map_or(RESTARTS, |count| count.parse().expect("SERIN_HOT_RESTARTS is a number"))
}

/// With this many workers, and otherwise the same.
fn with_workers(workers: u32, origin: &Origin) -> String {
    head(2).replace("workers: 2", &format!("workers: {workers}"))
        + &format!("services:\n  web:\n    primary: {}\n", origin.address)
}

#[test]
fn hot_restarts_under_load_fail_nobody_and_lose_no_count() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/slow" => Answer::ok().after(Duration::from_millis(150)),
        _ => Answer::ok(),
    });
    let mut app = App::start(&with_workers(2, &origin));
    let (address, admin) = (app.address(), app.admin);
    let churn = Ask::get("/").header("connection", "close");
    let loads = [
        Load::start(address, 3, Duration::ZERO, Ask::get("/")),
        Load::start(address, 2, Duration::from_millis(1), churn),
        Load::start(address, 2, Duration::from_millis(1), Ask::get("/slow")),
        Load::start(address, 1, Duration::ZERO, Ask::post("/", vec![b'x'; 100_000])),
    ];
    let (mut counted, mut old) = (0, Vec::new());
    for round in 0..restarts() {
        loads.iter().for_each(|load| load.pass(10));
        // As many workers as before, more, and fewer: each socket is somebody's.
        app.write_config(&with_workers([1, 3, 2][round as usize % 3], &origin));
        old.push(app.succeed());
        assert_eq!((app.address(), app.admin), (address, admin), "the sockets are the same");
        let now = app.requests(&[]);
        assert!(now >= counted, "round {round}: counters went back from {counted} to {now}");
        counted = now;
    }
    let mut requests = 0;
    for load in loads {
        let report = load.stop();
        assert_eq!(report.failures(), 0, "{:?} {:?}", report.statuses, report.words);
        requests += report.requests;
    }
    old.into_iter().for_each(ended);
    quiet(&app);
    eventually("every request is counted once", || app.requests(&[]) == requests);
    assert_eq!(origin.requests(), requests, "and was sent once");
    assert_eq!(app.metric("serin_request_duration_seconds_count", &[]) as u64, requests);
}

#[test]
fn what_ends_in_the_old_process_counts_in_the_new_one() {
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_millis(900)));
    let mut app = App::start(&single(origin.address));
    let (mut plain, mut h2) = (app.conn(), H2::open(app.address()));
    plain.write(&Ask::get("/").bytes());
    let multiplexed = std::thread::spawn(move || h2.try_ask(&Ask::get("/")));
    eventually("both are under way", || origin.requests() == 2);
    let old = app.succeed();
    eventually("they are under way, seen from the new one", || {
        app.metric("serin_requests_in_flight", &[]) == 2.0
    });
    let reply = plain.read_reply("GET").expect("an answer of the old one");
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(multiplexed.join().expect("no panic").is_ok_and(|reply| reply.status == 200));
    ended(old);
    eventually("both are counted", || app.requests(&[("outcome", "success")]) == 2);
    assert_eq!(app.metric("serin_requests_in_flight", &[]), 0.0);
}

#[test]
fn a_successor_that_does_not_start_leaves_everything_as_it_was() {
    let origin = Origin::start("a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_address = taken.local_addr().expect("it is bound");
    let good = single(origin.address);
    let mut app = App::start(&good);
    let load = Load::start(app.address(), 3, Duration::from_millis(1), Ask::get("/"));
    let (pid, mut kept) = (app.pid(), app.conn());
    assert_eq!(kept.get("/").status, 200);
    // The first fails before it has asked for anything, the second when it has everything.
    let two = format!(
        "admin: 127.0.0.1:0\nworkers: 2\nlisteners:\n  - {{name: default, address: \"127.0.0.1:0\"}}\n  \
         - {{name: two, address: \"{taken_address}\"}}\nservices:\n  web:\n    primary: {}\n",
        origin.address
    );
    for bad in ["colour: blue\n".to_owned(), two] {
        std::fs::write(app.config(), &bad).expect("the folder is ours");
        assert!(app.try_succeed().is_err(), "{bad}");
        assert_eq!(app.get_json("/server_info")["pid"], pid);
        assert_eq!(app.get("/ready").status, 200);
        load.pass(50);
    }
    assert_eq!(kept.get("/").header("connection"), None, "not even a connection has to go");
    app.write_config(&good);
    app.put_weights("web", &[("primary", 100.0)]);
    ended(app.succeed());
    let report = load.stop();
    assert_eq!(report.failures(), 0, "{:?} {:?}", report.statuses, report.words);
}

#[test]
fn a_successor_without_a_predecessor_starts_afresh() {
    let origin = Origin::start("a");
    let mut app = App::start(&single(origin.address));
    app.kill9();
    drop(app.succeed());
    assert_eq!(app.conn().get("/").origin(), "a");
}

#[test]
fn a_signal_starts_the_same_command_again() {
    let origin = Origin::start("a");
    let mut app = App::start(&single(origin.address));
    let before = app.pid();
    let pid = |app: &App| app.get_json("/server_info")["pid"].as_u64();
    assert_eq!(pid(&app), Some(u64::from(before)));
    let mut conn = app.conn();
    assert_eq!(conn.get("/").status, 200);
    app.signal("USR2");
    assert_eq!(app.ended(), Some(0), "{}", app.log());
    let after = pid(&app).expect("the new one answers on the same address");
    assert_ne!(after, u64::from(before));
    assert_eq!(Conn::open(app.address()).get("/").status, 200);
    assert_eq!(app.requests(&[]), 2);
    let kill = std::process::Command::new("kill").arg(after.to_string()).status();
    assert!(kill.is_ok_and(|status| status.success()));
    eventually("it is gone", || Conn::try_open(app.address()).is_err());
}

#[test]
fn a_rollout_goes_on_where_it_stood_with_its_evidence() {
    let slow = |status: u16| {
        move |seen: &crate::harness::origin::Seen| match seen.path.as_str() {
            "/slow" => Answer::status(status).after(Duration::from_secs(1)),
            _ => Answer::status(status),
        }
    };
    let (primary, canary) = (Origin::answering("primary", slow(200)), Origin::answering("canary", slow(500)));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 40, for: 10m}]\n    \
                   analysis: {failures: false, slowdown: false}\n";
    let mut app = App::start(&(pair(primary.address, canary.address, "shield: false") + rollout));
    app.command("web", "start");
    app.await_phase("web", "running");
    for _ in 0..50 {
        app.conn().get("/");
    }
    let mut waiting: Vec<_> = (0..40).map(|_| app.conn()).collect();
    for conn in &mut waiting {
        conn.write(&Ask::get("/slow").bytes());
    }
    eventually("all are under way", || primary.requests() + canary.requests() == 90);
    let old = app.succeed();
    let status = app.rollout("web");
    assert_eq!((&status["phase"], &status["weights"]["canary"]), (&"running".into(), &40.0.into()));
    for conn in &mut waiting {
        conn.read_reply("GET").expect("an answer of the old one");
    }
    ended(old);
    for _ in 0..50 {
        app.conn().get("/");
    }
    // Failures from before, of the old process after it had handed over, and of the new.
    eventually("the judge has them all", || app.rollout("web")["canary_failures"] == canary.requests());
    assert_eq!(app.rollout("web")["primary_failures"], 0);
}

#[test]
fn a_canary_that_fails_in_the_old_process_is_rolled_back_in_both() {
    let (primary, canary) = (Origin::start("primary"), Origin::answering("canary", |_| Answer::ok()));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 50, for: 10m}]\n    analysis: {window: 0s}\n";
    let mut app = App::start(&(pair(primary.address, canary.address, "") + rollout));
    app.command("web", "start");
    app.await_phase("web", "running");
    // A stream keeps its connection in the old process, whatever that would like.
    let address = app.address();
    let load = Load::start(address, 2, Duration::from_millis(2), Ask::get("/"));
    load.pass(200);
    let old = app.succeed();
    canary.behave(|_| Answer::status(500));
    app.await_phase("web", "rolled_back");
    assert_eq!(app.canary_percent("web"), 0.0);
    assert_eq!(load.stop().failures(), 0, "users were shielded");
    ended(old);
    let reply = app.post("/rollouts/web/retry");
    assert_eq!(reply.status / 100, 2, "the journal is the new one's: {}", reply.text());
}
