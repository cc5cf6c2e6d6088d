//! The demo's users: an open-loop load that counts what *they* get.
//!
//! Requests fall due by a Poisson process whatever the answers do, and an
//! answer's time counts from when its request fell due, so a stall anywhere is
//! paid for in the figures and not hidden by sending less.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serin_proxy::histogram::Histogram;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::origin::SERVED_BY;

/// Requests under way at once; past it they wait, and the wait is counted.
const IN_FLIGHT: usize = 512;
/// A user gives up after this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Share of requests that are POSTs: not repeatable, so nothing shields them.
const POSTS: f64 = 0.1;

/// What users saw, cumulative.
#[derive(Clone, Default)]
pub struct Tally {
    pub primary: Seen,
    pub canary: Seen,
    /// Answers that no version signed: the proxy's own, and none at all.
    pub unsigned: Seen,
}

#[derive(Clone, Default)]
pub struct Seen {
    pub requests: u64,
    pub failures: u64,
    pub latency: Histogram,
}

impl Tally {
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            primary: self.primary.since(&earlier.primary),
            canary: self.canary.since(&earlier.canary),
            unsigned: self.unsigned.since(&earlier.unsigned),
        }
    }

    pub fn all(&self) -> Seen {
        let mut all = self.primary.clone();
        for part in [&self.canary, &self.unsigned] {
            all.requests += part.requests;
            all.failures += part.failures;
            all.latency.add(&part.latency);
        }
        all
    }
}

impl Seen {
    fn since(&self, earlier: &Seen) -> Seen {
        Seen {
            requests: self.requests - earlier.requests,
            failures: self.failures - earlier.failures,
            latency: self.latency.since(&earlier.latency),
        }
    }

    fn count(&mut self, failed: bool, took: Duration) {
        self.requests += 1;
        self.failures += u64::from(failed);
        self.latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// A running load; it ends with this value.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub fn start(target: SocketAddr, per_second: f64) -> anyhow::Result<Load> {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("users".to_owned()).spawn({
            let tally = Arc::clone(&tally);
            move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let users = Rc::new(Users::new(target, tally));
                    tokio::select! {
                        _ = stopped => {}
                        () = arrive(&users, per_second) => {}
                    }
                    users.finish().await;
                });
            }
        })?;
        Ok(Load { tally, stop: Some(stop), thread: Some(thread) })
    }

    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Connection = SendRequest<Full<Bytes>>;

struct Users {
    target: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    slots: Arc<Semaphore>,
    /// Taken from the front and given back at the back, so that all stay in
    /// use and every worker of the proxy gets its share.
    idle: RefCell<VecDeque<Connection>>,
}

async fn arrive(users: &Rc<Users>, per_second: f64) {
    // The clock of the timers, because the sum of many small times is kept here.
    let mut due = Instant::now();
    for number in 0_u64.. {
        due += Duration::from_secs_f64(-(1.0 - rand::random::<f64>()).ln() / per_second);
        tokio::time::sleep_until(due).await;
        // Closed never: the semaphore lives as long as `users`.
        let Ok(slot) = Arc::clone(&users.slots).acquire_owned().await else { return };
        let users = Rc::clone(users);
        tokio::task::spawn_local(async move {
            users.ask(number, due).await;
            drop(slot);
        });
    }
}

impl Users {
    fn new(target: SocketAddr, tally: Arc<Mutex<Tally>>) -> Users {
        Users { target, tally, slots: Arc::new(Semaphore::new(IN_FLIGHT)), idle: RefCell::default() }
    }

