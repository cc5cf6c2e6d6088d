//! How a request counts: success, failure, or against nobody.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::fault::At;
use crate::fault::Fault;
use crate::head;

pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// By this an endpoint asks, in any answer, to be taken for failed.
pub const RESIGNS: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure,
    /// The client left or the fault was ours.
    Uncounted,
}

/// How one request ended, as far as its version is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The status that the version answered with, or that we gave in its place;
    /// 0 for none.
    pub code: u16,
}

impl Outcome {
    pub fn of_fault(fault: Fault) -> Outcome {
        match fault.at {
            At::Upstream => Outcome { verdict: Verdict::Failure, code: fault.status().as_u16() },
            At::Downstream | At::Proxy => Outcome { verdict: Verdict::Uncounted, code: 0 },
        }
    }

    pub fn of_status(status: StatusCode) -> Outcome {
        Outcome::of_code(status.as_u16())
    }

    /// The same for a status that is only a number.
    pub fn of_code(status: u16) -> Outcome {
        let verdict = if status >= 500 { Verdict::Failure } else { Verdict::Success };
        Outcome { verdict, code: status }
    }

    /// 1 to 5, 0 for none.
    pub fn class(self) -> u8 {
        (self.code / 100).min(5) as u8
    }

    /// The same answer, seen to be a failure for another reason.
    pub fn failed(self) -> Outcome {
        Outcome { verdict: Verdict::Failure, ..self }
    }

    /// The same answer, counted as somebody's rules have it.
    pub fn counted(self, verdict: Option<Verdict>) -> Outcome {
        Outcome { verdict: verdict.unwrap_or(self.verdict), ..self }
    }

    pub fn uncounted(self) -> Outcome {
        Outcome { verdict: Verdict::Uncounted, ..self }
    }
}

/// gRPC puts its status into trailers, or into the head where there is no body.
/// `None` when the fields say nothing.
pub fn grpc_failure(fields: &HeaderMap) -> Option<bool> {
    Some(is_grpc_failure(fields.get(GRPC_STATUS)?.as_bytes()))
}

/// A status that is no number is no success.
pub fn is_grpc_failure(status: &[u8]) -> bool {
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    status.is_none_or(is_grpc_server_fault)
}

pub fn is_grpc(fields: &HeaderMap) -> bool {
    fields.get(http::header::CONTENT_TYPE).is_some_and(|value| head::is_grpc(value.as_bytes()))
}

/// The codes by which a server says that it, not the caller, is at fault:
/// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
/// (OpenTelemetry's semantic conventions for RPC servers).
fn is_grpc_server_fault(code: u32) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}
