//! By what a route hashes its requests.

use serin_proxy::model::{HashBy, HashPolicy};

use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 7] = ["header", "cookie", "query", "sourceIp", "ttl", "path", "terminal"];

pub fn read(spot: &Spot) -> Vec<HashPolicy> {
    spot.one_or_more().iter().filter_map(policy).collect()
}

fn policy(spot: &Spot) -> Option<HashPolicy> {
    let fields = spot.fields(&FIELDS)?;
    let terminal = fields.get("terminal").and_then(|spot| spot.bool()).unwrap_or(false);
    let (kind, by) = fields.one_of(&["header", "cookie", "query", "sourceIp"])?;
    if kind != "cookie" {
        for extra in ["ttl", "path"] {
            if let Some(spot) = fields.get(extra) {
                spot.error("only a cookie has this");
            }
        }
    }
    let by = match kind {
        "header" => HashBy::Header(by.parsed(units::header)?),
        "query" => HashBy::Query(by.text()?.to_owned()),
        "sourceIp" => {
            if by.bool() == Some(false) {
                by.error("is true or left out");
            }
            HashBy::SourceIp
        }
        _ => {
            let ttl = fields.get("ttl").and_then(|spot| {
                let ttl = spot.parsed(units::duration)?;
                if ttl.subsec_nanos() != 0 {
                    spot.error("a cookie's age is in whole seconds");
                }
                Some(ttl)
            });
            let path = fields.get("path").and_then(|spot| {
                if !fields.has("ttl") {
                    spot.error("only a cookie that serin hands out (with `ttl`) has a path");
                }
                spot.parsed(units::cookie_path)
            });
            HashBy::Cookie { name: by.parsed(units::token)?, ttl, path }
        }
    };
    Some(HashPolicy { by, terminal })
}
