//! HTTP/2 clients that mean harm: what costs them little and us something ends
//! with their connection, and with nobody else's.

use std::time::{Duration, Instant};

use crate::harness::app::{head, quiet};
use crate::harness::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS,
    INITIAL_WINDOW_SIZE, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, literal,
    number, post,
};
use crate::harness::{Answer, App, Ask, Origin, PATIENCE, eventually};

fn app(origin: &Origin) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    primary: {}\nroutes:\n  - service: web\n    idleTimeout: 2s\n",
        head(1),
        origin.address
    ))
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("linux says it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB")
}

/// Sends rounds made by `round` until the connection has ended, while somebody
/// else reads what comes; answers with the reason given, if any.
fn flood(app: &App, what: &str, start: &[u8], mut round: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let before = resident(app.pid());
    let floods = app.metric("serin_http2_floods_total", &[]);
    let mut frames = Frames::open(app.address());
    frames.send(start).expect("the proxy reads");
    let mut writer = frames.stream.try_clone().expect("a socket can be cloned");
    let reader = std::thread::spawn(move || frames.end());
    let begun = Instant::now();
    let mut rounds = 0;
    while std::io::Write::write_all(&mut writer, &round(rounds)).is_ok() {
        rounds += 1;
        assert!(begun.elapsed() < PATIENCE, "{what}: {rounds} rounds and no end");
        if rounds.is_multiple_of(500) {
            assert_eq!(app.conn().get("/").status, 200, "{what}: others are served");
        }
    }
    let reason = reader.join().expect("the connection ends");
    assert_eq!(app.conn().get("/").status, 200, "{what}: serin goes on");
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "{what}: memory grew by {grown} KiB");
    quiet(app);
    eventually(&format!("{what} is counted"), || app.metric("serin_http2_floods_total", &[]) == floods + 1.0);
    reason
}

fn many(count: usize, one: &[u8]) -> Vec<u8> {
    one.repeat(count)
}

#[test]
fn frames_that_only_make_work_end_the_connection() {
    let origin = Origin::start("a");
    let app = app(&origin);
    let update = 1u32.to_be_bytes();
    let weight = [0, 0, 0, 1, 7];
    for (what, one) in [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("answers to pings that were not sent", frame(PING, ACK, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("empty settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 3, &weight)),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &update)),
        ("frames of no kind", frame(99, 0, 0, &[0; 4])),
    ] {
        flood(&app, what, &[], |_| many(100, &one));
    }
}

#[test]
fn streams_opened_to_be_reset_end_the_connection() {
    let origin = Origin::start("a");
    let app = app(&origin);
    // All at once, and one by one so that each is taken up before it is reset.
    for (what, batch, pause) in
        [("rapid resets", 100, Duration::ZERO), ("slower resets", 1, Duration::from_micros(200))]
    {
        let mut id = 1;
        flood(&app, what, &[], |_| {
            std::thread::sleep(pause);
            let mut bytes = Vec::new();
            for _ in 0..batch {
                bytes.extend(get(id, "/"));
                bytes.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
                id += 2;
            }
            bytes
        });
    }
    assert!(origin.requests() < 20_000, "{} requests went through", origin.requests());
}

#[test]
fn heads_without_end_end_the_connection() {
    let origin = Origin::start("a");
    let app = app(&origin);
    let start = frame(HEADERS, END_STREAM, 1, &block("GET", "/", &[]));
    let field = literal("x-a", &"b".repeat(15_000));
    let reason = flood(&app, "large continuations", &start, |_| frame(CONTINUATION, 0, 1, &field));
    assert!(matches!(reason, None | Some(ENHANCE_YOUR_CALM)), "{reason:?}");
    let reason = flood(&app, "small continuations", &start, |_| frame(CONTINUATION, 0, 1, &literal("x", "")));
    assert!(matches!(reason, None | Some(ENHANCE_YOUR_CALM)), "{reason:?}");
    flood(&app, "empty continuations", &start, |_| frame(CONTINUATION, 0, 1, &[]));
    assert_eq!(origin.requests() % 1_000, origin.requests(), "no half head went through");
}

#[test]
fn bodies_of_nothing_end_the_connection() {
    let origin = Origin::start("a");
    let app = app(&origin);
    flood(&app, "empty data", &post(1, "/"), |_| many(10, &frame(DATA, 0, 1, &[])));
    origin.stop_reading();
    // An origin that does not read: what cannot be passed on must not pile up.
    origin.behave(|_| Answer::ok().after(Duration::from_secs(60)));
    let before = resident(app.pid());
    let mut frames = Frames::open(app.address());
    frames.send(&post(1, "/")).expect("the proxy reads");
    frames.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a legal timeout");
    let one = many(1_000, &frame(DATA, 0, 1, b"x"));
    let mut sent = 0;
    while sent < 2_000_000 && frames.send(&one).is_ok() {
        sent += 1_000;
    }
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KiB for {sent} bytes in as many frames");
}

#[test]
fn a_body_that_is_kept_takes_about_the_memory_of_its_bytes_however_it_is_cut() {
    let origin = Origin::start("a");
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {}\nroutes:\n  - {{service: web, retry: {{on: 5xx}}}}\n",
        head(1),
        origin.address
    ));
    let before = resident(app.pid());
    let mut frames = Frames::open(app.address());
    frames.send(&post(1, "/")).expect("the proxy reads");
    // The answer to a ping tells that the proxy has come so far: what it has not taken
    // up yet is bounded by others.
    let one = [many(1_000, &frame(DATA, 0, 1, b"x")), frame(PING, 0, 0, &[0; 8])].concat();
    let (mut room, mut sent) = (256 << 10, 0);
    // Short of what such a route keeps.
    while sent < 1_000_000 {
        frames.send(&one).expect("the proxy reads");
        (sent, room) = (sent + 1_000, room - 1_000);
        let mut heard = false;
        while !heard || room < 1_000 {
            let frame = frames.next().expect("the connection lives");
            heard |= frame.kind == PING && frame.flags & ACK != 0;
            if (frame.kind, frame.stream) == (WINDOW_UPDATE, 1) {
                room += i64::from(frame.reason());
            }
        }
    }
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "memory grew by {grown} KiB for {sent} bytes in as many frames");
}

