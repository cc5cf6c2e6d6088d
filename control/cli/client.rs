//! A small client of the admin API: one connection for each request.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// An admin API that does not answer within this is not reachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody answers at the admin address.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach serin's admin API at {admin}; is it running? (--admin or SERIN_ADMIN says where)")]
pub struct Unreachable {
    admin: String,
    #[source]
    cause: std::io::Error,
}

pub struct Client {
    admin: String,
    runtime: Runtime,
}

impl Client {
    pub fn new(admin: &str) -> anyhow::Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { admin: admin.trim_start_matches("http://").trim_end_matches('/').to_owned(), runtime })
    }

    /// The JSON answer; one that is no success becomes an error with its reason.
    pub fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, bytes) = self.runtime.block_on(self.exchange(method, path, body))?;
        let answer: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} did not answer in JSON ({status}); is it serin?", self.admin))?;
        if !status.is_success() {
            let reason =
                answer.get("error").and_then(Value::as_str).map_or(status.to_string(), str::to_owned);
            bail!("{reason}");
        }
        Ok(answer)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let unreachable = |cause| Unreachable { admin: self.admin.clone(), cause };
        let connected = timeout(PATIENCE, TcpStream::connect(&self.admin)).await;
        let stream = connected.map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?;
        let stream = stream.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.admin);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answered = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let answered = timeout(PATIENCE, answered).await.context("serin did not answer in time")?;
        driver.abort();
        Ok(answered?)
    }
}

/// A name as one segment of a path.
pub fn segment(name: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("web-1"), "web-1");
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&port.to_string()).unwrap();
        let error = client.send(Method::GET, "/ready", None).unwrap_err();
        assert!(error.is::<Unreachable>(), "{error:#}");
    }
}
