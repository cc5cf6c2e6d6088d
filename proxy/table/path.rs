//! Finds, among many paths, those a request's path fits, in the order given.
//!
//! Exact paths and prefixes sit in hash maps, prefixes by length, so the cost
//! depends on the number of different lengths and not on the number of routes.
//! Regexes are tried one after the other.

use std::collections::BTreeMap;
use std::collections::HashMap;

use regex::bytes::Regex;

use crate::model::PathMatch;
use crate::text;

/// Positions in the caller's list, smallest first.
type Positions = Vec<u32>;

#[derive(Default)]
pub struct PathIndex {
    any: Positions,
    exact: HashMap<String, Positions>,
    prefixes: BTreeMap<usize, HashMap<String, Positions>>,
    regexes: Vec<(u32, Regex)>,
}

impl PathIndex {
    /// Positions must be inserted in rising order.
    pub fn insert(&mut self, path: Option<&PathMatch>, position: u32) -> Result<(), String> {
        match path {
            None => self.any.push(position),
            Some(PathMatch::Exact(path)) => self.exact.entry(path.clone()).or_default().push(position),
            Some(PathMatch::Prefix(prefix)) => self
                .prefixes
                .entry(prefix.len())
                .or_default()
                .entry(prefix.clone())
                .or_default()
                .push(position),
            Some(PathMatch::Regex(source)) => self.regexes.push((position, text::whole(source)?)),
        }
        Ok(())
    }

    /// The first position whose path fits and that `accept` takes.
    pub fn find(&self, path: &str, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = first(&self.any, u32::MAX, &accept);
        let improve = |best: &mut Option<u32>, positions: Option<&Positions>| {
            if let Some(positions) = positions {
                let found = first(positions, best.unwrap_or(u32::MAX), &accept);
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
        for (position, regex) in &self.regexes {
            if best.is_some_and(|best| best < *position) {
                break;
            }
            if regex.is_match(path.as_bytes()) && accept(*position) {
                best = Some(*position);
            }
        }
        best
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
        assert_eq!(index.find("/a/1", |_| true), Some(0));
        assert_eq!(index.find("/a/1", |position| position > 0), Some(1));
        assert_eq!(index.find("/a/1", |position| position > 1), Some(2));
        assert_eq!(index.find("/a/x", |_| true), Some(1));
        assert_eq!(index.find("/b", |_| true), Some(3));
        assert_eq!(index.find("*", |_| true), Some(4));
        assert_eq!(index.find("/a/1", |_| false), None);
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        let mut index = PathIndex::default();
        index.insert(Some(&PathMatch::Regex("/a|/b".into())), 0).unwrap();
        assert_eq!(index.find("/b", |_| true), Some(0));
        assert_eq!(index.find("/ba", |_| true), None);
        assert!(index.insert(Some(&PathMatch::Regex("a)(b".into())), 1).is_err());
    }
}
