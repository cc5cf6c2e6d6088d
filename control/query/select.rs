//! What a query selects, copied out of the store before it is evaluated: each
//! selector from the earliest moment that any step can look at to the latest.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{AtModifier, Expr, Offset, VectorSelector};

use super::pool::{Pool, Set};
use super::{LOOKBACK, QueryError, Span};
use crate::series::{Labels, NAME, Point, Store, Wish};

/// The series of one selector.
pub type Selected = Vec<(Set, Vec<Point>)>;

struct Need<'e> {
    selector: &'e VectorSelector,
    from: i64,
    to: i64,
}

/// By the address of the selector, which stays where it is.
pub fn key(selector: &VectorSelector) -> usize {
    std::ptr::from_ref(selector) as usize
}

/// The moment that a selector looks at from `at`.
pub fn shifted(at: i64, modifier: Option<&AtModifier>, offset: Option<&Offset>, span: Span) -> i64 {
    let at = match modifier {
        None => at,
        Some(AtModifier::Start) => span.start,
        Some(AtModifier::End) => span.end,
        Some(AtModifier::At(time)) => since_epoch(*time),
    };
    match offset {
        None => at,
        Some(Offset::Pos(by)) => at.saturating_sub(millis(*by)),
        Some(Offset::Neg(by)) => at.saturating_add(millis(*by)),
    }
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn since_epoch(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    }
}

pub fn load(
    expression: &Expr,
    store: &Store,
    span: Span,
    pool: &mut Pool,
    most: usize,
) -> Result<HashMap<usize, Selected>, QueryError> {
    let mut needs = Vec::new();
    find(expression, span.start, span.end, span, &mut needs);
    let wanted: Vec<Matchers> = needs.iter().map(|need| matchers(need.selector)).collect();
    let tests = wanted.iter().map(|matchers| move |labels: &Labels| is_meant(matchers, labels));
    let tests: Vec<_> = tests.collect();
    let wishes: Vec<Wish<'_>> = needs
        .iter()
        .zip(&tests)
        .map(|(need, is_meant)| Wish { is_meant, from: need.from, to: need.to })
        .collect();
    let mut points = 0;
    let mut selected = HashMap::new();
    for (need, picked) in needs.iter().zip(store.pick(&wishes)) {
        let mut series = Vec::with_capacity(picked.len());
        for picked in picked {
            let read = picked.points(need.from, need.to);
            points += read.len();
            if points > most {
                return Err(too_many());
            }
            if !read.is_empty() {
                series.push((pool.intern(picked.labels), read));
            }
        }
        selected.insert(key(need.selector), series);
    }
    Ok(selected)
}

pub fn too_many() -> QueryError {
    let text = "query processing would load too many samples into memory in query execution";
    QueryError::Execution(text.to_owned())
}

fn find<'e>(expression: &'e Expr, from: i64, to: i64, span: Span, needs: &mut Vec<Need<'e>>) {
    let mut need = |selector: &'e VectorSelector, back: i64| {
        let shift = |at| shifted(at, selector.at.as_ref(), selector.offset.as_ref(), span);
        needs.push(Need { selector, from: shift(from).saturating_sub(back), to: shift(to) });
    };
    match expression {
        Expr::VectorSelector(selector) => need(selector, LOOKBACK),
        Expr::MatrixSelector(matrix) => need(&matrix.vs, millis(matrix.range)),
        Expr::Subquery(subquery) => {
            let shift = |at| shifted(at, subquery.at.as_ref(), subquery.offset.as_ref(), span);
            let begin = shift(from).saturating_sub(millis(subquery.range));
            find(&subquery.expr, begin, shift(to), span, needs);
        }
        Expr::Paren(paren) => find(&paren.expr, from, to, span, needs),
        Expr::Unary(unary) => find(&unary.expr, from, to, span, needs),
        Expr::Binary(binary) => {
            find(&binary.lhs, from, to, span, needs);
            find(&binary.rhs, from, to, span, needs);
        }
        Expr::Aggregate(aggregate) => {
            for inner in aggregate.param.iter().chain([&aggregate.expr]) {
                find(inner, from, to, span, needs);
            }
        }
        Expr::Call(call) => {
            for argument in &call.args.args {
                find(argument, from, to, span, needs);
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// All that a selector asks for; a name before the braces is a matcher as well.
pub fn matchers(selector: &VectorSelector) -> Matchers {
    let mut matchers = selector.matchers.clone();
    if let Some(name) = &selector.name {
        let named = Matcher::new(MatchOp::Equal, NAME, name);
        for group in &mut matchers.or_matchers {
            group.insert(0, named.clone());
        }
        if matchers.or_matchers.is_empty() {
            matchers.matchers.insert(0, named);
        }
    }
    matchers
}

pub fn is_meant(matchers: &Matchers, labels: &Labels) -> bool {
    let holds = |matcher: &Matcher| matcher.is_match(labels.get(&matcher.name).unwrap_or_default());
    let all = |group: &Vec<Matcher>| group.iter().all(holds);
    match matchers.or_matchers.is_empty() {
        true => all(&matchers.matchers),
        false => matchers.or_matchers.iter().any(all),
    }
}
