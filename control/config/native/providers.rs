//! Metric stores and whatever else can be asked for a number, by name.

use std::time::Duration;

use crate::config::fields::{Fields, Spot, nearest};
use crate::outside::hook::Where;
use crate::outside::provider::{CommandValue, Kind, Login, NoData, Provider, Query, path};
use crate::rollout::Spec;
use crate::template;

use super::{secrets, units};

const FIELDS: [&str; 19] = [
    "type",
    "region",
    "secretKey",
    "sessionToken",
    "address",
    "basic",
    "bearer",
    "key",
    "applicationKey",
    "account",
    "organization",
    "method",
    "body",
    "command",
    "value",
    "headers",
    "ca",
    "insecure",
    "timeout",
];
const BASIC: [&str; 2] = ["username", "password"];
const QUERY: [&str; 8] = ["provider", "query", "window", "step", "min", "max", "noData", "onError"];
const QUESTION: [&str; 4] = ["provider", "query", "window", "step"];
const TYPES: [&str; 8] =
    ["prometheus", "web", "command", "datadog", "newRelic", "cloudWatch", "graphite", "influxdb"];
const POLICIES: [(&str, NoData); 3] =
    [("hold", NoData::Hold), ("fail", NoData::Fail), ("pass", NoData::Pass)];
const DATADOG: &str = "https://api.datadoghq.com";
const NEW_RELIC: &str = "https://insights-api.newrelic.com";
const TIMEOUT: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(60);

pub fn read(document: &Fields) -> Vec<Provider> {
    let entries = document.get("providers").map(|spot| spot.entries()).unwrap_or_default();
    entries.into_iter().filter_map(|(name, spot)| provider(name, &spot)).collect()
}

fn provider(name: &str, spot: &Spot) -> Option<Provider> {
    if let Err(text) = units::name(name) {
        spot.error(text);
    }
    let fields = spot.fields(&FIELDS)?;
    let words = TYPES.map(|word| (word, word));
    let word = fields.need("type").and_then(|spot| spot.word(&words))?;
    let kind = kind(word, &fields);
    let default = match word {
        "datadog" => Some(DATADOG),
        "newRelic" => Some(NEW_RELIC),
        _ => None,
    };
    let address = match (fields.get("address"), default) {
        (Some(spot), _) => Some(secrets::url(&spot)?),
        (None, Some(default)) => Some(crate::secret::Text::Plain(default.to_owned())),
        (None, None) if word == "command" => None,
        (None, None) if word == "cloudWatch" => {
            let region = fields.get("region")?.text()?;
            Some(crate::secret::Text::Plain(format!("https://monitoring.{region}.amazonaws.com/")))
        }
        (None, None) => {
            fields.need("address");
            return None;
        }
    };
    Some(Provider {
        name: name.to_owned(),
        kind: kind?,
        address,
        login: login(&fields, word),
        headers: secrets::headers(&fields),
        tls: secrets::tls(&fields),
        timeout: fields.get("timeout").and_then(|spot| spot.parsed(units::some_time)).unwrap_or(TIMEOUT),
    })
}

fn kind(word: &str, fields: &Fields) -> Option<Kind> {
    let text = |name| fields.need(name).and_then(|spot| Some(spot.text()?.to_owned()));
    Some(match word {
        "prometheus" => Kind::Prometheus,
        "web" => {
            let methods = ["GET", "POST", "PUT"].map(|method| (method, method));
            let method = fields.get("method").and_then(|spot| spot.word(&methods)).unwrap_or("GET");
            let body = fields.get("body").and_then(|spot| Some(spot.text()?.to_owned()));
            Kind::Web { body, method: method.to_owned() }
        }
        "command" => {
            let items = fields.need("command")?.one_or_more();
            let arguments = items.iter().filter_map(|spot| Some(spot.text()?.to_owned())).collect();
            let values = [("output", CommandValue::Output), ("exitCode", CommandValue::ExitCode)];
            let value =
                fields.get("value").and_then(|spot| spot.word(&values)).unwrap_or(CommandValue::Output);
            Kind::Command { arguments, value }
        }
        "datadog" => Kind::Datadog,
        "newRelic" => Kind::NewRelic { account: text("account")? },
        "cloudWatch" => Kind::CloudWatch { region: text("region")? },
        "graphite" => Kind::Graphite,
        _ => Kind::InfluxDb { organization: text("organization")? },
    })
}

