//! A condition on what was measured, in the language of Argo's conditions (expr).
//!
//! `result` is what was measured: serin's own figure as a list of one number, as
//! a metrics server answers, and an empty list where there was nothing. `value` is
//! the same as one number. As with Argo, `isNil` and `default` look at the whole
//! result, whatever they are given; a comparison with what is no number is false,
//! so a failure condition alone passes it.

use std::sync::LazyLock;

use chrono::DateTime;
use expr::Context;
use expr::DateTimeValue;
use expr::Environment;
use expr::Value;
use serde::Deserialize;
use serde::Serialize;

use super::samples::Sample;
use crate::clock::Moment;

/// Bounds of what is parsed, and of what one evaluation can be made to hold.
const LONGEST: usize = 1_024;
const DEEPEST: usize = 32;
const RANGE: u64 = 10_000;

/// A condition that parses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Condition(String);

/// What one measurement comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Successful,
    Failed,
    Inconclusive,
    /// Nobody could have measured it: taken, and neither good nor bad.
    Unknown,
    Error(String),
}

impl Condition {
    pub fn parse(text: &str) -> Result<Condition, String> {
        bounded(text)?;
        expr::compile(text).map_err(|cause| format!("is no condition: {}", one_line(&cause)))?;
        let condition = Condition(text.to_owned());
        // What is not known is found at the first evaluation only.
        match condition.holds(&Sample::Number(1.0.into()), Moment(0)) {
            Err(text) if text.to_lowercase().starts_with("unknown") => Err(text),
            _ => Ok(condition),
        }
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn holds(&self, sample: &Sample, now: Moment) -> Result<bool, String> {
        let mut context = Context::default();
        context.insert("result", result(sample));
        context.insert("value", sample.number());
        context.insert(NOW, moment(now));
        match ENVIRONMENT.eval(&self.0, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("a condition is true or false, and this is {other}")),
            Err(cause) => Err(one_line(&cause)),
        }
    }
}

/// Failure wins where both conditions hold; where neither does nothing is known.
pub fn outcome(
    success: Option<&Condition>,
    failure: Option<&Condition>,
    sample: &Sample,
    now: Moment,
) -> Outcome {
    if let Sample::Error(text) = sample {
        return Outcome::Error(text.clone());
    }
    if *sample == Sample::Unknown {
        return Outcome::Unknown;
    }
    let ask = |condition: Option<&Condition>| condition.map(|asked| asked.holds(sample, now)).transpose();
    match (ask(success), ask(failure)) {
        (Err(text), _) | (_, Err(text)) => Outcome::Error(text),
        (_, Ok(Some(true))) => Outcome::Failed,
        (Ok(Some(true)), _) | (Ok(None), _) => Outcome::Successful,
        (Ok(Some(false)), Ok(None)) => Outcome::Failed,
        (Ok(Some(false)), Ok(Some(false))) => Outcome::Inconclusive,
    }
}

/// No condition reaches this name.
const NOW: &str = "#now";

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.add_function("asInt", |call| match only(&call.args)? {
        Value::Integer(value) => Ok(Value::Integer(*value)),
        Value::Float(value) => Ok(Value::Integer(*value as i64)),
        Value::String(text) => text.parse().map(Value::Integer).map_err(|_| no_number(text)),
        other => Err(format!("asInt() takes a number, not {other}").into()),
    });
    environment.add_function("asFloat", |call| match only(&call.args)? {
        Value::String(text) => text.parse().map(Value::Float).map_err(|_| no_number(text)),
        other => Ok(Value::Float(float(other)?)),
    });
    environment.add_function("isNaN", |call| Ok(float(only(&call.args)?)?.is_nan().into()));
    environment.add_function("isInf", |call| Ok(float(only(&call.args)?)?.is_infinite().into()));
    environment.add_function("isNil", |call| Ok((call.ctx.get("result") == Some(&Value::Nil)).into()));
    environment.add_function("default", |call| {
        let [_, otherwise] = &call.args[..] else { return Err("default() takes two".to_owned().into()) };
        Ok(match call.ctx.get("result") {
            Some(Value::Nil) | None => otherwise.clone(),
            Some(result) => result.clone(),
        })
    });
    // The time is part of what is judged, never asked of the machine.
    environment.add_function("now", |call| {
        call.ctx.get(NOW).cloned().ok_or_else(|| "now() is not known here".to_owned().into())
    });
    environment.add_function("fromJSON", |call| match only(&call.args)? {
        Value::String(text) => {
            let read: serde_json::Value =
                serde_json::from_str(text).map_err(|cause| format!("fromJSON(): {cause}"))?;
            Ok(value_of(&read))
        }
        other => Err(format!("fromJSON() takes a text, not {other}").into()),
    });
    environment.add_function("repeat", |call| {
        let [Value::String(text), Value::Integer(times)] = &call.args[..] else {
            return Err("repeat() takes a text and how often".to_owned().into());
        };
        let times = usize::try_from(*times).map_err(|_| "repeat() takes no negative".to_owned())?;
        if times.saturating_mul(text.len()) > RANGE as usize {
            return Err(format!("repeat() gives at most {RANGE} bytes").into());
        }
        Ok(text.repeat(times).into())
    });
    environment
});

