//! Functions that make labels, and how a number is told as text.

use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::{Call, Expr};
use regex::Regex;

use super::QueryError;
use super::evaluate::{Evaluation, Sample, Value};
use super::{bare, select};
use crate::series::{Labels, NAME};

/// As Go writes a float without an exponent.
pub fn told(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

pub fn is_label(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// What `absent` says of a selector: all that it asks to be equal.
pub fn of_absent(expression: &Expr) -> Labels {
    let matchers = match bare(expression) {
        Expr::VectorSelector(selector) => select::matchers(selector),
        Expr::MatrixSelector(matrix) => select::matchers(&matrix.vs),
        _ => Matchers::empty(),
    };
    let mut labels = Labels::default();
    let mut met: Vec<&str> = Vec::new();
    for matcher in matchers.matchers.iter().filter(|matcher| matcher.name != NAME) {
        let is_first = matches!(matcher.op, MatchOp::Equal) && !met.contains(&matcher.name.as_str());
        labels = labels.with(&matcher.name, if is_first { &matcher.value } else { "" });
        if matches!(matcher.op, MatchOp::Equal) {
            met.push(&matcher.name);
        }
    }
    labels
}

impl Evaluation {
    fn text(&mut self, call: &Call, index: usize, at: i64) -> Result<String, QueryError> {
        match self.value(&call.args.args[index], at)? {
            Value::Text(text) => Ok(text),
            other => Err(QueryError::Bad(format!("expected a string, got {other:?}"))),
        }
    }

    pub fn label_replace(&mut self, call: &Call, at: i64) -> Result<Vec<Sample>, QueryError> {
        let samples = self.vector(&call.args.args[0], at)?;
        let [to, with, from, pattern] = [
            self.text(call, 1, at)?,
            self.text(call, 2, at)?,
            self.text(call, 3, at)?,
            self.text(call, 4, at)?,
        ];
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|_| {
            QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        })?;
        if !is_label(&to) {
            let text = format!("invalid destination label name in label_replace(): {to}");
            return Err(QueryError::Execution(text));
        }
        self.relabelled(call, samples, |labels| {
            let Some(captures) = regex.captures(labels.get(&from).unwrap_or_default()) else {
                return labels.clone();
            };
            let mut value = String::new();
            captures.expand(&with, &mut value);
            labels.with(&to, &value)
        })
    }

    pub fn label_join(&mut self, call: &Call, at: i64) -> Result<Vec<Sample>, QueryError> {
        let samples = self.vector(&call.args.args[0], at)?;
        let (to, between) = (self.text(call, 1, at)?, self.text(call, 2, at)?);
        let mut parts = Vec::new();
        for index in 3..call.args.args.len() {
            parts.push(self.text(call, index, at)?);
        }
        for (what, name) in
            [("destination", &to)].into_iter().chain(parts.iter().map(|part| ("source", part)))
        {
            if !is_label(name) {
                let text = format!("invalid {what} label name in label_join(): {name}");
                return Err(QueryError::Execution(text));
            }
        }
        self.relabelled(call, samples, |labels| {
            let values: Vec<&str> = parts.iter().map(|part| labels.get(part).unwrap_or_default()).collect();
            labels.with(&to, &values.join(&between))
        })
    }

    fn relabelled(
        &mut self,
        call: &Call,
        mut samples: Vec<Sample>,
        relabel: impl Fn(&Labels) -> Labels,
    ) -> Result<Vec<Sample>, QueryError> {
        let by = std::ptr::from_ref(call) as usize;
        for sample in &mut samples {
            sample.set = self.pool().derive(by, sample.set, &relabel);
        }
        self.distinct(&samples)?;
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_without_an_exponent() {
        assert_eq!(told(1e21), "1000000000000000000000");
        assert_eq!(told(0.1 + 0.2), "0.30000000000000004");
        assert_eq!([told(f64::NAN), told(f64::INFINITY), told(-0.0)], ["NaN", "+Inf", "-0"]);
    }
}
