//! Functions by name: which there are, and what each does.

use std::collections::HashMap;

use promql_parser::parser::{AggregateExpr, Call, Expr, MatrixSelector, SubqueryExpr};

use super::evaluate::{Evaluation, Sample, Value};
use super::histogram::quantile_of_buckets;
use super::over_time::{self, Growth};
use super::pool::Set;
use super::{QueryError, aggregate, bare, labelling};
use crate::series::NAME;

const LE: &str = "le";

/// Of each value alone.
fn of_value(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => |value| if value == 0.0 || value.is_nan() { value } else { value.signum() },
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "deg" => f64::to_degrees,
        "rad" => f64::to_radians,
        _ => return None,
    })
}

/// Those of a range of values.
const OF_RANGE: [&str; 21] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "changes",
    "resets",
    "deriv",
    "predict_linear",
    "absent_over_time",
];

const OTHERS: [&str; 18] = [
    "absent",
    "clamp",
    "clamp_max",
    "clamp_min",
    "histogram_quantile",
    "label_join",
    "label_replace",
    "pi",
    "round",
    "scalar",
    "sort",
    "sort_desc",
    "time",
    "timestamp",
    "vector",
    "hour",
    "minute",
    "day_of_week",
];

/// What the parser knows and we do not is told before anything is read.
pub fn check(expression: &Expr) -> Result<(), QueryError> {
    let unknown =
        |what: &str, name: &str| Err(QueryError::Bad(format!("{what} {name:?} is not supported by serin")));
    match expression {
        Expr::Call(call) => {
            let name = call.func.name;
            if of_value(name).is_none() && !OF_RANGE.contains(&name) && !OTHERS.contains(&name) {
                return unknown("function", name);
            }
            call.args.args.iter().try_for_each(|argument| check(argument))
        }
        Expr::Aggregate(AggregateExpr { op, expr, param, .. }) => {
            if !aggregate::is_known(op.id()) {
                return unknown("aggregation", &op.to_string());
            }
            param.iter().chain([expr]).try_for_each(|inner| check(inner))
        }
        Expr::Binary(binary) => {
            let fills = binary.modifier.as_ref().map(|modifier| &modifier.fill_values);
            if fills.is_some_and(|fills| fills.lhs.is_some() || fills.rhs.is_some()) {
                return unknown("modifier", "fill");
            }
            check(&binary.lhs)?;
            check(&binary.rhs)
        }
        Expr::Paren(paren) => check(&paren.expr),
        Expr::Unary(unary) => check(&unary.expr),
        Expr::Subquery(SubqueryExpr { expr, range, .. }) => {
            if range.is_zero() {
                return Err(QueryError::Bad("duration must be greater than 0".to_owned()));
            }
            check(expr)
        }
        Expr::MatrixSelector(MatrixSelector { range, .. }) if range.is_zero() => {
            Err(QueryError::Bad("duration must be greater than 0".to_owned()))
        }
        Expr::MatrixSelector(_)
        | Expr::VectorSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_) => Ok(()),
        Expr::Extension(_) => Err(QueryError::Bad("an extension is not PromQL".to_owned())),
    }
}