fn only(args: &[Value]) -> expr::Result<&Value> {
    match args {
        [value] => Ok(value),
        _ => Err(format!("takes one argument, not {}", args.len()).into()),
    }
}

fn float(value: &Value) -> expr::Result<f64> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Integer(value) => Ok(*value as f64),
        other => Err(format!("a number is needed, not {other}").into()),
    }
}

fn no_number(text: &str) -> expr::Error {
    format!("{text:?} is no number").into()
}

fn result(sample: &Sample) -> Value {
    match sample {
        Sample::Absent | Sample::Unknown | Sample::Error(_) => Value::Array(Vec::new()),
        Sample::Number(number) => Value::Array(vec![number.value().into()]),
        Sample::Numbers(numbers) => {
            Value::Array(numbers.iter().map(|number| number.value().into()).collect())
        }
        Sample::Said(said) => value_of(said),
    }
}

fn value_of(said: &serde_json::Value) -> Value {
    match said {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        // As Go decodes JSON: every number is a float.
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(value_of).collect()),
        serde_json::Value::Object(fields) => {
            Value::Map(fields.iter().map(|(name, value)| (name.clone(), value_of(value))).collect())
        }
    }
}

fn moment(now: Moment) -> Value {
    let millis = i64::try_from(now.0).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis)
        .map_or(Value::Nil, |time| Value::DateTime(DateTimeValue::fixed(time.fixed_offset())))
}

/// The parser draws its complaint over several lines; the place and the point are
/// in the first and the last.
fn one_line(cause: &expr::Error) -> String {
    let text = cause.to_string();
    let lines: Vec<&str> = text.lines().map(|line| line.trim_matches([' ', '-', '>', '='])).collect();
    match lines[..] {
        [place, _, .., point] => format!("{point} (at {place})"),
        _ => text,
    }
}

/// Refuses what could take the process down rather than the condition.
fn bounded(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("a condition has at most {LONGEST} bytes, not {}", text.len()));
    }
    let plain = without_texts(text);
    let mut depth = 0_usize;
    for letter in plain.chars() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("brackets are nested deeper than {DEEPEST}"));
        }
    }
    for (at, _) in plain.match_indices("..") {
        let before = plain[..at].trim_end().rsplit(|letter: char| !letter.is_ascii_digit()).next();
        let after = plain[at + 2..].trim_start().split(|letter: char| !letter.is_ascii_digit()).next();
        let fits =
            |end: Option<&str>| end.and_then(|end| end.parse().ok()).is_some_and(|end: u64| end <= RANGE);
        if !fits(before) || !fits(after) {
            return Err(format!("the ends of a range are whole numbers up to {RANGE}"));
        }
    }
    Ok(())
}

/// With blanks for what stands in quotes.
fn without_texts(text: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let blank = |letter: char| match quote {
        Some(open) => {
            if !escaped && letter == open {
                quote = None;
            }
            escaped = !escaped && letter == '\\' && open != '`';
            ' '
        }
        None if "\"'`".contains(letter) => {
            quote = Some(letter);
            ' '
        }
        None => letter,
    };
    text.chars().map(blank).collect()
}
