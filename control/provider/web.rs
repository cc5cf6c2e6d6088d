//! A page of JSON and a JSONPath into it, with or without the braces that Argo
//! Rollouts and kubectl put around one. The first hit is the answer.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::{Sample, answer, request};
use crate::outside::provider::{self, Kind, Provider};

pub async fn ask(of: &Provider, path: &str) -> Result<Sample, String> {
    let path = provider::path(path)?;
    let mut asked = request(of, "", &[])?;
    if let Kind::Web { body, method } = &of.kind {
        asked.method =
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
        if let Some(body) = body {
            asked.body = Bytes::from(body.clone());
            let is_json = serde_json::from_str::<Value>(body).is_ok();
            let kind = if is_json { "application/json" } else { "text/plain" };
            if !asked.headers.contains_key("content-type") {
                asked.headers.insert("content-type", hyper::header::HeaderValue::from_static(kind));
            }
        }
    }
    let answer = answer(&asked).await?;
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(document) => Ok(find(&path, &document)),
        Err(_) => Ok(Sample::Said(Value::from(answer.text()))),
    }
}

fn find(path: &JsonPath, document: &Value) -> Sample {
    match path.query(document).first() {
        None | Some(Value::Null) => Sample::Absent,
        Some(Value::Number(number)) => Sample::Number(number.as_f64().unwrap_or(f64::NAN)),
        Some(Value::String(text)) => match text.trim().parse() {
            Ok(number) => Sample::Number(number),
            Err(_) => Sample::Said(Value::from(text.as_str())),
        },
        Some(Value::Array(items)) if items.is_empty() => Sample::Absent,
        Some(Value::Array(items)) => {
            let numbers: Option<Vec<f64>> = items.iter().map(Value::as_f64).collect();
            numbers.map_or_else(|| Sample::Said(Value::from(items.clone())), Sample::Numbers)
        }
        Some(other) => Sample::Said(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_its_value_with_or_without_braces() {
        let document =
            json!({"data": {"ok": 0.5, "text": "7", "list": [1, 2], "no": null, "yes": true, "a-b": 3}});
        let found = |path: &str| find(&provider::path(path).unwrap(), &document);
        for path in ["{$.data.ok}", "$.data.ok", "data.ok", "{.data.ok}"] {
            assert_eq!(found(path), Sample::Number(0.5), "{path}");
        }
        assert_eq!(found("$.data.text"), Sample::Number(7.0));
        assert_eq!(found("$.data.list"), Sample::Numbers(vec![1.0, 2.0]));
        assert_eq!(found("$.data.list[1]"), Sample::Number(2.0));
        assert_eq!(found("$['data']['a-b']"), Sample::Number(3.0));
        assert_eq!((found("$.data.no"), found("$.gone")), (Sample::Absent, Sample::Absent));
        assert_eq!(found("$.data.yes"), Sample::Said(json!(true)));
        assert!(provider::path("$.[").is_err());
    }
}
