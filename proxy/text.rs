//! Compiled tests of one text (exact, prefix, suffix, part, regex, range or mere
//! presence), and replacements in one.

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

use crate::model::Substitution;
use crate::model::TextMatch;

/// A regex may compile to this much memory.
const REGEX_SIZE: usize = 1 << 20;

pub enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    Regex(Regex),
    /// From the first number on, below the second.
    Range(i64, i64),
    Present,
}

impl Pattern {
    pub fn new(text: &TextMatch) -> Result<Pattern, String> {
        Ok(match text {
            TextMatch::Exact(value) => Pattern::Exact(value.clone().into_bytes()),
            TextMatch::Prefix(value) => Pattern::Prefix(value.clone().into_bytes()),
            TextMatch::Suffix(value) => Pattern::Suffix(value.clone().into_bytes()),
            TextMatch::Contains(value) => Pattern::Contains(value.clone().into_bytes()),
            TextMatch::Regex(source) => Pattern::Regex(whole(source)?),
            TextMatch::Range { from, to } => Pattern::Range(*from, *to),
            TextMatch::IgnoreCase(inner) => Pattern::Regex(ignoring_case(inner)?),
            TextMatch::Present => Pattern::Present,
        })
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Pattern::Exact(value) => text == value,
            Pattern::Prefix(value) => text.starts_with(value),
            Pattern::Suffix(value) => text.ends_with(value),
            Pattern::Contains(value) => value.is_empty() || memchr::memmem::find(text, value).is_some(),
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Range(from, to) => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
                number.is_some_and(|number| (*from..*to).contains(&number))
            }
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

fn ignoring_case(text: &TextMatch) -> Result<Regex, String> {
    let source = match text {
        TextMatch::Exact(value) => format!("^(?:{})$", regex::escape(value)),
        TextMatch::Prefix(value) => format!("^(?:{})", regex::escape(value)),
        TextMatch::Suffix(value) => format!("(?:{})$", regex::escape(value)),
        TextMatch::Contains(value) => regex::escape(value),
        _ => return Err("only exact, prefix, suffix and contains can ignore case".to_owned()),
    };
    // ASCII only, as Envoy.
    RegexBuilder::new(&source)
        .case_insensitive(true)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| error.to_string())
}

/// Every match of a regex, replaced.
pub struct Replacing {
    regex: regex::Regex,
    with: String,
}

impl Replacing {
    pub fn new(substitution: &Substitution) -> Result<Replacing, String> {
        let regex = regex::RegexBuilder::new(&substitution.pattern)
            .size_limit(REGEX_SIZE)
            .build()
            .map_err(|error| error.to_string())?;
        let with = replacement(&substitution.substitution, regex.captures_len() - 1)?;
        Ok(Replacing { regex, with })
    }

    pub fn apply(&self, text: &str) -> String {
        self.regex.replace_all(text, self.with.as_str()).into_owned()
    }
}

/// RE2's `\1` in the words of our own regexes.
fn replacement(written: &str, groups: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    if group > groups {
                        return Err(format!("\\{digit} in {written:?}: the pattern has {groups} groups"));
                    }
                    out.push_str(&format!("${{{group}}}"));
                }
                _ => return Err(format!("`\\` in {written:?} is not followed by a group's digit")),
            },
            '$' => out.push_str("$$"),
            letter if letter.is_ascii() && is_target(letter as u8) => out.push(letter),
            letter => return Err(format!("{letter:?} in {written:?} cannot stand in a path or host")),
        }
    }
    Ok(out)
}

/// A text that can be a request's target.
pub fn target(text: &str) -> Result<&str, String> {
    match text.chars().find(|letter| !letter.is_ascii() || !is_target(*letter as u8)) {
        Some(letter) => Err(format!("{letter:?} in {text:?} cannot stand in a path")),
        None => Ok(text),
    }
}

/// Characters that every reader takes for part of a target.
pub const fn is_target(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~')
}
