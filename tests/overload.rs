//! Too much of everything: it says so early and cheaply, goes on with what it
//! has, and recovers.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::app::{quiet, single};
use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Conn, Load, Origin, eventually};

const IDLE: usize = 20_000;
/// Descriptors left to serin and to the tests that run beside.
const OTHERS: usize = 4_000;

fn refused(app: &App, what: &str) -> u64 {
    app.metric("serin_overload_refused_total", &[("what", what)]) as u64
}

#[test]
fn past_the_ceiling_of_connections_a_503_says_when_to_come_again() {
    let origin = Origin::start("a");
    let app = App::start(&(single(origin.address) + "overload: {connections: 8}\n"));
    // None of them is idle, so that none can be sent away in favour of the next.
    let mut held: Vec<Conn> = (0..8).map(|_| app.conn()).collect();
    for conn in &mut held {
        conn.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345");
    }
    eventually("all are under way", || app.metric("serin_requests_in_flight", &[]) == 8.0);
    for _ in 0..20 {
        let mut conn = app.conn();
        let reply = conn.get("/");
        assert_eq!((reply.status, reply.cause()), (503, "overloaded"));
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(conn.is_closed_by_peer());
    }
    let reply = H2::open(app.address()).ask(&Ask::get("/"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    let head = app.conn().ask(&Ask::new("HEAD", "/"));
    assert_eq!((head.status, head.body.len()), (503, 0));
    for conn in &mut held {
        conn.write(b"67890");
        assert_eq!(conn.read_reply("POST").expect("what was there goes on").status, 200);
    }
    drop(held);
    eventually("there is room again", || {
        app.conn().try_ask(&Ask::get("/")).is_ok_and(|reply| reply.status == 200)
    });
    assert!(refused(&app, "connection") >= 22, "{}", refused(&app, "connection"));
    let refused_requests = app.metric("serin_requests_total", &[("outcome", "failure")]);
    assert_eq!(refused_requests, 0.0, "no version is blamed for it");
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let origin = Origin::start("a");
    let app = App::start(&(single(origin.address) + "overload: {connections: 40}\n"));
    let mut idle: Vec<Conn> = (0..39).map(|_| app.conn()).collect();
    for conn in &mut idle {
        assert!([200, 503].contains(&conn.get("/").status));
    }
    eventually("idle ones are sent away", || app.metric("serin_connections", &[]) < 38.0);
    eventually("it is over", || app.metric("serin_overload_stage", &[]) == 0.0);
    for _ in 0..10 {
        assert_eq!(app.conn().get("/").status, 200);
    }
}

/// Clients that send and never read, and an origin that answers more than they take.
#[test]
fn memory_stays_near_its_ceiling_under_clients_that_do_not_read() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/big" => Answer::stream(8 << 20),
        _ => Answer::ok(),
    });
    let mut app = App::start(&single(origin.address));
    assert_eq!(app.conn().get("/").status, 200);
    // Above what it needs for nothing, the first look at its past included, by more than
    // the allocator keeps of what it had.
    eventually("its past is written", || app.folder().join("serin-state/history").is_dir());
    let ceiling = (app.metric("process_resident_memory_bytes", &[]) as u64 >> 20) + 12;
    let reply = app.reload(&format!("{}overload: {{memory: {ceiling}MiB}}\n", single(origin.address)));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (stop, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for nth in 0..4 {
            let (stop, address) = (&stop, app.address());
            scope.spawn(move || {
                let mut deaf = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if deaf.len() > 200 {
                        deaf.clear();
                    }
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    let sent = stream.set_write_timeout(Some(Duration::from_millis(100))).and_then(|()| {
                        match nth % 2 {
                            0 => stream.write_all(&Ask::get("/big").bytes()),
                            _ => stream
                                .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n")
                                .and_then(|()| stream.write_all(&[b'x'; 256 * 1024])),
                        }
                    });
                    // It may have been refused by now, as it should be.
                    if sent.is_ok() {
                        deaf.push(stream);
                    }
                }
            });
        }
        // For a while, and on a crowded machine until it is too much.
        let began = Instant::now();
        let [least, most_time] = [8, 40].map(Duration::from_secs);
        while began.elapsed() < least || began.elapsed() < most_time && !app.log().contains("overload") {
            let bytes = app.metric("process_resident_memory_bytes", &[]) as u64;
            most.fetch_max(bytes, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let most = most.into_inner() >> 20;
    assert!(most < ceiling * 2, "{most} MiB of {ceiling}");
    assert!(app.log().contains("overload"), "it was too much, and was told: {most} MiB");
    eventually("it recovers", || {
        app.metric("serin_overload_stage", &[]) == 0.0
            && app.conn().try_ask(&Ask::get("/")).is_ok_and(|reply| reply.status == 200)
    });
    app.signal("TERM");
    assert_eq!(app.ended(), Some(0));
}

#[test]
fn without_descriptors_it_neither_spins_nor_dies_and_recovers() {
    let origin = Origin::start("a");
    let app = App::start_limited(&single(origin.address), 100);
    let load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    load.pass(20);
    let held: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(app.address()).ok()).collect();
    assert!(held.len() > 100);
    eventually("it has run out", || app.log().contains("cannot accept"));
    let (before, since) = (cpu_seconds(app.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let busy = (cpu_seconds(app.pid()) - before) / since.elapsed().as_secs_f64();
    assert!(busy < 0.6, "it spins: {busy:.2} of a core");
    drop(held);
    eventually("new ones are served again", || {
        Conn::try_open(app.address())
            .and_then(|mut conn| conn.try_ask(&Ask::get("/")))
            .is_ok_and(|reply| reply.status == 200)
    });
    assert!(app.log().matches("cannot accept").count() < 20, "the log is not flooded");
    drop(load.stop());
    assert_eq!(app.metric("serin_requests_total", &[("outcome", "failure")]), 0.0, "no version is to blame");
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// As many as are asked for, or as one process may hold here beside what the
/// other tests hold.
fn idle_connections() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let enough = (IDLE + OTHERS) as u64;
    let most = maximum.unwrap_or(u64::MAX).max(enough);
    let raised = [most, maximum.unwrap_or(most)]
        .into_iter()
        .find(|limit| {
            setrlimit(Resource::Nofile, Rlimit { current: Some(*limit), maximum: Some(*limit) }).is_ok()
        })
        .expect("a process may use what it is allowed");
    usize::try_from(raised).unwrap_or(usize::MAX).saturating_sub(OTHERS).min(IDLE)
}

#[test]
fn twenty_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    let most = idle_connections();
    assert!(most >= IDLE / 2, "this machine allows {most} only");
    let origin = Origin::start("a");
    let app =
        App::start(&(single(origin.address) + &format!("overload: {{connections: {}}}\n", IDLE + 1_000)));
    assert_eq!(app.conn().get("/").status, 200);
    let resident = || app.metric("process_resident_memory_bytes", &[]);
    let before = resident();
    let mut idle = Vec::with_capacity(most);
    while idle.len() < most {
        match TcpStream::connect(app.address()) {
            Ok(connection) => idle.push(connection),
            // Tests beside this one may need many, too, and are given room.
            Err(full)
                if full.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
                    && idle.len() > IDLE / 2 =>
            {
                idle.truncate(idle.len() - OTHERS / 4);
                break;
            }
            Err(other) => panic!("{other} after {}", idle.len()),
        }
    }
    let count = idle.len();
    eventually("all are open", || app.metric("serin_connections", &[]) >= count as f64);
    let each = (resident() - before) / count as f64;
    println!("{count} idle connections: {each:.0} bytes each, {:.0} MiB in all", resident() / 1_048_576.0);
    // Futures of a build without optimisation are larger than those that are shipped.
    assert!(each < 16_000.0, "{each:.0} bytes each");
    let load = Load::start(app.address(), 4, Duration::ZERO, Ask::get("/"));
    load.pass(2_000);
    let report = load.stop();
    assert_eq!(report.failures(), 0, "{:?} {:?}", report.statuses, report.words);
    quiet(&app);
    assert_eq!(app.requests(&[]), report.requests + 1, "each is counted once");
    drop(idle);
    eventually("all are gone", || app.metric("serin_connections", &[]) < 10.0);
}
