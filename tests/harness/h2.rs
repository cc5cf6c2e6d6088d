//! An HTTP/2 client with prior knowledge, for one test thread.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::Runtime;

use super::PATIENCE;
use super::client::{Ask, Reply};
use super::origin::pairs;

type Body = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

/// One HTTP/2 connection and the runtime that drives it.
pub struct H2 {
    runtime: Runtime,
    sender: SendRequest<Body>,
    to: SocketAddr,
}

impl H2 {
    pub fn open(to: SocketAddr) -> H2 {
        H2::opened(to, None)
    }

    /// Says a PING so often, also while nothing is asked.
    pub fn pinging(to: SocketAddr, every: Duration) -> H2 {
        H2::opened(to, Some(every))
    }

    fn opened(to: SocketAddr, ping: Option<Duration>) -> H2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a thread can have a runtime");
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(to).await.expect("the proxy accepts");
            stream.set_nodelay(true).expect("a socket can be made so");
            let mut builder = Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(ping).keep_alive_while_idle(true);
            let (sender, connection) =
                builder.handshake(TokioIo::new(stream)).await.expect("an HTTP/2 server");
            tokio::spawn(connection);
            sender
        });
        H2 { runtime, sender, to }
    }

    /// Lets the connection live for so long without a request.
    pub fn rest(&mut self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    pub fn ask(&mut self, ask: &Ask) -> Reply {
        self.try_ask(ask).unwrap_or_else(|error| panic!("{} {} failed: {error:?}", ask.method, ask.path))
    }

    pub fn try_ask(&mut self, ask: &Ask) -> Result<Reply, hyper::Error> {
        let body = Full::new(Bytes::from(ask.body.clone().unwrap_or_default()));
        self.send(ask, body.map_err(|never| match never {}).boxed())
    }

    /// A body of these chunks, then these trailers.
    pub fn ask_with_trailers(&mut self, ask: &Ask, chunks: &[&str], trailers: &[(&str, &str)]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            let name: hyper::header::HeaderName = name.parse().expect("a legal name");
            map.insert(name, value.parse().expect("a legal value"));
        }
        let data = chunks.iter().map(|chunk| Frame::data(Bytes::from((*chunk).to_owned())));
        let frames: Vec<_> = data.chain([Frame::trailers(map)]).map(Ok).collect();
        let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
        self.send(ask, body).unwrap_or_else(|error| panic!("{} failed: {error:?}", ask.path))
    }

    /// Several at once, each on a stream of its own.
    pub fn ask_together(&mut self, asks: &[Ask]) -> Vec<Reply> {
        self.try_together(asks).into_iter().map(|reply| reply.expect("an answer")).collect()
    }

    /// The same where streams may be reset.
    pub fn try_together(&mut self, asks: &[Ask]) -> Vec<Result<Reply, hyper::Error>> {
        let requests: Vec<_> = asks
            .iter()
            .map(|ask| {
                let body = Full::new(Bytes::from(ask.body.clone().unwrap_or_default()));
                request(self.to, ask, body.map_err(|never| match never {}).boxed())
            })
            .collect();
        let sender = &self.sender;
        self.runtime.block_on(async {
            let tasks: Vec<_> =
                requests.into_iter().map(|request| tokio::spawn(exchange(sender.clone(), request))).collect();
            let mut replies = Vec::new();
            for task in tasks {
                let reply = tokio::time::timeout(PATIENCE, task).await.expect("an answer in time");
                replies.push(reply.expect("no panic"));
            }
            replies
        })
    }

    fn send(&mut self, ask: &Ask, body: Body) -> Result<Reply, hyper::Error> {
        let request = request(self.to, ask, body);
        let sender = self.sender.clone();
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, exchange(sender, request)).await.expect("an answer in time")
        })
    }
}

fn request(to: SocketAddr, ask: &Ask, body: Body) -> Request<Body> {
    let authority = if ask.host == "test.local" { to.to_string() } else { ask.host.clone() };
    let mut request =
        Request::builder().method(ask.method.as_str()).uri(format!("http://{authority}{}", ask.path));
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    request.body(body).expect("tests write legal requests")
}

async fn exchange(mut sender: SendRequest<Body>, request: Request<Body>) -> Result<Reply, hyper::Error> {
    sender.ready().await?;
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    let mut reply = Reply { status: head.status.as_u16(), headers: pairs(&head.headers), ..Reply::default() };
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => reply.body.extend_from_slice(&data),
            Err(frame) => reply.trailers = frame.trailers_ref().map(pairs).unwrap_or_default(),
        }
    }
    Ok(reply)
}

#[test]
fn an_origin_speaks_http2_with_trailers() {
    use super::{Answer, Origin};
    let origin = Origin::answering("a", |_| Answer::ok().trailer("grpc-status", "0"));
    let mut h2 = H2::open(origin.address);
    let reply = h2.ask(&Ask::get("/"));
    assert_eq!((reply.status, reply.trailer("grpc-status")), (200, Some("0")));
    origin.behave(|_| Answer::echo());
    let reply = h2.ask_with_trailers(&Ask::new("POST", "/"), &["a", "b"], &[("x-end", "1")]).json();
    assert_eq!(reply["body"], "ab");
    assert_eq!(reply["trailers"][0][0], "x-end");
    assert_eq!(origin.connections(), 1);
}
