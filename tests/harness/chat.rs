//! WebSocket on both ends: a server that says back what it hears, reached by an
//! HTTP/1.1 upgrade or an HTTP/2 extended CONNECT, and a client that asks for
//! either. The messages are tungstenite's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::PATIENCE;
use super::client::Reply;
use super::origin::{Seen, pairs};

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// A running server; it ends, with all its connections, when dropped.
pub struct Chat {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    live: AtomicU64,
}

impl Chat {
    /// `name` is the first thing it says.
    pub fn start(name: &str) -> Chat {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can have a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        runtime.spawn(accept(listener, shared.clone()));
        Chat { address, shared, _runtime: runtime }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no holder panics").clone()
    }

    /// Conversations that have not ended.
    pub fn live(&self) -> u64 {
        self.shared.live.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut start = [0; 4];
            while stream.peek(&mut start).await.is_ok_and(|count| (1..4).contains(&count)) {
                tokio::task::yield_now().await;
            }
            let io = TokioIo::new(stream);
            let service = service_fn(move |request| answer(request, shared.clone()));
            // How the proxy takes a bad end is what is asserted.
            if &start == b"PRI " {
                let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http2.enable_connect_protocol().serve_connection(io, service).await;
            } else {
                let http1 = hyper::server::conn::http1::Builder::new();
                let _ = http1.serve_connection(io, service).with_upgrades().await;
            }
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut seen = shared.seen.lock().expect("no holder panics");
    let nth = seen.len() as u64 + 1;
    seen.push(Seen {
        nth,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        version: request.version(),
        authority: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
        headers: pairs(request.headers()),
    });
    drop(seen);
    let response = Response::builder();
    let key = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let response = match (request.uri().path(), request.version()) {
        ("/refuse", _) => return Ok(response.status(503).body(Empty::new()).expect("a legal head")),
        ("/ignore", _) => return Ok(response.status(200).body(Empty::new()).expect("a legal head")),
        ("/other", Version::HTTP_11) => response.status(101).header("upgrade", "other"),
        (_, Version::HTTP_11) => response
            .status(101)
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", key.unwrap_or_default()),
        _ => response.status(200),
    };
    let mine = request.headers().get("sec-websocket-protocol").cloned();
    let response = response.header("connection", "upgrade").header("x-origin", &shared.name);
    let response =
        mine.into_iter().fold(response, |response, name| response.header("sec-websocket-protocol", name));
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        shared.live.fetch_add(1, Ordering::Relaxed);
        let greeted = socket.send(Message::text(shared.name.clone())).await;
        while greeted.is_ok()
            && let Some(Ok(message)) = socket.next().await
        {
            let leave = message == Message::text("leave");
            if leave || (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
        shared.live.fetch_sub(1, Ordering::Relaxed);
    });
    Ok(response.body(Empty::new()).expect("a legal head"))
}

/// A client in a conversation.
pub struct Talk {
    pub head: Reply,
    socket: Socket,
    runtime: Runtime,
}

impl Talk {
    /// Asks by an HTTP/1.1 upgrade; an answer other than 101 is returned.
    pub fn upgrade(to: SocketAddr, path: &str) -> Result<Talk, Reply> {
        let request = Request::builder()
            .uri(path)
            .header("host", "test.local")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat")
            .header("sec-websocket-key", KEY);
        Talk::open(to, request.body(Empty::new()).expect("a legal head"))
    }

    /// Asks by an HTTP/2 extended CONNECT; an answer other than 200 is returned.
    pub fn connect(to: SocketAddr, path: &str) -> Result<Talk, Reply> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri(format!("http://test.local{path}"))
            .extension(Protocol::from("websocket"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat");
        Talk::open(to, request.body(Empty::new()).expect("a legal head"))
    }

    fn open(to: SocketAddr, request: Request<Empty<Bytes>>) -> Result<Talk, Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a thread can have a runtime");
        let opened = runtime.block_on(async {
            let opening = async {
                let mut response = exchange(to, request).await;
                let status = response.status().as_u16();
                let head = Reply { status, headers: pairs(response.headers()), ..Reply::default() };
                if !matches!(status, 101) && response.version() == Version::HTTP_11 || status > 200 {
                    return Err(head);
                }
                let upgraded = hyper::upgrade::on(&mut response).await.expect("it has said so");
                let io = TokioIo::new(upgraded);
                Ok((head, WebSocketStream::from_raw_socket(io, Role::Client, None).await))
            };
            tokio::time::timeout(PATIENCE, opening).await.expect("an answer in time")
        });
        opened.map(|(head, socket)| Talk { head, socket, runtime })
    }

    pub fn say(&mut self, text: &str) {
        self.try_say(text).expect("the conversation goes on");
    }

    pub fn try_say(&mut self, text: &str) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let Talk { socket, runtime, .. } = self;
        runtime.block_on(socket.send(Message::text(text)))
    }

    /// What comes next; none when the conversation has ended, well or badly.
    pub fn hear(&mut self) -> Option<String> {
        let Talk { socket, runtime, .. } = self;
        runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, socket.next()).await.expect("something is said in time") {
                Some(Ok(Message::Text(text))) => Some(text.to_string()),
                _ => None,
            }
        })
    }
}

/// That of RFC 6455, 1.3; its answer is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

async fn exchange(to: SocketAddr, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    let io = TokioIo::new(TcpStream::connect(to).await.expect("somebody accepts"));
    if request.version() == Version::HTTP_2 {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = handshake.expect("an HTTP/2 server");
        // Held by the conversation: the last sender gone would end the connection.
        let kept = sender.clone();
        tokio::spawn(async move {
            let _ = connection.await;
            drop(kept);
        });
        return sender.send_request(request).await.expect("an answer");
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a socket");
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.expect("an answer")
}

#[test]
fn a_chat_talks_both_ways_without_a_proxy() {
    let chat = Chat::start("a");
    for open in [Talk::upgrade, Talk::connect] {
        let mut talk = open(chat.address, "/").unwrap_or_else(|head| panic!("{head:?}"));
        assert_eq!(talk.hear().as_deref(), Some("a"));
        talk.say("hello");
        assert_eq!(talk.hear().as_deref(), Some("hello"));
        talk.say("leave");
        assert_eq!(talk.hear(), None);
        assert_eq!(open(chat.address, "/refuse").err().map(|head| head.status), Some(503));
    }
}
