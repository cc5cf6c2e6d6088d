//! Reads a tree of YAML field by field and tells every problem with its line
//! and path, instead of stopping at the first.
//!
//! A reader answers `None` both for "not given" and for "given wrong"; in the
//! second case it has reported, and the document is refused as a whole.

use std::path::PathBuf;
use std::rc::Rc;

use crate::config::files::Files;
use crate::config::problem::{Problems, Severity};
use crate::config::tree;
use crate::config::tree::{Node, Value, join};

/// One place in the document.
#[derive(Clone)]
pub struct Spot<'t> {
    node: &'t Node,
    /// The line of the field's name, where it has one.
    line: usize,
    path: String,
    problems: &'t Problems,
    files: &'t Files<'t>,
}

/// One mapping whose fields are known by name.
pub struct Fields<'t> {
    spot: Spot<'t>,
}

impl<'t> Spot<'t> {
    pub fn root(node: &'t Node, problems: &'t Problems, files: &'t Files<'t>) -> Spot<'t> {
        Spot { node, line: node.line, path: String::new(), problems, files }
    }

    pub fn error(&self, text: impl Into<String>) {
        self.problems.report(Severity::Error, Some(self.line), &self.path, text);
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.problems.report(Severity::Warning, Some(self.line), &self.path, text);
    }

    /// A mapping with these fields and no others.
    pub fn fields(&self, known: &[&str]) -> Option<Fields<'t>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong(&format!("fields ({})", known.join(", ")));
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let at = self.below(&entry.key, entry.line, &entry.node);
            at.error(match nearest(&entry.key, known.iter().copied()) {
                Some(meant) => format!("unknown field `{}`, did you mean `{meant}`?", entry.key),
                None => format!("unknown field `{}`; fields here are {}", entry.key, known.join(", ")),
            });
        }
        Some(Fields { spot: self.clone() })
    }

    /// A mapping whose names the user chooses.
    pub fn entries(&self) -> Vec<(&'t str, Spot<'t>)> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong("a mapping from names");
            return Vec::new();
        };
        if entries.is_empty() {
            self.error("is empty");
        }
        let mut spots = Vec::with_capacity(entries.len());
        for entry in entries {
            let spot = self.below(&entry.key, entry.line, &entry.node);
            if !spot.is_empty() {
                spots.push((entry.key.as_str(), spot));
            }
        }
        spots
    }

    pub fn list(&self) -> Option<Vec<Spot<'t>>> {
        let Value::List(items) = &self.node.value else {
            self.wrong("a list");
            return None;
        };
        if items.is_empty() {
            self.error("is an empty list");
        }
        let spots = items.iter().enumerate().map(|(i, node)| Spot {
            node,
            line: node.line,
            path: format!("{}[{i}]", self.path),
            problems: self.problems,
            files: self.files,
        });
        Some(spots.filter(|spot| !spot.is_empty()).collect())
    }

    /// A list, or one thing alone where a list may stand.
    pub fn one_or_more(&self) -> Vec<Spot<'t>> {
        match self.node.value {
            Value::List(_) => self.list().unwrap_or_default(),
            _ => vec![self.clone()],
        }
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A mapping that has this field.
    pub fn has(&self, name: &str) -> bool {
        matches!(&self.node.value, Value::Map(entries) if entries.iter().any(|entry| entry.key == name))
    }

    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(items) if items.is_empty())
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.node.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        let value = self.as_bool();
        if value.is_none() {
            self.wrong("true or false");
        }
        value
    }

    /// Any scalar, as it was written.
    pub fn text(&self) -> Option<&'t str> {
        match &self.node.value {
            Value::Text(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.wrong("a text");
                None
            }
        }
    }

    /// A scalar that `parse` understands; its sentence is the problem otherwise.
    pub fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(text) => {
                self.error(text);
                None
            }
        }
    }

    /// The bytes of the file that this names; relative to the configuration's.
    pub fn file(&self) -> Option<Rc<[u8]>> {
        let name = self.text()?;
        if name.is_empty() || name.contains('\0') {
            self.wrong("a file's path");
            return None;
        }
        match self.files.read(name) {
            Ok(bytes) => Some(bytes),
            Err(cause) => {
                self.error(format!("cannot read {}: {cause}", self.files.path(name).display()));
                None
            }
        }
    }

    /// Where the file is that this names, which is there and can be read. When it
    /// changes, the configuration is read again.
    pub fn file_path(&self) -> Option<PathBuf> {
        self.file()?;
        Some(self.files.path(self.text()?))
    }

    /// What is read of the YAML in the file that this names. Its problems are
    /// told with its own name and lines.
    pub fn document<T>(&self, read: impl FnOnce(&Spot) -> Option<T>) -> Option<T> {
        let text = self.file_text()?;
        let problems = Problems::new(&self.files.path(self.text()?).display().to_string());
        // A file beside the configuration refers to no more files.
        let files = Files::none();
        let read = tree::parse(&text, &problems).and_then(|tree| read(&Spot::root(&tree, &problems, &files)));
        self.problems.take(problems);
        read
    }

    /// The same for a file of text.
    pub fn file_text(&self) -> Option<String> {
        let text = String::from_utf8(self.file()?.to_vec()).ok();
        if text.is_none() {
            self.error(format!("{} is no text", self.text().unwrap_or_default()));
        }
        text
    }

    pub fn whole(&self, least: u64, most: u64) -> Option<u64> {
        self.parsed(|text| match text.parse::<u64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => Err(format!("expects a whole number from {least} to {most}, not {text:?}")),
        })
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.parsed(|text| match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(format!("expects {}, not {text:?}", words.join(" or ")))
            }
        })
    }

    pub fn wrong(&self, expected: &str) {
        let found = match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => text.clone(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        };
        self.error(format!("expects {expected}, not {found}"));
    }

    /// A field without a value is no default: the user began to say something.
    fn is_empty(&self) -> bool {
        let empty = self.node.value == Value::Null;
        if empty {
            self.error("has no value");
        }
        empty
    }

    fn below(&self, key: &str, line: usize, node: &'t Node) -> Spot<'t> {
        Spot { node, line, path: join(&self.path, key), problems: self.problems, files: self.files }
    }
}

