//! The steps of a rollout: listed one by one, as slopes, or of even size.

use std::time::Duration;

use serin_proxy::weights::WHOLE;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::native::units;
use crate::rollout::spec::Analysis;
use crate::rollout::spec::Step;

const STEP: [&str; 11] =
    ["weight", "for", "pause", "matched", "mirrored", "iterations", "interval", "from", "to", "by", "every"];

/// Steps of one rollout at most: one for each weight that there is.
const MOST: usize = WHOLE as usize;

/// Either listed or of even size.
pub fn read(fields: &Fields) -> Vec<Step> {
    let even = ["stepWeight", "maxWeight", "interval"];
    let given: Vec<&str> = even.into_iter().filter(|name| fields.has(name)).collect();
    match (fields.has("steps"), given.is_empty()) {
        (true, true) => listed(fields),
        (false, false) => evenly(fields),
        (true, false) => {
            fields.spot().error(format!("give either `steps` or {}, not both", given.join(", ")));
            Vec::new()
        }
        (false, true) => {
            fields.spot().error("`steps` is missing, or `stepWeight`, `maxWeight` and `interval` instead");
            Vec::new()
        }
    }
}

fn listed(fields: &Fields) -> Vec<Step> {
    let Some(spot) = fields.get("steps") else {
        return Vec::new();
    };
    let items = spot.list().unwrap_or_default();
    let mut last = 0;
    let read: Vec<Option<Vec<Step>>> = items.iter().map(|spot| step(spot, &mut last)).collect();
    let good = read.iter().all(Option::is_some);
    let steps: Vec<Step> = read.into_iter().flatten().flatten().collect();
    if good && !steps.is_empty() && steps.iter().all(|step| matches!(step, Step::Pause { .. })) {
        spot.error("no step gives the canary a weight, a match or a mirror");
    }
    if steps.len() > MOST {
        spot.error(format!("{} steps are more than {MOST}", steps.len()));
    }
    steps
}

/// `last` is the weight of the step before, and then of this one.
fn step(spot: &Spot, last: &mut u32) -> Option<Vec<Step>> {
    let fields = spot.fields(&STEP)?;
    if fields.has("matched") || fields.has("mirrored") {
        return Some(vec![trial(spot, &fields, *last)?]);
    }
    match fields.one_of(&["weight", "pause", "from"])? {
        ("weight", weight) => {
            let parts = weight.parsed(units::parts);
            if let Some(parts) = parts {
                rises(&weight, *last, parts);
                *last = parts.max(*last);
            }
            let hold = hold(&fields);
            unwanted(&fields, &["to", "by", "every"], "belongs to a slope, which begins with `from`");
            Some(vec![Step::Weight { parts: parts?, hold: hold? }])
        }
        ("from", from) => slope(&fields, &from, last),
        (_, pause) => {
            if let Some(spot) = fields.get("for") {
                spot.error("a pause has its time itself: `pause: 1m`");
            }
            Some(vec![Step::Pause { hold: pause_time(&pause)? }])
        }
    }
}

fn unwanted(fields: &Fields, names: &[&str], why: &str) {
    for spot in names.iter().filter_map(|name| fields.get(name)) {
        spot.error(why);
    }
}

/// `for`, or so many iterations of an interval.
fn hold(fields: &Fields) -> Option<Duration> {
    if !fields.has("iterations") {
        return fields.need("for").and_then(|spot| spot.parsed(units::duration));
    }
    if let Some(spot) = fields.get("for") {
        spot.error("give either `for` or `iterations` and `interval`");
    }
    let count = fields.get("iterations").and_then(|spot| spot.whole(1, 1_000_000));
    let interval = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    interval?.checked_mul(u32::try_from(count?).ok()?)
}

fn trial(spot: &Spot, fields: &Fields, last: u32) -> Option<Step> {
    unwanted(fields, &["weight", "pause", "from", "to", "by", "every"], "a trial gives no weight; drop this");
    if last > 0 {
        spot.error("a trial comes before weights: its canary has none");
    }
    let share = |name: &str| match fields.has(name) {
        false => Some(0),
        true => fields.get(name)?.parsed(units::parts),
    };
    let (matched, copied) = (share("matched"), share("mirrored"));
    let hold = hold(fields);
    if (matched, copied) == (Some(0), Some(0)) {
        spot.error("gives nothing to the canary");
    }
    Some(Step::Trial { matched: matched?, copied: copied?, hold: hold? })
}

