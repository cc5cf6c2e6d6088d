//! PromQL over our own series, with the meaning that Prometheus 2.42 gives it.
//!
//! The text is parsed and typed by `promql-parser`; here it is evaluated, step by
//! step, over a copy of what it selects, so that nobody waits for it. Every
//! query has bounds: bytes of text, points read and made, steps, and time.

mod aggregate;
mod binary;
mod call;
mod evaluate;
mod histogram;
mod labelling;
mod over_time;
mod pool;
mod select;
mod spans;

use std::collections::BTreeMap;
use std::time::Duration;

use promql_parser::label::Matchers;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr};

use crate::clock::{Clock, Moment};
use crate::series::{Labels, Point, Store};
use evaluate::Evaluation;
pub use labelling::{is_label, told};
use pool::Pool;
pub use select::is_meant;

/// How far back the latest point of a series still counts as its value.
pub const LOOKBACK: i64 = 5 * 60 * 1000;
/// Steps of a range query.
pub const MOST_STEPS: i64 = 11_000;
/// A query is evaluated by recursion over what was parsed; a thread of
/// [`STACK`] bytes is enough for any text that is no longer than this.
pub const MOST_TEXT: usize = 16 << 10;
pub const STACK: usize = 256 << 20;
/// Points that a query may read, and points that it may hold of what it makes.
const MOST_POINTS: usize = 4_000_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The question makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It does, but not over these series.
    #[error("{0}")]
    Execution(String),
    #[error("query timed out in expression evaluation")]
    Timeout,
}

/// From when to when, and how long a step is, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Scalar(Point),
    Text(i64, String),
    Vector(Vec<(Labels, Point)>),
    Matrix(Vec<(Labels, Vec<Point>)>),
}

/// A query whose text makes sense.
pub struct Query(Expr);

impl Query {
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        if text.len() > MOST_TEXT {
            return Err(QueryError::Bad(format!("the query is longer than {MOST_TEXT} bytes")));
        }
        let expression = parsed(text)?;
        call::check(&expression)?;
        Ok(Query(expression))
    }

    /// Its value at one moment.
    pub fn at(&self, store: &Store, at: i64, timeout: Duration) -> Result<Answer, QueryError> {
        let span = Span { start: at, end: at, step: 1 };
        let mut evaluation = self.begin(store, span, timeout)?;
        if let Expr::MatrixSelector(_) | Expr::Subquery(_) = bare(&self.0) {
            let lines = evaluation.windows(&self.0, at)?.lines;
            let pool = evaluation.pool();
            let lines = lines.into_iter().filter(|(_, points)| !points.is_empty());
            let mut lines: Vec<_> = lines.map(|(set, points)| (pool.labels(set).clone(), points)).collect();
            lines.sort_by(|a, b| a.0.cmp(&b.0));
            return Ok(Answer::Matrix(lines));
        }
        Ok(match evaluation.value(&self.0, at)? {
            evaluate::Value::Scalar(value) => Answer::Scalar(Point { at, value }),
            evaluate::Value::Text(text) => Answer::Text(at, text),
            evaluate::Value::Vector(samples) => {
                let pool = evaluation.pool();
                let told = |sample: evaluate::Sample| {
                    (pool.labels(sample.set).clone(), Point { at, value: sample.value })
                };
                Answer::Vector(samples.into_iter().map(told).collect())
            }
        })
    }

    /// Its values at every step of a span.
    pub fn over(&self, store: &Store, span: Span, timeout: Duration) -> Result<Answer, QueryError> {
        let kind = self.0.value_type();
        if !matches!(kind, ValueType::Vector | ValueType::Scalar) {
            let kind = if kind == ValueType::Matrix { "range vector" } else { "string" };
            let text =
                format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
            return Err(QueryError::Bad(text));
        }
        let mut evaluation = self.begin(store, span, timeout)?;
        let mut lines: BTreeMap<u32, Vec<Point>> = BTreeMap::new();
        let (mut at, mut held) = (span.start, 0);
        while at <= span.end {
            match evaluation.value(&self.0, at)? {
                evaluate::Value::Scalar(value) => {
                    let set = evaluation.pool().intern(Labels::default());
                    lines.entry(set.0).or_default().push(Point { at, value });
                }
                evaluate::Value::Text(_) => unreachable!("its type was looked at"),
                evaluate::Value::Vector(samples) => {
                    held += samples.len();
                    if held > MOST_POINTS {
                        return Err(select::too_many());
                    }
                    for sample in samples {
                        lines.entry(sample.set.0).or_default().push(Point { at, value: sample.value });
                    }
                }
            }
            at += span.step;
        }
        let pool = evaluation.pool();
        let mut lines: Vec<_> =
            lines.into_iter().map(|(set, points)| (pool.labels(pool::Set(set)).clone(), points)).collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Answer::Matrix(lines))
    }

    fn begin(&self, store: &Store, span: Span, timeout: Duration) -> Result<Evaluation, QueryError> {
        let clock = Clock::start(Moment::default());
        let deadline = clock.now().after(timeout);
        let mut pool = Pool::default();
        let selected = select::load(&self.0, store, span, &mut pool, MOST_POINTS)?;
        Ok(Evaluation::new(span, selected, pool, clock, deadline, MOST_POINTS))
    }
}

fn parsed(text: &str) -> Result<Expr, QueryError> {
    if let Some(word) = spans::not_a_duration(text) {
        return Err(QueryError::Bad(format!("not a valid duration string: {word:?}")));
    }
    parser::parse(text).map_err(QueryError::Bad)
}

/// One selector alone, as `match[]` has it.
pub fn selector(text: &str) -> Result<Matchers, QueryError> {
    if text.len() > MOST_TEXT {
        return Err(QueryError::Bad(format!("the selector is longer than {MOST_TEXT} bytes")));
    }
    match parsed(text)? {
        Expr::VectorSelector(selector) if selector.at.is_none() && selector.offset.is_none() => {
            Ok(select::matchers(&selector))
        }
        _ => Err(QueryError::Bad(format!("{text} is no selector of series"))),
    }
}

/// What stands in any number of parentheses.
fn bare(mut expression: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expression {
        expression = &paren.expr;
    }
    expression
}
