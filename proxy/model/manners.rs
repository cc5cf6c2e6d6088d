//! What a listener does to every request and answer, whatever their routes say.

use serde::Serialize;

/// What a request's path goes through before anything looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Paths {
    /// Dot segments are resolved, and escapes that need not be are undone
    /// (RFC 3986, 6.2.2).
    pub normalize: bool,
    /// `//` becomes `/`, after the above.
    pub merge_slashes: bool,
    /// `%2F` and `%5C`, before the above.
    pub escaped_slashes: EscapedSlashes,
}

impl Paths {
    pub fn is_default(&self) -> bool {
        *self == Paths::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EscapedSlashes {
    #[default]
    Keep,
    /// Answered 400.
    Reject,
    /// The client is sent to the path without them.
    Redirect,
    Unescape,
}

/// The `server` field of answers, where it is not left as it comes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerField {
    pub name: String,
    /// Also in the place of what a version says.
    pub overwrite: bool,
}
