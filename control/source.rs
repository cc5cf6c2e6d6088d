//! Where configuration text comes from. Each source says what changed; none
//! knows what the text means.

pub mod file;

/// New text from a source, or why there is none.
#[derive(Debug)]
pub struct Change {
    /// The source's name for messages, e.g. the file's path.
    pub origin: String,
    pub text: Result<String, std::io::Error>,
}