#[test]
fn a_head_that_unpacks_to_more_than_it_is_gets_no_further() {
    let origin = Origin::start("a");
    let app = app(&origin);
    let before = resident(app.pid());
    let mut frames = Frames::open(app.address());
    // A field of four thousand bytes put into the table, then named by one byte each time.
    let mut bomb = block("GET", "/", &[]);
    bomb.push(0x40);
    number(3, 7, 0, &mut bomb);
    bomb.extend_from_slice(b"x-a");
    number(3_900, 7, 0, &mut bomb);
    bomb.extend(vec![b'z'; 3_900]);
    bomb.extend(vec![0xbe; 8_000]);
    for stream in (1..200).step_by(2) {
        if frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)).is_err() {
            break;
        }
    }
    let answer = std::iter::from_fn(|| frames.next())
        .find(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
    assert!(answer.is_none_or(|answer| answer.status() != Some(200)), "it was refused or cut off");
    assert_eq!(origin.requests(), 0);
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "memory grew by {grown} KiB");
    assert_eq!(app.conn().get("/").status, 200);
}

#[test]
fn clients_that_take_nothing_lose_their_streams_and_free_the_origin() {
    let origin = Origin::answering("a", |_| Answer::stream(64 << 20));
    let app = app(&origin);
    let before = resident(app.pid());
    let mut frames = Frames::with_settings(app.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    for stream in (1..201).step_by(2) {
        frames.send(&get(stream, "/")).expect("the proxy reads");
    }
    let mut reset = 0;
    while reset < 100 {
        let frame = frames.next().expect("the connection lives");
        assert_ne!(frame.kind, DATA, "there is no room for any");
        reset += usize::from(frame.kind == RST_STREAM);
    }
    quiet(&app);
    let grown = resident(app.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KiB");
    eventually("nobody is blamed", || app.requests(&[("outcome", "uncounted")]) == 100);
    // The connection is as good as before.
    frames.send(&frame(SETTINGS, 0, 0, &[&[0, 4][..], &65_535u32.to_be_bytes()].concat())).expect("it reads");
    frames.send(&get(201, "/")).expect("it reads");
    while frames.await_kind(DATA).stream != 201 {}
}

#[test]
fn clients_that_send_nothing_more_lose_their_streams() {
    let origin = Origin::start("a");
    let app = app(&origin);
    let mut frames = Frames::open(app.address());
    for stream in (1..21).step_by(2) {
        frames.send(&post(stream, "/")).expect("the proxy reads");
    }
    let mut answered = 0;
    while answered < 10 {
        let frame = frames.next().expect("the connection lives");
        answered += usize::from(frame.kind == HEADERS);
    }
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "failure")]), 0);
}

#[test]
fn a_lively_client_is_no_flood() {
    let origin = Origin::answering("a", |_| Answer::stream(200 << 10));
    let app = app(&origin);
    let mut h2 = crate::harness::h2::H2::pinging(app.address(), Duration::from_millis(1));
    for _ in 0..40 {
        let asks: Vec<_> = (0..20).map(|n| Ask::get(&format!("/{n}"))).collect();
        for reply in h2.ask_together(&asks) {
            assert_eq!((reply.status, reply.body.len()), (200, 200 << 10));
        }
    }
    assert_eq!(app.metric("serin_http2_floods_total", &[]), 0.0);
}
