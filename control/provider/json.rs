//! Stores that answer in JSON of their own: Datadog, New Relic, Graphite. Requests
//! and answers are those of their documentation.

use serde_json::Value;

use super::{Sample, before, json_answer, request, seconds};
use crate::clock::Moment;
use crate::outside::provider::{Provider, Query};

/// `GET /api/v1/query`: the newest point of the first series.
pub async fn datadog(provider: &Provider, query: &Query, text: &str, now: Moment) -> Result<Sample, String> {
    let (from, to) = (seconds(before(now, query.window)).to_string(), seconds(now).to_string());
    let asked = request(provider, "/api/v1/query", &[("query", text), ("from", &from), ("to", &to)])?;
    let said = json_answer(&asked).await?;
    if let Some(error) = said["error"].as_str().filter(|error| !error.is_empty()) {
        return Err(error.to_owned());
    }
    let points = said["series"][0]["pointlist"].as_array();
    Ok(newest(points.into_iter().flatten().map(|point| &point[1])))
}

/// `GET /v1/accounts/N/query`: the only number of the first result.
pub async fn new_relic(
    provider: &Provider,
    query: &Query,
    account: &str,
    text: &str,
) -> Result<Sample, String> {
    // As Flagger does, where the query says nothing itself.
    let text = match text.to_uppercase().contains(" SINCE ") {
        true => text.to_owned(),
        false => format!("{text} SINCE {} seconds ago", query.window.as_secs()),
    };
    let asked = request(provider, &format!("/v1/accounts/{account}/query"), &[("nrql", &text)])?;
    let said = json_answer(&asked).await?;
    if let Some(error) = said["error"].as_str() {
        return Err(error.to_owned());
    }
    let Some(first) = said["results"][0].as_object() else { return Ok(Sample::Absent) };
    match first.values().collect::<Vec<_>>()[..] {
        [Value::Number(number)] => Ok(Sample::Number(number.as_f64().unwrap_or(f64::NAN))),
        [Value::Null] | [] => Ok(Sample::Absent),
        _ => Ok(Sample::Said(Value::from(first.clone()))),
    }
}

/// `GET /render`: the newest point of the first series that is one, within the window.
pub async fn graphite(provider: &Provider, query: &Query, text: &str) -> Result<Sample, String> {
    // A query may bring its own with it, as Flagger's do: `target=...&from=-1min`.
    let mut pairs: Vec<(String, String)> = match text.starts_with("target=") {
        true => url::form_urlencoded::parse(text.as_bytes()).into_owned().collect(),
        false => vec![("target".to_owned(), text.to_owned())],
    };
    if !pairs.iter().any(|(name, _)| ["from", "until"].contains(&name.as_str())) {
        pairs.push(("from".to_owned(), format!("-{}s", query.window.as_secs().max(1))));
    }
    pairs.push(("format".to_owned(), "json".to_owned()));
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let said = json_answer(&request(provider, "/render", &pairs)?).await?;
    let points = said[0]["datapoints"].as_array();
    Ok(newest(points.into_iter().flatten().map(|point| &point[0])))
}

/// The last that is a number.
fn newest<'v>(values: impl Iterator<Item = &'v Value>) -> Sample {
    values.filter_map(Value::as_f64).last().map_or(Sample::Absent, Sample::Number)
}
