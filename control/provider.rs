//! Asking others for numbers.
//!
//! One question, one answer of a kind that says what happened: a number, several,
//! none, something else, or that there was no answer. Nothing is read into an answer
//! here: that nothing came is not zero, and NaN stays NaN. What follows from it is
//! the business of who asked.

mod cloudwatch;
mod command;
mod influx;
mod json;
mod prometheus;
mod web;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use hyper::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::Moment;
use crate::courier::call::{Answer, Call, call, status_text};
use crate::outside::provider::{Kind, Login, NoData, Provider, Query};
use crate::template;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// It was answered, with nothing.
    Absent,
    /// JSON has no word for NaN and infinities: they are written as null.
    Number(f64),
    Numbers(Vec<f64>),
    /// Something that is no number.
    #[schema(value_type = Object)]
    Said(Value),
    /// It was not answered.
    Error(String),
}

/// Names that the templates of queries may use, in the words of all three tools.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Names {
    pub name: String,
    pub namespace: String,
    pub target: String,
    pub service: String,
    pub ingress: String,
    pub route: String,
    /// The window, such as `60s`.
    pub interval: String,
    pub primary: String,
    pub canary: String,
    /// The one that a judge's question is about.
    pub version: String,
    pub variables: BTreeMap<String, String>,
    pub args: BTreeMap<String, String>,
    #[serde(rename = "Args")]
    pub own_args: BTreeMap<String, String>,
    #[serde(rename = "AppCustomArgs")]
    pub app_args: BTreeMap<String, String>,
    #[serde(rename = "VariantCustomArgs")]
    pub variant_args: BTreeMap<String, String>,
    #[serde(rename = "App")]
    pub app: BTreeMap<&'static str, String>,
    #[serde(rename = "K8s")]
    pub kubernetes: BTreeMap<&'static str, String>,
    #[serde(rename = "Variant")]
    pub variant: BTreeMap<&'static str, String>,
}

impl Names {
    /// Of a rollout; `arguments` are what its user has given, under every tool's name.
    /// Its target is what `/metrics` calls its canary's workload.
    pub fn of(rollout: &str, namespace: &str, service: &str, arguments: &BTreeMap<String, String>) -> Names {
        let named = |key, value: &str| BTreeMap::from([(key, value.to_owned())]);
        Names {
            name: rollout.to_owned(),
            namespace: namespace.to_owned(),
            target: if service.is_empty() { rollout } else { service }.to_owned(),
            service: service.to_owned(),
            ingress: service.to_owned(),
            route: service.to_owned(),
            variables: arguments.clone(),
            args: arguments.clone(),
            own_args: arguments.clone(),
            app_args: arguments.clone(),
            variant_args: arguments.clone(),
            app: named("Name", rollout),
            kubernetes: named("Namespace", namespace),
            variant: named("Name", "canary"),
            ..Names::default()
        }
    }
}

/// Asks once. Everything that can go wrong is an answer too.
pub async fn ask(provider: &Provider, query: &Query, names: &Names, now: Moment) -> Sample {
    let interval = format!("{}s", query.window.as_secs().max(1));
    let text = match template::render(&query.text, Names { interval, ..names.clone() }) {
        Ok(text) => text,
        Err(wrong) => return Sample::Error(format!("the query cannot be rendered: {wrong}")),
    };
    let asked = match &provider.kind {
        Kind::Prometheus => prometheus::ask(provider, query, &text, now).await,
        Kind::Web { .. } => web::ask(provider, &text).await,
        Kind::Command { arguments, value } => command::ask(arguments, *value, &text, provider.timeout).await,
        Kind::Datadog => json::datadog(provider, query, &text, now).await,
        Kind::NewRelic { account } => json::new_relic(provider, query, account, &text).await,
        Kind::CloudWatch { region } => cloudwatch::ask(provider, query, region, &text, now).await,
        Kind::Graphite => json::graphite(provider, query, &text).await,
        Kind::InfluxDb { organization } => influx::ask(provider, organization, &text).await,
    };
    told(provider, asked.unwrap_or_else(Sample::Error))
}

/// What is said in words may say back how it was asked.
fn told(provider: &Provider, sample: Sample) -> Sample {
    if provider.address.is_none() || !matches!(sample, Sample::Error(_) | Sample::Said(_)) {
        return sample;
    }
    let Ok(mask) = request(provider, "", &[]).map(|call| call.mask()) else { return sample };
    match sample {
        Sample::Error(text) => Sample::Error(mask.hide(&text)),
        Sample::Said(Value::String(text)) => Sample::Said(Value::from(mask.hide(&text))),
        Sample::Said(value) => {
            let hidden = serde_json::from_str(&mask.hide(&value.to_string()));
            Sample::Said(hidden.unwrap_or(Value::from(crate::secret::HIDDEN)))
        }
        other => other,
    }
}

