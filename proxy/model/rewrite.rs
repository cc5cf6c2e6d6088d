//! Which path and host a request goes on with.

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rewrite {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostRewrite>,
    /// The host as it was is added to `x-forwarded-host`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub append_forwarded_host: bool,
}

impl Rewrite {
    pub fn is_empty(&self) -> bool {
        *self == Rewrite::default()
    }
}

/// The query always stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathRewrite {
    /// In the place of what the route's match has matched: the prefix, or the
    /// whole path of an exact or regex match.
    Prefix(String),
    /// In the place of the whole path.
    Full(String),
    Regex(Substitution),
}

/// Every match of a pattern is replaced.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Substitution {
    pub pattern: String,
    /// `\1` to `\9` stand for the pattern's groups, `\0` for all of the match.
    pub substitution: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRewrite {
    Literal(String),
    /// The value of this header; without it the host stays.
    Header(String),
    /// The host name of the endpoint that is asked.
    Endpoint,
    /// Out of the path, without its query.
    Path(Substitution),
}

/// Sends the client elsewhere. What is not said stays as the client asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Redirect {
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A query in a full path takes the place of the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strip_query: bool,
}

impl Redirect {
    pub fn new(status: u16) -> Redirect {
        Redirect { status, scheme: None, host: None, port: None, path: None, strip_query: false }
    }
}
