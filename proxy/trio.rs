//! What one request was answered three times: twice by the primary, once by the
//! version that gets its mirrored requests. Plain data on its way out of the door; what
//! the answers have in common, and what not, is for others to see.

use http::HeaderMap;

/// Trios that may wait to be looked at; past it they are dropped, and counted.
pub const WAITING: usize = 16;

#[derive(Debug)]
pub struct Trio {
    pub split: String,
    /// The version beside the primary.
    pub version: String,
    /// The request's route, and its path without the query.
    pub route: String,
    pub path: String,
    pub primary: Option<Answered>,
    pub again: Option<Answered>,
    pub canary: Option<Answered>,
}

/// One answer that has come to its end, or as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub fields: HeaderMap,
    /// `None` where it is longer than is kept.
    pub body: Option<Vec<u8>>,
}