/// Whether the answer is good, or why it is not; nothing where it is neither.
pub fn judge(query: &Query, sample: &Sample) -> Option<Result<(), String>> {
    let missing = |policy, why: String| match policy {
        NoData::Hold => None,
        NoData::Fail => Some(Err(why)),
        NoData::Pass => Some(Ok(())),
    };
    let of_number = |value: f64| {
        if value.is_nan() {
            return missing(query.no_data, "is not a number".to_owned());
        }
        if let Some(min) = query.min.filter(|min| value < *min) {
            return Some(Err(format!("{value} < {min}")));
        }
        if let Some(max) = query.max.filter(|max| value > *max) {
            return Some(Err(format!("{value} > {max}")));
        }
        Some(Ok(()))
    };
    match sample {
        Sample::Absent => missing(query.no_data, "there is no value".to_owned()),
        Sample::Number(value) => of_number(*value),
        Sample::Numbers(values) => {
            let judged: Vec<_> = values.iter().map(|value| of_number(*value)).collect();
            let bad = judged.iter().flatten().find(|judged| judged.is_err()).cloned();
            bad.or_else(|| judged.into_iter().collect::<Option<Vec<_>>>().map(|_| Ok(())))
        }
        Sample::Said(value) => missing(query.on_error, format!("{value} is no number")),
        Sample::Error(cause) => missing(query.on_error, cause.clone()),
    }
}

/// The address and what is put behind it, with all that the provider wants of a caller.
fn request(provider: &Provider, path: &str, pairs: &[(&str, &str)]) -> Result<Call, String> {
    let missing = |missing: crate::secret::Missing| missing.to_string();
    let address = provider.address.as_ref().ok_or("it has no address")?.fetch().map_err(missing)?;
    let mut url =
        url::Url::parse(address.expose_secret()).map_err(|cause| format!("the address: {cause}"))?;
    if !path.is_empty() {
        let whole = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    let mut call = Call::get(SecretString::from(url.to_string()), provider.timeout);
    call.address = Some(address);
    call.tls = provider.tls.clone();
    match &provider.login {
        Login::Basic { username, password } => {
            let (username, password) =
                (username.fetch().map_err(missing)?, password.fetch().map_err(missing)?);
            let pair = format!("{}:{}", username.expose_secret(), password.expose_secret());
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            call.header(AUTHORIZATION.as_str(), &SecretString::from(format!("Basic {encoded}")))?;
        }
        Login::Bearer(token) => {
            let token = token.fetch().map_err(missing)?;
            let bearer = format!("Bearer {}", token.expose_secret());
            call.header(AUTHORIZATION.as_str(), &SecretString::from(bearer))?;
        }
        Login::Keys { key, application, .. } => {
            let key = key.fetch().map_err(missing)?;
            match &provider.kind {
                Kind::Datadog => call.header("dd-api-key", &key)?,
                Kind::NewRelic { .. } => call.header("x-query-key", &key)?,
                // Signed when the body is known.
                Kind::CloudWatch { .. } => return Ok(call),
                _ => {
                    let token = SecretString::from(format!("Token {}", key.expose_secret()));
                    call.header(AUTHORIZATION.as_str(), &token)?;
                }
            }
            if let Some(application) = application {
                call.header("dd-application-key", &application.fetch().map_err(missing)?)?;
            }
        }
        Login::None => {}
    }
    for (name, value) in &provider.headers {
        call.header(name, &value.fetch().map_err(missing)?)?;
    }
    Ok(call)
}

/// The answer where it is a success.
async fn answer(asked: &Call) -> Result<Answer, String> {
    let answer = call(asked).await.map_err(|fault| fault.to_string())?;
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let (status, gist) = (status_text(answer.status), answer.gist());
    Err(if gist.is_empty() { format!("answered {status}") } else { format!("answered {status}: {gist}") })
}

async fn json_answer(asked: &Call) -> Result<Value, String> {
    let answer = answer(asked).await?;
    serde_json::from_slice(&answer.body).map_err(|cause| format!("answered no JSON: {cause}"))
}

/// Seconds since the epoch, as most of them count.
fn seconds(at: Moment) -> u64 {
    at.0 / 1_000
}

fn before(at: Moment, window: Duration) -> Moment {
    Moment(at.0.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(no_data: NoData, on_error: NoData) -> Query {
        Query {
            provider: "p".to_owned(),
            text: "x".to_owned(),
            window: Duration::from_secs(60),
            step: None,
            min: Some(1.0),
            max: Some(2.0),
            no_data,
            on_error,
        }
    }

    #[test]
    fn a_number_is_good_or_bad_and_everything_else_has_its_policy() {
        let hold = query(NoData::Hold, NoData::Hold);
        assert_eq!(judge(&hold, &Sample::Number(1.5)), Some(Ok(())));
        assert_eq!(judge(&hold, &Sample::Number(0.5)), Some(Err("0.5 < 1".to_owned())));
        assert_eq!(judge(&hold, &Sample::Number(f64::INFINITY)), Some(Err("inf > 2".to_owned())));
        assert_eq!(judge(&hold, &Sample::Numbers(vec![1.0, 2.5])), Some(Err("2.5 > 2".to_owned())));
        assert_eq!(judge(&hold, &Sample::Numbers(vec![1.0, f64::NAN])), None);
        let said = Sample::Said(Value::from("up"));
        let error = Sample::Error("no answer within 1s".to_owned());
        for nothing in [&Sample::Absent, &Sample::Number(f64::NAN), &said, &error] {
            assert_eq!(judge(&hold, nothing), None, "{nothing:?} is neither");
        }
        let strict = query(NoData::Fail, NoData::Pass);
        assert!(judge(&strict, &Sample::Absent).is_some_and(|judged| judged.is_err()));
        assert!(judge(&strict, &Sample::Number(f64::NAN)).is_some_and(|judged| judged.is_err()));
        assert_eq!(judge(&strict, &error), Some(Ok(())));
    }
}