    async fn ask(&self, number: u64, due: Instant) {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(number)).await;
        let took = due.elapsed();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Ok(Answer { failed, by: Some(Version::Primary) })) => tally.primary.count(failed, took),
            Ok(Ok(Answer { failed, by: Some(Version::Canary) })) => tally.canary.count(failed, took),
            Ok(Ok(Answer { failed, by: None })) => tally.unsigned.count(failed, took),
            Ok(Err(_)) | Err(_) => tally.unsigned.count(true, took),
        }
    }

    async fn exchange(&self, number: u64) -> anyhow::Result<Answer> {
        let mut connection = self.connection().await?;
        let response = connection.send_request(request(number)?).await?;
        let answer = Answer {
            failed: response.status().is_server_error(),
            by: response.headers().get(SERVED_BY).and_then(|name| Version::named(name.as_bytes())),
        };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        self.idle.borrow_mut().push_back(connection);
        Ok(answer)
    }

    async fn connection(&self) -> anyhow::Result<Connection> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop_front() else { break };
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect(self.target).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(driver);
        Ok(sender)
    }

    /// Waits until every request under way is answered or given up.
    async fn finish(&self) {
        let all = u32::try_from(IN_FLIGHT).expect("the bound is a small constant");
        let _ = tokio::time::timeout(Duration::from_secs(2), self.slots.acquire_many(all)).await;
    }
}

struct Answer {
    failed: bool,
    by: Option<Version>,
}

enum Version {
    Primary,
    Canary,
}

impl Version {
    fn named(name: &[u8]) -> Option<Version> {
        match name {
            b"primary" => Some(Version::Primary),
            b"canary" => Some(Version::Canary),
            _ => None,
        }
    }
}

fn request(number: u64) -> anyhow::Result<Request<Full<Bytes>>> {
    let builder = Request::builder().header("host", "demo.example").header("user-agent", "serin-demo");
    Ok(if rand::random_bool(POSTS) {
        let order = format!("{{\"order\":{number}}}");
        builder
            .method(Method::POST)
            .uri("/orders")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(order)))?
    } else {
        builder.uri(format!("/items/{}", number % 1000)).body(Full::default())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::super::origin::Release;
    use super::*;
    use crate::clock::Clock;
    use crate::clock::Moment;

    fn until(what: &str, condition: impl Fn() -> bool) {
        let clock = Clock::start(Moment(0));
        let deadline = clock.now().after(Duration::from_secs(20));
        while !condition() {
            assert!(clock.now() < deadline, "never came: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn users_and_origin_count_the_same_answers() {
        let clock = Arc::new(Clock::start(Moment(0)));
        let origin = Origin::start("canary", Release::failing("half", 0.5), clock).unwrap();
        let load = Load::start(origin.address, 2000.0).unwrap();
        until("400 answers", || load.tally().all().requests >= 400);
        let (tally, ledger) = (Arc::clone(&load.tally), origin.ledger());
        assert!(ledger.first_failed.is_some());
        drop(load);
        let tally = tally.lock().unwrap().clone();
        let ledger = origin.ledger();
        assert_eq!(tally.canary.requests, ledger.served);
        assert_eq!(tally.canary.failures, ledger.failed);
        assert_eq!((tally.primary.requests, tally.unsigned.requests), (0, 0));
        let share = ledger.failed as f64 / ledger.served as f64;
        assert!((0.35..0.65).contains(&share), "half should fail, {share} did");
    }

    #[test]
    fn release_deployed_under_load_answers_from_then_on_in_a_ledger_of_its_own() {
        let clock = Arc::new(Clock::start(Moment(0)));
        let origin = Origin::start("canary", Release::good("fast"), clock).unwrap();
        let load = Load::start(origin.address, 1000.0).unwrap();
        until("100 answers", || origin.ledger().served >= 100);
        assert_eq!(origin.ledger().slowed, 0);
        origin.deploy(Release::slow("slow", 1.0, Duration::from_millis(40)));
        let before = load.tally();
        until("100 slow answers", || origin.ledger().served >= 100);
        let ledger = origin.ledger();
        assert_eq!(ledger.slowed, ledger.served);
        assert!(ledger.first_slowed <= ledger.last_arrival);
        until("users noticed", || {
            load.tally().since(&before).canary.latency.quantile_us(0.5).is_some_and(|us| us > 40_000)
        });
    }

    #[test]
    fn user_whom_nobody_answers_counts_a_failure_of_no_version() {
        let vacant = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let load = Load::start(vacant, 500.0).unwrap();
        until("20 failures", || load.tally().unsigned.failures >= 20);
        let tally = load.tally();
        assert_eq!(tally.unsigned.failures, tally.unsigned.requests);
        assert_eq!(tally.canary.requests + tally.primary.requests, 0);
    }
}
