//! How much may be under way to a version, and how its connections are kept.

use serin_proxy::model::{Breaker, Keeping, RetryBound};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const BREAKER: [&str; 5] = ["connections", "pending", "requests", "retries", "retryBudget"];
const BUDGET: [&str; 2] = ["percent", "least"];
const KEEPING: [&str; 5] = ["idleTimeout", "maxAge", "maxRequests", "maxPerEndpoint", "maxStreams"];

const MOST: u64 = 10_000_000;

pub fn breaker(spot: &Spot) -> Option<Breaker> {
    let fields = spot.fields(&BREAKER)?;
    let mut breaker = Breaker {
        connections: number(&fields, "connections", 1),
        pending: number(&fields, "pending", 0),
        requests: number(&fields, "requests", 1),
        retries: RetryBound::default(),
    };
    match fields.any_of(&["retries", "retryBudget"]) {
        Some(("retries", _)) => {
            breaker.retries = number(&fields, "retries", 0).map_or(breaker.retries, RetryBound::Most);
        }
        Some((_, spot)) => breaker.retries = budget(&spot)?,
        None => {}
    }
    Some(breaker)
}

fn budget(spot: &Spot) -> Option<RetryBound> {
    let fields = spot.fields(&BUDGET)?;
    let RetryBound::Budget { mut percent, mut least } = RetryBound::default() else { return None };
    if let Some(spot) = fields.get("percent")
        && let Some(parts) = spot.parsed(units::parts)
    {
        if parts % 100 != 0 {
            spot.error("expects whole percents");
        }
        percent = parts / 100;
    }
    if let Some(given) = number(&fields, "least", 0) {
        least = given;
    }
    Some(RetryBound::Budget { percent, least })
}

pub fn keeping(spot: &Spot) -> Option<Keeping> {
    let fields = spot.fields(&KEEPING)?;
    let time = |name| fields.get(name).and_then(|spot| spot.parsed(units::some_time));
    Some(Keeping {
        idle_timeout: time("idleTimeout"),
        max_age: time("maxAge"),
        max_requests: number(&fields, "maxRequests", 1),
        max_per_endpoint: number(&fields, "maxPerEndpoint", 1),
        max_streams: number(&fields, "maxStreams", 1),
    })
}

fn number(fields: &Fields, name: &str, least: u64) -> Option<u32> {
    let number = fields.get(name)?.whole(least, MOST)?;
    u32::try_from(number).ok()
}
