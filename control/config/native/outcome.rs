//! What counts as a failure of a version, of a service or of one route.

use serin_proxy::model::{AnswerSigns, OutcomeRules, PredicateOn};

use crate::config::fields::Spot;

use super::matching;
use super::units;

const FIELDS: [&str; 3] = ["ignored", "failure", "success"];
const SIGNS: [&str; 3] = ["statuses", "grpc", "headers"];
const FAILURE: [&str; 4] = ["statuses", "grpc", "headers", "slowerThan"];

/// gRPC has the codes 0 to 16.
const GRPC: u64 = 16;

pub fn read(spot: &Spot) -> Option<OutcomeRules> {
    let fields = spot.fields(&FIELDS)?;
    let mut rules = OutcomeRules::default();
    if let Some(spot) = fields.get("ignored") {
        rules.ignored = signs(&spot, &SIGNS);
    }
    if let Some(spot) = fields.get("success") {
        rules.success = signs(&spot, &SIGNS);
    }
    if let Some(spot) = fields.get("failure") {
        rules.failure = signs(&spot, &FAILURE);
        if spot.is_map()
            && let Some(fields) = spot.fields(&FAILURE)
        {
            rules.slower_than = fields.get("slowerThan").and_then(|spot| spot.parsed(units::some_time));
        }
    }
    if rules == OutcomeRules::default() {
        spot.warn("says nothing, so answers count as usual");
    }
    Some(rules)
}

fn signs(spot: &Spot, known: &[&str]) -> AnswerSigns {
    let Some(fields) = spot.fields(known) else { return AnswerSigns::default() };
    let statuses = fields.get("statuses").map(|spot| spot.one_or_more()).unwrap_or_default();
    let grpc = fields.get("grpc").map(|spot| spot.one_or_more()).unwrap_or_default();
    let headers = fields.get("headers").and_then(|spot| spot.list()).unwrap_or_default();
    AnswerSigns {
        statuses: statuses.iter().filter_map(|spot| spot.parsed(range)).collect(),
        grpc: grpc.iter().filter_map(|spot| u32::try_from(spot.whole(0, GRPC)?).ok()).collect(),
        headers: headers.iter().filter_map(|spot| matching::predicate(spot, PredicateOn::Header)).collect(),
    }
}

/// `503`, or `500-504` with both ends.
fn range(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(format!("expects a status from 100 to 599 or a range like 500-504, not {text:?}")),
    }
}
