//! Operators between two values, and how the series of two vectors find each other.

use std::collections::{HashMap, HashSet};

use promql_parser::parser::token::{
    T_ADD, T_ATAN2, T_DIV, T_EQLC, T_GTE, T_GTR, T_LAND, T_LOR, T_LSS, T_LTE, T_LUNLESS, T_MOD, T_MUL, T_NEQ,
    T_POW, T_SUB, TokenId,
};
use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality};

use super::QueryError;
use super::evaluate::{Evaluation, Sample, Value};
use super::pool::{By, Set};
use crate::series::{Labels, NAME};

/// One operator between vectors, and how it matches.
struct Matching<'e> {
    operator: TokenId,
    modifier: &'e BinModifier,
    /// Its place in the expression: what is derived under it is its own.
    by: By,
}

/// Labels by which two series belong together.
const SIGNED: By = 1;
const MATCHED: By = 2;

impl Evaluation {
    pub fn binary(&mut self, binary: &BinaryExpr, at: i64) -> Result<Value, QueryError> {
        let operator = binary.op.id();
        let (left, right) = (self.value(&binary.lhs, at)?, self.value(&binary.rhs, at)?);
        let bool = binary.return_bool();
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let (value, holds) = operate(operator, left, right);
                let truth = if holds { 1.0 } else { 0.0 };
                Ok(Value::Scalar(if is_comparison(operator) { truth } else { value }))
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => {
                self.with_scalar(operator, bool, &vector, |value| (value, scalar))
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                self.with_scalar(operator, bool, &vector, |value| (scalar, value))
            }
            (Value::Vector(left), Value::Vector(right)) => {
                let default = BinModifier::default();
                let modifier = binary.modifier.as_ref().unwrap_or(&default);
                let by = std::ptr::from_ref(binary) as usize;
                let matching = Matching { operator, modifier, by };
                let samples = match operator {
                    T_LAND | T_LOR | T_LUNLESS => self.of_sets(&matching, left, right),
                    _ => self.of_vectors(&matching, &left, &right)?,
                };
                self.distinct(&samples)?;
                Ok(Value::Vector(samples))
            }
            _ => Err(QueryError::Bad("operators are not for texts".to_owned())),
        }
    }

    fn with_scalar(
        &mut self,
        operator: TokenId,
        bool: bool,
        vector: &[Sample],
        order: impl Fn(f64) -> (f64, f64),
    ) -> Result<Value, QueryError> {
        let mut samples = Vec::with_capacity(vector.len());
        for sample in vector {
            let (left, right) = order(sample.value);
            let (mut value, holds) = operate(operator, left, right);
            if is_comparison(operator) {
                // Whatever side it is on, what is kept is the vector's value.
                value = if bool { f64::from(u8::from(holds)) } else { sample.value };
                if !holds && !bool {
                    continue;
                }
            }
            let nameless = bool || drops_name(operator);
            let set = if nameless { self.pool().nameless(sample.set) } else { sample.set };
            samples.push(Sample { set, value });
        }
        self.distinct(&samples)?;
        Ok(Value::Vector(samples))
    }

    /// By what a series finds those of the other side.
    fn signature(&mut self, matching: &Matching<'_>, set: Set) -> Set {
        let chosen = matching.modifier.matching.as_ref();
        self.pool().derive(matching.by + SIGNED, set, |labels| match chosen {
            Some(LabelModifier::Include(on)) => labels.filter(|name| on.labels.iter().any(|on| on == name)),
            Some(LabelModifier::Exclude(without)) => {
                labels.filter(|name| name != NAME && !without.labels.iter().any(|other| other == name))
            }
            None => labels.filter(|name| name != NAME),
        })
    }

    fn of_sets(&mut self, matching: &Matching<'_>, left: Vec<Sample>, right: Vec<Sample>) -> Vec<Sample> {
        let (kept, sought) = if matching.operator == T_LOR { (&right, &left) } else { (&left, &right) };
        let known: HashSet<Set> = sought.iter().map(|sample| self.signature(matching, sample.set)).collect();
        let wants = matching.operator == T_LAND;
        let mut chosen: Vec<Sample> = Vec::new();
        for sample in kept {
            if known.contains(&self.signature(matching, sample.set)) == wants {
                chosen.push(*sample);
            }
        }
        if matching.operator == T_LOR {
            let mut all = left;
            all.extend(chosen);
            return all;
        }
        chosen
    }

    fn of_vectors(
        &mut self,
        matching: &Matching<'_>,
        left: &[Sample],
        right: &[Sample],
    ) -> Result<Vec<Sample>, QueryError> {
        if left.is_empty() || right.is_empty() {
            return Ok(Vec::new());
        }
        let is_swapped = matches!(matching.modifier.card, VectorMatchCardinality::OneToMany(_));
        let (many, one) = if is_swapped { (right, left) } else { (left, right) };
        let mut ones: HashMap<Set, Sample> = HashMap::new();
        for sample in one {
            let signature = self.signature(matching, sample.set);
            if let Some(other) = ones.insert(signature, *sample) {
                let side = if is_swapped { "left" } else { "right" };
                return Err(self.ambiguous(side, signature, sample.set, other.set));
            }
        }
        let is_one_to_one = matches!(matching.modifier.card, VectorMatchCardinality::OneToOne);
        let (mut matched, mut samples) = (HashSet::new(), Vec::new());
        for sample in many {
            let signature = self.signature(matching, sample.set);
            let Some(other) = ones.get(&signature).copied() else { continue };
            let (left, right) =
                if is_swapped { (other.value, sample.value) } else { (sample.value, other.value) };
            let (mut value, holds) = operate(matching.operator, left, right);
            if is_comparison(matching.operator) {
                if matching.modifier.return_bool {
                    value = f64::from(u8::from(holds));
                } else if !holds {
                    continue;
                }
            }
            let set = self.result_labels(matching, sample.set, other.set);
            let taken = if is_one_to_one { signature } else { set };
            if !matched.insert(taken) {
                let text = match is_one_to_one {
                    true => "many-to-one matching must be explicit (group_left/group_right)",
                    false => "grouping labels must ensure unique matches",
                };
                return Err(QueryError::Execution(format!("multiple matches for labels: {text}")));
            }
            samples.push(Sample { set, value });
        }
        Ok(samples)
    }

    fn result_labels(&mut self, matching: &Matching<'_>, many: Set, one: Set) -> Set {
        let Matching { operator, modifier, by } = *matching;
        self.pool().derive_of_two(by + MATCHED, many, one, |many, one| {
            let mut result = many.clone();
            if drops_name(operator) || modifier.return_bool {
                result = result.filter(|name| name != NAME);
            }
            match (&modifier.card, &modifier.matching) {
                (VectorMatchCardinality::OneToOne, Some(LabelModifier::Include(on))) => {
                    result.filter(|name| on.labels.iter().any(|on| on == name))
                }
                (VectorMatchCardinality::OneToOne, Some(LabelModifier::Exclude(without))) => {
                    result.filter(|name| !without.labels.iter().any(|other| other == name))
                }
                (VectorMatchCardinality::ManyToOne(taken) | VectorMatchCardinality::OneToMany(taken), _) => {
                    for name in &taken.labels {
                        result = result.with(name, one.get(name).unwrap_or_default());
                    }
                    result
                }
                _ => result,
            }
        })
    }

    fn ambiguous(&mut self, side: &str, signature: Set, one: Set, other: Set) -> QueryError {
        let pool = self.pool();
        let [group, one, other] = [signature, one, other].map(|set| braced(pool.labels(set)));
        QueryError::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{one}, {other}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}

fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn is_comparison(operator: TokenId) -> bool {
    matches!(operator, T_EQLC | T_NEQ | T_GTR | T_LSS | T_GTE | T_LTE)
}

fn drops_name(operator: TokenId) -> bool {
    matches!(operator, T_ADD | T_SUB | T_MUL | T_DIV | T_POW | T_MOD | T_ATAN2)
}

/// The value, and whether a comparison holds.
fn operate(operator: TokenId, left: f64, right: f64) -> (f64, bool) {
    match operator {
        T_ADD => (left + right, true),
        T_SUB => (left - right, true),
        T_MUL => (left * right, true),
        T_DIV => (left / right, true),
        T_MOD => (left % right, true),
        T_POW => (left.powf(right), true),
        T_ATAN2 => (left.atan2(right), true),
        T_EQLC => (left, left == right),
        T_NEQ => (left, left != right),
        T_GTR => (left, left > right),
        T_LSS => (left, left < right),
        T_GTE => (left, left >= right),
        T_LTE => (left, left <= right),
        other => unreachable!("operator {other} is none of values"),
    }
}
