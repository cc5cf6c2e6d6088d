//! One version of the demo's service: a real HTTP/1.1 server on loopback in a
//! thread of its own, whose release can be swapped while it serves.
//!
//! It keeps a ledger of what it truly answered, per release, so that the
//! summary does not have to believe the proxy that it reports on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::clock::Moment;

/// Names the version that answered, for the demo's own users to count by.
pub const SERVED_BY: &str = "x-served-by";

/// Every release answers in this time, give or take [`SPREAD`]; only what a
/// release adds makes a difference.
const MEDIAN_MS: f64 = 6.0;
/// Standard deviation of the logarithm of the answer time.
const SPREAD: f64 = 0.35;

/// How a release behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Release {
    pub name: &'static str,
    /// Share of requests answered with a 500.
    pub failing: f64,
    /// Share of requests answered later by `slow_by`.
    pub slow: f64,
    pub slow_by: Duration,
}

impl Release {
    /// A good one is not perfect: one answer in a thousand fails, as in any
    /// real service.
    pub const fn good(name: &'static str) -> Release {
        Release { name, failing: 0.001, slow: 0.0, slow_by: Duration::ZERO }
    }

    pub const fn failing(name: &'static str, share: f64) -> Release {
        Release { failing: share, ..Release::good(name) }
    }

    pub const fn slow(name: &'static str, share: f64, by: Duration) -> Release {
        Release { slow: share, slow_by: by, ..Release::good(name) }
    }
}

/// What one release answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ledger {
    pub served: u64,
    pub failed: u64,
    pub slowed: u64,
    /// When the first answer that failed left.
    pub first_failed: Option<Moment>,
    /// When the first answer that was held back left.
    pub first_slowed: Option<Moment>,
    /// When the latest request arrived.
    pub last_arrival: Option<Moment>,
}

/// A running server; it ends with this value.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    served_by: &'static str,
    clock: Arc<Clock>,
    /// Every release so far and its ledger, the present one last. An answer
    /// counts for the release that its request met.
    releases: Mutex<Vec<(Release, Ledger)>>,
}

impl Origin {
    pub fn start(served_by: &'static str, release: Release, clock: Arc<Clock>) -> anyhow::Result<Origin> {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot bind an origin")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let shared =
            Arc::new(Shared { served_by, clock, releases: Mutex::new(vec![(release, Ledger::default())]) });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("origin-{served_by}")).spawn({
            let shared = Arc::clone(&shared);
            move || runtime.block_on(accept(socket, shared, stopped))
        })?;
        Ok(Origin { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// From the next request on, answers as `release` with a fresh ledger.
    pub fn deploy(&self, release: Release) {
        self.shared.releases().push((release, Ledger::default()));
    }

    pub fn release(&self) -> Release {
        self.shared.latest().0
    }

    /// What the present release answered so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.latest().1
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn releases(&self) -> MutexGuard<'_, Vec<(Release, Ledger)>> {
        self.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest(&self) -> (Release, Ledger) {
        *self.releases().last().expect("the list starts with one release and only grows")
    }
}

async fn accept(socket: std::net::TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(socket) else { return };
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of descriptors, most likely: let some close.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (index, release) = shared.arrive();
    let slow = rand::random_bool(release.slow);
    let failing = rand::random_bool(release.failing);
    let mut time = ordinary_time();
    if slow {
        time += release.slow_by;
    }
    let (body, ()) = tokio::join!(request.into_body().collect(), tokio::time::sleep(time));
    if body.is_err() {
        return Ok(reply(&shared, StatusCode::BAD_REQUEST, "the request's body broke off\n"));
    }
    shared.leave(index, slow, failing);
    Ok(if failing {
        reply(&shared, StatusCode::INTERNAL_SERVER_ERROR, "this release has a bug\n")
    } else {
        reply(&shared, StatusCode::OK, release.name)
    })
}

impl Shared {
    fn arrive(&self) -> (usize, Release) {
        let now = self.clock.now();
        let mut releases = self.releases();
        let index = releases.len() - 1;
        let (release, ledger) = &mut releases[index];
        ledger.last_arrival = Some(now);
        (index, *release)
    }

    fn leave(&self, index: usize, slow: bool, failing: bool) {
        let now = self.clock.now();
        let ledger = &mut self.releases()[index].1;
        ledger.served += 1;
        if failing {
            ledger.failed += 1;
            ledger.first_failed.get_or_insert(now);
        }
        if slow {
            ledger.slowed += 1;
            ledger.first_slowed.get_or_insert(now);
        }
    }
}

fn reply(shared: &Shared, status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(SERVED_BY, http_value(shared.served_by));
    response
}

fn http_value(text: &'static str) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_static(text)
}

/// Log-normal by Box and Muller's method.
fn ordinary_time() -> Duration {
    let (a, b) = (1.0 - rand::random::<f64>(), rand::random::<f64>());
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    Duration::from_secs_f64(MEDIAN_MS / 1000.0 * (SPREAD * normal).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_times_have_the_stated_median_and_tail() {
        let mut times: Vec<f64> = (0..20_000).map(|_| ordinary_time().as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[10_000], times[19_800]);
        assert!((median / MEDIAN_MS - 1.0).abs() < 0.05, "median {median} ms");
        let expected = MEDIAN_MS * (2.326 * SPREAD).exp();
        assert!((p99 / expected - 1.0).abs() < 0.12, "p99 {p99} ms, not about {expected} ms");
    }
}
