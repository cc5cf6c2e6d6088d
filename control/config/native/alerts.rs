//! Who hears of events: receivers, and the routes that lead to them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::fields::{Fields, Spot, nearest};
use crate::outside::alert::{Alerts, Kind, Receiver, Route, Severity};
use crate::rollout::EventKind;
use crate::rollout::spec::About;
use crate::template;

use super::{secrets, units};

const FIELDS: [&str; 4] = ["link", "environment", "receivers", "routes"];
const RECEIVER: [&str; 16] = [
    "name",
    "type",
    "url",
    "token",
    "channel",
    "username",
    "template",
    "headers",
    "sign",
    "ca",
    "insecure",
    "timeout",
    "retries",
    "perMinute",
    "repeat",
    "lasts",
];
const ROUTE: [&str; 12] = [
    "receiver",
    "severity",
    "events",
    "ignoreEvents",
    "rollouts",
    "ignoreRollouts",
    "services",
    "ignoreServices",
    "environments",
    "ignoreEnvironments",
    "labels",
    "ignoreLabels",
];
const KINDS: [(&str, Kind); 10] = [
    ("slack", Kind::Slack),
    ("rocketChat", Kind::RocketChat),
    ("discord", Kind::Discord),
    ("teams", Kind::Teams),
    ("teamsWorkflow", Kind::TeamsWorkflow),
    ("googleChat", Kind::GoogleChat),
    ("pagerDuty", Kind::PagerDuty),
    ("webhook", Kind::Webhook),
    ("alertmanager", Kind::Alertmanager),
    ("cloudEvents", Kind::CloudEvents),
];
const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warn", Severity::Warn), ("error", Severity::Error)];
const PAGER_DUTY: &str = "https://events.pagerduty.com/v2/enqueue";

pub fn read(document: &Fields) -> Alerts {
    let mut alerts = Alerts::default();
    let Some(spot) = document.get("alerts") else { return alerts };
    let Some(fields) = spot.fields(&FIELDS) else { return alerts };
    alerts.link = fields.get("link").and_then(|spot| spot.parsed(template));
    alerts.environment = fields.get("environment").and_then(|spot| spot.parsed(units::name));
    for spot in fields.need("receivers").and_then(|spot| spot.list()).unwrap_or_default() {
        let Some(receiver) = receiver(&spot) else { continue };
        if alerts.receiver(&receiver.name).is_some() {
            spot.error(format!("there is a receiver `{}` already", receiver.name));
        }
        alerts.receivers.push(receiver);
    }
    let all = |receiver: &Receiver| Route { receiver: receiver.name.clone(), ..Route::default() };
    alerts.routes = match fields.get("routes").and_then(|spot| spot.list()) {
        Some(items) => items.iter().filter_map(|spot| route(spot, &alerts.receivers)).collect(),
        None => alerts.receivers.iter().map(all).collect(),
    };
    alerts
}

