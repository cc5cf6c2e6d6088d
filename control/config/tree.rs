//! YAML as a tree that remembers lines, so that a whole document can be read
//! and all its problems told at once.
//!
//! serde's derive would stop at the first wrong field; here the library only
//! parses, and [`crate::config::fields`] reads. A scalar keeps the text it was
//! written with: `1.10` may be a version's name as well as a number.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::config::problem::{Problems, Severity};

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written, so that decimals stay exact.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub node: Node,
}

/// Bound on a document's nodes after aliases are followed.
const MAX_NODES: usize = 250_000;
/// Bound on what aliases may add to that.
const MAX_REPLAYED: usize = 20_000;
/// Bound on nesting, well above what any dialect needs.
const MAX_DEPTH: usize = 64;

/// The tree, or `None` when the text is no YAML at all. A key given twice is
/// reported and its first value kept.
pub fn parse(text: &str, problems: &Problems) -> Option<Node> {
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(Node { line, value: Value::Null }) => {
            problems.report(Severity::Error, Some(line), "", "the document is empty");
            None
        }
        Ok(tree) => Some(tree),
        Err(Fault { duplicate: false, line, text }) => {
            problems.report(Severity::Error, line, "", text);
            None
        }
        // One duplicate must not hide the document's other problems.
        Err(first) => {
            let Ok(mut tree) = read(text, DuplicateKeyPolicy::LastWins) else {
                problems.report(Severity::Error, first.line, "", first.text);
                return None;
            };
            let mut found = Vec::new();
            drop_repeats(&mut tree, "", &mut found);
            if found.is_empty() {
                problems.report(Severity::Error, first.line, "", first.text);
            }
            for (line, path) in found {
                problems.report(Severity::Error, Some(line), &path, "this field is given twice");
            }
            Some(tree)
        }
    }
}

/// `services` and `web` make `services.web`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Fault {
    duplicate: bool,
    line: Option<usize>,
    text: String,
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Node, Fault> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_depth: MAX_DEPTH },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(settle(raw, text)),
        Err(error) => {
            let error = error.without_snippet();
            Err(Fault {
                duplicate: matches!(error, serde_saphyr::Error::DuplicateMappingKey { .. }),
                line: error.location().map(|at| usize::try_from(at.line()).unwrap_or(usize::MAX)),
                text: plain(error),
            })
        }
    }
}

/// The library's sentence without its own place, which the problem has as a field.
fn plain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::MultipleDocuments { .. } => "a configuration is one YAML document; drop the `---`".to_owned(),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("`{key}` is given twice"),
            None => "a key is given twice".to_owned(),
        },
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
            "the document is too large, too deep or too entangled".to_owned()
        }
        Error::UnknownAnchor { .. } => "this alias names no anchor".to_owned(),
        other => {
            let text = other.to_string();
            let text = match text.find(" at line ") {
                Some(cut) if other.location().is_some() => &text[..cut],
                _ => &text,
            };
            format!("not valid YAML: {}", text.trim())
        }
    }
}

/// What serde hands over before lines and written texts are put in.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn settle(raw: Spanned<Raw>, text: &str) -> Node {
    let line = usize::try_from(raw.referenced.line()).unwrap_or(usize::MAX);
    let written = || {
        let span = raw.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        // A tagged or quoted number (`!!int "5"`) is taken by its value instead.
        text.get(start..end).filter(|written| written.starts_with(|c: char| "+-.0123456789".contains(c)))
    };
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number(ref value) => Value::Number(written().unwrap_or(value).trim().to_owned()),
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => Value::List(items.into_iter().map(|item| settle(item, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    line: usize::try_from(key.referenced.line()).unwrap_or(usize::MAX),
                    key: key.value,
                    node: settle(node, text),
                })
                .collect(),
        ),
    };
    Node { line, value }
}

fn drop_repeats(node: &mut Node, path: &str, found: &mut Vec<(usize, String)>) {
    match &mut node.value {
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                drop_repeats(item, &format!("{path}[{i}]"), found);
            }
        }
        Value::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            entries.retain(|entry| {
                let first = seen.insert(entry.key.clone());
                if !first {
                    found.push((entry.line, join(path, &entry.key)));
                }
                first
            });
            for entry in entries {
                drop_repeats(&mut entry.node, &join(path, &entry.key), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
