//! Rewriting of a request's path; its query stays.

use crate::model::PathRewrite;
use crate::text;
use crate::text::Replacing;

/// What a route's match has matched of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// So many bytes of its beginning.
    Prefix(usize),
    /// The same, ending with a segment.
    Segments(usize),
    Whole,
}

pub enum PathEdit {
    Prefix(String),
    Full(String),
    Regex(Replacing),
}

impl PathEdit {
    pub fn new(rewrite: &PathRewrite) -> Result<PathEdit, String> {
        Ok(match rewrite {
            PathRewrite::Prefix(path) => PathEdit::Prefix(text::target(path)?.to_owned()),
            PathRewrite::Full(path) => PathEdit::Full(text::target(path)?.to_owned()),
            PathRewrite::Regex(substitution) => PathEdit::Regex(Replacing::new(substitution)?),
        })
    }

    /// The new target out of the old, which begins with what was matched.
    pub fn apply(&self, target: &str, matched: Matched) -> String {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let rewritten = match self {
            PathEdit::Prefix(prefix) => {
                let taken = match matched {
                    Matched::Prefix(length) | Matched::Segments(length) => length,
                    Matched::Whole => path.len(),
                };
                let rest = path.get(taken..).unwrap_or_default();
                // `/a` to `/` makes `/a/b` to `/b` and not to `//b`.
                let twice =
                    matches!(matched, Matched::Segments(_)) && prefix.ends_with('/') && rest.starts_with('/');
                [prefix.as_str(), if twice { &rest[1..] } else { rest }].concat()
            }
            PathEdit::Full(path) => path.clone(),
            PathEdit::Regex(replacing) => replacing.apply(path),
        };
        let root = if rewritten.starts_with('/') { "" } else { "/" };
        // A redirect's own query has the last word.
        let query = if rewritten.contains('?') { "" } else { query };
        [root, &rewritten, query].concat()
    }
}