fn login(fields: &Fields, word: &str) -> Login {
    let secret =
        |name| fields.get(name).and_then(|spot| secrets::secret(&spot)).map(crate::secret::Text::Secret);
    if ["datadog", "newRelic", "cloudWatch", "influxdb"].contains(&word) {
        fields.need("key");
    }
    let second = match word {
        "cloudWatch" => {
            fields.need("secretKey");
            "secretKey"
        }
        _ => "applicationKey",
    };
    match fields.any_of(&["basic", "bearer", "key"]) {
        Some(("basic", spot)) => {
            let Some(basic) = spot.fields(&BASIC) else { return Login::None };
            let username = basic.need("username").and_then(|spot| secrets::text(&spot));
            let password = basic.need("password").and_then(|spot| secrets::secret(&spot));
            match (username, password) {
                (Some(username), Some(password)) => {
                    Login::Basic { username, password: crate::secret::Text::Secret(password) }
                }
                _ => Login::None,
            }
        }
        Some(("bearer", _)) => secret("bearer").map_or(Login::None, Login::Bearer),
        Some(_) => match secret("key") {
            Some(key) => Login::Keys { key, application: secret(second), session: secret("sessionToken") },
            None => Login::None,
        },
        None => Login::None,
    }
}

/// What a judge looks at: bounds and what silence means are its own.
pub fn question(spot: &Spot, window: Duration) -> Option<Query> {
    asked(&spot.fields(&QUESTION)?, window)
}

/// What a webhook asks instead of a URL.
pub fn query(spot: &Spot) -> Option<Query> {
    let fields = spot.fields(&QUERY)?;
    let number = |name| fields.get(name).and_then(|spot| spot.parsed(bound));
    let policy = |name| fields.get(name).and_then(|spot| spot.word(&POLICIES)).unwrap_or(NoData::Hold);
    let query = asked(&fields, WINDOW);
    let (min, max) = (number("min"), number("max"));
    match (min, max) {
        (None, None) => spot.error("give `min` or `max` or both, or every answer is good"),
        (Some(min), Some(max)) if min > max => spot.error(format!("no number is from {min} to {max}")),
        _ => {}
    }
    Some(Query { min, max, no_data: policy("noData"), on_error: policy("onError"), ..query? })
}

fn asked(fields: &Fields, window: Duration) -> Option<Query> {
    let text = fields.need("query").and_then(|spot| {
        spot.parsed(|text| {
            template::check(text)
                .map(|()| text.to_owned())
                .map_err(|wrong| format!("is no template: {wrong}"))
        })
    });
    Some(Query {
        provider: fields.need("provider").and_then(|spot| Some(spot.text()?.to_owned()))?,
        text: text?,
        window: fields.get("window").and_then(|spot| spot.parsed(units::some_time)).unwrap_or(window),
        step: fields.get("step").and_then(|spot| spot.parsed(units::some_time)),
        min: None,
        max: None,
        no_data: NoData::Hold,
        on_error: NoData::Hold,
    })
}

/// Queries name providers, which are known only when everything is read.
pub fn check(document: &Fields, providers: &[Provider], rollouts: &[Spec]) {
    let Some(spot) = document.get("rollouts") else { return };
    for spec in rollouts {
        let of_hooks = spec.hooks.iter().filter_map(|hook| match &hook.to {
            Where::Query(query) => {
                Some((format!("webhook `{}` of rollout `{}`", hook.name, spec.name), query))
            }
            Where::Url(_) | Where::Gate => None,
        });
        let of_judge = spec.analysis.questions.iter().map(|question| {
            (format!("`{}` of the analysis of rollout `{}`", question.name, spec.name), &question.query)
        });
        for (at, query) in of_hooks.chain(of_judge) {
            let names = || providers.iter().map(|provider| provider.name.as_str());
            match providers.iter().find(|provider| provider.name == query.provider) {
                None => spot.error(match nearest(&query.provider, names()) {
                    Some(meant) => {
                        format!("{at}: there is no provider `{}`, did you mean `{meant}`?", query.provider)
                    }
                    None => format!("{at}: there is no provider `{}`", query.provider),
                }),
                Some(provider) if matches!(provider.kind, Kind::Web { .. }) && !query.text.contains("{{") => {
                    if let Err(text) = path(&query.text) {
                        spot.error(format!("{at}: {text}"));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

fn bound(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("expects a number, not {text:?}")),
    }
}
