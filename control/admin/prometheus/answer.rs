//! Answers as Prometheus writes them: moments as seconds, values as texts.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::query::{Answer, told};
use crate::series::{Labels, Point};

/// The whole body of a query that went well.
pub fn text(answer: &Answer) -> String {
    let mut text = String::from("{\"status\":\"success\",\"data\":{\"resultType\":");
    match answer {
        Answer::Scalar(value) => {
            text += "\"scalar\",\"result\":";
            point(&mut text, *value);
        }
        Answer::Text(at, string) => {
            text += "\"string\",\"result\":[";
            moment(&mut text, *at);
            let _ = write!(text, ",{}]", Value::from(string.as_str()));
        }
        Answer::Vector(samples) => {
            text += "\"vector\",\"result\":[";
            for (index, (set, value)) in samples.iter().enumerate() {
                let _ = write!(text, "{}{{\"metric\":{},\"value\":", comma(index), labels(set));
                point(&mut text, *value);
                text.push('}');
            }
            text.push(']');
        }
        Answer::Matrix(lines) => {
            text += "\"matrix\",\"result\":[";
            for (index, (set, points)) in lines.iter().enumerate() {
                let _ = write!(text, "{}{{\"metric\":{},\"values\":[", comma(index), labels(set));
                for (index, value) in points.iter().enumerate() {
                    text += comma(index);
                    point(&mut text, *value);
                }
                text += "]}";
            }
            text.push(']');
        }
    }
    text + "}}"
}

pub fn labels(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}

fn point(text: &mut String, Point { at, value }: Point) {
    text.push('[');
    moment(text, at);
    let _ = write!(text, ",\"{}\"]", told(value));
}

/// With milliseconds only where there are any.
fn moment(text: &mut String, at: i64) {
    let sign = if at < 0 { "-" } else { "" };
    let (seconds, millis) = (at.unsigned_abs() / 1000, at.unsigned_abs() % 1000);
    let _ = match millis {
        0 => write!(text, "{sign}{seconds}"),
        millis => write!(text, "{sign}{seconds}.{millis:03}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_as_prometheus_writes_them() {
        let point = |value| Point { at: 1_435_781_451_781, value };
        let set = Labels::default().with("__name__", "up").with("job", "a\"b");
        assert_eq!(
            text(&Answer::Vector(vec![(set.clone(), point(1.0)), (set, point(f64::NAN))])),
            "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[\
             {\"metric\":{\"__name__\":\"up\",\"job\":\"a\\\"b\"},\"value\":[1435781451.781,\"1\"]},\
             {\"metric\":{\"__name__\":\"up\",\"job\":\"a\\\"b\"},\"value\":[1435781451.781,\"NaN\"]}]}}"
        );
        let scalar = Answer::Scalar(Point { at: -1500, value: 0.5 });
        assert!(text(&scalar).ends_with("{\"resultType\":\"scalar\",\"result\":[-1.500,\"0.5\"]}}"));
        let whole = Answer::Text(2000, "x".to_owned());
        assert!(text(&whole).ends_with("{\"resultType\":\"string\",\"result\":[2,\"x\"]}}"));
        let matrix = Answer::Matrix(vec![(Labels::default(), vec![point(1.0), point(2.0)])]);
        assert!(
            text(&matrix)
                .contains("[{\"metric\":{},\"values\":[[1435781451.781,\"1\"],[1435781451.781,\"2\"]]}]")
        );
    }
}
