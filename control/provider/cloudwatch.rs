//! CloudWatch: GetMetricData, signed as AWS wants it. The query is the list of
//! metric data queries, in JSON, that its API and Flagger's templates have.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Sample, before, json_answer, request, seconds};
use crate::clock::Moment;
use crate::courier::Call;
use crate::outside::provider::{Login, Provider, Query};

const TARGET: &str = "GraniteServiceVersion20100801.GetMetricData";

/// The newest value of the first result that has one.
pub async fn ask(
    provider: &Provider,
    query: &Query,
    region: &str,
    text: &str,
    now: Moment,
) -> Result<Sample, String> {
    let queries: Value =
        serde_json::from_str(text).map_err(|cause| format!("the query is no JSON: {cause}"))?;
    let asked = json!({
        "MetricDataQueries": queries,
        "StartTime": seconds(before(now, query.window)),
        "EndTime": seconds(now),
        "ScanBy": "TimestampDescending",
    });
    let mut call = request(provider, "", &[])?;
    call.method = Method::POST;
    call.body = Bytes::from(asked.to_string());
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    call.headers.insert("x-amz-target", HeaderValue::from_static(TARGET));
    signed(&mut call, &provider.login, region, now)?;
    let said = json_answer(&call).await?;
    let results = said["MetricDataResults"].as_array().ok_or("answered without results")?;
    let newest = results.iter().find_map(|result| result["Values"][0].as_f64());
    Ok(newest.map_or(Sample::Absent, Sample::Number))
}

fn signed(call: &mut Call, login: &Login, region: &str, now: Moment) -> Result<(), String> {
    let missing = |missing: crate::secret::Missing| missing.to_string();
    let Login::Keys { key, application: Some(secret), session } = login else {
        return Err("it has no keys".to_owned());
    };
    let (key, secret) = (key.fetch().map_err(missing)?, secret.fetch().map_err(missing)?);
    let session = session.as_ref().map(crate::secret::Text::fetch).transpose().map_err(missing)?;
    let session = session.map(|token| token.expose_secret().to_owned());
    let identity =
        Credentials::new(key.expose_secret(), secret.expose_secret(), session, None, "serin").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("monitoring")
        .time(UNIX_EPOCH + Duration::from_millis(now.0))
        .settings(SigningSettings::default())
        .build()
        .map_err(|cause| cause.to_string())?
        .into();
    let headers =
        call.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
    let url = call.url.expose_secret();
    let whole = SignableRequest::new("POST", url, headers, SignableBody::Bytes(&call.body))
        .map_err(|cause| cause.to_string())?;
    let (instructions, _) = sign(whole, &parameters).map_err(|cause| cause.to_string())?.into_parts();
    let added: Vec<(String, String)> =
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in added {
        call.header(&name, &SecretString::from(value))?;
    }
    Ok(())
}
