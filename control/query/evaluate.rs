//! The value of an expression at one moment.

use std::collections::{HashMap, HashSet};

use promql_parser::parser::{Expr, SubqueryExpr, VectorSelector};

use super::pool::{Pool, Set};
use super::select::{Selected, key, millis, shifted, too_many};
use super::{LOOKBACK, QueryError, Span, bare};
use crate::clock::{Clock, Moment};
use crate::series::Point;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub set: Set,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(f64),
    Text(String),
    Vector(Vec<Sample>),
}

/// What a range selector or a subquery looks at, both ends included.
pub struct Windows {
    pub from: i64,
    pub to: i64,
    pub lines: Vec<(Set, Vec<Point>)>,
}

/// Where subqueries that do not say it take their steps, as by default in Prometheus.
const SUBQUERY_STEP: i64 = 60_000;

pub struct Evaluation {
    pub span: Span,
    selected: HashMap<usize, Selected>,
    pool: Pool,
    clock: Clock,
    deadline: Moment,
    /// Points that may be held at once.
    most: usize,
    /// Work done since the time was last looked at.
    unchecked: usize,
}

impl Evaluation {
    pub fn new(
        span: Span,
        selected: HashMap<usize, Selected>,
        pool: Pool,
        clock: Clock,
        deadline: Moment,
        most: usize,
    ) -> Evaluation {
        Evaluation { span, selected, pool, clock, deadline, most, unchecked: 0 }
    }

    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    pub fn value(&mut self, expression: &Expr, at: i64) -> Result<Value, QueryError> {
        let value = match expression {
            Expr::Paren(paren) => return self.value(&paren.expr, at),
            Expr::NumberLiteral(number) => return Ok(Value::Scalar(number.val)),
            Expr::StringLiteral(text) => return Ok(Value::Text(text.val.clone())),
            Expr::VectorSelector(selector) => Value::Vector(
                self.instant(selector, at)
                    .into_iter()
                    .map(|(set, point)| Sample { set, value: point.value })
                    .collect(),
            ),
            Expr::Unary(unary) => self.negated(&unary.expr, at)?,
            Expr::Binary(binary) => self.binary(binary, at)?,
            Expr::Aggregate(aggregate) => Value::Vector(self.aggregate(aggregate, at)?),
            Expr::Call(call) => self.call(call, at)?,
            Expr::MatrixSelector(_) | Expr::Subquery(_) | Expr::Extension(_) => {
                return Err(QueryError::Bad(
                    "a range of values stands where one value is expected".to_owned(),
                ));
            }
        };
        self.work(match &value {
            Value::Vector(samples) => samples.len() + 1,
            Value::Scalar(_) | Value::Text(_) => 1,
        })?;
        Ok(value)
    }

    pub fn vector(&mut self, expression: &Expr, at: i64) -> Result<Vec<Sample>, QueryError> {
        match self.value(expression, at)? {
            Value::Vector(samples) => Ok(samples),
            other => Err(QueryError::Bad(format!("expected a vector, got {other:?}"))),
        }
    }

    pub fn scalar(&mut self, expression: &Expr, at: i64) -> Result<f64, QueryError> {
        match self.value(expression, at)? {
            Value::Scalar(value) => Ok(value),
            other => Err(QueryError::Bad(format!("expected a scalar, got {other:?}"))),
        }
    }

    /// Counts work done, and looks at the time now and then.
    fn work(&mut self, points: usize) -> Result<(), QueryError> {
        self.unchecked += points;
        if self.unchecked > 2000 {
            self.unchecked = 0;
            if self.clock.now() > self.deadline {
                return Err(QueryError::Timeout);
            }
        }
        Ok(())
    }

