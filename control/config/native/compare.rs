//! How the answers to mirrored requests are compared.

use serin_proxy::model::Compare;

use crate::answers::Ignored;
use crate::answers::Settings;
use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 5] = ["perSecond", "maxBody", "ignore", "examples", "falseReports"];
const PER_SECOND: u32 = 1;
const MAX_BODY: usize = 64 * 1024;
/// A worker has four such at a time, of three answers each.
const MOST_BODY: usize = 1024 * 1024;

/// `true`, or fields.
pub fn read(spot: &Spot) -> Option<(Compare, Settings)> {
    let mut compare = Compare { per_second: PER_SECOND, max_body: MAX_BODY };
    let mut settings = Settings::default();
    match spot.as_bool() {
        Some(true) => return Some((compare, settings)),
        Some(false) => return None,
        None if !spot.is_map() => {
            spot.wrong("true, false or fields (perSecond, maxBody, ignore, examples, falseReports)");
            return None;
        }
        None => {}
    }
    let fields = spot.fields(&FIELDS)?;
    if let Some(rate) = fields.get("perSecond").and_then(|spot| spot.whole(1, 1_000)) {
        compare.per_second = u32::try_from(rate).unwrap_or(PER_SECOND);
    }
    if let Some(spot) = fields.get("maxBody")
        && let Some(size) = spot.parsed(units::size)
    {
        if size > MOST_BODY {
            spot.error("of a body at most 1MiB is kept to be compared");
        }
        compare.max_body = size;
    }
    let ignore = fields.get("ignore").filter(|spot| !spot.is_empty_list());
    for spot in ignore.and_then(|spot| spot.list()).unwrap_or_default() {
        settings.ignore.extend(spot.parsed(ignored));
    }
    if let Some(examples) = fields.get("examples").and_then(|spot| spot.bool()) {
        settings.examples = examples;
    }
    if let Some(spot) = fields.get("falseReports")
        && let Some(alpha) = spot.parsed(units::fraction)
    {
        if !(1e-9..=0.5).contains(&alpha) {
            spot.error("expects a percentage from 0.0000001 to 50, for example 0.1%");
        }
        settings.alpha = alpha;
    }
    Some((compare, settings))
}

/// `$.a.b` is a path in a JSON body, all else the name of a header.
fn ignored(text: &str) -> Result<Ignored, String> {
    match text.strip_prefix('$') {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => Ok(Ignored::Path(text.to_owned())),
        Some(_) => Err(format!("expects a path such as $.meta.time or $.items[*].id, not {text:?}")),
        None => Ok(Ignored::Header(units::header(text)?)),
    }
}
