//! How each receiver writes a message. Field names and shapes are theirs; for the
//! chat services they are also those that Flagger sends.

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::message::Message;
use crate::courier::{Call, signature};
use crate::outside::alert::{Kind, Receiver, Severity};
use crate::template;

const SIGNATURE: &str = "x-serin-signature";
const NAME: &str = "serin";

/// The request of this moment; secrets are fetched for it.
pub fn call(receiver: &Receiver, message: &Message) -> Result<Call, String> {
    let missing = |missing: crate::secret::Missing| missing.to_string();
    let url = address(receiver, receiver.url.fetch().map_err(missing)?);
    let token = receiver.token.as_ref().map(|token| token.fetch().map_err(missing)).transpose()?;
    let mut call = Call::post(url, &Value::Null, receiver.timeout);
    call.tls = receiver.tls.clone();
    call.body = match (&receiver.template, receiver.kind) {
        (Some(template), _) => {
            Bytes::from(template::render(template, message).map_err(|wrong| wrong.to_string())?)
        }
        (None, _) => Bytes::from(body(receiver, message, token.as_ref()).to_string()),
    };
    if receiver.kind == Kind::CloudEvents {
        let structured = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
        call.headers.insert(CONTENT_TYPE, structured);
    }
    if let (Kind::Slack, Some(token)) = (receiver.kind, &token) {
        let bearer = SecretString::from(format!("Bearer {}", token.expose_secret()));
        call.header(AUTHORIZATION.as_str(), &bearer)?;
    }
    if let Some(key) = &receiver.sign {
        let signed = signature(key, &call.body)?;
        call.header(SIGNATURE, &SecretString::from(signed))?;
    }
    if receiver.kind == Kind::PagerDuty {
        call.secret_in_body = token;
    }
    for (name, value) in &receiver.headers {
        call.header(name, &value.fetch().map_err(missing)?)?;
    }
    Ok(call)
}

/// Where some of them want more than their address.
fn address(receiver: &Receiver, url: SecretString) -> SecretString {
    let end = match receiver.kind {
        Kind::Discord => "/slack",
        Kind::Alertmanager => "/api/v2/alerts",
        _ => return url,
    };
    // What is wrong with a URL is told by who calls it.
    let Ok(mut whole) = url::Url::parse(url.expose_secret()) else { return url };
    let path = whole.path().trim_end_matches('/').to_owned();
    if !path.ends_with(end) {
        whole.set_path(&format!("{path}{end}"));
    }
    SecretString::from(whole.to_string())
}

fn body(receiver: &Receiver, message: &Message, token: Option<&SecretString>) -> Value {
    match receiver.kind {
        Kind::Slack | Kind::Discord => slack(receiver, message, ["good", "warning", "danger"]),
        Kind::RocketChat => slack(receiver, message, ["#0076D7", "#FFA500", "#FF0000"]),
        Kind::Teams => message_card(message),
        Kind::TeamsWorkflow => adaptive_card(message),
        Kind::GoogleChat => google_chat(message),
        Kind::PagerDuty => pager_duty(message, token),
        Kind::Webhook => json!(message),
        Kind::Alertmanager => alertmanager(receiver, message),
        Kind::CloudEvents => cloud_event(message),
    }
}

fn of_severity<T: Copy>(severity: Severity, [info, warn, error]: [T; 3]) -> T {
    match severity {
        Severity::Info => info,
        Severity::Warn => warn,
        Severity::Error => error,
    }
}

/// Names and values as every chat has them: the figures, and what else there is.
fn facts(message: &Message) -> Vec<(String, String)> {
    let mut facts = vec![("Phase".to_owned(), message.phase.clone())];
    if let Some(environment) = &message.environment {
        facts.push(("Environment".to_owned(), environment.clone()));
    }
    facts.extend(message.labels.clone());
    facts.extend(message.figures.iter().map(|figure| (figure.name.clone(), figure.value.clone())));
    if message.left_out > 0 {
        facts.push(("Messages left out".to_owned(), message.left_out.to_string()));
    }
    facts
}

fn slack(receiver: &Receiver, message: &Message, colors: [&str; 3]) -> Value {
    let field = |(title, value): (String, String)| {
        let short = value.len() < 40;
        json!({"title": title, "value": value, "short": short})
    };
    json!({
        "channel": receiver.channel.as_deref().unwrap_or("general"),
        "username": receiver.username.as_deref().unwrap_or(NAME),
        "icon_emoji": ":bird:",
        "attachments": [{
            "color": of_severity(message.severity, colors),
            "author_name": message.rollout,
            "title": message.title,
            "title_link": message.link,
            "text": message.text,
            "fallback": format!("{}: {}", message.title, message.text),
            "mrkdwn_in": ["text"],
            "ts": message.at.0 / 1_000,
            "fields": facts(message).into_iter().map(field).collect::<Vec<_>>(),
        }],
    })
}

