//! One HTTP request to somebody outside, and all the ways in which it can fail.
//!
//! A connection for each call: calls are few, and a kept one to a receiver that has
//! gone would be one more way to fail. Redirects are followed as browsers do, but
//! fields that may be secret do not go along to another origin.
//! What may be secret in a request (its URL, its fields) is in no error.

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    USER_AGENT,
};
use hyper::http::response::Parts as Head;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::mask::{Mask, percent_decoded};
use super::tls;
use crate::outside::Tls;

/// The longest answer that is read.
const MOST: usize = 8 << 20;
const REDIRECTS: usize = 10;

#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub url: SecretString,
    /// What of the URL is not serin's own, and so may be secret; without it all.
    pub address: Option<SecretString>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What of the body is a secret; it goes to no other origin.
    pub secret_in_body: Option<SecretString>,
    /// Of everything, redirects too.
    pub timeout: Duration,
    pub tls: Tls,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What of the call is not to be told on.
    pub mask: Mask,
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("{0}")]
    Malformed(String),
}

impl Call {
    pub fn post(url: SecretString, json: &Value, timeout: Duration) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(json.to_string());
        Call { headers, body, ..Call::bare(Method::POST, url, timeout) }
    }

    pub fn get(url: SecretString, timeout: Duration) -> Call {
        Call::bare(Method::GET, url, timeout)
    }

    pub fn bare(method: Method, url: SecretString, timeout: Duration) -> Call {
        Call {
            method,
            url,
            address: None,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            secret_in_body: None,
            timeout,
            tls: Tls::default(),
        }
    }

    /// What of it is not to be told on.
    pub fn mask(&self) -> Mask {
        let mut mask = Mask::default();
        if let Ok(url) = Url::parse(self.address.as_ref().unwrap_or(&self.url).expose_secret()) {
            mask.add_url(&url);
        }
        mask.add_headers(&self.headers);
        if let Some(secret) = &self.secret_in_body {
            mask.add_secret(secret.expose_secret());
        }
        mask
    }

    /// A field whose value no log of a library will show.
    pub fn header(&mut self, name: &str, value: &SecretString) -> Result<(), String> {
        let wrong = |_| format!("{name:?} and its value are no header");
        let key: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(wrong)?;
        value.set_sensitive(true);
        self.headers.insert(key, value);
        Ok(())
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The beginning of what it says, for a sentence, without what it says back.
    pub fn gist(&self) -> String {
        let text = self.text().split_whitespace().collect::<Vec<_>>().join(" ");
        self.mask.hide(&text).chars().take(200).collect()
    }
}

pub async fn call(call: &Call) -> Result<Answer, Fault> {
    let followed = timeout(call.timeout, follow(call)).await;
    followed.map_err(|_| Fault::Timeout(call.timeout))?
}

async fn follow(call: &Call) -> Result<Answer, Fault> {
    let malformed = |text: &str| Fault::Malformed(text.to_owned());
    let mut url =
        Url::parse(call.url.expose_secret()).map_err(|cause| malformed(&format!("the URL: {cause}")))?;
    let (mut method, mut headers, mut body) = (call.method.clone(), call.headers.clone(), call.body.clone());
    if let Some(login) = login(&url).filter(|_| !headers.contains_key(AUTHORIZATION)) {
        headers.insert(AUTHORIZATION, login);
    }
    let mut mask = call.mask();
    mask.add_headers(&headers);
    for _ in 0..=REDIRECTS {
        let (head, said) = once(&url, &method, &headers, &body, &call.tls).await?;
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: said, mask };
        let Some(place) = answer.headers.get(LOCATION).filter(|_| (300..400).contains(&answer.status)) else {
            return Ok(answer);
        };
        let place = place.to_str().ok().and_then(|place| url.join(place).ok());
        let next = place.ok_or_else(|| malformed("a redirect that leads nowhere"))?;
        if matches!(answer.status, 301..=303) && method != Method::GET && method != Method::HEAD {
            method = Method::GET;
            body = Bytes::new();
            headers.remove(CONTENT_TYPE);
        }
        if next.origin() != url.origin() {
            if call.secret_in_body.is_some() && !body.is_empty() {
                return Err(malformed(
                    "a redirect to another origin, to which the key in the body does not go",
                ));
            }
            headers = without_secrets(&headers);
        }
        mask = answer.mask;
        mask.add_url(&next);
        url = next;
    }
    Err(malformed("more than ten redirects"))
}

/// That stands in the URL.
fn login(url: &Url) -> Option<HeaderValue> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return None;
    }
    let pair = [percent_decoded(url.username()), percent_decoded(password.unwrap_or_default())].join(":");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn without_secrets(headers: &HeaderMap) -> HeaderMap {
    let plain = headers.iter().filter(|(_, value)| !value.is_sensitive());
    plain.map(|(name, value)| (name.clone(), value.clone())).collect()
}

async fn once(
    url: &Url,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
    tls: &Tls,
) -> Result<(Head, Bytes), Fault> {
    let host = url.host_str().ok_or_else(|| Fault::Malformed("the URL names no host".to_owned()))?;
    let port =
        url.port_or_known_default().ok_or_else(|| Fault::Malformed("the URL names no port".to_owned()))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream =
        TcpStream::connect((bare, port)).await.map_err(|cause| Fault::Unreachable(cause.to_string()))?;
    let _ = stream.set_nodelay(true);
    let request = request(url, host, method, headers, body)?;
    match url.scheme() {
        "http" => exchange(TokioIo::new(stream), request).await,
        "https" => exchange(TokioIo::new(tls::secure(stream, bare, tls).await?), request).await,
        other => Err(Fault::Malformed(format!("{other} is neither http nor https"))),
    }
}

fn request(
    url: &Url,
    host: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Request<Full<Bytes>>, Fault> {
    let malformed = |cause: hyper::http::Error| Fault::Malformed(cause.to_string());
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, authority)
        .body(Full::new(body.clone()))
        .map_err(malformed)?;
    let fields = request.headers_mut();
    fields.insert(USER_AGENT, HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in headers {
        fields.insert(name, value.clone());
    }
    if *method != Method::GET {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(Head, Bytes), Fault>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |cause: hyper::Error| Fault::Broken(cause.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let answered = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let read = Limited::new(body, MOST).collect().await;
        let body = read.map_err(|cause| Fault::Broken(cause.to_string()))?.to_bytes();
        Ok((head, body))
    };
    // Also where the caller no longer waits: a connection does not outlive its call.
    let _ends = AbortOnDrop(driver.abort_handle());
    answered.await
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A status as people read it.
pub fn status_text(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}
