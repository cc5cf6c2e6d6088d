//! CONNECT: tunnels that end at the proxy and such that it asks a version for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Method, Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::app::head;
use crate::harness::{App, Conn, Origin, PATIENCE, eventually, raw};

/// A server that says back what it hears, and on the end of it says `end`.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    /// `proxy` reads a CONNECT first and agrees to it.
    fn start(proxy: bool) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = shared.clone();
                // An error here only means that the proxy left first.
                std::thread::spawn(move || drop(serve(stream, proxy, &heard)));
            }
        });
        Echo { address, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("no holder panics")).into_owned()
    }
}

fn serve(mut stream: TcpStream, mut proxy: bool, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            stream.write_all(b"end")?;
            return stream.shutdown(Shutdown::Write);
        }
        let mut all = heard.lock().expect("no holder panics");
        all.extend_from_slice(&bytes[..count]);
        if !proxy {
            drop(all);
            stream.write_all(&bytes[..count])?;
        } else if all.ends_with(b"\r\n\r\n") {
            proxy = false;
            stream.write_all(b"HTTP/1.1 200 Fine\r\nx-origin: proxy\r\n\r\nhello ")?;
        }
    }
}

fn app(manner: &str, upstream: SocketAddr, protocol: &str) -> App {
    App::start(&yaml(manner, upstream, protocol))
}

fn yaml(manner: &str, upstream: SocketAddr, protocol: &str) -> String {
    format!(
        "{}services:\n  web:\n    primary: {{endpoints: [\"{upstream}\"], protocol: {protocol}}}\n\
         routes:\n  - hosts: db.test\n    match: {{connect: true}}\n    service: web\n    connect: {manner}\n  \
         - service: web\n",
        head(1)
    )
}

fn connect(app: &App) -> Conn {
    let mut conn = app.conn();
    conn.write(b"CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n");
    conn
}

fn exactly(conn: &mut Conn, text: &str) {
    let mut bytes = vec![0; text.len()];
    conn.stream.read_exact(&mut bytes).expect("the tunnel stands");
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

#[test]
fn a_tunnel_that_ends_here_carries_bytes_and_half_closes() {
    let echo = Echo::start(false);
    let app = app("terminate", echo.address, "http1");
    let mut conn = connect(&app);
    assert_eq!(conn.read_head().expect("a head").status, 200);
    for n in 0..50 {
        let text = format!("GET /{n} HTTP/1.1\r\n\r\n");
        conn.write(text.as_bytes());
        exactly(&mut conn, &text);
    }
    conn.stream.shutdown(Shutdown::Write).expect("it is open");
    exactly(&mut conn, "end");
    assert!(conn.is_closed_by_peer());
    assert!(!echo.heard().contains("CONNECT"), "the endpoint sees the tunnel's bytes alone");
    eventually("one request, and a good one", || {
        app.requests(&[("outcome", "success")]) == 1 && app.requests(&[]) == 1
    });
}

#[test]
fn a_forwarded_connect_is_asked_of_the_version() {
    let echo = Echo::start(true);
    let app = app("forward", echo.address, "http1");
    let mut conn = connect(&app);
    let reply = conn.read_head().expect("a head");
    assert_eq!((reply.status, reply.origin()), (200, "proxy"));
    assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (None, None));
    conn.write(b"bytes");
    eventually("they arrive", || echo.heard().ends_with("bytes"));
    let heard = echo.heard();
    assert!(heard.starts_with("CONNECT db.test:5432 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("host: db.test:5432\r\n"), "{heard}");
}

#[test]
fn a_tunnel_runs_on_a_stream_of_http2() {
    for (manner, greeting) in [("terminate", ""), ("forward", "hello ")] {
        let echo = Echo::start(manner == "forward");
        let app = app(manner, echo.address, "http1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a thread can have a runtime").block_on(async {
            let stream = tokio::net::TcpStream::connect(app.address()).await.expect("the proxy accepts");
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.expect("HTTP/2");
            tokio::spawn(connection);
            let request =
                Request::builder().method(Method::CONNECT).version(Version::HTTP_2).uri("db.test:5432");
            let request = request.body(Empty::<Bytes>::new()).expect("a legal head");
            let mut response = sender.send_request(request).await.expect("an answer");
            assert_eq!(response.status(), 200, "{manner}");
            let upgraded = hyper::upgrade::on(&mut response).await.expect("it has said so");
            let mut tunnel = TokioIo::new(upgraded);
            tunnel.write_all(b"over a stream").await.expect("the tunnel stands");
            let expected = format!("{greeting}over a stream");
            let mut bytes = vec![0; expected.len()];
            let read = tokio::time::timeout(PATIENCE, tunnel.read_exact(&mut bytes)).await;
            read.expect("in time").expect("the tunnel stands");
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
            tunnel.shutdown().await.expect("it is open");
            let mut rest = String::new();
            let read = tokio::time::timeout(PATIENCE, tunnel.read_to_string(&mut rest)).await;
            read.expect("in time").expect("a good end");
            assert_eq!(rest, "end");
        });
    }
}

#[test]
fn connect_is_refused_where_no_route_asks_for_it() {
    let origin = Origin::start("a");
    let app = app("terminate", origin.address, "http1");
    let mut conn = app.conn();
    // A route for all hosts and paths takes no CONNECT. Behind one that is
    // refused, nothing is read as a request.
    conn.write(
        b"CONNECT other.test:5432 HTTP/1.1\r\nhost: other.test:5432\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let reply = conn.read_reply("GET").expect("an answer");
    assert_eq!((reply.status, reply.cause()), (404, "no-route"));
    assert!(conn.is_closed_by_peer());
    assert_eq!((origin.requests(), origin.connections()), (0, 0));
    let plain = app.conn().ask(&crate::harness::Ask::get("/").host("db.test"));
    assert_eq!(plain.status, 200, "what is no CONNECT goes past the route that asks for one");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_the_versions_failure() {
    let closed = raw::closed();
    for manner in ["terminate", "forward"] {
        let app = app(manner, closed.address, "http1");
        let reply = connect(&app).read_reply("GET").expect("an answer");
        assert_eq!((reply.status, reply.cause()), (503, "connect-failure"), "{manner}");
        eventually("counted", || app.requests(&[("outcome", "failure")]) == 1);
    }
}

#[test]
fn a_refusal_of_the_version_is_passed_on_and_ends_the_connection() {
    let origin = Origin::answering("a", |_| crate::harness::Answer::status(407).text("who are you"));
    let app = app("forward", origin.address, "http1");
    let mut conn = connect(&app);
    let reply = conn.read_reply("GET").expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (407, "who are you"));
    assert!(conn.is_closed_by_peer());
}

#[test]
fn a_drain_ends_tunnels_at_its_deadline() {
    let echo = Echo::start(false);
    let yaml = yaml("terminate", echo.address, "http1") + "drain: {timeout: 2s}\n";
    let mut app = App::start(&yaml);
    let mut conn = connect(&app);
    assert_eq!(conn.read_head().expect("a head").status, 200);
    app.signal("TERM");
    conn.write(b"still here");
    exactly(&mut conn, "still here");
    assert!(conn.is_closed_by_peer(), "the deadline is the tunnel's, too");
    assert_eq!(app.ended(), Some(0));
}