fn message_card(message: &Message) -> Value {
    let fact = |(name, value): (String, String)| json!({"name": name, "value": value});
    json!({
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "themeColor": of_severity(message.severity, ["0076D7", "FFA500", "FF0000"]),
        "summary": message.title,
        "sections": [{
            "activityTitle": message.text,
            "activitySubtitle": message.title,
            "facts": facts(message).into_iter().map(fact).collect::<Vec<_>>(),
        }],
        "potentialAction": [{
            "@type": "OpenUri",
            "name": "Look",
            "targets": [{"os": "default", "uri": message.link}],
        }],
    })
}

fn adaptive_card(message: &Message) -> Value {
    let fact = |(title, value): (String, String)| json!({"title": title, "value": value});
    let color = of_severity(message.severity, ["Default", "Warning", "Attention"]);
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {"type": "TextBlock", "text": message.title, "weight": "Bolder", "color": color},
                    {"type": "TextBlock", "text": message.text, "wrap": true},
                    {"type": "FactSet", "facts": facts(message).into_iter().map(fact).collect::<Vec<_>>()},
                ],
                "actions": [{"type": "Action.OpenUrl", "title": "Look", "url": message.link}],
            },
        }],
    })
}

fn google_chat(message: &Message) -> Value {
    let paragraph = |text: String| json!({"widgets": [{"textParagraph": {"text": text}}]});
    let mut sections = vec![paragraph(escaped(&message.text))];
    let fact = |(name, value): (String, String)| {
        paragraph(format!("<b>{}</b>: {}", escaped(&name), escaped(&value)))
    };
    sections.extend(facts(message).into_iter().map(fact));
    let open = json!({"openLink": {"url": message.link}});
    sections.push(json!({"widgets": [{"buttons": [{"textButton": {"text": "LOOK", "onClick": open}}]}]}));
    json!({"cards": [{"header": {"title": NAME, "subtitle": message.title}, "sections": sections}]})
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Events API v2. The key stands in the body, as that API wants it.
fn pager_duty(message: &Message, key: Option<&SecretString>) -> Value {
    let details: serde_json::Map<String, Value> =
        facts(message).into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    json!({
        "routing_key": key.map(|key| key.expose_secret().to_owned()),
        "event_action": if message.resolves { "resolve" } else { "trigger" },
        "dedup_key": format!("serin/{}/{}", message.environment.as_deref().unwrap_or("default"), message.rollout),
        "client": NAME,
        "client_url": message.link,
        "links": [{"href": message.link, "text": message.title}],
        "payload": {
            // Not longer than what it takes.
            "summary": format!("{}: {}", message.title, message.text).chars().take(1_024).collect::<String>(),
            "source": message.service,
            "component": message.rollout,
            "group": message.environment,
            "class": message.event,
            "severity": of_severity(message.severity, ["info", "warning", "critical"]),
            "timestamp": message.time,
            "custom_details": details,
        },
    })
}

/// One alert for each rollout: what comes later replaces or resolves it.
fn alertmanager(receiver: &Receiver, message: &Message) -> Value {
    let mut annotations = json!({
        "summary": message.title,
        "description": message.text,
        "event": message.event,
    });
    for (name, value) in facts(message) {
        annotations[name.to_lowercase().replace(' ', "_")] = json!(value);
    }
    // The severity is a label, since routes there go by labels; so that of before
    // is another alert, and ends with this message.
    let of = |severity: &'static str, fires: bool| {
        let mut labels = json!({
            "alertname": "SerinRollout",
            "rollout": message.rollout,
            "service": message.service,
            "severity": severity,
        });
        if let Some(environment) = &message.environment {
            labels["environment"] = json!(environment);
        }
        for (name, value) in &message.labels {
            // Names that older ones take, and none of ours.
            let name: String =
                name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
            if labels.get(&name).is_none() {
                labels[name] = json!(value);
            }
        }
        let ends = if fires { message.time_after(receiver.lasts) } else { message.time.clone() };
        let mut alert = json!({
            "labels": labels,
            "annotations": annotations,
            "endsAt": ends,
            "generatorURL": message.link,
        });
        // When one that ends began, Alertmanager knows.
        if fires {
            alert["startsAt"] = json!(message.time);
        }
        alert
    };
    let fires = !message.resolves;
    let is_error = message.severity == Severity::Error;
    json!([of("warning", fires && !is_error), of("critical", fires && is_error)])
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Version 1.0 in structured mode.
fn cloud_event(message: &Message) -> Value {
    json!({
        "specversion": "1.0",
        "id": message.id.to_string(),
        "source": format!("/serin/{}", message.environment.as_deref().unwrap_or("default")),
        "type": format!("io.serin.rollout.{}", message.event),
        "subject": message.rollout,
        "time": message.time,
        "datacontenttype": "application/json",
        "data": message,
    })
}
