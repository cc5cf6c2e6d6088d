//! What is asked of a path, header, query parameter or cookie.

use serin_proxy::model::{Match, PathMatch, Predicate, PredicateOn, TextMatch};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const MATCH: [&str; 8] = ["exact", "prefix", "regex", "method", "headers", "query", "cookies", "connect"];
const PREDICATE: [&str; 7] = ["name", "exact", "prefix", "suffix", "regex", "present", "invert"];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

pub fn one(spot: &Spot) -> Option<Match> {
    let fields = spot.fields(&MATCH)?;
    let path = fields.any_of(&["exact", "prefix", "regex"]).and_then(|(kind, spot)| path(kind, &spot));
    let method = fields.get("method").and_then(|spot| spot.parsed(method));
    let mut predicates = Vec::new();
    let lists =
        [("headers", PredicateOn::Header), ("query", PredicateOn::Query), ("cookies", PredicateOn::Cookie)];
    for (list, on) in lists {
        for spot in fields.get(list).and_then(|spot| spot.list()).unwrap_or_default() {
            predicates.extend(predicate(&spot, on));
        }
    }
    let connect = fields.get("connect").and_then(|spot| spot.bool()).unwrap_or(false);
    for name in ["exact", "prefix", "regex", "method", "query"] {
        if let (true, Some(spot)) = (connect, fields.get(name)) {
            spot.error("a CONNECT has its authority and fields alone; drop this");
        }
    }
    if method.as_deref() == Some("CONNECT") {
        spot.error("a CONNECT is matched by `connect: true`, not by its method");
    }
    Some(Match { path, method, predicates, connect })
}

/// The value match of a predicate or a forced version.
pub fn text(fields: &Fields) -> Option<TextMatch> {
    let (kind, spot) = fields.one_of(&["exact", "prefix", "suffix", "regex", "present"])?;
    match kind {
        "exact" => Some(TextMatch::Exact(spot.text()?.to_owned())),
        "prefix" => Some(TextMatch::Prefix(spot.text()?.to_owned())),
        "suffix" => Some(TextMatch::Suffix(spot.text()?.to_owned())),
        "regex" => Some(TextMatch::Regex(spot.parsed(units::pattern)?)),
        _ => {
            if !spot.bool()? {
                spot.error("only `present: true` can be asked; to ask for absence add `invert: true` to it");
            }
            Some(TextMatch::Present)
        }
    }
}

fn path(kind: &str, spot: &Spot) -> Option<PathMatch> {
    if kind == "regex" {
        return Some(PathMatch::Regex(spot.parsed(units::pattern)?));
    }
    let text = spot.parsed(|text| match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with `/`: {text:?} does not")),
        _ if text.contains(['?', '#']) => {
            Err("a path holds neither `?` nor `#`; match the query with `query`".to_owned())
        }
        _ => Ok(text.to_owned()),
    })?;
    Some(if kind == "exact" { PathMatch::Exact(text) } else { PathMatch::Prefix(text) })
}

fn method(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.contains(&upper.as_str()) {
        return Err(format!("methods have case: {upper}, not {text}"));
    }
    units::token(text)
}

pub fn predicate(spot: &Spot, on: PredicateOn) -> Option<Predicate> {
    let fields = spot.fields(&PREDICATE)?;
    let name = fields.need("name").and_then(|spot| {
        spot.parsed(|text| match on {
            PredicateOn::Header => units::header(text),
            PredicateOn::Cookie => units::token(text),
            PredicateOn::Query if text.is_empty() => Err("is empty".to_owned()),
            PredicateOn::Query => Ok(text.to_owned()),
        })
    });
    let value = text(&fields);
    let invert = fields.get("invert").and_then(|spot| spot.bool()).unwrap_or(false);
    Some(Predicate { on, name: name?, value: value?, invert })
}
