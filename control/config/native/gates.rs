//! What may stop a request before any version is asked: CORS, a rate limit,
//! injected faults.

use serin_proxy::model::{Abort, AbortWith, Cors, Delay, Faults, PredicateOn, RateLimit, Route, TextMatch};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::matching;
use super::units;

const CORS: [&str; 8] = [
    "origins",
    "methods",
    "headers",
    "expose",
    "maxAge",
    "credentials",
    "privateNetwork",
    "forwardOtherPreflights",
];
const LIMIT: [&str; 7] = ["requests", "per", "burst", "status", "tell", "percent", "enforced"];
const FAULTS: [&str; 4] = ["when", "delay", "abort", "maxActive"];
const DELAY: [&str; 3] = ["time", "byHeader", "percent"];
const ABORT: [&str; 4] = ["status", "grpcStatus", "byHeader", "percent"];
const ALL: u32 = 1_000_000;

pub fn read(fields: &Fields, route: &mut Route) {
    route.cors = fields.get("cors").and_then(|spot| cors(&spot));
    route.rate_limit = fields.get("rateLimit").and_then(|spot| limit(&spot));
    route.faults = fields.get("faults").and_then(|spot| faults(&spot));
}

fn cors(spot: &Spot) -> Option<Cors> {
    let fields = spot.fields(&CORS)?;
    let mut origins = Vec::new();
    for spot in fields.need("origins").map(|spot| spot.one_or_more()).unwrap_or_default() {
        origins.extend(match spot.is_map() {
            true => spot.fields(&matching::TEXTS).and_then(|fields| matching::text(&fields)),
            false => spot.text().map(|text| TextMatch::Exact(text.to_owned())),
        });
    }
    let list = |name: &str, parse: fn(&str) -> Result<String, String>| -> Vec<String> {
        let spots = fields.get(name).map(|spot| spot.one_or_more()).unwrap_or_default();
        spots.iter().filter_map(|spot| spot.parsed(parse)).collect()
    };
    let flag = |name: &str| fields.get(name).and_then(|spot| spot.bool());
    Some(Cors {
        origins,
        methods: list("methods", units::token),
        headers: list("headers", units::token),
        expose: list("expose", units::token),
        max_age: fields.get("maxAge").and_then(|spot| spot.parsed(units::duration)),
        credentials: flag("credentials").unwrap_or(false),
        private_network: flag("privateNetwork").unwrap_or(false),
        forward_other_preflights: flag("forwardOtherPreflights").unwrap_or(true),
    })
}

pub fn limit(spot: &Spot) -> Option<RateLimit> {
    let fields = spot.fields(&LIMIT)?;
    let count = |name: &str| {
        let count = fields.get(name).and_then(|spot| spot.whole(1, 1_000_000_000));
        count.and_then(|count| u32::try_from(count).ok())
    };
    let share = |name: &str| fields.get(name).and_then(|spot| spot.parsed(units::millionths)).unwrap_or(ALL);
    for name in ["requests", "per"] {
        fields.need(name);
    }
    let per = fields.get("per").and_then(|spot| spot.parsed(units::some_time));
    let status = fields.get("status").and_then(|spot| spot.whole(400, 599)).unwrap_or(429);
    let tell = fields.get("tell").and_then(|spot| spot.bool()).unwrap_or(false);
    let (per_million, enforced_per_million) = (share("percent"), share("enforced"));
    let (requests, burst) = (count("requests"), count("burst"));
    Some(RateLimit {
        requests: requests?,
        per: per?,
        burst: burst.or(requests)?,
        status: u16::try_from(status).ok()?,
        tell,
        per_million,
        enforced_per_million,
    })
}

fn faults(spot: &Spot) -> Option<Faults> {
    let fields = spot.fields(&FAULTS)?;
    let mut when = Vec::new();
    for spot in fields.get("when").and_then(|spot| spot.list()).unwrap_or_default() {
        when.extend(matching::predicate(&spot, PredicateOn::Header));
    }
    let delay = fields.get("delay").and_then(|spot| delay(&spot));
    let abort = fields.get("abort").and_then(|spot| abort(&spot));
    let max_active = fields.get("maxActive").and_then(|spot| spot.whole(0, 1_000_000));
    if !fields.has("delay") && !fields.has("abort") {
        spot.error("needs delay or abort");
    }
    Some(Faults { when, delay, abort, max_active: max_active.and_then(|most| usize::try_from(most).ok()) })
}

fn delay(spot: &Spot) -> Option<Delay> {
    let fields = spot.fields(&DELAY)?;
    let (kind, spot) = fields.one_of(&["time", "byHeader"])?;
    let time = if kind == "time" { Some(spot.parsed(units::some_time)?) } else { by_header(&spot, None)? };
    Some(Delay { time, per_million: share(&fields) })
}

fn abort(spot: &Spot) -> Option<Abort> {
    let fields = spot.fields(&ABORT)?;
    let (kind, spot) = fields.one_of(&["status", "grpcStatus", "byHeader"])?;
    let with = match kind {
        "status" => AbortWith::Status(u16::try_from(spot.whole(200, 599)?).ok()?),
        "grpcStatus" => AbortWith::Grpc(u32::try_from(spot.whole(0, 16)?).ok()?),
        _ => by_header(&spot, AbortWith::Header)?,
    };
    Some(Abort { with, per_million: share(&fields) })
}

fn by_header<T>(spot: &Spot, value: T) -> Option<T> {
    if !spot.bool()? {
        spot.error("only `byHeader: true` says something");
    }
    Some(value)
}

fn share(fields: &Fields) -> u32 {
    fields.get("percent").and_then(|spot| spot.parsed(units::millionths)).unwrap_or(ALL)
}
