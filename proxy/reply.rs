//! An answer of our own, before a codec writes it: to a redirect, in the place of
//! one that did not come, or because a route says so.

use bytes::Bytes;
use http::HeaderMap;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::header::CONTENT_TYPE;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::RETRY_AFTER;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::rewrite;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For gRPC clients, where it does not follow from the status.
    pub grpc_status: Option<u32>,
}

impl Reply {
    pub fn new(status: StatusCode, body: Bytes) -> Reply {
        Reply { status, headers: HeaderMap::new(), body, grpc_status: None }
    }

    /// In the place of an answer that did not come.
    pub fn of_fault(fault: Fault) -> Reply {
        let cause = fault.kind.as_str();
        let mut reply = Reply::new(fault.status(), Bytes::from_static(cause.as_bytes()));
        reply.headers.insert(rewrite::CAUSE, HeaderValue::from_static(cause));
        if fault.kind == Kind::Overloaded {
            // In seconds.
            reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if fault.kind == Kind::Overflow {
            reply.headers.insert(rewrite::OVERLOADED, HeaderValue::from_static("true"));
        }
        reply
    }

    /// Says why it was given.
    pub fn with_cause(mut self, cause: &'static str) -> Reply {
        self.headers.insert(rewrite::CAUSE, HeaderValue::from_static(cause));
        self
    }

    /// Puts it into the words of the client's protocol, once all edits are made.
    /// A gRPC client gets status and message in the head, and no body.
    pub fn seal(mut self, grpc: bool) -> Reply {
        // What an edit may have put there says nothing of this body.
        self.headers.remove(CONTENT_LENGTH);
        if grpc {
            let code = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            self.headers.entry(GRPC_STATUS).or_insert(HeaderValue::from(code));
            let message = std::mem::take(&mut self.body);
            if !message.is_empty()
                && let Ok(message) = HeaderValue::try_from(percent_encoded(&message))
            {
                self.headers.insert(GRPC_MESSAGE, message);
            }
            self.status = StatusCode::OK;
        } else if self.body.is_empty() {
            self.headers.remove(CONTENT_TYPE);
        } else {
            self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
        }
        self
    }
}

/// The gRPC project's mapping for answers that are not gRPC.
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// What a plain client makes of a gRPC status (google.rpc.Code).
pub fn http_status(grpc_status: u32) -> StatusCode {
    match grpc_status {
        0 => StatusCode::OK,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// As a `grpc-message` is written.
fn percent_encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_client_gets_a_status_and_no_body() {
        let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, Bytes::from("he\"l%lo\n ü")).seal(true);
        assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
        assert_eq!(reply.headers["grpc-status"], "14");
        assert_eq!(reply.headers["grpc-message"], "he\"l%25lo%0A %C3%BC");
        assert_eq!(reply.headers["content-type"], "application/grpc");
    }

    #[test]
    fn a_body_has_a_type_and_nothing_has_none() {
        let mut reply = Reply::new(StatusCode::OK, Bytes::from_static(b"<p>"));
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        assert_eq!(reply.seal(false).headers["content-type"], "text/html");
        let plain = Reply::new(StatusCode::OK, Bytes::from_static(b"p")).seal(false);
        assert_eq!(plain.headers["content-type"], "text/plain");
        let mut empty = Reply::new(StatusCode::OK, Bytes::new());
        empty.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        assert!(empty.seal(false).headers.is_empty());
    }
}
