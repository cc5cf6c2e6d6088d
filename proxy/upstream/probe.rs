//! Asks an endpoint whether it is well: one check, over a connection that is
//! kept for the next. What follows from the answer is [`crate::hosts::Course`]'s to say.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fault::Fault;
use crate::fault::Kind;
use crate::hosts::Finding;
use crate::local::LocalExecutor;
use crate::model::GrpcProbe;
use crate::model::HealthCheck;
use crate::model::HttpProbe;
use crate::model::Probe;
use crate::model::TcpProbe;
use crate::outcome;

use crate::wire::Wire;

mod grpc;

/// Of an answer no more than this is read; what is longer costs its connection.
const MAX_ANSWER: usize = 64 * 1024;
const MAX_HEAD: usize = 64 * 1024;
const AGENT: &str = "serin/health-check";

/// Whom is asked.
pub struct Asked<'a> {
    /// What it is called if the probe does not say.
    pub authority: &'a str,
    pub http2: bool,
    pub secure: bool,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub finding: Finding,
    /// In words, for whoever looks into it.
    pub why: String,
}

/// Asks one endpoint, again and again.
#[derive(Default)]
pub struct Prober {
    kept: Option<Kept>,
}

enum Kept {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Prober {
    /// Always comes to an end within the check's timeout.
    pub async fn check<D>(&mut self, check: &HealthCheck, asked: &Asked<'_>, dial: impl Fn() -> D) -> Checked
    where
        D: Future<Output = Result<Wire, Fault>>,
    {
        let question = async {
            match &check.probe {
                Probe::Http(probe) => self.http(probe, asked, &dial).await,
                Probe::Grpc(probe) => self.grpc(probe, asked, &dial).await,
                Probe::Tcp(probe) => tcp(probe, &dial).await,
            }
        };
        let checked = match tokio::time::timeout(check.timeout, question).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(fault)) => unreachable(fault),
            Err(_) => {
                self.kept = None;
                silent(check.timeout)
            }
        };
        if !check.reuse_connection {
            self.kept = None;
        }
        checked
    }

    async fn http<D>(
        &mut self,
        probe: &HttpProbe,
        asked: &Asked<'_>,
        dial: &impl Fn() -> D,
    ) -> Result<Checked, Fault>
    where
        D: Future<Output = Result<Wire, Fault>>,
    {
        let authority = probe.host.as_deref().unwrap_or(asked.authority);
        let mut request = request(&probe.method, &probe.path, authority, asked);
        for (name, value) in &probe.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::default()).map_err(|_| Fault::upstream(Kind::BadRequest))?;
        let response = self.send(request, asked.http2, dial).await?;
        let status = response.status().as_u16();
        self.read(response).await?;
        let among = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&status));
        let finding = match () {
            () if among(&probe.expected) => Finding::Well,
            () if among(&probe.retriable) => Finding::Retriable,
            () => Finding::Unwell,
        };
        Ok(Checked { finding, why: format!("status {status}") })
    }

    async fn grpc<D>(
        &mut self,
        probe: &GrpcProbe,
        asked: &Asked<'_>,
        dial: &impl Fn() -> D,
    ) -> Result<Checked, Fault>
    where
        D: Future<Output = Result<Wire, Fault>>,
    {
        let asked = Asked { http2: true, ..*asked };
        let authority = probe.authority.as_deref().unwrap_or(asked.authority);
        let mut request = request("POST", grpc::PATH, authority, &asked)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers");
        for (name, value) in &probe.metadata {
            request = request.header(name, value);
        }
        let body = Full::new(grpc::question(&probe.service));
        let request = request.body(body).map_err(|_| Fault::upstream(Kind::BadRequest))?;
        let response = self.send(request, true, dial).await?;
        let status = response.status();
        let in_head = response.headers().get(outcome::GRPC_STATUS).cloned();
        let (bytes, trailers) = self.read(response).await?;
        let said = trailers.as_ref().and_then(|fields| fields.get(outcome::GRPC_STATUS).cloned()).or(in_head);
        let code = said.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("none");
        let (finding, why) = match (status.as_u16(), code, grpc::serving(&bytes)) {
            (200, "0", Some(grpc::SERVING)) => (Finding::Well, "serving".to_owned()),
            (200, "0", Some(state)) => (Finding::Unwell, format!("serving status {state}")),
            (200, code, _) => (Finding::Unwell, format!("grpc-status {code}")),
            (status, _, _) => (Finding::Unwell, format!("status {status}")),
        };
        Ok(Checked { finding, why })
    }

    /// Over the kept connection, or a new one where that is gone.
    async fn send<D>(
        &mut self,
        request: Request<Full<Bytes>>,
        http2: bool,
        dial: &impl Fn() -> D,
    ) -> Result<Response<Incoming>, Fault>
    where
        D: Future<Output = Result<Wire, Fault>>,
    {
        if let Some(kept) = &mut self.kept
            && kept.is_ready().await
        {
            match kept.send(request.clone()).await {
                Ok(response) => return Ok(response),
                // It may have been closed just now, which says nothing of its health.
                Err(error) => tracing::debug!(%error, "health check meets a closed connection"),
            }
        }
        let wire = dial().await?;
        let http2 = http2 || wire.has_chosen_http2();
        let kept = self.kept.insert(Kept::open(wire, http2).await?);
        kept.send(request).await.map_err(|error| Fault::of_exchange(&error))
    }

    /// The whole answer, and its trailers.
    async fn read(
        &mut self,
        response: Response<Incoming>,
    ) -> Result<(Bytes, Option<http::HeaderMap>), Fault> {
        let mut body = response.into_body();
        let (mut bytes, mut trailers) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::of_exchange(&error))?;
            match frame.into_data() {
                Ok(data) if bytes.len() + data.len() <= MAX_ANSWER => bytes.extend_from_slice(&data),
                Ok(_) => {
                    self.kept = None;
                    break;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok((bytes.into(), trailers))
    }
}

