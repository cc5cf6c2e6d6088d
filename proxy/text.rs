//! A compiled test of one text: exact, prefix, suffix, regex or mere presence.

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

use crate::model::TextMatch;

/// A regex may compile to this much memory.
const REGEX_SIZE: usize = 1 << 20;

pub enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Regex(Regex),
    Present,
}

impl Pattern {
    pub fn new(text: &TextMatch) -> Result<Pattern, String> {
        Ok(match text {
            TextMatch::Exact(value) => Pattern::Exact(value.clone().into_bytes()),
            TextMatch::Prefix(value) => Pattern::Prefix(value.clone().into_bytes()),
            TextMatch::Suffix(value) => Pattern::Suffix(value.clone().into_bytes()),
            TextMatch::Regex(source) => Pattern::Regex(whole(source)?),
            TextMatch::Present => Pattern::Present,
        })
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Pattern::Exact(value) => text == value,
            Pattern::Prefix(value) => text.starts_with(value),
            Pattern::Suffix(value) => text.ends_with(value),
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Present => true,
        }
    }
}

/// A regex that has to match the whole text, as Envoy's `safe_regex`.
pub fn whole(source: &str) -> Result<Regex, String> {
    // Compiled alone first, so that `a)(b` is refused and not completed by our own group.
    Regex::new(source).map_err(|error| error.to_string())?;
    RegexBuilder::new(&format!("^(?:{source})$"))
        .size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| error.to_string())
}