fn receiver(spot: &Spot) -> Option<Receiver> {
    let fields = spot.fields(&RECEIVER)?;
    let kind = fields.need("type").and_then(|spot| spot.word(&KINDS))?;
    let plain = |name| fields.get(name).and_then(|spot| Some(spot.text()?.to_owned()));
    let time = |name, default| {
        fields.get(name).and_then(|spot| spot.parsed(units::duration)).unwrap_or(Duration::from_secs(default))
    };
    let number = |name, least, default: u32| {
        let given = fields.get(name).and_then(|spot| spot.whole(least, 100_000));
        given.and_then(|given| u32::try_from(given).ok()).unwrap_or(default)
    };
    for (field, kinds) in [
        ("template", &[Kind::Webhook][..]),
        ("lasts", &[Kind::Alertmanager]),
        ("token", &[Kind::Slack, Kind::PagerDuty]),
        ("channel", &[Kind::Slack, Kind::RocketChat, Kind::Discord]),
        ("username", &[Kind::Slack, Kind::RocketChat, Kind::Discord]),
    ] {
        if let Some(spot) = fields.get(field).filter(|_| !kinds.contains(&kind)) {
            spot.error("is not for receivers of this type");
        }
    }
    let name = fields.need("name").and_then(|spot| spot.parsed(units::name));
    let url = match kind {
        Kind::PagerDuty if !fields.has("url") => Some(crate::secret::Text::Plain(PAGER_DUTY.to_owned())),
        _ => fields.need("url").and_then(|spot| secrets::url(&spot)),
    };
    let token = match kind {
        Kind::PagerDuty => fields.need("token"),
        _ => fields.get("token"),
    };
    let token = token.map(|spot| secrets::secret(&spot).map(crate::secret::Text::Secret));
    Some(Receiver {
        name: name?,
        kind,
        url: url?,
        token: match token {
            Some(token) => Some(token?),
            None => None,
        },
        channel: plain("channel"),
        username: plain("username"),
        template: fields.get("template").and_then(|spot| spot.parsed(template)),
        headers: secrets::headers(&fields),
        sign: fields.get("sign").and_then(|spot| secrets::secret(&spot)),
        tls: secrets::tls(&fields),
        timeout: fields
            .get("timeout")
            .and_then(|spot| spot.parsed(units::some_time))
            .unwrap_or(Duration::from_secs(5)),
        retries: number("retries", 0, 5),
        per_minute: number("perMinute", 1, 30),
        repeat: time("repeat", 60),
        lasts: time("lasts", 4 * 3600),
    })
}

fn route(spot: &Spot, receivers: &[Receiver]) -> Option<Route> {
    let fields = spot.fields(&ROUTE)?;
    let at = fields.need("receiver")?;
    let receiver = at.text()?;
    let names = || receivers.iter().map(|receiver| receiver.name.as_str());
    if !names().any(|name| name == receiver) {
        at.error(match nearest(receiver, names()) {
            Some(meant) => format!("there is no receiver `{receiver}`, did you mean `{meant}`?"),
            None => format!("there is no receiver `{receiver}`"),
        });
    }
    let texts = |name| {
        let items = fields.get(name).map(|spot| spot.one_or_more()).unwrap_or_default();
        items.iter().filter_map(|spot| Some(spot.text()?.to_owned())).collect::<Vec<_>>()
    };
    let kinds = |name| {
        let items = fields.get(name).map(|spot| spot.one_or_more()).unwrap_or_default();
        items.iter().filter_map(|spot| spot.parsed(event)).collect::<Vec<_>>()
    };
    Some(Route {
        receiver: receiver.to_owned(),
        severity: fields.get("severity").and_then(|spot| spot.word(&SEVERITIES)).unwrap_or_default(),
        events: kinds("events"),
        ignore_events: kinds("ignoreEvents"),
        rollouts: texts("rollouts"),
        ignore_rollouts: texts("ignoreRollouts"),
        services: texts("services"),
        ignore_services: texts("ignoreServices"),
        environments: texts("environments"),
        ignore_environments: texts("ignoreEnvironments"),
        labels: labels(&fields, "labels"),
        ignore_labels: labels(&fields, "ignoreLabels"),
    })
}

/// What tells a rollout from others, for those who are told of it.
pub fn about(rollout: &Fields) -> About {
    let environment = rollout.get("environment").and_then(|spot| spot.parsed(units::name));
    About { environment, labels: labels(rollout, "labels") }
}

fn labels(fields: &Fields, name: &str) -> BTreeMap<String, String> {
    let entries = fields.get(name).map(|spot| spot.entries()).unwrap_or_default();
    let pair = |(name, spot): (&str, Spot)| {
        if !name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
            spot.error(format!("{name:?} is no name of a label: it begins with no letter"));
        }
        Some((name.to_owned(), spot.text()?.to_owned()))
    };
    entries.into_iter().filter_map(pair).collect()
}

fn event(text: &str) -> Result<String, String> {
    match serde_json::from_value::<EventKind>(serde_json::Value::from(text)) {
        Ok(_) => Ok(text.to_owned()),
        Err(cause) => Err(format!("there is no event {text:?}: {cause}")),
    }
}

fn template(text: &str) -> Result<String, String> {
    template::check(text).map_err(|wrong| format!("is no template: {wrong}"))?;
    Ok(text.to_owned())
}
