//! Many series into fewer.

use std::collections::HashMap;

use promql_parser::parser::token::{
    T_AVG, T_BOTTOMK, T_COUNT, T_COUNT_VALUES, T_GROUP, T_MAX, T_MIN, T_QUANTILE, T_STDDEV, T_STDVAR, T_SUM,
    T_TOPK, TokenId,
};
use promql_parser::parser::{AggregateExpr, LabelModifier};

use super::QueryError;
use super::evaluate::{Evaluation, Sample, Value};
use super::histogram::quantile_of;
use super::pool::Set;
use crate::series::{Labels, NAME};

/// Those that there are beside these are newer than what we follow.
pub fn is_known(operator: TokenId) -> bool {
    matches!(
        operator,
        T_SUM
            | T_AVG
            | T_COUNT
            | T_MIN
            | T_MAX
            | T_GROUP
            | T_STDDEV
            | T_STDVAR
            | T_TOPK
            | T_BOTTOMK
            | T_COUNT_VALUES
            | T_QUANTILE
    )
}

impl Evaluation {
    pub fn aggregate(&mut self, aggregate: &AggregateExpr, at: i64) -> Result<Vec<Sample>, QueryError> {
        let operator = aggregate.op.id();
        let parameter = match &aggregate.param {
            Some(parameter) => Some(self.value(parameter, at)?),
            None => None,
        };
        let samples = self.vector(&aggregate.expr, at)?;
        if let (T_COUNT_VALUES, Some(Value::Text(label))) = (operator, &parameter) {
            return self.count_values(aggregate, samples, label);
        }
        let number = match parameter {
            Some(Value::Scalar(number)) => number,
            _ => 0.0,
        };
        if matches!(operator, T_TOPK | T_BOTTOMK) && (number.is_nan() || number.abs() >= 9.2e18) {
            return Err(QueryError::Execution(format!("Scalar value {number} overflows int64")));
        }
        let mut aggregated = Vec::new();
        for (set, group) in self.groups(aggregate, samples) {
            if let T_TOPK | T_BOTTOMK = operator {
                aggregated.extend(best(group, number as i64, operator == T_TOPK));
                continue;
            }
            let values: Vec<f64> = group.iter().map(|sample| sample.value).collect();
            let value = fold(operator, number, values)?;
            aggregated.push(Sample { set, value });
        }
        Ok(aggregated)
    }

    /// In the order in which the groups are met.
    fn groups(&mut self, aggregate: &AggregateExpr, samples: Vec<Sample>) -> Vec<(Set, Vec<Sample>)> {
        let by = std::ptr::from_ref(aggregate) as usize;
        let mut places: HashMap<Set, usize> = HashMap::new();
        let mut groups: Vec<(Set, Vec<Sample>)> = Vec::new();
        for sample in samples {
            let set =
                self.pool().derive(by, sample.set, |labels| grouped(labels, aggregate.modifier.as_ref()));
            let place = *places.entry(set).or_insert_with(|| {
                groups.push((set, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(sample);
        }
        groups
    }

    fn count_values(
        &mut self,
        aggregate: &AggregateExpr,
        samples: Vec<Sample>,
        label: &str,
    ) -> Result<Vec<Sample>, QueryError> {
        if !super::labelling::is_label(label) {
            return Err(QueryError::Execution(format!("invalid label name {label:?}")));
        }
        let mut counts: Vec<Sample> = Vec::new();
        let mut places: HashMap<Set, usize> = HashMap::new();
        for sample in samples {
            let labels = grouped(self.pool().labels(sample.set), aggregate.modifier.as_ref());
            let set = self.pool().intern(labels.with(label, &super::labelling::told(sample.value)));
            let place = *places.entry(set).or_insert_with(|| {
                counts.push(Sample { set, value: 0.0 });
                counts.len() - 1
            });
            counts[place].value += 1.0;
        }
        Ok(counts)
    }
}

fn grouped(labels: &Labels, modifier: Option<&LabelModifier>) -> Labels {
    match modifier {
        None => Labels::default(),
        Some(LabelModifier::Include(by)) => labels.filter(|name| by.labels.iter().any(|by| by == name)),
        Some(LabelModifier::Exclude(without)) => {
            labels.filter(|name| name != NAME && !without.labels.iter().any(|other| other == name))
        }
    }
}

fn fold(operator: TokenId, number: f64, values: Vec<f64>) -> Result<f64, QueryError> {
    let count = values.len() as f64;
    // NaN gives way to any number.
    let extreme = |is_better: fn(f64, f64) -> bool| {
        values
            .iter()
            .copied()
            .fold(f64::NAN, |best, value| if best.is_nan() || is_better(value, best) { value } else { best })
    };
    Ok(match operator {
        T_SUM => values.iter().sum(),
        T_COUNT => count,
        T_GROUP => 1.0,
        T_AVG => mean(&values),
        T_MIN => extreme(|value, best| value < best),
        T_MAX => extreme(|value, best| value > best),
        T_STDVAR => variance(&values),
        T_STDDEV => variance(&values).sqrt(),
        T_QUANTILE => quantile_of(number, values),
        other => return Err(QueryError::Bad(format!("aggregation {other} is not supported"))),
    })
}

/// Built up value by value, so that it does not overflow where its parts would not.
fn mean(values: &[f64]) -> f64 {
    let mut mean = values.first().copied().unwrap_or(f64::NAN);
    for (before, value) in values.iter().enumerate().skip(1) {
        let count = (before + 1) as f64;
        if mean.is_infinite() && value.is_infinite() && (mean > 0.0) == (*value > 0.0) {
            continue;
        }
        if mean.is_infinite() && value.is_finite() {
            continue;
        }
        mean += value / count - mean / count;
    }
    mean
}

fn variance(values: &[f64]) -> f64 {
    let [first, rest @ ..] = values else { return f64::NAN };
    let (mut count, mut mean, mut squares) = (1.0, *first, 0.0);
    for value in rest {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

/// The `count` greatest or least, best first; NaN is the worst either way.
fn best(mut group: Vec<Sample>, count: i64, is_top: bool) -> Vec<Sample> {
    let count = usize::try_from(count).unwrap_or(0);
    group.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) if is_top => b.value.total_cmp(&a.value),
        (false, false) => a.value.total_cmp(&b.value),
    });
    group.truncate(count);
    group
}
