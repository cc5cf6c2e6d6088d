//! Listeners that come, go and change while the process runs.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::harness::{Answer, App, Ask, Conn, Load, Origin, eventually};

/// One listener a line, before one service.
fn yaml(origin: &Origin, listeners: &[String]) -> String {
    let mut yaml = "admin: 127.0.0.1:0\nworkers: 2\ndrain: {timeout: 20s}\nlisteners:\n".to_owned();
    for listener in listeners {
        yaml += &format!("  - {listener}\n");
    }
    yaml + &format!("services:\n  web:\n    primary: {}\n", origin.address)
}

fn listener(name: &str, address: &str) -> String {
    format!("{{name: {name}, address: \"{address}\"}}")
}

fn reload(app: &App, yaml: &str) {
    let reply = app.reload(yaml);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Free a moment ago, and outside the range from which the system gives ports away.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 1_000) as u16 * 16;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn a_listener_is_added_and_the_others_notice_nothing() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(&origin, &[listener("one", "127.0.0.1:0")]));
    let before = app.listener("one");
    let load = Load::start(before, 3, Duration::ZERO, Ask::get("/"));
    load.pass(50);
    reload(&app, &yaml(&origin, &[listener("one", "127.0.0.1:0"), listener("two", "127.0.0.1:0")]));
    let added = app.listens("two").expect("it is told where the new one is");
    assert_eq!(app.listens("one"), Some(before));
    for _ in 0..20 {
        assert_eq!(Conn::open(added).get("/").origin(), "a");
    }
    load.pass(50);
    let report = load.stop();
    assert_eq!((report.failures(), report.reopened), (0, 0), "{:?} {:?}", report.statuses, report.words);
}

#[test]
fn a_removed_listener_refuses_and_lets_its_connections_end() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/slow" => Answer::ok().after(Duration::from_millis(600)),
        _ => Answer::ok(),
    });
    let both = [listener("one", "127.0.0.1:0"), listener("two", "127.0.0.1:0")];
    let app = App::start(&yaml(&origin, &both));
    let (one, two) = (app.listener("one"), app.listener("two"));
    let (mut kept, mut idle, mut busy) = (Conn::open(one), Conn::open(two), Conn::open(two));
    assert_eq!((kept.get("/").status, idle.get("/").status), (200, 200));
    busy.write(&Ask::get("/slow").bytes());
    eventually("it is under way", || origin.requests() == 3);
    reload(&app, &yaml(&origin, &both[..1]));
    eventually("new connections are refused", || Conn::try_open(two).is_err());
    let reply = busy.read_reply("GET").expect("what was under way is answered");
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(idle.is_closed_by_peer());
    assert_eq!(kept.get("/").header("connection"), None, "the other listener's connection is kept");
    assert_eq!(app.listens("two"), None);
    eventually("only ours is open", || app.metric("serin_connections", &[]) == 1.0);
}

#[test]
fn an_address_that_cannot_be_had_is_told_and_changes_nothing() {
    let origin = Origin::start("a");
    let good = yaml(&origin, &[listener("one", "127.0.0.1:0")]);
    let app = App::start(&good);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (address, taken)).expect("it is bound");
    let mut conn = app.conn();
    let bad = [listener("new", "127.0.0.1:0"), listener("two", &taken.0.to_string())];
    let reply = app.reload(&yaml(&origin, &bad));
    assert_eq!(reply.status, 422);
    let words = format!("listeners[two].address: cannot listen on {}", taken.0);
    assert!(reply.text().contains(&words), "{}", reply.text());
    assert_eq!(conn.get("/").origin(), "a");
    assert_eq!(app.listens("one"), Some(app.address()), "the old one stays");
    assert_eq!(app.listens("new"), None, "and none of the new comes");
    assert_eq!(Conn::open(app.address()).get("/").status, 200);
}

#[test]
fn changed_limits_meet_new_connections() {
    let origin = Origin::start("a");
    let with = |limits: &str| yaml(&origin, &[format!("{{name: one, address: \"127.0.0.1:0\"{limits}}}")]);
    let app = App::start(&with(""));
    let mut old = app.conn();
    let many = || (0..20).fold(Ask::get("/"), |ask, nth| ask.header(&format!("x-{nth}"), "y"));
    assert_eq!(old.ask(&many()).status, 200);
    reload(&app, &with(", limits: {maxHeaders: 10}"));
    assert_eq!(old.ask(&many()).status, 200, "a connection keeps the limits that it met");
    assert_eq!(app.conn().ask(&many()).status, 431);
}

/// The queue of who is knocking belongs to the sockets, and they stay.
#[test]
fn a_listener_keeps_its_sockets_under_another_name() {
    let origin = Origin::start("a");
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let named = |name: &str| yaml(&origin, &[listener(name, &address.to_string())]);
    let app = App::start(&named("n0"));
    let churn = Ask::get("/").header("connection", "close");
    let loads = [
        Load::start(address, 2, Duration::ZERO, Ask::get("/")),
        Load::start(address, 2, Duration::ZERO, churn),
    ];
    for round in 1..=20 {
        reload(&app, &named(&format!("n{round}")));
        loads[1].pass(20);
    }
    for load in loads {
        let report = load.stop();
        assert_eq!(report.failures(), 0, "{:?} {:?}", report.statuses, report.words);
    }
    let bound = app.get_json("/server_info")["listeners"].clone();
    assert_eq!(bound, serde_json::json!({ "n20": address.to_string() }));
}

#[test]
fn connections_are_bounded_per_listener_over_all_workers() {
    let origin = Origin::start("a");
    let bounded = "{name: few, address: \"127.0.0.1:0\", limits: {maxConnections: 5}}".to_owned();
    let app = App::start(&yaml(&origin, &[bounded, listener("many", "127.0.0.1:0")]));
    let mut few: Vec<Conn> = Vec::new();
    for _ in 0..5 {
        let mut conn = Conn::open(app.listener("few"));
        assert_eq!(conn.get("/").status, 200);
        few.push(conn);
    }
    for _ in 0..10 {
        assert!(Conn::open(app.listener("few")).is_closed_by_peer());
        assert_eq!(Conn::open(app.listener("many")).get("/").status, 200);
    }
    drop(few.pop());
    eventually("there is room again", || {
        Conn::open(app.listener("few")).try_ask(&Ask::get("/")).is_ok_and(|reply| reply.status == 200)
    });
}
