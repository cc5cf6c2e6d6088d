//! Where a request goes on to, and where a client is sent.

use serin_proxy::model::{HostRewrite, PathRewrite, Redirect, Rewrite, Substitution};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const REWRITE: [&str; 8] = [
    "prefix",
    "path",
    "regex",
    "host",
    "hostFromHeader",
    "hostFromEndpoint",
    "hostFromPath",
    "appendForwardedHost",
];
const REDIRECT: [&str; 8] = ["status", "scheme", "host", "port", "prefix", "path", "regex", "stripQuery"];
const SUBSTITUTION: [&str; 2] = ["pattern", "substitution"];
const HOSTS: [&str; 4] = ["host", "hostFromHeader", "hostFromEndpoint", "hostFromPath"];
const STATUSES: [(&str, u16); 5] = [("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)];
const SCHEMES: [(&str, &str); 2] = [("http", "http"), ("https", "https")];

pub fn rewrite(spot: &Spot) -> Rewrite {
    let Some(fields) = spot.fields(&REWRITE) else {
        return Rewrite::default();
    };
    let append = fields.get("appendForwardedHost");
    if let Some(spot) = append.as_ref().filter(|_| !HOSTS.iter().any(|name| fields.has(name))) {
        spot.error("without another host there is none to append");
    }
    let rewrite = Rewrite {
        path: path(&fields, false),
        host: fields.any_of(&HOSTS).and_then(|(kind, spot)| host(kind, &spot)),
        append_forwarded_host: append.and_then(|spot| spot.bool()).unwrap_or(false),
    };
    if !REWRITE.iter().any(|name| fields.has(name)) {
        spot.error("says nothing");
    }
    rewrite
}

pub fn redirect(spot: &Spot) -> Option<Redirect> {
    let fields = spot.fields(&REDIRECT)?;
    let status = fields.get("status").map(|spot| spot.word(&STATUSES));
    let mut redirect = Redirect::new(status.unwrap_or(Some(301))?);
    redirect.scheme = fields.get("scheme").and_then(|spot| spot.word(&SCHEMES)).map(str::to_owned);
    redirect.host = fields.get("host").and_then(|spot| spot.parsed(units::host));
    redirect.port = fields.get("port").and_then(|spot| spot.whole(1, 65_535)).map(|port| port as u16);
    redirect.path = path(&fields, true);
    redirect.strip_query = fields.get("stripQuery").and_then(|spot| spot.bool()).unwrap_or(false);
    if !REDIRECT[1..].iter().any(|name| fields.has(name)) {
        spot.error("sends the client where it came from: give scheme, host, port or a path");
    }
    Some(redirect)
}

/// `prefix`, `path` or `regex`.
fn path(fields: &Fields, with_query: bool) -> Option<PathRewrite> {
    let (kind, spot) = fields.any_of(&["prefix", "path", "regex"])?;
    if kind == "regex" {
        return substitution(&spot).map(PathRewrite::Regex);
    }
    let text = spot.parsed(|text| match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with `/`: {text:?} does not")),
        _ if text.contains('#') => Err("a path holds no `#`".to_owned()),
        _ if text.contains('?') && !(with_query && kind == "path") => {
            Err("a path holds no `?`; the query stays as it is".to_owned())
        }
        _ => Ok(text.to_owned()),
    })?;
    Some(if kind == "prefix" { PathRewrite::Prefix(text) } else { PathRewrite::Full(text) })
}

fn host(kind: &str, spot: &Spot) -> Option<HostRewrite> {
    match kind {
        "host" => Some(HostRewrite::Literal(spot.parsed(units::host)?)),
        "hostFromHeader" => Some(HostRewrite::Header(spot.parsed(units::header)?)),
        "hostFromPath" => substitution(spot).map(HostRewrite::Path),
        _ => {
            if !spot.bool()? {
                spot.error("only `hostFromEndpoint: true` says something");
            }
            Some(HostRewrite::Endpoint)
        }
    }
}

fn substitution(spot: &Spot) -> Option<Substitution> {
    let fields = spot.fields(&SUBSTITUTION)?;
    let pattern = fields.need("pattern").and_then(|spot| spot.parsed(units::pattern));
    let substitution = fields.need("substitution").and_then(|spot| spot.text().map(str::to_owned));
    Some(Substitution { pattern: pattern?, substitution: substitution? })
}
