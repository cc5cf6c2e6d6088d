//! Whom a canary is tried on before it has a weight, and what can be known of it
//! then.

use serin_proxy::model::Rule;
use serin_proxy::weights::WHOLE;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::native::matching;
use crate::config::native::site::Site;
use crate::judge::samples::Measure;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::Step;

pub fn rules(spot: &Spot) -> Vec<Rule> {
    spot.list().unwrap_or_default().iter().filter_map(matching::rule).collect()
}

/// Steps that match need rules, and rules steps that match.
pub fn check(fields: &Fields, steps: &[Step], analysis: &Analysis) {
    let matched: Vec<u32> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Trial { matched: parts @ 1.., .. } => Some(*parts),
            _ => None,
        })
        .collect();
    let at = fields.get("steps");
    let at = at.as_ref().unwrap_or(fields.spot());
    match (fields.get("match"), matched.is_empty()) {
        (None, false) if !fields.has("match") => at.error("a step is `matched`, but `match` gives no rules"),
        (Some(spot), true) => spot.error("no step is `matched`, so these rules never hold"),
        _ => {}
    }
    // What is copied beside it is compared, and so is a part of what matches.
    let blind = |step: &Step| matches!(step, Step::Trial { matched: WHOLE, copied: 0, .. });
    if steps.iter().any(blind) && analysis.success.is_none() && analysis.latency.is_none() {
        at.warn(
            "where all that matches goes to the canary there is nothing to compare it with: only `success` and \
             `latency` could roll it back, and neither is asked for. Match less than 100, mirror, or set one",
        );
    }
    let copies = |step: &Step| matches!(step, Step::Trial { copied: 1.., .. });
    if !steps.iter().any(copies) {
        return;
    }
    let Some(terms) = &analysis.checks else {
        if analysis.relative_failures.is_none() {
            at.warn(
                "copies are judged by serin's own comparison of failures, which is off here: they exercise the canary \
                 and nothing follows from their answers",
            );
        }
        return;
    };
    let slow: Vec<String> =
        terms.measures().filter(|measure| measure.is_latency()).map(Measure::name).collect();
    if !slow.is_empty() {
        at.warn(format!(
            "of copies it is known whether they failed and not how long they took: {} is left out while the canary \
             gets nothing else",
            slow.join(", ")
        ));
    }
}

/// A service has one mirror, and for this rollout it has to be the canary.
pub fn check_mirror(spot: &Spot, site: &Site, canary: &str) {
    let name = &site.split.name;
    match &site.split.mirror {
        Some(mirror) if mirror.version != canary => spot.error(format!(
            "a step is `mirrored`, but service `{name}` mirrors to `{}`; it has one mirror",
            mirror.version
        )),
        Some(mirror) if mirror.parts != WHOLE => spot.warn(format!(
            "its `mirrored` steps say how much is copied; `percent` of the mirror of service `{name}` has no effect"
        )),
        Some(_) | None => {}
    }
}
