//! The HTTP/2 ends that the bench needs: an upstream that answers gRPC, and one careful request that
//! looks at the whole of an answer, trailers included. hyper does the protocol.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context as TaskContext;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::origin;
use crate::process;
use crate::process::Priority;

/// What is asked over HTTP/2, and what must come back.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Call {
    /// A GET; the upstream speaks HTTP/1 and answers with so many bytes.
    Get(usize),
    /// A gRPC call with a message of 64 bytes; so many messages of 512 come back, then the status.
    Grpc(usize),
    /// A gRPC call whose answer begins and never ends.
    Endless,
}

const MESSAGE_BYTES: usize = 512;

impl Call {
    /// Bytes of body in a whole answer.
    pub fn answer_bytes(self) -> usize {
        match self {
            Call::Get(bytes) => bytes,
            Call::Grpc(messages) => messages * (MESSAGE_BYTES + 5),
            Call::Endless => 0,
        }
    }
}

/// The body of every gRPC request.
pub fn question() -> Bytes {
    message(64)
}

/// A gRPC message: not compressed, its length, its bytes.
fn message(bytes: usize) -> Bytes {
    let mut framed = vec![0];
    framed.extend_from_slice(&(bytes as u32).to_be_bytes());
    framed.extend_from_slice(&origin::body(bytes));
    framed.into()
}

/// Two upstreams that answer gRPC over HTTP/2 in the clear, on a thread of their own.
pub struct Origin {
    pub addresses: [SocketAddr; 2],
    asked: Arc<[AtomicU64; 2]>,
    // The thread ends when this is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Origin {
    pub fn start(call: Call, core: usize, priority: Priority) -> Result<Origin> {
        let asked = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (told, addresses) = std::sync::mpsc::channel();
        let counts = Arc::clone(&asked);
        std::thread::spawn(move || {
            let served = (|| -> Result<()> {
                process::place(&[core], priority)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async move {
                    let mut addresses = Vec::new();
                    for version in 0..2 {
                        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                        addresses.push(listener.local_addr()?);
                        tokio::spawn(accept(listener, version, call, Arc::clone(&counts)));
                    }
                    told.send([addresses[0], addresses[1]])?;
                    let _ = stopped.await;
                    Ok(())
                })
            })();
            if let Err(error) = served {
                eprintln!("the gRPC upstream ended: {error:#}");
            }
        });
        let addresses = addresses.recv().context("the gRPC upstream did not start")?;
        Ok(Origin { addresses, asked, _stop: stop })
    }

    pub fn asked(&self) -> [u64; 2] {
        [&self.asked[0], &self.asked[1]].map(|count| count.load(Ordering::Relaxed))
    }
}

async fn accept(listener: TcpListener, version: usize, call: Call, asked: Arc<[AtomicU64; 2]>) {
    let answer = message(MESSAGE_BYTES);
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (asked, answer) = (Arc::clone(&asked), answer.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (asked, answer) = (Arc::clone(&asked), answer.clone());
            async move {
                let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                asked[version].fetch_add(1, Ordering::Relaxed);
                let right = body.is_ok_and(|body| body == question());
                Ok::<_, Infallible>(answered(call, right, answer))
            }
        });
        tokio::spawn(async move {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(100_000);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answered(call: Call, right: bool, message: Bytes) -> Response<Messages> {
    let (left, ends) = match call {
        Call::Grpc(messages) => (messages, true),
        Call::Get(_) | Call::Endless => (0, false),
    };
    let mut response =
        Response::new(Messages { left: if right { left } else { 0 }, message, ends: Some(ends) });
    if !right {
        *response.status_mut() = hyper::StatusCode::BAD_REQUEST;
    }
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/grpc"));
    response
}

/// The messages of an answer and its trailers.
struct Messages {
    left: usize,
    message: Bytes,
    /// Whether the answer ever ends; none when it has.
    ends: Option<bool>,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(self.message.clone()))));
        }
        match self.ends {
            None => Poll::Ready(None),
            Some(false) => Poll::Pending,
            Some(true) => {
                self.ends = None;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}

/// One request, and whether all of its answer is right.
pub fn probe(target: SocketAddr, call: Call) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), async {
            let mut client = connect(target).await?;
            let response = client.send_request(request(call, target)?).await?;
            ensure!(response.status() == 200, "status {}", response.status());
            if call == Call::Endless {
                return Ok(());
            }
            let answer = response.into_body().collect().await?;
            let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
            let body = answer.to_bytes();
            match call {
                Call::Get(bytes) => ensure!(body == origin::body(bytes), "another body"),
                Call::Grpc(messages) => {
                    ensure!(body == message(MESSAGE_BYTES).repeat(messages), "other messages");
                    ensure!(status.is_some_and(|status| status == "0"), "no grpc-status 0");
                }
                Call::Endless => {}
            }
            Ok(())
        })
        .await?
    })
}

pub type Client = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A connection that lets as many streams be open as the other end does.
pub async fn connect(target: SocketAddr) -> Result<Client> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub fn request(call: Call, target: SocketAddr) -> Result<Request<Full<Bytes>>> {
    let builder = Request::builder().version(hyper::Version::HTTP_2);
    Ok(match call {
        Call::Get(_) => builder.uri(format!("http://{target}{PATH}")).body(Full::default())?,
        Call::Grpc(_) | Call::Endless => builder
            .method("POST")
            .uri(format!("http://{target}{METHOD}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(question()))?,
    })
}

pub const PATH: &str = "/products/42?view=full";
pub const METHOD: &str = "/shop.Products/Get";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_answers_what_the_probe_wants_and_nothing_else() {
        let origin = Origin::start(Call::Grpc(3), 0, Priority::Ordinary).expect("loopback is there");
        probe(origin.addresses[1], Call::Grpc(3)).expect("three messages and a status");
        assert!(probe(origin.addresses[1], Call::Grpc(4)).is_err(), "a message is missing");
        assert_eq!(origin.asked(), [0, 2]);
    }
}
