//! The layer that writes an audit line for every call that may change something.

use std::error::Error;
use std::net::SocketAddr;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;

use super::{Admin, Refused, is_safe};
use crate::audit::Line;

/// The longest body that any call here needs.
const BODY: usize = 1 << 20;
/// So much of it is written down.
const WRITTEN: usize = 1_024;

pub async fn audit(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if only_asks(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    // A task of its own: a caller that leaves stops neither the call nor its line.
    let told = tokio::spawn(witnessed(admin, request, next)).await;
    told.unwrap_or_else(|cause| Refused(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string()).into_response())
}

async fn witnessed(admin: Admin, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY).await;
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let text =
        |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut line = Line {
        at: admin.facts.clock.now(),
        self_declared: who(&head.headers),
        from: peer.map(|peer| peer.0.to_string()).unwrap_or_default(),
        agent: text(header::USER_AGENT),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        body: body.as_ref().map(beginning).unwrap_or_default(),
        status: 0,
    };
    let answer = match body {
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(cause) => refused(&cause).into_response(),
    };
    line.status = answer.status().as_u16();
    let audit = admin.audit.clone();
    // Not on the thread that the tick runs on.
    let written = tokio::task::spawn_blocking(move || audit.write(&line)).await;
    if let Err(cause) = written {
        tracing::error!(%cause, "the audit line is not written");
    }
    answer
}

fn refused(cause: &axum::Error) -> Refused {
    let is_too_long = |cause: &(dyn Error + 'static)| cause.is::<LengthLimitError>();
    let mut causes = std::iter::successors(cause.source(), |cause| (*cause).source());
    match causes.any(is_too_long) {
        true => Refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long".to_owned()),
        false => Refused(StatusCode::BAD_REQUEST, format!("the body breaks off: {cause}")),
    }
}

/// Some questions are put by POST: queries, and what webhooks ask of gates.
fn only_asks(method: &Method, path: &str) -> bool {
    is_safe(method, path)
        || path.starts_with("/api/v1/")
        || ["/gate/check", "/gate/approve", "/gate/halt", "/rollback/check"].contains(&path)
}

fn beginning(body: &Bytes) -> String {
    String::from_utf8_lossy(&body[..body.len().min(WRITTEN)]).into_owned()
}

/// By what the caller, or the proxy before us that knows him, has shown. Nobody has
/// looked whether it is true: any caller can write it.
fn who(headers: &HeaderMap) -> String {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    if let Some(certificate) = text("x-forwarded-client-cert") {
        return format!("certificate {}", certificate.chars().take(300).collect::<String>());
    }
    let shown = text("authorization").and_then(|shown| shown.split_once(' '));
    match shown {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => format!("token {}", print(token)),
        Some((scheme, _)) => format!("{} credentials", scheme.to_lowercase()),
        None => text("x-forwarded-user").map_or("nobody".to_owned(), |user| format!("user {user}")),
    }
}

/// Tells one token from another and gives none of it away.
fn print(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.trim().as_bytes());
    let hex: Vec<String> = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_named_and_no_token_is_written_down() {
        let told = |name: &'static str, value: &'static str| {
            who(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        let token = told("authorization", "Bearer s3cret-token");
        assert!(token.starts_with("token sha256:") && !token.contains("s3cret"), "{token}");
        assert_ne!(token, told("authorization", "Bearer other-token"));
        assert_eq!(told("authorization", "Basic dXNlcjpwYXNz"), "basic credentials");
        assert!(told("x-forwarded-client-cert", "Subject=\"CN=ops\"").contains("CN=ops"));
        assert_eq!(who(&HeaderMap::new()), "nobody");
    }
}
