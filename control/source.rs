//! Where configuration text comes from. Each source says what changed; none
//! knows what the text means.

pub mod file;

/// The text of a source, because it or a file it refers to is new, or why there
/// is none.
#[derive(Debug)]
pub struct Change {
    /// The source's name for messages, e.g. the file's path.
    pub origin: String,
    pub text: Result<String, std::io::Error>,
}
