//! An orderly end: who came in time is answered, who comes later is told so by
//! the kernel, and the exit code says that all went well.

use std::time::Duration;

use crate::harness::app::single;
use crate::harness::client::Reply;
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Conn, Origin, eventually};

/// Answers after a time long enough for an end to be asked for meanwhile.
fn slow() -> Origin {
    Origin::answering("slow", |seen| match seen.path.as_str() {
        "/slow" => Answer::ok().after(Duration::from_millis(800)),
        "/stream" => Answer::stream(40 * 16 * 1024).every(Duration::from_millis(20)),
        _ => Answer::ok(),
    })
}

#[test]
fn what_is_under_way_ends_and_who_comes_later_is_refused() {
    let origin = slow();
    let mut app = App::start(&single(origin.address));
    let (mut waiting, mut reading) = (app.conn(), app.conn());
    waiting.write(&Ask::get("/slow").bytes());
    reading.write(&Ask::get("/stream").bytes());
    let mut streamed = reading.read_head().expect("a head");
    let mut h2 = H2::open(app.address());
    let multiplexed = std::thread::spawn(move || h2.try_ask(&Ask::get("/slow")));
    eventually("all three are under way", || origin.requests() == 3);
    let address = app.address();
    app.signal("TERM");
    eventually("it says that it drains", || app.get("/ready").status == 503);
    eventually("new connections are refused", || Conn::try_open(address).is_err());
    assert_eq!(waiting.read_reply("GET").expect("the answer comes before the end").status, 200);
    reading.read_body("GET", &mut streamed).expect("the body comes whole");
    assert_eq!(streamed.body.len(), 40 * 16 * 1024);
    let reply = multiplexed.join().expect("no panic");
    assert!(reply.as_ref().is_ok_and(|reply| reply.status == 200), "{reply:?}");
    assert_eq!(app.ended(), Some(0), "{}", app.log());
    assert!(waiting.is_closed_by_peer() && Conn::try_open(address).is_err());
}

/// While it stands still the requests reach its sockets, some on connections that
/// it knows, some of those after an earlier request, some on connections that it
/// has not yet accepted; then it is told to end and goes on.
#[test]
fn a_request_that_already_lies_in_the_socket_is_answered() {
    let origin = slow();
    for round in 0..10 {
        let mut app = App::start(&single(origin.address));
        let mut known: Vec<Conn> = (0..8).map(|_| app.conn()).collect();
        eventually("they are accepted", || app.metric("serin_connections", &[]) == 8.0);
        for conn in &mut known[..4] {
            assert_eq!(conn.get("/").status, 200);
        }
        app.signal("STOP");
        for conn in &mut known {
            conn.write(&Ask::get("/known").bytes());
        }
        let mut fresh: Vec<Conn> = (0..8).map(|_| app.conn()).collect();
        for conn in &mut fresh {
            conn.write(&Ask::get("/fresh").bytes());
        }
        app.signal("TERM");
        app.signal("CONT");
        let replies: Vec<_> = known.iter_mut().chain(&mut fresh).map(|conn| conn.read_reply("GET")).collect();
        let answered = |reply: &std::io::Result<Reply>| reply.as_ref().is_ok_and(|reply| reply.status == 200);
        assert!(replies.iter().all(answered), "round {round}: {replies:#?}");
        assert_eq!(app.ended(), Some(0), "{}", app.log());
    }
}

/// Whoever balances over many of us needs time to hear that this one is ending.
#[test]
fn during_the_delay_it_accepts_and_answers_with_a_good_bye() {
    let origin = slow();
    let mut app = App::start(&(single(origin.address) + "drain: {delay: 3s, timeout: 20s}\n"));
    let (mut known, mut h2) = (app.conn(), H2::open(app.address()));
    assert_eq!(known.get("/").header("connection"), None);
    assert_eq!(h2.ask(&Ask::get("/")).status, 200);
    app.signal("TERM");
    eventually("it says that it drains", || app.get("/ready").status == 503);
    assert_eq!(known.get("/").header("connection"), Some("close"), "a known connection");
    let mut fresh = app.conn();
    assert_eq!(fresh.get("/").header("connection"), Some("close"), "a new connection");
    assert!(fresh.is_closed_by_peer());
    assert_eq!(app.ended(), Some(0), "{}", app.log());
}

#[test]
fn what_has_not_ended_by_the_deadline_is_broken_off() {
    let origin = Origin::answering("slow", |_| Answer::ok().after(Duration::from_secs(20)));
    let mut app = App::start(&(single(origin.address) + "drain: {timeout: 300ms}\n"));
    let mut waiting = app.conn();
    waiting.write(&Ask::get("/").bytes());
    eventually("it is under way", || origin.requests() == 1);
    app.signal("TERM");
    assert!(waiting.read_reply("GET").is_err());
    assert_eq!(app.ended(), Some(0), "{}", app.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::answering("slow", |_| Answer::ok().after(Duration::from_secs(25)));
    let mut app = App::start(&(single(origin.address) + "drain: {timeout: 10m}\n"));
    let mut waiting = app.conn();
    waiting.write(&Ask::get("/").bytes());
    eventually("it is under way", || origin.requests() == 1);
    app.signal("TERM");
    eventually("it says that it drains", || app.get("/ready").status == 503);
    app.signal("TERM");
    assert_eq!(app.ended(), Some(0), "{}", app.log());
}

#[test]
fn an_operator_drains_the_listeners_and_the_process_stays() {
    let origin = slow();
    let app = App::start(&(single(origin.address) + "drain: {timeout: 300ms}\n"));
    let mut kept = app.conn();
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(app.post("/drain_listeners?skip_exit").status, 422);
    assert_eq!(app.post("/drain_listeners?graceful&skip_exit").status, 200);
    assert_eq!(app.get("/ready").status, 503);
    eventually("answers say good-bye", || app.conn().get("/").header("connection") == Some("close"));
    assert_eq!(app.post("/drain_listeners?graceful").status, 200);
    let address = app.address();
    eventually("new connections are refused", || Conn::try_open(address).is_err());
    assert_eq!(app.get("/server_info").status, 200, "the process is there");
}
