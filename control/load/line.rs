//! One request of our own and the connection that carries it: a pair of sockets of
//! which the proxy holds the other end.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request as Head};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serin_proxy::Handle;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::outside::load::Load;

/// A connection that is kept for the next request.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[derive(Clone)]
pub struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The requests of a load, with its secrets as they are now.
pub fn requests(load: &Load) -> Result<Vec<Request>, String> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("serin-load/", env!("CARGO_PKG_VERSION"))));
    headers.insert(HOST, HeaderValue::from_str(&load.host).map_err(|cause| cause.to_string())?);
    for (name, text) in &load.headers {
        let secret = text.fetch().map_err(|missing| missing.to_string())?;
        let value = HeaderValue::from_str(secret.expose_secret());
        let mut value = value.map_err(|_| format!("the value of {name} is none of a header"))?;
        value.set_sensitive(true);
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        headers.insert(name, value);
    }
    let request = |asked: &crate::outside::load::Asked| {
        Ok(Request {
            method: asked.method.parse().map_err(|_| format!("{} is no method", asked.method))?,
            path: asked.path.clone(),
            headers: headers.clone(),
            body: Bytes::from(asked.body.clone()),
        })
    };
    load.requests.iter().map(request).collect()
}

impl Request {
    /// Answers with the connection where it can carry another.
    pub async fn send(
        self,
        line: Option<Line>,
        handle: &Handle,
        load: &Load,
    ) -> Result<Option<Line>, String> {
        let asked = timeout(load.timeout, self.ask(line, handle, load)).await;
        asked.map_err(|_| format!("no whole answer within {:?}", load.timeout))?
    }

    async fn ask(self, line: Option<Line>, handle: &Handle, load: &Load) -> Result<Option<Line>, String> {
        let broken = |cause: hyper::Error| cause.to_string();
        let mut line = match line {
            Some(line) if !line.sender.is_closed() => line,
            _ => dial(handle, &load.listener).await?,
        };
        line.sender.ready().await.map_err(broken)?;
        let (_, mut body) = line.sender.send_request(self.head()?).await.map_err(broken)?.into_parts();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len);
            if read > load.most_bytes {
                return Err(format!("an answer of more than {} bytes is broken off", load.most_bytes));
            }
        }
        Ok((!line.sender.is_closed()).then_some(line))
    }

    fn head(self) -> Result<Head<Full<Bytes>>, String> {
        let head = Head::builder().method(self.method).uri(self.path).body(Full::new(self.body));
        let mut head = head.map_err(|cause| cause.to_string())?;
        *head.headers_mut() = self.headers;
        Ok(head)
    }
}

async fn dial(handle: &Handle, listener: &str) -> Result<Line, String> {
    let stream = handle.connect_as_load(listener).and_then(UnixStream::from_std);
    let stream = stream.map_err(|cause| format!("no connection: {cause}"))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|cause| cause.to_string())?;
    let driver = tokio::spawn(connection).abort_handle();
    Ok(Line { sender, driver })
}