impl Evaluation {
    pub fn call(&mut self, call: &Call, at: i64) -> Result<Value, QueryError> {
        let (name, arguments) = (call.func.name, &call.args.args);
        if let Some(function) = of_value(name) {
            return self.mapped(&arguments[0], at, |value| Some(function(value)));
        }
        if OF_RANGE.contains(&name) {
            return Ok(Value::Vector(self.of_range(call, at)?));
        }
        match name {
            "time" => Ok(Value::Scalar(at as f64 / 1000.0)),
            "pi" => Ok(Value::Scalar(std::f64::consts::PI)),
            "scalar" => match self.vector(&arguments[0], at)?[..] {
                [sample] => Ok(Value::Scalar(sample.value)),
                _ => Ok(Value::Scalar(f64::NAN)),
            },
            "vector" => {
                let value = self.scalar(&arguments[0], at)?;
                let set = self.pool().intern(Default::default());
                Ok(Value::Vector(vec![Sample { set, value }]))
            }
            "timestamp" => self.timestamp(&arguments[0], at),
            "absent" => {
                let is_there = !self.vector(&arguments[0], at)?.is_empty();
                Ok(Value::Vector(self.absent(&arguments[0], is_there)))
            }
            "label_replace" => Ok(Value::Vector(self.label_replace(call, at)?)),
            "label_join" => Ok(Value::Vector(self.label_join(call, at)?)),
            "histogram_quantile" => {
                let q = self.scalar(&arguments[0], at)?;
                let buckets = self.vector(&arguments[1], at)?;
                Ok(Value::Vector(self.histogram_quantile(call, q, buckets)?))
            }
            "sort" | "sort_desc" => {
                let mut samples = self.vector(&arguments[0], at)?;
                samples.sort_by(|a, b| {
                    let order = a.value.total_cmp(&b.value);
                    let order = if name == "sort" { order } else { order.reverse() };
                    a.value.is_nan().cmp(&b.value.is_nan()).then(order)
                });
                Ok(Value::Vector(samples))
            }
            "hour" | "minute" | "day_of_week" => self.of_clock(call, at),
            _ => self.bounded(call, at),
        }
    }

    fn bounded(&mut self, call: &Call, at: i64) -> Result<Value, QueryError> {
        let (name, arguments) = (call.func.name, &call.args.args);
        let mut numbers = Vec::new();
        for argument in &arguments[1..] {
            numbers.push(self.scalar(argument, at)?);
        }
        let number = numbers.first().copied();
        match (name, number) {
            ("round", number) => {
                let per_one = 1.0 / number.unwrap_or(1.0);
                self.mapped(&arguments[0], at, |value| Some((value * per_one + 0.5).floor() / per_one))
            }
            ("clamp_min", Some(least)) => self.mapped(&arguments[0], at, |value| Some(greater(least, value))),
            ("clamp_max", Some(most)) => self.mapped(&arguments[0], at, |value| Some(lesser(most, value))),
            ("clamp", Some(least)) => {
                let most = numbers[1];
                self.mapped(&arguments[0], at, |value| {
                    if most < least { None } else { Some(greater(least, lesser(most, value))) }
                })
            }
            _ => Err(QueryError::Bad(format!("function {name:?} is not supported by serin"))),
        }
    }

    fn mapped(
        &mut self,
        argument: &Expr,
        at: i64,
        map: impl Fn(f64) -> Option<f64>,
    ) -> Result<Value, QueryError> {
        let mut samples = Vec::new();
        for sample in self.vector(argument, at)? {
            if let Some(value) = map(sample.value) {
                samples.push(Sample { set: self.pool().nameless(sample.set), value });
            }
        }
        self.distinct(&samples)?;
        Ok(Value::Vector(samples))
    }

    /// In UTC; of the present where nothing else is named.
    fn of_clock(&mut self, call: &Call, at: i64) -> Result<Value, QueryError> {
        let part = |seconds: f64| {
            let seconds = seconds as i64;
            let part = match call.func.name {
                "minute" => seconds.div_euclid(60).rem_euclid(60),
                "hour" => seconds.div_euclid(3600).rem_euclid(24),
                // The first of January 1970 was a Thursday.
                _ => (seconds.div_euclid(86_400) + 4).rem_euclid(7),
            };
            part as f64
        };
        match call.args.args.first() {
            Some(argument) => self.mapped(argument, at, |value| Some(part(value))),
            None => {
                let set = self.pool().intern(Default::default());
                Ok(Value::Vector(vec![Sample { set, value: part(at as f64 / 1000.0) }]))
            }
        }
    }

