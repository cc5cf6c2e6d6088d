//! Finds, among many paths, those a request's path fits, in the order given.
//!
//! Exact paths and prefixes sit in hash maps, prefixes by length, so the cost
//! depends on the number of different lengths and not on the number of routes.
//! Regexes are tried one after the other.

use std::collections::BTreeMap;

use regex::bytes::Regex;

use crate::edit::Matched;
use crate::model::PathMatch;
use crate::table::host::Named;
use crate::text;

/// Positions in the caller's list, smallest first.
type Positions = Vec<u32>;

#[derive(Default)]
pub struct PathIndex {
    any: Positions,
    exact: Named<Positions>,
    prefixes: BTreeMap<usize, Named<Positions>>,
    /// Prefixes that end with a segment.
    segments: BTreeMap<usize, Named<Positions>>,
    regexes: Vec<(u32, Regex)>,
    /// Those that ignore case, in lower case.
    folded: Option<Box<PathIndex>>,
}

impl PathIndex {
    /// Positions must be inserted in rising order.
    pub fn insert(&mut self, path: Option<&PathMatch>, position: u32) -> Result<(), String> {
        let by_length = |map: &mut BTreeMap<usize, Named<Positions>>, prefix: &str| {
            map.entry(prefix.len()).or_default().entry(prefix.to_owned()).or_default().push(position);
        };
        match path {
            None => self.any.push(position),
            Some(PathMatch::Exact(path)) => self.exact.entry(path.clone()).or_default().push(position),
            Some(PathMatch::Prefix(prefix)) => by_length(&mut self.prefixes, prefix),
            Some(PathMatch::Segments(prefix)) if prefix.len() < 2 || prefix.ends_with('/') => {
                return Err(format!("{prefix:?} is no path of whole segments; it ends without `/`"));
            }
            Some(PathMatch::Segments(prefix)) => by_length(&mut self.segments, prefix),
            Some(PathMatch::Regex(source)) => self.regexes.push((position, text::whole(source)?)),
            Some(PathMatch::IgnoreCase(inner)) => {
                let lower = match &**inner {
                    PathMatch::Exact(path) => PathMatch::Exact(path.to_ascii_lowercase()),
                    PathMatch::Prefix(path) => PathMatch::Prefix(path.to_ascii_lowercase()),
                    PathMatch::Segments(path) => PathMatch::Segments(path.to_ascii_lowercase()),
                    PathMatch::Regex(_) | PathMatch::IgnoreCase(_) => {
                        return Err("a regex ignores case by `(?i)`".to_owned());
                    }
                };
                self.folded.get_or_insert_default().insert(Some(&lower), position)?;
            }
        }
        Ok(())
    }

    /// The first position whose path fits and that `accept` takes.
    pub fn find(&self, path: &str, accept: &impl Fn(u32) -> bool) -> Option<u32> {
        let best = self.find_below(path, u32::MAX, accept);
        let Some(folded) = &self.folded else { return best };
        let limit = best.unwrap_or(u32::MAX);
        folded.find_below(&path.to_ascii_lowercase(), limit, accept).or(best)
    }

    fn find_below(&self, path: &str, limit: u32, accept: &impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = first(&self.any, limit, accept);
        let improve = |best: &mut Option<u32>, positions: Option<&Positions>| {
            if let Some(positions) = positions {
                let found = first(positions, best.unwrap_or(limit), accept);
                *best = found.or(*best);
            }
        };
        if !self.exact.is_empty() {
            improve(&mut best, self.exact.get(path));
        }
        for (length, prefixes) in self.prefixes.range(..=path.len()) {
            // A prefix that ends inside a character of the path is not its prefix.
            if let Some(prefix) = path.get(..*length) {
                improve(&mut best, prefixes.get(prefix));
            }
        }
        for (length, prefixes) in self.segments.range(..=path.len()) {
            if matches!(path.as_bytes().get(*length), None | Some(b'/')) {
                improve(&mut best, prefixes.get(&path[..*length]));
            }
        }
        for (position, regex) in &self.regexes {
            if best.unwrap_or(limit) <= *position {
                break;
            }
            if regex.is_match(path.as_bytes()) && accept(*position) {
                best = Some(*position);
            }
        }
        best
    }
}

/// What a path that fits has matched of the request's.
pub fn matched(path: Option<&PathMatch>) -> Matched {
    match path {
        None => Matched::Prefix(0),
        Some(PathMatch::Prefix(prefix)) => Matched::Prefix(prefix.len()),
        Some(PathMatch::Segments(prefix)) => Matched::Segments(prefix.len()),
        Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => Matched::Whole,
        Some(PathMatch::IgnoreCase(inner)) => matched(Some(inner)),
    }
}

/// The first acceptable position below `limit`.
fn first(positions: &[u32], limit: u32, accept: &impl Fn(u32) -> bool) -> Option<u32> {
    positions.iter().copied().take_while(|position| *position < limit).find(|position| accept(*position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_order_wins_whatever_its_kind() {
        let kinds = [
            Some(PathMatch::Regex("/a/[0-9]+".into())),
            Some(PathMatch::Prefix("/a/".into())),
            Some(PathMatch::Exact("/a/1".into())),
            Some(PathMatch::Prefix("/".into())),
            None,
        ];
        let mut index = PathIndex::default();
        for (position, path) in kinds.iter().enumerate() {
            index.insert(path.as_ref(), position as u32).unwrap();
        }
        assert_eq!(index.find("/a/1", &|_| true), Some(0));
        assert_eq!(index.find("/a/1", &|position| position > 0), Some(1));
        assert_eq!(index.find("/a/1", &|position| position > 1), Some(2));
        assert_eq!(index.find("/a/x", &|_| true), Some(1));
        assert_eq!(index.find("/b", &|_| true), Some(3));
        assert_eq!(index.find("*", &|_| true), Some(4));
        assert_eq!(index.find("/a/1", &|_| false), None);
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        let mut index = PathIndex::default();
        index.insert(Some(&PathMatch::Regex("/a|/b".into())), 0).unwrap();
        assert_eq!(index.find("/b", &|_| true), Some(0));
        assert_eq!(index.find("/ba", &|_| true), None);
        assert!(index.insert(Some(&PathMatch::Regex("a)(b".into())), 1).is_err());
    }
    #[test]
    fn segments_end_at_a_slash_and_case_can_be_ignored() {
        let ignoring = |path: PathMatch| PathMatch::IgnoreCase(Box::new(path));
        let kinds = [
            PathMatch::Segments("/a".into()),
            ignoring(PathMatch::Prefix("/Ab".into())),
            PathMatch::Exact("/abc".into()),
            ignoring(PathMatch::Segments("/B".into())),
            PathMatch::Prefix("/".into()),
        ];
        let mut index = PathIndex::default();
        for (position, path) in kinds.iter().enumerate() {
            index.insert(Some(path), position as u32).unwrap();
        }
        let paths =
            [("/a", 0), ("/a/", 0), ("/a/b", 0), ("/A", 4), ("/aB", 1), ("/abc", 1), ("/b/x", 3), ("/bx", 4)];
        for (path, position) in paths {
            assert_eq!(index.find(path, &|_| true), Some(position), "{path}");
        }
        assert_eq!(index.find("/abc", &|position| position > 1), Some(2));
        for wrong in ["/", "/a/", ""] {
            assert!(index.insert(Some(&PathMatch::Segments(wrong.into())), 9).is_err(), "{wrong}");
        }
        assert!(index.insert(Some(&ignoring(PathMatch::Regex("/a".into()))), 9).is_err());
    }
}
