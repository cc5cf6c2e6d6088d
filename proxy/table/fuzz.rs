//! What must hold of the indexes for any names: they answer as a plain search
//! through the list would.

use crate::model::PathMatch;
use crate::table::host::HostIndex;
use crate::table::path::PathIndex;

/// Lines of text: what is asked for, and what it is looked for in.
pub fn routes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let Some(asked) = lines.next() else { return };
    let known: Vec<&str> = lines.collect();
    paths(asked, &known);
    hosts(asked, &known);
}

/// A line that begins with `=` is exact, any other a prefix.
fn paths(asked: &str, known: &[&str]) {
    let mut index = PathIndex::default();
    for (position, line) in known.iter().enumerate() {
        let path = match line.strip_prefix('=') {
            Some(exact) => PathMatch::Exact(exact.to_owned()),
            None => PathMatch::Prefix((*line).to_owned()),
        };
        index.insert(Some(&path), position as u32).expect("only a regex can be wrong");
    }
    let fits = |line: &&str| match line.strip_prefix('=') {
        Some(exact) => exact == asked,
        None => asked.starts_with(*line),
    };
    let first = known.iter().position(fits).map(|position| position as u32);
    assert_eq!(index.find(asked, &|_| true), first, "{asked:?} among {known:?}");
    let odd = known.iter().enumerate().position(|(position, line)| position % 2 == 1 && fits(line));
    assert_eq!(index.find(asked, &|position| position % 2 == 1), odd.map(|position| position as u32));
}

fn hosts(asked: &str, known: &[&str]) {
    let mut index = HostIndex::default();
    let mut taken = Vec::new();
    for (position, domain) in known.iter().enumerate() {
        if index.insert(domain, position).is_ok() {
            taken.push((domain.to_ascii_lowercase(), position));
        }
    }
    let asked = asked.to_ascii_lowercase();
    // Kind, then length: what a person would call the most specific.
    let rank = |domain: &str| match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
        _ if domain == "*" => Some((0, 0)),
        (Some(end), _) => (asked.len() > end.len() && asked.ends_with(end)).then_some((2, end.len())),
        (_, Some(start)) => {
            (asked.len() > start.len() && asked.starts_with(start)).then_some((1, start.len()))
        }
        _ => (domain == asked).then_some((3, 0)),
    };
    let best = taken.iter().filter_map(|(domain, position)| Some((rank(domain)?, *position))).max();
    assert_eq!(index.find(&asked), best.map(|(_, position)| position), "{asked:?} among {known:?}");
}