/// `{from: 10, to: 50, by: 10, every: 1m}`; the last step is `to`, however near.
fn slope(fields: &Fields, from: &Spot, last: &mut u32) -> Option<Vec<Step>> {
    let parts = |name: &str| fields.need(name).and_then(|spot| Some((spot.parsed(units::parts)?, spot)));
    unwanted(fields, &["for", "iterations", "interval"], "a slope has `every` for its steps");
    let start = from.parsed(units::parts);
    if let Some(start) = start {
        rises(from, *last, start);
    }
    let every = fields.need("every").and_then(|spot| spot.parsed(units::duration));
    let (to, by) = (parts("to"), parts("by"));
    let (Some(start), Some((to, at)), Some((by, size)), Some(hold)) = (start, to, by, every) else {
        return None;
    };
    if to <= start {
        at.error(format!("a slope rises, and it begins at {}", percent(start)));
    }
    if by == 0 {
        size.error("a step gives the canary more than 0");
        return None;
    }
    *last = to.max(*last);
    let count = to.saturating_sub(start).div_ceil(by);
    Some((0..=count).map(|n| Step::Weight { parts: to.min(start + n * by), hold }).collect())
}

fn rises(spot: &Spot, last: u32, parts: u32) {
    match (last, parts) {
        (_, 0) => spot.error("a step gives the canary more than 0"),
        _ if parts <= last => {
            spot.error(format!("weights rise from step to step; the last was {}", percent(last)));
        }
        _ => {}
    }
}

/// `Some(None)` is a pause without an end.
fn pause_time(spot: &Spot) -> Option<Option<Duration>> {
    match spot.as_bool() {
        Some(true) => Some(None),
        Some(false) => {
            spot.error("expects a duration, or true to wait for a resume or promote");
            None
        }
        None => Some(Some(spot.parsed(units::some_time)?)),
    }
}

/// `stepWeight` at a time up to `maxWeight`, each for `interval`.
fn evenly(fields: &Fields) -> Vec<Step> {
    let size = fields.need("stepWeight").and_then(|spot| {
        let parts = spot.parsed(units::parts)?;
        if parts == 0 {
            spot.error("a step gives the canary more than 0");
            return None;
        }
        Some(parts)
    });
    let most = fields.need("maxWeight").and_then(|spot| {
        let parts = spot.parsed(units::parts)?;
        if parts < size? {
            spot.error(format!("is less than one step of {}", percent(size?)));
        }
        Some(parts)
    });
    let hold = fields.need("interval").and_then(|spot| spot.parsed(units::some_time));
    let (Some(size), Some(most), Some(hold)) = (size, most, hold) else {
        return Vec::new();
    };
    // At least one hundredth of a percent a step, so at most ten thousand steps.
    let count = most.min(WHOLE).div_ceil(size);
    (1..=count).map(|n| Step::Weight { parts: most.min(n.saturating_mul(size)), hold }).collect()
}

fn percent(parts: u32) -> String {
    format!("{}%", serin_proxy::weights::percent(parts))
}

/// A step that ends before an answer can be too slow sees nothing slow of its own.
pub fn warn_blind(fields: &Fields, steps: &[Step], analysis: &Analysis) {
    let Some(objective) = &analysis.latency else { return };
    let short = |step: &Step| match step {
        Step::Weight { hold, .. } | Step::Trial { hold, .. } => *hold < objective.threshold,
        Step::Pause { .. } => false,
    };
    if steps.iter().any(short) {
        let spot = fields.get("steps").or_else(|| fields.get("interval"));
        spot.as_ref().unwrap_or(fields.spot()).warn(format!(
            "a step is shorter than the latency objective of {:?} and ends before an answer can be too slow",
            objective.threshold
        ));
    }
}
