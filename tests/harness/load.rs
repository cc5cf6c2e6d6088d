//! Traffic that runs beside a test: connections in threads, each asking again
//! and again, with every answer accounted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Ask, Conn, Reply};

/// What the users of a load saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by the origin that gave them.
    pub origins: BTreeMap<String, u64>,
    /// Connections or answers that broke; the first few in words.
    pub broken: u64,
    pub words: Vec<String>,
    /// Connections opened beyond the first of each thread.
    pub reopened: u64,
    pub slowest: Duration,
}

impl Report {
    /// Answers that a user would call bad: 5xx and broken ones.
    pub fn failures(&self) -> u64 {
        self.broken + self.statuses.range(500..).map(|(_, count)| count).sum::<u64>()
    }

    pub fn by(&self, origin: &str) -> u64 {
        self.origins.get(origin).copied().unwrap_or(0)
    }

    fn note(&mut self, reply: &Reply, took: Duration) {
        self.requests += 1;
        *self.statuses.entry(reply.status).or_default() += 1;
        *self.origins.entry(reply.origin().to_owned()).or_default() += 1;
        self.slowest = self.slowest.max(took);
    }

    fn add(&mut self, other: Report) {
        self.requests += other.requests;
        self.broken += other.broken;
        self.words.extend(other.words);
        self.reopened += other.reopened;
        self.slowest = self.slowest.max(other.slowest);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (origin, count) in other.origins {
            *self.origins.entry(origin).or_default() += count;
        }
    }
}

/// One request per connection and two milliseconds is plenty, and leaves room for others.
pub const GAP: Duration = Duration::from_millis(2);

/// Traffic under way; it ends with `stop` or when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Report>>,
}

impl Load {
    /// So many connections, each pausing `gap` between its requests.
    pub fn start(to: SocketAddr, connections: usize, gap: Duration, ask: Ask) -> Load {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..connections)
            .map(|_| {
                let (stop, sent, ask) = (stop.clone(), sent.clone(), ask.clone());
                std::thread::spawn(move || run(to, gap, &ask, &stop, &sent))
            })
            .collect();
        Load { stop, sent, threads }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more have been answered.
    pub fn pass(&self, more: u64) {
        let target = self.answered() + more;
        super::eventually("the load makes progress", || self.answered() >= target);
    }

    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads.drain(..) {
            report.add(thread.join().expect("a load thread does not panic"));
        }
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(to: SocketAddr, gap: Duration, ask: &Ask, stop: &AtomicBool, sent: &AtomicU64) -> Report {
    let mut report = Report::default();
    let mut conn = None;
    let mut opened = 0;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = match conn.as_mut() {
            Some(conn) => Conn::try_ask(conn, ask),
            None => Conn::try_open(to).and_then(|fresh| {
                opened += 1;
                conn.insert(fresh).try_ask(ask)
            }),
        };
        match answer {
            Ok(reply) => {
                report.note(&reply, start.elapsed());
                sent.fetch_add(1, Ordering::Relaxed);
                if reply.header("connection") == Some("close") {
                    conn = None;
                }
            }
            Err(error) => {
                conn = None;
                report.broken += 1;
                if report.words.len() < 3 {
                    report.words.push(error.to_string());
                }
            }
        }
        // Pacing, not synchronisation: it sets the rate of the load.
        std::thread::sleep(gap);
    }
    report.reopened = u64::saturating_sub(opened, 1);
    report
}

/// Sends `count` requests over `connections` connections as fast as they are
/// answered, `make` writing the n-th, and gives every reply to `take`.
pub fn burst(
    to: SocketAddr,
    connections: u64,
    count: u64,
    make: impl Fn(u64) -> Ask + Sync,
    take: impl Fn(u64, Reply) + Sync,
) {
    std::thread::scope(|scope| {
        for first in 0..connections {
            let (make, take) = (&make, &take);
            scope.spawn(move || {
                let mut conn = Conn::open(to);
                for nth in (first..count).step_by(connections as usize) {
                    take(nth, conn.ask(&make(nth)));
                }
            });
        }
    });
}

/// As `burst`, with the same request each time: how many answers each origin
/// gave. Every answer must be a 200.
pub fn tally(to: SocketAddr, connections: u64, count: u64, ask: &Ask) -> BTreeMap<String, u64> {
    let origins = Mutex::new(BTreeMap::new());
    burst(
        to,
        connections,
        count,
        |_| ask.clone(),
        |_, reply| {
            assert_eq!(reply.status, 200, "{} {}", reply.cause(), reply.text());
            *origins.lock().expect("no holder panics").entry(reply.origin().to_owned()).or_default() += 1;
        },
    );
    origins.into_inner().expect("no holder panicked")
}

#[test]
fn a_load_reports_what_its_users_saw() {
    use super::{Answer, Origin};
    let origin =
        Origin::answering("a", |seen| if seen.nth % 2 == 0 { Answer::status(503) } else { Answer::ok() });
    let load = Load::start(origin.address, 2, Duration::ZERO, Ask::get("/"));
    load.pass(100);
    let report = load.stop();
    assert_eq!(report.requests, origin.requests());
    assert_eq!(report.failures(), report.requests / 2);
    assert_eq!((report.by("a"), report.reopened), (report.requests, 0));
}