impl Kept {
    async fn open(wire: Wire, http2: bool) -> Result<Kept, Fault> {
        let io = TokioIo::new(wire);
        if http2 {
            let builder = http2::Builder::new(LocalExecutor).timer(TokioTimer::new()).handshake(io);
            let (sender, connection) = builder.await.map_err(|error| Fault::of_exchange(&error))?;
            tokio::task::spawn_local(connection);
            return Ok(Kept::Http2(sender));
        }
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io).await;
        let (sender, connection) = handshake.map_err(|error| Fault::of_exchange(&error))?;
        tokio::task::spawn_local(connection);
        Ok(Kept::Http1(sender))
    }

    async fn is_ready(&mut self) -> bool {
        match self {
            Kept::Http1(sender) => poll_fn(|cx| sender.poll_ready(cx)).await.is_ok(),
            Kept::Http2(sender) => poll_fn(|cx| sender.poll_ready(cx)).await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Kept::Http1(sender) => sender.send_request(request).await,
            Kept::Http2(sender) => sender.send_request(absolute(request)).await,
        }
    }
}

fn request(method: &str, path: &str, authority: &str, asked: &Asked<'_>) -> http::request::Builder {
    let request = Request::builder().method(method).header(USER_AGENT, AGENT);
    if asked.http2 {
        let scheme = if asked.secure { "https" } else { "http" };
        return request.uri(format!("{scheme}://{authority}{path}"));
    }
    request.uri(path).header(HOST, authority)
}

/// In HTTP/2 the target names the host. One that does not was made for HTTP/1, and
/// its endpoint has chosen this in the handshake.
fn absolute(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    if request.uri().authority().is_none()
        && let Some(host) = request.headers_mut().remove(HOST)
        && let Ok(host) = host.to_str()
        && let Ok(uri) = http::Uri::try_from(format!("https://{host}{}", request.uri()))
    {
        *request.uri_mut() = uri;
    }
    request
}

async fn tcp<D>(probe: &TcpProbe, dial: &impl Fn() -> D) -> Result<Checked, Fault>
where
    D: Future<Output = Result<Wire, Fault>>,
{
    let well = |why: &str| Ok(Checked { finding: Finding::Well, why: why.to_owned() });
    let mut wire = dial().await?;
    if !probe.send.is_empty() {
        wire.write_all(&probe.send).await.map_err(|_| Fault::upstream(Kind::Reset))?;
    }
    if probe.receive.is_empty() {
        return well("connected");
    }
    let mut answer = Vec::new();
    while answer.len() < MAX_ANSWER {
        match wire.read_buf(&mut answer).await {
            Ok(1..) if matches(&answer, &probe.receive) => return well("received what was expected"),
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Fault::upstream(Kind::Reset)),
        }
    }
    Err(Fault::upstream(Kind::Garbage))
}

/// Are all parts in there, in this order?
fn matches(mut answer: &[u8], parts: &[Vec<u8>]) -> bool {
    parts.iter().all(|part| match memchr::memmem::find(answer, part) {
        Some(at) => {
            answer = &answer[at + part.len()..];
            true
        }
        None => false,
    })
}

fn unreachable(fault: Fault) -> Checked {
    let finding = if fault.kind == Kind::ConnectTimeout { Finding::Silent } else { Finding::Unreachable };
    Checked { finding, why: fault.kind.as_str().to_owned() }
}

fn silent(timeout: Duration) -> Checked {
    let why = format!("no answer within {timeout:?}");
    Checked { finding: Finding::Silent, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_order_with_anything_between() {
        let parts = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(matches(b"+PONG\r\n", &parts(&["PONG"])));
        assert!(matches(b"one and two", &parts(&["one", "two"])));
        assert!(!matches(b"two and one", &parts(&["one", "two"])));
        assert!(!matches(b"aa", &parts(&["aa", "a"])), "no byte stands for two parts");
    }
}
