//! A change of weights is obeyed by the very next request of every worker, and
//! costs nobody anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::app::{pair, quiet};
use crate::harness::{App, Ask, Conn, Load, Origin, plausible};

#[test]
fn the_next_request_on_every_connection_obeys() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    // So many that each worker has some.
    let mut conns: Vec<Conn> = (0..32).map(|_| app.conn()).collect();
    for round in 0..40 {
        let (share, expected) = if round % 2 == 0 { (100.0, "canary") } else { (0.0, "primary") };
        app.put_weights("web", &[("primary", 100.0 - share), ("canary", share)]);
        for conn in &mut conns {
            assert_eq!(conn.get("/").origin(), expected, "round {round}");
        }
        assert_eq!(app.metric("serin_weight_percent", &[("split", "web"), ("version", "canary")]), share);
    }
}

#[test]
fn a_request_begun_after_the_answer_to_the_change_obeys_it_even_under_load() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    // Odd while a change is under way; otherwise twice the number of changes done.
    let epoch = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let checked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut conn = app.conn();
                while !stop.load(Ordering::SeqCst) {
                    let before = epoch.load(Ordering::SeqCst);
                    let reply = conn.get("/");
                    let after = epoch.load(Ordering::SeqCst);
                    assert_eq!(reply.status, 200);
                    if before == after && before.is_multiple_of(2) {
                        let expected = if (before / 2) % 2 == 1 { "canary" } else { "primary" };
                        assert_eq!(reply.origin(), expected, "after change {}", before / 2);
                        checked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for round in 1..=200u64 {
            let share = if round % 2 == 1 { 100.0 } else { 0.0 };
            epoch.fetch_add(1, Ordering::SeqCst);
            app.put_weights("web", &[("primary", 100.0 - share), ("canary", share)]);
            epoch.fetch_add(1, Ordering::SeqCst);
            let target = checked.load(Ordering::SeqCst) + 4;
            crate::harness::eventually("requests are checked between changes", || {
                checked.load(Ordering::SeqCst) >= target
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
    println!("{} requests checked between 200 changes", checked.load(Ordering::SeqCst));
}

#[test]
fn changes_under_load_fail_nobody_and_keep_connections() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    let load = Load::start(app.address(), 6, Duration::ZERO, Ask::post("/", "some body"));
    for round in 0..150 {
        let share = f64::from(round % 101);
        app.put_weights("web", &[("primary", 100.0 - share), ("canary", share)]);
        load.pass(3);
    }
    let report = load.stop();
    assert_eq!((report.failures(), report.reopened), (0, 0), "{:?} {:?}", report.statuses, report.words);
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "success")]), report.requests);
    assert_eq!(app.requests(&[("version", "canary")]), report.by("canary"));
}

#[test]
fn shares_stay_right_after_many_changes() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    for share in [10.0, 0.5, 33.33, 70.0, 12.5] {
        app.put_weights("web", &[("primary", 100.0 - share), ("canary", share)]);
    }
    let seen = crate::harness::load::tally(app.address(), 6, 6_000, &Ask::get("/"));
    let count = seen.get("canary").copied().unwrap_or(0);
    assert!(plausible(count, 6_000, 0.125, 5.0), "{count} of 6000 at 12.5 %");
}