    /// The latest point of each series that is not too old.
    pub fn instant(&self, selector: &VectorSelector, at: i64) -> Vec<(Set, Point)> {
        let at = shifted(at, selector.at.as_ref(), selector.offset.as_ref(), self.span);
        let latest = |(set, points): &(Set, Vec<Point>)| {
            let before = points.partition_point(|point| point.at <= at);
            let point = *points.get(before.checked_sub(1)?)?;
            (point.at >= at.saturating_sub(LOOKBACK) && !point.is_stale()).then_some((*set, point))
        };
        self.selected.get(&key(selector)).into_iter().flatten().filter_map(latest).collect()
    }

    /// What a range function looks at.
    pub fn windows(&mut self, expression: &Expr, at: i64) -> Result<Windows, QueryError> {
        let windows = match bare(expression) {
            Expr::MatrixSelector(matrix) => {
                let to = shifted(at, matrix.vs.at.as_ref(), matrix.vs.offset.as_ref(), self.span);
                let from = to.saturating_sub(millis(matrix.range));
                let lines = self.selected.get(&key(&matrix.vs)).into_iter().flatten();
                let lines = lines.map(|(set, points)| (*set, within(points, from, to)));
                let lines = lines.filter(|(_, points)| !points.is_empty());
                Windows { from, to, lines: lines.collect() }
            }
            Expr::Subquery(subquery) => self.subquery(subquery, at)?,
            other => return Err(QueryError::Bad(format!("expected a range of values, got {other}"))),
        };
        self.work(windows.lines.iter().map(|(_, points)| points.len() / 16 + 1).sum())?;
        Ok(windows)
    }

    /// Steps of a subquery are whole multiples of its step since the epoch.
    fn subquery(&mut self, subquery: &SubqueryExpr, at: i64) -> Result<Windows, QueryError> {
        let to = shifted(at, subquery.at.as_ref(), subquery.offset.as_ref(), self.span);
        let from = to.saturating_sub(millis(subquery.range));
        let step = subquery.step.map_or(SUBQUERY_STEP, millis).max(1);
        let mut inner = step * from.div_euclid(step);
        if inner < from {
            inner += step;
        }
        let mut places: HashMap<Set, usize> = HashMap::new();
        let mut lines: Vec<(Set, Vec<Point>)> = Vec::new();
        let mut held = 0;
        while inner <= to {
            let samples = match self.value(&subquery.expr, inner)? {
                Value::Vector(samples) => samples,
                Value::Scalar(value) => vec![Sample { set: self.pool.intern(Default::default()), value }],
                Value::Text(_) => return Err(QueryError::Bad("a subquery over a text".to_owned())),
            };
            held += samples.len();
            if held > self.most {
                return Err(too_many());
            }
            for Sample { set, value } in samples {
                let place = *places.entry(set).or_insert_with(|| {
                    lines.push((set, Vec::new()));
                    lines.len() - 1
                });
                lines[place].1.push(Point { at: inner, value });
            }
            inner = inner.saturating_add(step);
        }
        Ok(Windows { from, to, lines })
    }

    fn negated(&mut self, expression: &Expr, at: i64) -> Result<Value, QueryError> {
        match self.value(expression, at)? {
            Value::Scalar(value) => Ok(Value::Scalar(-value)),
            Value::Text(_) => Err(QueryError::Bad("a text cannot be negated".to_owned())),
            Value::Vector(mut samples) => {
                for sample in &mut samples {
                    *sample = Sample { set: self.pool.nameless(sample.set), value: -sample.value };
                }
                self.distinct(&samples)?;
                Ok(Value::Vector(samples))
            }
        }
    }

    /// Without its name a series may be the same as another, and then neither is meant.
    pub fn distinct(&self, samples: &[Sample]) -> Result<(), QueryError> {
        let mut seen = HashSet::with_capacity(samples.len());
        if samples.iter().all(|sample| seen.insert(sample.set)) {
            return Ok(());
        }
        Err(QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned()))
    }
}

fn within(points: &[Point], from: i64, to: i64) -> Vec<Point> {
    let begin = points.partition_point(|point| point.at < from);
    let end = points.partition_point(|point| point.at <= to);
    points.get(begin..end).unwrap_or_default().iter().filter(|point| !point.is_stale()).copied().collect()
}