impl<'t> Fields<'t> {
    pub fn get(&self, name: &str) -> Option<Spot<'t>> {
        let Value::Map(entries) = &self.spot.node.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == name)?;
        let spot = self.spot.below(name, entry.line, &entry.node);
        if spot.is_empty() { None } else { Some(spot) }
    }

    /// Given, be it rightly or wrongly.
    pub fn has(&self, name: &str) -> bool {
        self.spot.has(name)
    }

    pub fn need(&self, name: &str) -> Option<Spot<'t>> {
        if !self.has(name) {
            self.spot.error(format!("`{name}` is missing"));
        }
        self.get(name)
    }

    /// Exactly one of these fields; more or none is a problem.
    pub fn one_of(&self, names: &[&'static str]) -> Option<(&'static str, Spot<'t>)> {
        let given: Vec<&'static str> = names.iter().copied().filter(|name| self.has(name)).collect();
        match given[..] {
            [name] => Some((name, self.get(name)?)),
            [] => {
                self.spot.error(format!("needs {}", names.join(" or ")));
                None
            }
            _ => {
                self.spot.error(format!("{} exclude each other; give one", given.join(" and ")));
                None
            }
        }
    }

    /// At most one of these fields.
    pub fn any_of(&self, names: &[&'static str]) -> Option<(&'static str, Spot<'t>)> {
        if names.iter().any(|name| self.has(name)) { self.one_of(names) } else { None }
    }

    pub fn spot(&self) -> &Spot<'t> {
        &self.spot
    }
}

/// The known name that `word` was likely meant to be.
pub fn nearest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Long words only get slower to compare, not likelier to be a slip.
    if word.len() > 64 {
        return None;
    }
    let folded = word.to_lowercase();
    let most = if folded.chars().count() < 4 { 1 } else { 2 };
    known
        .into_iter()
        .map(|name| (distance(&folded, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, drop, replace, swap neighbours) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_is_found_and_stranger_is_not() {
        let known = ["weight", "pause", "for"];
        assert_eq!(nearest("weigth", known), Some("weight"));
        assert_eq!(nearest("Pause", known), Some("pause"));
        assert_eq!(nearest("fro", known), Some("for"));
        assert_eq!(nearest("bake", known), None);
        assert_eq!(nearest("", known), None);
    }
}
