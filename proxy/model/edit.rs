//! What is changed in the heads of the messages that pass.

use serde::Serialize;

/// The header edits of one level: a version, a route, a host or all routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Edits {
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response: HeaderEdits,
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// First what is removed, then what is put.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HeaderEdits {
    /// Names; one that ends in `*` stands for all that begin so.
    pub remove: Vec<String>,
    pub put: Vec<HeaderPut>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeaderPut {
    pub name: String,
    /// May hold Envoy's command operators, such as `%REQ(x-user)%`.
    pub value: String,
    pub how: Put,
    /// Put it even where its value comes out empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Put {
    /// Another line, whatever is there.
    Append,
    /// In the place of whatever is there.
    Set,
    SetIfAbsent,
    SetIfPresent,
}
