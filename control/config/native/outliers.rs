//! Ejection of endpoints that fail their users, and how long it lasts.

use serin_proxy::model::{FailurePercentage, Outlier, SuccessRate, Threshold};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 13] = [
    "interval",
    "baseEjectionTime",
    "maxEjectionTime",
    "jitter",
    "maxEjectionPercent",
    "alwaysEjectOne",
    "consecutive5xx",
    "consecutiveGatewayFailures",
    "consecutiveLocalOriginFailures",
    "splitLocalOriginErrors",
    "successRate",
    "failurePercentage",
    "unejectOnHealthCheck",
];
const ROW: [&str; 2] = ["count", "enforcing"];
const RATE: [&str; 5] =
    ["minimumEndpoints", "minimumRequests", "deviations", "enforcing", "enforcingLocalOrigin"];
const PERCENTAGE: [&str; 5] =
    ["threshold", "minimumEndpoints", "minimumRequests", "enforcing", "enforcingLocalOrigin"];

/// `true` for the defaults, `false` for none, or fields.
pub fn read(spot: &Spot) -> Option<Outlier> {
    match spot.as_bool() {
        Some(true) => return Some(Outlier::default()),
        Some(false) => return None,
        None => {}
    }
    let fields = spot.fields(&FIELDS)?;
    let mut outlier = Outlier::default();
    let time = |name: &str| fields.get(name).and_then(|spot| spot.parsed(units::some_time));
    let flag = |name: &str| fields.get(name).and_then(|spot| spot.bool());
    set(&mut outlier.interval, time("interval"));
    set(&mut outlier.base_ejection_time, time("baseEjectionTime"));
    // Whoever wants a long base wants no shorter bound.
    outlier.max_ejection_time = outlier.max_ejection_time.max(outlier.base_ejection_time);
    if let Some(spot) = fields.get("maxEjectionTime")
        && let Some(longest) = spot.parsed(units::some_time)
    {
        if longest < outlier.base_ejection_time {
            spot.error("must not be shorter than `baseEjectionTime`");
        }
        outlier.max_ejection_time = longest;
    }
    let jitter = fields.get("jitter").and_then(|spot| spot.parsed(units::duration));
    set(&mut outlier.max_ejection_time_jitter, jitter);
    set(&mut outlier.max_ejection_percent, percent(&fields, "maxEjectionPercent"));
    set(&mut outlier.always_eject_one, flag("alwaysEjectOne"));
    set(&mut outlier.split_local_origin, flag("splitLocalOriginErrors"));
    set(&mut outlier.uneject_on_health_check, flag("unejectOnHealthCheck"));
    set(&mut outlier.consecutive_5xx, row(&fields, "consecutive5xx"));
    set(&mut outlier.consecutive_gateway_failure, row(&fields, "consecutiveGatewayFailures"));
    if let Some(spot) = fields.get("consecutiveLocalOriginFailures")
        && !outlier.split_local_origin
    {
        spot.error("is counted only with `splitLocalOriginErrors: true`");
    }
    set(&mut outlier.consecutive_local_origin_failure, row(&fields, "consecutiveLocalOriginFailures"));
    if let Some(spot) = fields.get("successRate") {
        outlier.success_rate = success_rate(&spot, outlier.success_rate);
    }
    if let Some(spot) = fields.get("failurePercentage") {
        outlier.failure_percentage = failure_percentage(&spot, outlier.failure_percentage);
    }
    Some(outlier)
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn count(fields: &Fields, name: &str, least: u64) -> Option<u32> {
    let number = fields.get(name).and_then(|spot| spot.whole(least, 1_000_000_000))?;
    u32::try_from(number).ok()
}

fn percent(fields: &Fields, name: &str) -> Option<u32> {
    let spot = fields.get(name)?;
    let parts = spot.parsed(units::parts)?;
    if parts % 100 != 0 {
        spot.error("expects whole percents");
    }
    Some(parts / 100)
}

/// Who names a number wants it enforced, unless more is said.
fn row(fields: &Fields, name: &str) -> Option<Threshold> {
    let spot = fields.get(name)?;
    if spot.as_bool() == Some(false) {
        return Some(Threshold { count: 0, enforcing: 0 });
    }
    if !spot.is_map() {
        let count = u32::try_from(spot.whole(1, 1_000_000_000)?).ok()?;
        return Some(Threshold { count, enforcing: 100 });
    }
    let fields = spot.fields(&ROW)?;
    fields.need("count")?;
    let enforcing = percent(&fields, "enforcing").unwrap_or(100);
    Some(Threshold { count: count(&fields, "count", 1)?, enforcing })
}

fn success_rate(spot: &Spot, default: SuccessRate) -> SuccessRate {
    let mut rate = default;
    match spot.as_bool() {
        Some(true) => return rate,
        Some(false) => return SuccessRate { enforcing: 0, enforcing_local_origin: 0, ..rate },
        None => {}
    }
    let Some(fields) = spot.fields(&RATE) else { return rate };
    set(&mut rate.minimum_hosts, count(&fields, "minimumEndpoints", 1));
    set(&mut rate.request_volume, count(&fields, "minimumRequests", 1));
    if let Some(deviations) = fields.get("deviations").and_then(|spot| spot.parsed(units::decimal)) {
        rate.stdev_factor = (deviations * 1000.0).round() as u32;
    }
    set(&mut rate.enforcing, percent(&fields, "enforcing"));
    set(&mut rate.enforcing_local_origin, percent(&fields, "enforcingLocalOrigin"));
    rate
}

/// Off unless asked for; who asks wants it enforced.
fn failure_percentage(spot: &Spot, default: FailurePercentage) -> FailurePercentage {
    let on = FailurePercentage { enforcing: 100, enforcing_local_origin: 100, ..default };
    match spot.as_bool() {
        Some(true) => return on,
        Some(false) => return default,
        None => {}
    }
    let mut percentage = on;
    let Some(fields) = spot.fields(&PERCENTAGE) else { return percentage };
    set(&mut percentage.threshold, percent(&fields, "threshold"));
    set(&mut percentage.minimum_hosts, count(&fields, "minimumEndpoints", 1));
    set(&mut percentage.request_volume, count(&fields, "minimumRequests", 1));
    set(&mut percentage.enforcing, percent(&fields, "enforcing"));
    set(&mut percentage.enforcing_local_origin, percent(&fields, "enforcingLocalOrigin"));
    percentage
}
