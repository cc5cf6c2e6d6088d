//! A real upstream whose behaviour a test writes: an HTTP/1.1 and HTTP/2 server
//! on a free port, in a thread of its own, that counts what it is asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub use super::flow::Answer;
use super::flow::{Content, Flow};

/// How many requests an origin remembers.
const REMEMBERED: usize = 256;

/// One request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counted from 1.
    pub nth: u64,
    pub method: String,
    pub path: String,
    pub version: Version,
    /// Whom it was asked as, by the target or by the field.
    pub authority: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        super::client::field(&self.headers, name)
    }
}

type Behave = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

struct Shared {
    name: String,
    behave: Mutex<Behave>,
    requests: AtomicU64,
    connections: AtomicU64,
    sent: Arc<AtomicU64>,
    failing_since: Mutex<Option<Instant>>,
    last: Mutex<Option<Instant>>,
    seen: Mutex<VecDeque<Seen>>,
    bodies: Mutex<VecDeque<Vec<u8>>>,
    /// While set, a request body is left unread.
    deaf: AtomicBool,
}

/// A running origin; it ends, with all its connections, when dropped.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Origin {
    /// Answers 200 to everything, with its name in `x-origin` and in the body.
    pub fn start(name: &str) -> Origin {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Origin::at(name, anywhere).expect("loopback has a free port")
    }

    /// Origins at 127.0.0.1, 127.0.0.2 and so on, all at the same port, as the
    /// addresses of one name are.
    pub fn twins(names: &[&str]) -> Vec<Origin> {
        let at = |last: usize, port| SocketAddr::from(([127, 0, 0, last as u8], port));
        for _ in 0..100 {
            let first = Origin::start(names[0]);
            let port = first.address.port();
            let others = names[1..].iter().enumerate().map(|(i, name)| Origin::at(name, at(i + 2, port)));
            if let Ok(others) = others.collect::<std::io::Result<Vec<_>>>() {
                return std::iter::once(first).chain(others).collect();
            }
        }
        panic!("no port is free at all of these addresses");
    }

    pub fn at(name: &str, address: SocketAddr) -> std::io::Result<Origin> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            behave: Mutex::new(Arc::new(|_| Answer::ok())),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            sent: Arc::new(AtomicU64::new(0)),
            failing_since: Mutex::new(None),
            last: Mutex::new(None),
            seen: Mutex::new(VecDeque::new()),
            bodies: Mutex::new(VecDeque::new()),
            deaf: AtomicBool::new(false),
        });
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true).expect("a listener can be made so");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a thread can have a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("it is nonblocking");
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Origin { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    pub fn answering(name: &str, behave: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Origin {
        let origin = Origin::start(name);
        origin.behave(behave);
        origin
    }

    /// From the next request on.
    pub fn behave(&self, behave: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *self.shared.behave.lock().expect("no holder panics") = Arc::new(behave);
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Body bytes handed to the sockets so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// When it first answered with a failure.
    pub fn failing_since(&self) -> Option<Instant> {
        *self.shared.failing_since.lock().expect("no holder panics")
    }

    /// When it was last asked.
    pub fn last_request(&self) -> Option<Instant> {
        *self.shared.last.lock().expect("no holder panics")
    }

    /// Leaves request bodies unread from now on.
    pub fn stop_reading(&self) {
        self.shared.deaf.store(true, Ordering::Relaxed);
    }

    /// Reads them again.
    pub fn read_again(&self) {
        self.shared.deaf.store(false, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no holder panics").iter().cloned().collect()
    }

    /// Request bodies that were read to their end, oldest first.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.shared.bodies.lock().expect("no holder panics").iter().cloned().collect()
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(stream, shared.clone()));
    }
}

/// The first bytes tell HTTP/2 with prior knowledge from HTTP/1.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut start = [0; 4];
    loop {
        match stream.peek(&mut start).await {
            Ok(0) | Err(_) => return,
            Ok(4) => break,
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    let service = service_fn(move |request| answer(request, shared.clone()));
    let io = TokioIo::new(stream);
    // A connection that ends badly is the test's wish; the proxy's view of it is what is asserted.
    if &start == b"PRI " {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.timer(TokioTimer::new()).serve_connection(io, service).await;
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        let _ = http1.timer(TokioTimer::new()).serve_connection(io, service).await;
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Flow>, Infallible> {
    let (head, body) = request.into_parts();
    let seen = Seen {
        nth: shared.requests.fetch_add(1, Ordering::Relaxed) + 1,
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        version: head.version,
        authority: authority(&head),
        headers: pairs(&head.headers),
    };
    let behave = shared.behave.lock().expect("no holder panics").clone();
    let answer = behave(&seen);
    *shared.last.lock().expect("no holder panics") = Some(Instant::now());
    remember(&shared.seen, seen.clone());
    if answer.is_failure() {
        shared.failing_since.lock().expect("no holder panics").get_or_insert_with(Instant::now);
    }
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let content = match &answer.content {
        Content::Name => Content::Text(Bytes::from(shared.name.clone())),
        Content::SendBack => return Ok(respond(&answer, &shared, Flow::back(body))),
        other => other.clone(),
    };
    let mut kept = None;
    let flow = if shared.deaf.load(Ordering::Relaxed) {
        kept = Some(body);
        Flow::new(&answer, content, shared.sent.clone())
    } else {
        let (bytes, trailers) = read(body).await;
        remember(&shared.bodies, bytes.clone());
        let content = match content {
            Content::Echo => Content::Text(Bytes::from(echo(&seen, &bytes, &trailers).to_string())),
            other => other,
        };
        Flow::new(&answer, content, shared.sent.clone())
    };
    Ok(respond(&answer, &shared, flow.holding(kept)))
}

fn authority(head: &hyper::http::request::Parts) -> String {
    let target = head.uri.authority().map(ToString::to_string);
    let field = || head.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    target.or_else(field).unwrap_or_default()
}

fn respond(answer: &Answer, shared: &Shared, flow: Flow) -> Response<Flow> {
    let mut response = Response::builder().status(answer.status).header("x-origin", &shared.name);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(flow).expect("tests write legal headers")
}

/// The body as far as it came, and its trailers.
async fn read(mut body: Incoming) -> (Vec<u8>, Vec<(String, String)>) {
    let (mut bytes, mut trailers) = (Vec::new(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.trailers_ref().map(pairs).unwrap_or_default(),
        }
    }
    (bytes, trailers)
}

fn echo(seen: &Seen, body: &[u8], trailers: &[(String, String)]) -> serde_json::Value {
    json!({
        "method": seen.method,
        "path": seen.path,
        "version": format!("{:?}", seen.version),
        "authority": seen.authority,
        "headers": seen.headers,
        "length": body.len(),
        "body": String::from_utf8_lossy(&body[..body.len().min(4096)]),
        "trailers": trailers,
    })
}

pub fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn remember<T>(list: &Mutex<VecDeque<T>>, item: T) {
    let mut list = list.lock().expect("no holder panics");
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
}

#[test]
fn an_origin_answers_counts_and_can_be_told_to_fail() {
    use super::{Ask, Conn};
    let origin =
        Origin::answering("a", |seen| if seen.nth % 2 == 0 { Answer::status(500) } else { Answer::ok() });
    let mut conn = Conn::open(origin.address);
    assert_eq!(conn.get("/").status, 200);
    let reply = conn.ask(&Ask::post("/x", "body"));
    assert_eq!((reply.status, reply.origin()), (500, "a"));
    assert_eq!((origin.requests(), origin.connections()), (2, 1));
    assert_eq!(origin.bodies()[1], b"body");
    assert!(origin.failing_since().is_some());
}

#[test]
fn an_origin_streams_and_can_break_off() {
    use super::{Ask, Conn};
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/stream" => Answer::stream(1 << 20),
        "/broken" => Answer::stream(1 << 20).broken_after(1000),
        _ => Answer::echo(),
    });
    let mut conn = Conn::open(origin.address);
    assert_eq!(conn.get("/stream").body.len(), 1 << 20);
    let echoed = conn.ask(&Ask::post("/e", "hello").header("x-a", "b")).json();
    assert_eq!((echoed["body"].as_str(), echoed["length"].as_u64()), (Some("hello"), Some(5)));
    assert!(conn.try_ask(&Ask::get("/broken")).is_err(), "a broken body must be seen as an error");
}
