//! Webhooks of a rollout. Types, payload and meaning are Flagger's; `gate: true`
//! instead of a URL is serin's own gate, which people open and close.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::fields::{Fields, Spot};
use crate::outside::hook::{Hook, HookType, Where};

use super::{providers, secrets, units};

const FIELDS: [&str; 16] = [
    "name",
    "type",
    "url",
    "gate",
    "query",
    "timeout",
    "retries",
    "interval",
    "failures",
    "muteAlert",
    "namespace",
    "metadata",
    "headers",
    "sign",
    "ca",
    "insecure",
];
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(10);
const FAILURES: u32 = 5;
/// Who is told is told again so often; who is asked is asked again anyway.
const RETRIES_OF_THE_TOLD: u32 = 5;

pub fn read(rollout: &Fields) -> Vec<Hook> {
    let items = rollout.get("webhooks").and_then(|spot| spot.list()).unwrap_or_default();
    let mut hooks: Vec<Hook> = Vec::new();
    for spot in items {
        let Some(hook) = hook(&spot) else { continue };
        if hooks.iter().any(|other| other.name == hook.name) {
            spot.error(format!("there is a webhook `{}` already", hook.name));
        }
        hooks.push(hook);
    }
    hooks
}

fn hook(spot: &Spot) -> Option<Hook> {
    let fields = spot.fields(&FIELDS)?;
    let types: Vec<(&str, HookType)> = HookType::ALL.into_iter().map(|on| (on.name(), on)).collect();
    let on = fields.get("type").map_or(Some(HookType::Rollout), |spot| spot.word(&types));
    let name = fields.need("name").and_then(|spot| spot.parsed(units::name));
    let to = place(&fields, on);
    let time =
        |name, default| fields.get(name).and_then(|spot| spot.parsed(units::some_time)).unwrap_or(default);
    let number = |name, least, default: u32| {
        let given = fields.get(name).and_then(|spot| spot.whole(least, 1_000));
        given.and_then(|given| u32::try_from(given).ok()).unwrap_or(default)
    };
    let told = matches!(on, Some(HookType::PostRollout | HookType::Event));
    let hook = Hook {
        name: name?,
        on: on?,
        to: to?,
        timeout: time("timeout", TIMEOUT),
        retries: number("retries", 0, if told { RETRIES_OF_THE_TOLD } else { 0 }),
        interval: time("interval", INTERVAL),
        failures: number("failures", 1, FAILURES),
        mute_alert: fields.get("muteAlert").and_then(|spot| spot.bool()).unwrap_or_default(),
        namespace: fields
            .get("namespace")
            .and_then(|spot| spot.parsed(units::name))
            .unwrap_or("default".into()),
        metadata: metadata(&fields),
        headers: secrets::headers(&fields),
        sign: fields.get("sign").and_then(|spot| secrets::secret(&spot)),
        tls: secrets::tls(&fields),
    };
    Some(hook)
}

fn place(fields: &Fields, on: Option<HookType>) -> Option<Where> {
    let is_told = matches!(on, Some(HookType::PostRollout | HookType::Event));
    match fields.one_of(&["url", "gate", "query"])? {
        ("url", spot) => Some(Where::Url(secrets::url(&spot)?)),
        ("query", spot) if is_told => {
            spot.error("a provider can be asked and not be told; give a `url`");
            None
        }
        ("query", spot) => Some(Where::Query(providers::query(&spot)?)),
        (_, spot) => {
            if !spot.bool()? {
                spot.error("give `gate: true`, or a `url` instead");
                return None;
            }
            if is_told {
                spot.error("a gate can be asked and not be told; give a `url`");
                return None;
            }
            Some(Where::Gate)
        }
    }
}

fn metadata(fields: &Fields) -> BTreeMap<String, String> {
    let entries = fields.get("metadata").map(|spot| spot.entries()).unwrap_or_default();
    let pair = |(name, spot): (&str, Spot)| Some((name.to_owned(), spot.text()?.to_owned()));
    entries.into_iter().filter_map(pair).collect()
}
