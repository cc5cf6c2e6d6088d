//! What went wrong with a request: whose fault, which kind, from what cause.
//!
//! Only what lies upstream counts against a version. A client that hangs up,
//! or a bound of our own, never does.

use std::io::ErrorKind;

use http::StatusCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Downstream,
    Upstream,
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NoRoute,
    BadRequest,
    /// The client wanted its connection to turn into what its route does not allow.
    UpgradeRefused,
    NoHealthyUpstream,
    ConnectFailure,
    ConnectTimeout,
    /// There was a connection, but no agreement on TLS.
    Handshake,
    /// The upstream broke the connection before its answer was whole.
    Reset,
    /// A kept connection was closed before it took any of the request.
    Unsent,
    /// A kept connection was closed under the request before a word of the
    /// answer; nobody knows whether the request was taken.
    Stale,
    /// The upstream said that it has not taken the request.
    Refused,
    /// Our own bound on what a version may have under way.
    Overflow,
    /// What came back was not HTTP.
    Garbage,
    Timeout,
    /// One attempt took too long for its answer's head.
    TryTimeout,
    IdleTimeout,
    /// The request has lived as long as any may.
    MaxDuration,
    /// The client sent a broken body or left.
    ClientGone,
    /// The client did not end its request in time, or takes nothing.
    RequestTimeout,
    /// There is too much already.
    Overloaded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.kind.as_str())]
pub struct Fault {
    pub at: At,
    pub kind: Kind,
}

impl Fault {
    pub fn upstream(kind: Kind) -> Fault {
        Fault { at: At::Upstream, kind }
    }

    pub fn downstream(kind: Kind) -> Fault {
        Fault { at: At::Downstream, kind }
    }

    /// hyper's account of a failed exchange, told in our kinds.
    pub fn of_exchange(error: &hyper::Error) -> Fault {
        if error.is_parse() {
            return Fault::upstream(Kind::Garbage);
        }
        let cause = std::error::Error::source(error);
        // So hyper says that it cannot read a chunk.
        let unread = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        if matches!(unread, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData)) {
            return Fault::upstream(Kind::Garbage);
        }
        let http2 = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
        // A GOAWAY is the end of those streams only that it does not count as taken.
        let refused = http2.is_some_and(|error| {
            error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        });
        Fault::upstream(if refused { Kind::Refused } else { Kind::Reset })
    }

    /// The status of the answer we give in the upstream's place.
    pub fn status(self) -> StatusCode {
        match self.kind {
            Kind::NoRoute => StatusCode::NOT_FOUND,
            Kind::BadRequest | Kind::ClientGone => StatusCode::BAD_REQUEST,
            Kind::UpgradeRefused => StatusCode::FORBIDDEN,
            Kind::NoHealthyUpstream
            | Kind::ConnectFailure
            | Kind::ConnectTimeout
            | Kind::Handshake
            | Kind::Reset
            | Kind::Unsent
            | Kind::Stale
            | Kind::Refused
            | Kind::Overflow
            | Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Kind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Kind::Garbage => StatusCode::BAD_GATEWAY,
            Kind::Timeout | Kind::TryTimeout | Kind::IdleTimeout | Kind::MaxDuration => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }
}

impl Kind {
    /// The word in the `x-serin-cause` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NoRoute => "no-route",
            Kind::BadRequest => "bad-request",
            Kind::UpgradeRefused => "upgrade-refused",
            Kind::NoHealthyUpstream => "no-healthy-upstream",
            Kind::ConnectFailure => "connect-failure",
            Kind::ConnectTimeout => "connect-timeout",
            Kind::Handshake => "tls-handshake",
            Kind::Reset | Kind::Unsent | Kind::Stale => "reset",
            Kind::Refused => "refused-stream",
            Kind::Overflow => "overflow",
            Kind::Garbage => "garbage",
            Kind::Timeout => "timeout",
            Kind::TryTimeout => "per-try-timeout",
            Kind::IdleTimeout => "idle-timeout",
            Kind::MaxDuration => "max-duration",
            Kind::ClientGone => "client-gone",
            Kind::RequestTimeout => "request-timeout",
            Kind::Overloaded => "overloaded",
        }
    }
}
