//! Prometheus and all that speak its API: an instant query, or a range.

use serde::Deserialize;
use serde_json::Value;

use super::{Sample, before, request};
use crate::clock::Moment;
use crate::courier::call::{call, status_text};
use crate::outside::provider::{Provider, Query};

/// Thanos: where a store is gone, no answer and not half of one. Others take no
/// notice of it.
const WHOLE: (&str, &str) = ("partial_response", "false");
/// What Prometheus finds odd about a query begins so; its answer is whole.
const HINT: &str = "PromQL ";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    /// VictoriaMetrics: a part of the cluster has not answered.
    #[serde(default)]
    is_partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

pub async fn ask(provider: &Provider, query: &Query, text: &str, now: Moment) -> Result<Sample, String> {
    // As Flagger does: a query over several lines is one.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked = match query.step {
        None => request(provider, "/api/v1/query", &[("query", &text), WHOLE])?,
        Some(step) => {
            let at = |moment: Moment| format!("{:.3}", moment.0 as f64 / 1_000.0);
            let (start, end) = (at(before(now, query.window)), at(now));
            let step = step.as_secs_f64().to_string();
            let pairs = [("query", text.as_str()), ("start", &start), ("end", &end), ("step", &step), WHOLE];
            request(provider, "/api/v1/query_range", &pairs)?
        }
    };
    let answer = call(&asked).await.map_err(|fault| fault.to_string())?;
    let status = status_text(answer.status);
    let said: Said = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("answered {status} and nothing that Prometheus says: {}", answer.gist()))?;
    match said.data {
        Some(data) if said.status == "success" => {
            whole(&said.warnings, said.is_partial)?;
            read(&data)
        }
        _ => Err(format!("answered {status}: {}", said.error)),
    }
}

/// Of what is missing nobody knows what it would have said.
fn whole(warnings: &[String], is_partial: bool) -> Result<(), String> {
    let about_stores = warnings.iter().find(|warning| !warning.starts_with(HINT));
    match about_stores {
        Some(warning) => Err(format!("answered with a part of the data only: {warning}")),
        None if is_partial => Err("answered with a part of the data only".to_owned()),
        None => Ok(()),
    }
}

fn read(data: &Data) -> Result<Sample, String> {
    let odd = || format!("a {} that is none: {}", data.result_type, data.result);
    let numbers = match data.result_type.as_str() {
        "scalar" => return Ok(Sample::Number(number(&data.result).ok_or_else(odd)?)),
        "string" => return Ok(Sample::Said(data.result[1].clone())),
        "vector" => {
            let series = data.result.as_array().ok_or_else(odd)?;
            series.iter().map(|series| number(&series["value"])).collect::<Option<Vec<f64>>>()
        }
        "matrix" => {
            let series = data.result.as_array().ok_or_else(odd)?;
            let points = series.iter().flat_map(|series| series["values"].as_array().into_iter().flatten());
            points.map(number).collect()
        }
        _ => None,
    };
    match numbers.ok_or_else(odd)?.as_slice() {
        [] => Ok(Sample::Absent),
        [one] => Ok(Sample::Number(*one)),
        several => Ok(Sample::Numbers(several.to_vec())),
    }
}

/// Of `[time, "value"]`.
fn number(pair: &Value) -> Option<f64> {
    match pair[1].as_str()? {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(data: Value) -> Result<Sample, String> {
        read(&serde_json::from_value(data).unwrap())
    }

    #[test]
    fn half_an_answer_is_none_and_a_hint_is_no_matter() {
        let said = |more: &str| -> Said {
            let text = format!(
                r#"{{"status": "success", "data": {{"resultType": "scalar", "result": [1, "3"]}}{more}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let is_whole = |more: &str| {
            let said = said(more);
            whole(&said.warnings, said.is_partial)
        };
        assert_eq!(is_whole(""), Ok(()));
        assert_eq!(is_whole(r#", "isPartial": false, "warnings": []"#), Ok(()));
        let hints = r#", "warnings": ["PromQL info: metric might not be a counter, name does not end in _total: \"up\" (1:6)", "PromQL warning: bucket label is missing"], "infos": ["PromQL info: x"]"#;
        assert_eq!(is_whole(hints), Ok(()));
        let lost = r#", "warnings": ["PromQL info: x", "receive series from a: rpc error"]"#;
        assert!(is_whole(lost).is_err_and(|text| text.ends_with("only: receive series from a: rpc error")));
        assert!(is_whole(r#", "isPartial": true"#).is_err());
    }

    #[test]
    fn every_kind_of_result_is_its_own_evidence() {
        let vector = |values: &[&str]| {
            let series: Vec<Value> =
                values.iter().map(|value| json!({"metric": {}, "value": [1.5, value]})).collect();
            of(json!({"resultType": "vector", "result": series})).unwrap()
        };
        assert_eq!(vector(&[]), Sample::Absent);
        assert_eq!(vector(&["0.25"]), Sample::Number(0.25));
        assert_eq!(vector(&["+Inf", "-Inf"]), Sample::Numbers(vec![f64::INFINITY, f64::NEG_INFINITY]));
        assert!(matches!(vector(&["NaN"]), Sample::Number(value) if value.is_nan()));
        assert_eq!(of(json!({"resultType": "scalar", "result": [1, "3"]})), Ok(Sample::Number(3.0)));
        assert_eq!(of(json!({"resultType": "string", "result": [1, "up"]})), Ok(Sample::Said(json!("up"))));
        let matrix =
            json!([{"metric": {}, "values": [[1, "1"], [2, "2"]]}, {"metric": {}, "values": [[1, "3"]]}]);
        let matrix = of(json!({"resultType": "matrix", "result": matrix}));
        assert_eq!(matrix, Ok(Sample::Numbers(vec![1.0, 2.0, 3.0])));
        assert!(of(json!({"resultType": "vector", "result": [{"value": [1, "x"]}]})).is_err());
        assert!(of(json!({"resultType": "odd", "result": []})).is_err());
    }
}
