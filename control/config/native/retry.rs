//! When a failed request is sent again.

use serin_proxy::model::{Predicate, PredicateOn, RateLimited, ResetFormat, ResetHeader, Retry, RetryOn};

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::fields::nearest;

use super::matching;
use super::site::Site;
use super::units;

const FIELDS: [&str; 12] = [
    "on",
    "retries",
    "perTryTimeout",
    "perTryIdleTimeout",
    "backoff",
    "statuses",
    "headers",
    "requestHeaders",
    "hostAttempts",
    "maxBody",
    "rateLimited",
    "then",
];
const BACKOFF: [&str; 2] = ["base", "max"];
const RATE_LIMITED: [&str; 2] = ["headers", "max"];
const RESET: [&str; 2] = ["name", "format"];
const FORMATS: [(&str, ResetFormat); 2] = [("seconds", ResetFormat::Seconds), ("unix", ResetFormat::Unix)];

/// Of one request; a policy that asks for more asks for a storm.
const MOST_RETRIES: u64 = 20;
/// As long as Envoy waits at most for an answer that says when.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(300);

/// `false` and whatever is wrong are no policy. `site` is the service whose
/// requests are meant, where it is known.
pub fn read(spot: &Spot, site: Option<&Site>) -> Option<Retry> {
    match spot.as_bool() {
        Some(false) => return None,
        Some(true) => {
            spot.error("say what to retry on: fields with `on`, or the word `istio`");
            return None;
        }
        None => {}
    }
    if !spot.is_map() {
        let istio = spot.parsed(|text| match text {
            "istio" => Ok(Retry::istio()),
            _ => Err(format!("expects fields with `on`, false or `istio`, not {text:?}")),
        });
        return istio;
    }
    let fields = spot.fields(&FIELDS)?;
    let on = fields.need("on").map(|spot| words(&spot)).unwrap_or_default();
    let mut retry = Retry::new(on);
    if let Some(retries) = fields.get("retries").and_then(|spot| spot.whole(0, MOST_RETRIES)) {
        retry.retries = u32::try_from(retries).unwrap_or(retry.retries);
    }
    retry.per_try_timeout = fields.get("perTryTimeout").and_then(|spot| spot.parsed(units::some_time));
    retry.per_try_idle_timeout =
        fields.get("perTryIdleTimeout").and_then(|spot| spot.parsed(units::some_time));
    if let Some(spot) = fields.get("backoff") {
        backoff(&spot, &mut retry);
    }
    lists(&fields, &mut retry);
    if let Some(attempts) = fields.get("hostAttempts").and_then(|spot| spot.whole(0, 100)) {
        retry.host_attempts = u32::try_from(attempts).unwrap_or(retry.host_attempts);
    }
    if let Some(size) = fields.get("maxBody").and_then(|spot| spot.parsed(units::size)) {
        retry.max_body = size;
    }
    retry.rate_limited = fields.get("rateLimited").and_then(|spot| rate_limited(&spot));
    if let (Some(spot), Some(site)) = (fields.get("then"), site.filter(|site| !site.broken)) {
        retry.then = spot.text().and_then(|name| site.version(name, &spot));
    }
    Some(retry)
}

/// Envoy's words, as a list or in one text with commas.
fn words(spot: &Spot) -> Vec<RetryOn> {
    let mut words = Vec::new();
    for spot in spot.one_or_more() {
        let Some(text) = spot.text() else { continue };
        for word in text.split(',').map(str::trim) {
            match RetryOn::ALL.iter().find(|(known, _)| *known == word) {
                Some((_, on)) if words.contains(on) => spot.error(format!("`{word}` stands twice")),
                Some((_, on)) => words.push(*on),
                None => spot.error(unknown(word)),
            }
        }
    }
    words
}

fn unknown(word: &str) -> String {
    let known = RetryOn::ALL.iter().map(|(word, _)| *word);
    match nearest(word, known.clone()) {
        Some(meant) => format!("there is no `{word}` to retry on, did you mean `{meant}`?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("there is no `{word}` to retry on; words are {}", known.join(", "))
        }
    }
}

fn backoff(spot: &Spot, retry: &mut Retry) {
    let Some(fields) = spot.fields(&BACKOFF) else { return };
    if let Some(base) = fields.get("base").and_then(|spot| spot.parsed(units::some_time)) {
        (retry.backoff, retry.max_backoff) = (base, base * 10);
    }
    if let Some(spot) = fields.get("max")
        && let Some(max) = spot.parsed(units::some_time)
    {
        if max < retry.backoff {
            spot.error("is shorter than `base`");
        }
        retry.max_backoff = max;
    }
}

/// A list means something only beside the word that asks for it.
fn lists(fields: &Fields, retry: &mut Retry) {
    let asked = |on: RetryOn, word: &str, list: &str| match (retry.on.contains(&on), fields.get(list)) {
        (true, None) if !fields.has(list) => {
            fields.spot().error(format!("`{word}` needs `{list}`"));
            None
        }
        (false, Some(spot)) => {
            spot.error(format!("means nothing without `{word}` in `on`"));
            None
        }
        (_, spot) => spot,
    };
    let statuses = asked(RetryOn::RetriableStatusCodes, "retriable-status-codes", "statuses");
    let headers = asked(RetryOn::RetriableHeaders, "retriable-headers", "headers");
    for spot in statuses.iter().flat_map(Spot::one_or_more) {
        retry.statuses.extend(spot.whole(100, 599).and_then(|status| u16::try_from(status).ok()));
    }
    retry.headers = predicates(headers);
    retry.request_headers = predicates(fields.get("requestHeaders"));
}

fn predicates(list: Option<Spot>) -> Vec<Predicate> {
    let items = list.and_then(|spot| spot.list()).unwrap_or_default();
    items.iter().filter_map(|spot| matching::predicate(spot, PredicateOn::Header)).collect()
}

fn rate_limited(spot: &Spot) -> Option<RateLimited> {
    let fields = spot.fields(&RATE_LIMITED)?;
    let mut headers = Vec::new();
    for spot in fields.need("headers").and_then(|spot| spot.list()).unwrap_or_default() {
        let Some(fields) = spot.fields(&RESET) else { continue };
        let name = fields.need("name").and_then(|spot| spot.parsed(units::header));
        let format = fields.get("format").and_then(|spot| spot.word(&FORMATS));
        headers.extend(name.map(|name| ResetHeader { name, format: format.unwrap_or(ResetFormat::Seconds) }));
    }
    let max = fields.get("max").and_then(|spot| spot.parsed(units::some_time));
    Some(RateLimited { headers, max: max.unwrap_or(LONGEST_WAIT) })
}
