//! Analysis as another tool would do it: which of its rules, asked of what. The
//! fields are those of the tool, so that its documents translate one to one. What is
//! measured is serin's own figure, or a provider's answer to a `query`.

mod bounds;
mod classic;
mod ranks;
mod scores;
mod traps;

pub use traps::warn;
pub use traps::warn_bake;

use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::judge::checks::Rule;
use crate::judge::checks::Scope;
use crate::judge::checks::Terms;
use crate::judge::samples::Arm;
use crate::judge::samples::Measure;
use crate::judge::samples::Question;
use crate::outside::provider::Query;
use crate::rollout::spec::Analysis;

use super::providers;
use super::units;

/// Lists that a rule walks through at each look.
const MOST: usize = 64;

/// Between two questions to a provider.
const SOONEST: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(15);

/// A judge other than serin's own.
#[derive(Clone, Copy)]
pub enum Judge {
    Classic,
    Aca,
    MannWhitney,
}

const JUDGES: [(&str, Option<Judge>); 4] = [
    ("sequential", None),
    ("classic", Some(Judge::Classic)),
    ("netflix-aca", Some(Judge::Aca)),
    ("mann-whitney", Some(Judge::MannWhitney)),
];
const SCOPES: [(&str, Scope); 2] = [("perRollout", Scope::Rollout), ("perStep", Scope::Step)];
const ARMS: [(&str, Arm); 2] = [("canary", Arm::Canary), ("primary", Arm::Primary)];

/// Which one is asked for.
pub fn judge(spot: &Spot) -> Option<Judge> {
    if !spot.is_map() || !spot.has("judge") {
        return None;
    }
    let judge = spot.entries().into_iter().find(|(name, _)| *name == "judge");
    judge.and_then(|(_, spot)| spot.word(&JUDGES))?
}

pub fn read(judge: Judge, spot: &Spot) -> Analysis {
    // What serin's own judge asks is off: the tool that is stood for does not ask it.
    let mut analysis = Analysis {
        relative_failures: None,
        relative_latency: None,
        promotion: None,
        min_requests: 1,
        ..Analysis::default()
    };
    let terms = match judge {
        Judge::Classic if spot.has("measurements") => classic::measurements(spot),
        Judge::Classic => classic::strikes(spot),
        Judge::Aca => scores::read(spot),
        Judge::MannWhitney => ranks::read(spot),
    };
    if let Some((fields, terms)) = terms {
        if let Some(least) = fields.get("minRequests").and_then(|spot| spot.whole(0, 1_000_000_000_000)) {
            analysis.min_requests = least;
        }
        if let Some((terms, questions)) = terms {
            analysis.checks = Some(terms);
            analysis.questions = questions;
        }
    }
    analysis
}

/// The fields, for those that every judge has, and the terms where all is right.
type Read<'t> = Option<(Fields<'t>, Option<(Terms, Vec<Question>)>)>;

fn terms(
    fields: &Fields,
    read: Option<(Rule, Vec<Question>)>,
    scope: Scope,
) -> Option<(Terms, Vec<Question>)> {
    let said = fields.get("run").and_then(|spot| spot.word(&SCOPES));
    let (rule, questions) = read?;
    Some((Terms { rule, scope: said.unwrap_or(scope) }, questions))
}

/// What is measured, and whom it takes to ask for it.
struct Measured {
    name: String,
    measure: Measure,
    query: Option<Query>,
}

impl Measured {
    /// Asked so often that the answer is fresh at every `interval`.
    fn question(&self, arms: &[Arm], interval: Duration) -> Option<Question> {
        Some(Question {
            name: self.name.clone(),
            query: self.query.clone()?,
            arms: arms.to_vec(),
            every: (interval / 4).clamp(SOONEST, LATEST),
        })
    }
}

/// `measure`, or a `query` and a name for it. The past that is asked about is `window`
/// unless the query says another.
fn measured(fields: &Fields, window: Duration) -> Option<Measured> {
    if !fields.has("query") {
        let measure = measure(fields)?;
        return Some(Measured { name: name(fields, &measure)?, measure, query: None });
    }
    let (_, spot) = fields.one_of(&["measure", "query"])?;
    let query = providers::question(&spot, window);
    let name = fields.need("name").and_then(|spot| spot.parsed(units::name));
    let (name, query) = (name?, query?);
    Some(Measured { measure: Measure::Outside { name: name.clone() }, name, query: Some(query) })
}

/// A rule's parts, and what others are asked for them.
fn apart<T>(read: Vec<(T, Option<Question>)>) -> (Vec<T>, Vec<Question>) {
    let (parts, questions): (Vec<T>, Vec<Option<Question>>) = read.into_iter().unzip();
    (parts, questions.into_iter().flatten().collect())
}

/// What stands in a list, each read; none where one is wrong.
fn each<T>(fields: &Fields, name: &str, read: impl Fn(&Spot) -> Option<T>) -> Option<Vec<T>> {
    let spot = fields.need(name)?;
    let items = spot.list()?;
    if items.is_empty() || items.len() > MOST {
        spot.error(format!("expects 1 to {MOST} of them, not {}", items.len()));
        return None;
    }
    let read: Vec<Option<T>> = items.iter().map(read).collect();
    read.into_iter().collect()
}

fn measure(fields: &Fields) -> Option<Measure> {
    fields.need("measure")?.parsed(|text| {
        Ok(match text {
            "successRate" => Measure::SuccessRate,
            "errorRate" => Measure::ErrorRate,
            "successRatio" => Measure::SuccessRatio,
            "errorRatio" => Measure::ErrorRatio,
            "requestRate" => Measure::RequestRate,
            "requests" => Measure::Requests,
            "failures" => Measure::Failures,
            _ => Measure::Latency {
                quantile: units::quantile(text).map_err(|_| {
                    format!(
                        "expects successRate, errorRate (both in percent), successRatio, errorRatio (from 0 to 1), \
                         requestRate, requests, failures or a latency such as p99, not {text:?}"
                    )
                })?,
            },
        })
    })
}

/// Its own, or what it measures.
fn name(fields: &Fields, measure: &Measure) -> Option<String> {
    match fields.get("name") {
        Some(spot) => spot.parsed(units::name),
        None => Some(measure.name()),
    }
}

fn names_differ<T>(fields: &Fields, name: &str, items: &[T], of: impl Fn(&T) -> &str) {
    for (at, item) in items.iter().enumerate() {
        if items[..at].iter().any(|other| of(other) == of(item))
            && let Some(spot) = fields.get(name)
        {
            spot.error(format!("two are named `{}`; give each a `name` of its own", of(item)));
        }
    }
}

fn arm(fields: &Fields) -> Arm {
    fields.get("of").and_then(|spot| spot.word(&ARMS)).unwrap_or(Arm::Canary)
}

fn time(fields: &Fields, name: &str) -> Option<Duration> {
    fields.get(name)?.parsed(units::some_time)
}

fn flag(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(|spot| spot.bool()).unwrap_or(false)
}

fn limit(fields: &Fields, name: &str, default: u32) -> u32 {
    let most = u64::from(u32::MAX);
    let limit = fields.get(name).and_then(|spot| spot.whole(0, most));
    limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(default)
}