    /// Of a selector's points their own moments, of all else the present.
    fn timestamp(&mut self, argument: &Expr, at: i64) -> Result<Value, QueryError> {
        let mut samples = Vec::new();
        if let Expr::VectorSelector(selector) = bare(argument) {
            for (set, point) in self.instant(selector, at) {
                let set = self.pool().nameless(set);
                samples.push(Sample { set, value: point.at as f64 / 1000.0 });
            }
            self.distinct(&samples)?;
            return Ok(Value::Vector(samples));
        }
        self.mapped(argument, at, |_| Some(at as f64 / 1000.0))
    }

    fn absent(&mut self, argument: &Expr, is_there: bool) -> Vec<Sample> {
        if is_there {
            return Vec::new();
        }
        vec![Sample { set: self.pool().intern(labelling::of_absent(argument)), value: 1.0 }]
    }

    fn of_range(&mut self, call: &Call, at: i64) -> Result<Vec<Sample>, QueryError> {
        let (name, arguments) = (call.func.name, &call.args.args);
        let is_quantile = name == "quantile_over_time";
        let range = usize::from(is_quantile);
        let number = match name {
            "quantile_over_time" => self.scalar(&arguments[0], at)?,
            "predict_linear" => self.scalar(&arguments[1], at)?,
            _ => 0.0,
        };
        let windows = self.windows(&arguments[range], at)?;
        if name == "absent_over_time" {
            return Ok(self.absent(&arguments[range], !windows.lines.is_empty()));
        }
        let (from, to) = (windows.from, windows.to);
        let mut samples = Vec::with_capacity(windows.lines.len());
        for (set, points) in windows.lines {
            let value = match name {
                "rate" => over_time::extrapolated(&points, from, to, Growth::Rate),
                "increase" => over_time::extrapolated(&points, from, to, Growth::Increase),
                "delta" => over_time::extrapolated(&points, from, to, Growth::Delta),
                "irate" => over_time::instant(&points, true),
                "idelta" => over_time::instant(&points, false),
                "deriv" => over_time::line(&points, points[0].at).map(|(slope, _)| slope),
                "predict_linear" => over_time::line(&points, at).map(|(slope, now)| slope * number + now),
                "quantile_over_time" => Some(over_time::quantile(number, &points)),
                _ => over_time::of(name, &points),
            };
            let keeps_name = matches!(name, "last_over_time" | "first_over_time");
            let set = if keeps_name { set } else { self.pool().nameless(set) };
            samples.extend(value.map(|value| Sample { set, value }));
        }
        self.distinct(&samples)?;
        Ok(samples)
    }

    fn histogram_quantile(
        &mut self,
        call: &Call,
        q: f64,
        buckets: Vec<Sample>,
    ) -> Result<Vec<Sample>, QueryError> {
        let by = std::ptr::from_ref(call) as usize;
        let mut places: HashMap<Set, usize> = HashMap::new();
        let mut histograms: Vec<(Set, Vec<(f64, f64)>)> = Vec::new();
        for Sample { set, value } in buckets {
            let pool = self.pool();
            let bound = pool.labels(set).get(LE).and_then(|text| text.parse::<f64>().ok());
            let Some(bound) = bound else { continue };
            let set = pool.derive(by, set, |labels| labels.filter(|name| name != NAME && name != LE));
            let place = *places.entry(set).or_insert_with(|| {
                histograms.push((set, Vec::new()));
                histograms.len() - 1
            });
            histograms[place].1.push((bound, value));
        }
        let quantile = |(set, buckets)| Sample { set, value: quantile_of_buckets(q, buckets) };
        let samples: Vec<Sample> = histograms.into_iter().map(quantile).collect();
        self.distinct(&samples)?;
        Ok(samples)
    }
}

/// Unlike Rust's own, NaN wins.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, name) in [
            ("histogram_avg(a)", "histogram_avg"),
            ("sum(double_exponential_smoothing(a[5m], 0.5, 0.5))", "double_exponential_smoothing"),
            ("limitk(3, a)", "limitk"),
        ] {
            let expression = promql_parser::parser::parse(text).expect("it is PromQL");
            let said = check(&expression).expect_err("it is not ours").to_string();
            assert!(said.contains(name) && said.contains("not supported"), "{said}");
        }
    }
}
