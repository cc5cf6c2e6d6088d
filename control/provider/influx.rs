//! InfluxDB 2: a Flux query, answered as annotated CSV.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use super::{Sample, answer, request};
use crate::outside::provider::Provider;

pub async fn ask(provider: &Provider, organization: &str, text: &str) -> Result<Sample, String> {
    let mut asked = request(provider, "/api/v2/query", &[("org", organization)])?;
    asked.method = Method::POST;
    asked.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.flux"));
    asked.headers.insert(ACCEPT, HeaderValue::from_static("application/csv"));
    asked.body = Bytes::from(text.to_owned());
    read(&answer(&asked).await?.body)
}

/// All that is in columns named `_value`. Tables follow one another, each with its
/// own head after an empty line. What went wrong after the first of them stands in
/// a table of its own, under a status that says all is well.
fn read(body: &[u8]) -> Result<Sample, String> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).comment(Some(b'#')).from_reader(body);
    let (mut column, mut fault, mut values) = (None, None, Vec::new());
    for record in reader.records() {
        let record = record.map_err(|cause| format!("answered no CSV: {cause}"))?;
        if let Some(at) = fault {
            return Err(record.get(at).unwrap_or_default().to_owned());
        }
        let named = |name| record.iter().position(|field| field == name);
        fault = named("error").filter(|_| named("reference").is_some() && named("_value").is_none());
        if let Some(at) = record.iter().position(|field| field == "_value") {
            column = Some(at);
        } else if fault.is_some() {
            // Its text is in the next line.
        } else if let Some(text) = column.and_then(|at| record.get(at)).filter(|text| !text.is_empty()) {
            values.push(text.to_owned());
        }
    }
    if fault.is_some() {
        return Err("an error that is not told".to_owned());
    }
    let numbers: Option<Vec<f64>> = values.iter().map(|text| text.parse().ok()).collect();
    Ok(match (numbers.as_deref(), values.len()) {
        (_, 0) => Sample::Absent,
        (Some([one]), _) => Sample::Number(*one),
        (Some(several), _) => Sample::Numbers(several.to_vec()),
        (None, _) => Sample::Said(Value::from(values)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotated_csv_is_read_over_all_its_tables() {
        let table = |value: &str| {
            format!(
                "#datatype,string,long,dateTime:RFC3339,double\r\n#group,false,false,false,false\r\n\
                 #default,_result,,,\r\n,result,table,_time,_value\r\n,,0,2026-01-01T00:00:00Z,{value}\r\n\r\n"
            )
        };
        assert_eq!(read(table("0.5").as_bytes()), Ok(Sample::Number(0.5)));
        let two = table("1") + &table("2");
        assert_eq!(read(two.as_bytes()), Ok(Sample::Numbers(vec![1.0, 2.0])));
        assert_eq!(read(b"\r\n"), Ok(Sample::Absent));
        assert_eq!(read(table("").as_bytes()), Ok(Sample::Absent));
        assert_eq!(read(table("up").as_bytes()), Ok(Sample::Said(json!(["up"]))));
    }

    #[test]
    fn an_error_after_the_first_table_is_an_error() {
        let table = ",result,table,_time,_value\r\n,,0,2026-01-01T00:00:00Z,0.5\r\n\r\n";
        let fault = "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,\"out of memory, at 2\",897\r\n";
        assert_eq!(read(format!("{table}{fault}").as_bytes()), Err("out of memory, at 2".to_owned()));
        assert_eq!(read(fault.as_bytes()), Err("out of memory, at 2".to_owned()));
        assert!(read(format!("{table},error,reference\r\n").as_bytes()).is_err(), "it was cut off");
        let own = ",error,reference,_value\r\n,none,a,0.5\r\n";
        assert_eq!(read(own.as_bytes()), Ok(Sample::Number(0.5)), "columns of somebody's own");
    }
}
