//! What is asked of a path, header, query parameter or cookie.

use ipnet::IpNet;
use serin_proxy::model::{Match, PathMatch, Predicate, PredicateOn, Rule, TextMatch};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const PATHS: [&str; 4] = ["exact", "prefix", "segments", "regex"];
const MATCH: [&str; 12] = [
    "exact",
    "prefix",
    "segments",
    "regex",
    "ignoreCase",
    "method",
    "grpc",
    "percent",
    "headers",
    "query",
    "cookies",
    "connect",
];
/// The value matches of a predicate or a forced version.
pub const TEXTS: [&str; 8] =
    ["exact", "prefix", "suffix", "contains", "regex", "range", "present", "ignoreCase"];
const PREDICATE: [&str; 11] = [
    "name",
    "exact",
    "prefix",
    "suffix",
    "contains",
    "regex",
    "range",
    "present",
    "ignoreCase",
    "invert",
    "missingAsEmpty",
];
const RULE: [&str; 4] = ["headers", "query", "cookies", "source"];
const RANGE: [&str; 2] = ["from", "to"];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

pub fn one(spot: &Spot) -> Option<Match> {
    let fields = spot.fields(&MATCH)?;
    let mut path = fields.any_of(&PATHS).and_then(|(kind, spot)| path(kind, &spot));
    if let Some(spot) = fields.get("ignoreCase")
        && spot.bool() == Some(true)
    {
        path = match path {
            Some(PathMatch::Regex(_)) => {
                spot.error("a regex ignores case by `(?i)`");
                None
            }
            Some(path) => Some(PathMatch::IgnoreCase(Box::new(path))),
            None => {
                spot.error("says nothing without exact, prefix or segments");
                None
            }
        };
    }
    let grpc = fields.get("grpc").and_then(|spot| spot.bool()).unwrap_or(false);
    let per_million = fields.get("percent").and_then(|spot| spot.parsed(units::millionths));
    let method = fields.get("method").and_then(|spot| spot.parsed(method));
    let predicates = predicates(&fields);
    let connect = fields.get("connect").and_then(|spot| spot.bool()).unwrap_or(false);
    for name in ["exact", "prefix", "segments", "regex", "method", "query"] {
        if let (true, Some(spot)) = (connect, fields.get(name)) {
            spot.error("a CONNECT has its authority and fields alone; drop this");
        }
    }
    if method.as_deref() == Some("CONNECT") {
        spot.error("a CONNECT is matched by `connect: true`, not by its method");
    }
    Some(Match { path, method, predicates, connect, grpc, per_million })
}

/// One rule of a trial: all that it asks has to hold.
pub fn rule(spot: &Spot) -> Option<Rule> {
    let fields = spot.fields(&RULE)?;
    if !RULE.iter().any(|name| fields.has(name)) {
        spot.error("asks nothing; give headers, query, cookies or source");
    }
    let sources = fields.get("source").and_then(|spot| sources(&spot)).unwrap_or_default();
    Some(Rule { predicates: predicates(&fields), sources })
}

/// One network or several.
pub fn sources(spot: &Spot) -> Option<Vec<IpNet>> {
    let networks: Vec<Spot> = spot.one_or_more();
    let read: Vec<IpNet> = networks.iter().filter_map(|spot| spot.parsed(units::network)).collect();
    (!read.is_empty() && read.len() == networks.len()).then_some(read)
}

fn predicates(fields: &Fields) -> Vec<Predicate> {
    let mut predicates = Vec::new();
    let lists =
        [("headers", PredicateOn::Header), ("query", PredicateOn::Query), ("cookies", PredicateOn::Cookie)];
    for (list, on) in lists {
        for spot in fields.get(list).and_then(|spot| spot.list()).unwrap_or_default() {
            predicates.extend(predicate(&spot, on));
        }
    }
    predicates
}

/// The value match of a predicate or a forced version.
pub fn text(fields: &Fields) -> Option<TextMatch> {
    let text = value(fields);
    let Some(spot) = fields.get("ignoreCase").filter(|spot| spot.bool() == Some(true)) else {
        return text;
    };
    match text? {
        TextMatch::Regex(_) => {
            spot.error("a regex ignores case by `(?i)`");
            None
        }
        TextMatch::Range { .. } | TextMatch::Present => {
            spot.error("only exact, prefix, suffix and contains can ignore case");
            None
        }
        text => Some(TextMatch::IgnoreCase(Box::new(text))),
    }
}

fn value(fields: &Fields) -> Option<TextMatch> {
    let (kind, spot) = fields.one_of(&TEXTS[..7])?;
    match kind {
        "contains" => Some(TextMatch::Contains(spot.text()?.to_owned())),
        "range" => range(&spot),
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

fn range(spot: &Spot) -> Option<TextMatch> {
    let fields = spot.fields(&RANGE)?;
    let number = |spot: Spot| {
        spot.parsed(|text| text.parse::<i64>().map_err(|_| format!("expects a whole number, not {text:?}")))
    };
    let (from, to) = (fields.need("from").and_then(number), fields.need("to").and_then(number));
    let (from, to) = (from?, to?);
    if from >= to {
        spot.error("holds no number: it goes from `from` on and ends below `to`");
    }
    Some(TextMatch::Range { from, to })
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
    if kind == "segments" && (text.len() < 2 || text.ends_with('/')) {
        spot.error(
            "whole segments are given without a `/` at their end, such as /api; for all give a prefix",
        );
    }
    Some(match kind {
        "exact" => PathMatch::Exact(text),
        "segments" => PathMatch::Segments(text),
        _ => PathMatch::Prefix(text),
    })
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
    let missing_as_empty = fields.get("missingAsEmpty").and_then(|spot| spot.bool()).unwrap_or(false);
    Some(Predicate { on, name: name?, value: value?, invert, missing_as_empty })
}
