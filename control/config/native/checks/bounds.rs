//! Numbers that a measurement is held against, in the measure's unit.

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::native::units;
use crate::judge::samples::Measure;

/// `min` and `max`, at least one of them.
pub fn both(fields: &Fields, measure: &Measure) -> Option<(Option<f64>, Option<f64>)> {
    let of = |name: &str| match fields.get(name) {
        Some(spot) => bound(&spot, measure).map(Some),
        None => Some(None),
    };
    let (min, max) = (of("min")?, of("max")?);
    if min.is_none() && max.is_none() {
        if !fields.has("min") && !fields.has("max") {
            fields.spot().error("needs `min` or `max`, or both");
        }
        return None;
    }
    if let (Some(least), Some(most)) = (min, max)
        && least > most
    {
        fields.spot().error(format!("nothing lies from {least} to {most}"));
        return None;
    }
    Some((min, max))
}

fn bound(spot: &Spot, measure: &Measure) -> Option<f64> {
    spot.parsed(|text| match measure {
        Measure::Latency { .. } => match text.parse::<f64>() {
            Ok(ms) if ms.is_finite() => Ok(ms),
            _ => Ok(units::duration(text)?.as_secs_f64() * 1000.0),
        },
        Measure::SuccessRate | Measure::ErrorRate => number(text.strip_suffix('%').unwrap_or(text)),
        _ => number(text),
    })
}

pub fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("expects a number such as 1.2, not {text:?}")),
    }
}
