//! Prometheus and all that speak its API: an instant query, or a range.

use serde::Deserialize;
use serde_json::Value;

use super::{Sample, before, request};
use crate::clock::Moment;
use crate::courier::call::{call, status_text};
use crate::outside::provider::{Provider, Query};

#[derive(Deserialize)]
struct Said {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: String,
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
        None => request(provider, "/api/v1/query", &[("query", &text)])?,
        Some(step) => {
            let at = |moment: Moment| format!("{:.3}", moment.0 as f64 / 1_000.0);
            let (start, end) = (at(before(now, query.window)), at(now));
            let step = step.as_secs_f64().to_string();
            let pairs = [("query", text.as_str()), ("start", &start), ("end", &end), ("step", &step)];
            request(provider, "/api/v1/query_range", &pairs)?
        }
    };
    let answer = call(&asked).await.map_err(|fault| fault.to_string())?;
    let status = status_text(answer.status);
    let said: Said = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("answered {status} and nothing that Prometheus says: {}", answer.gist()))?;
    match said.data {
        Some(data) if said.status == "success" => read(&data),
        _ => Err(format!("answered {status}: {}", said.error)),
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
