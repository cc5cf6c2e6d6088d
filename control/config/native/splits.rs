//! How a service shares its requests out: weights, stickiness, forced versions,
//! shield and mirror.

use serin_proxy::Weights;
use serin_proxy::model::{Force, ForceOn, Mirror, Role, Shield, Sticky, StickyKey, TextMatch};
use serin_proxy::weights::WHOLE;

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::compare;
use super::matching;
use super::site::Site;
use super::units;

const STICKY: [&str; 5] = ["header", "cookie", "issue", "maxAge", "path"];
const FORCE: [&str; 13] = [
    "header",
    "cookie",
    "query",
    "source",
    "version",
    "exact",
    "prefix",
    "suffix",
    "contains",
    "regex",
    "range",
    "present",
    "ignoreCase",
];
const SHIELD: [&str; 3] = ["maxBody", "budget", "burst"];
const MIRROR: [&str; 5] = ["version", "percent", "maxBody", "maxInFlight", "compare"];

pub const MIRROR_BODY: usize = 1024 * 1024;
pub const MIRRORS_IN_FLIGHT: usize = 256;

/// Puts what the service's fields say into its split.
pub fn read(fields: &Fields, site: &mut Site) {
    if let Some(spot) = fields.get("weights")
        && !site.broken
        && let Some(given) = weights(&spot, site)
    {
        site.shared_out = given != site.split.weights;
        site.split.weights = given;
    }
    site.split.sticky = fields.get("sticky").and_then(|spot| sticky(&spot));
    for spot in fields.get("force").and_then(|spot| spot.list()).unwrap_or_default() {
        let force = force(&spot, site);
        site.split.force.extend(force);
    }
    site.shield_said = fields.has("shield");
    site.split.shield = fields.get("shield").and_then(|spot| shield(&spot));
    if let Some(fallback) = fields.get("fallback").and_then(|spot| spot.bool()) {
        site.split.fallback = fallback;
    }
    site.split.mirror = fields.get("mirror").and_then(|spot| mirror(&spot, site));
}

/// Every version is listed, in the order of the file; those not named get nothing.
fn weights(spot: &Spot, site: &Site) -> Option<Weights> {
    let versions = site.service.versions.iter();
    let mut shares: Vec<(String, u32)> = versions.map(|version| (version.name.clone(), 0)).collect();
    let entries = spot.entries();
    let mut good = !entries.is_empty();
    for (name, spot) in entries {
        let version = site.version(name, &spot);
        let parts = spot.parsed(units::parts);
        match shares.iter_mut().find(|(known, _)| Some(known) == version.as_ref()).zip(parts) {
            Some((share, parts)) => share.1 = parts,
            None => good = false,
        }
    }
    // A sum of shares that were partly wrong says nothing.
    if !good {
        return None;
    }
    match Weights::new(shares) {
        Ok(weights) => Some(weights),
        Err(error) => {
            spot.error(error.to_string());
            None
        }
    }
}

fn sticky(spot: &Spot) -> Option<Sticky> {
    let fields = spot.fields(&STICKY)?;
    let (kind, name) = fields.one_of(&["header", "cookie", "issue"])?;
    if kind != "issue" {
        for extra in ["maxAge", "path"] {
            if let Some(spot) = fields.get(extra) {
                spot.error("only a cookie that serin issues (`issue`) has this");
            }
        }
    }
    let key = match kind {
        "header" => StickyKey::Header(name.parsed(units::header)?),
        "cookie" => StickyKey::Cookie(name.parsed(units::token)?),
        _ => {
            let max_age = fields.get("maxAge").and_then(|spot| {
                let age = spot.parsed(units::some_time)?;
                if age.subsec_nanos() != 0 {
                    spot.error("a cookie's age is in whole seconds");
                }
                Some(age)
            });
            let path = fields.get("path").and_then(|spot| spot.parsed(units::cookie_path));
            StickyKey::Issue {
                cookie: name.parsed(units::token)?,
                max_age,
                path: path.unwrap_or_else(|| "/".to_owned()),
            }
        }
    };
    Some(Sticky { key })
}

fn force(spot: &Spot, site: &Site) -> Option<Force> {
    let fields = spot.fields(&FORCE)?;
    let on = fields.one_of(&["header", "cookie", "query", "source"]).and_then(|(kind, name)| {
        Some(match kind {
            "header" => ForceOn::Header(name.parsed(units::header)?),
            "cookie" => ForceOn::Cookie(name.parsed(units::token)?),
            "query" => ForceOn::Query(name.text()?.to_owned()),
            _ => ForceOn::Source(matching::sources(&name)?),
        })
    });
    let value = match fields.has("source") {
        false => matching::text(&fields),
        true => {
            for text in matching::TEXTS.iter().filter_map(|text| fields.get(text)) {
                text.error("where a client comes from has no text; drop this");
            }
            Some(TextMatch::Present)
        }
    };
    let version = fields.need("version");
    if site.broken {
        return None;
    }
    let version = version.and_then(|spot| site.version(spot.text()?, &spot));
    Some(Force { on: on?, value: value?, version: version? })
}

fn shield(spot: &Spot) -> Option<Shield> {
    match spot.as_bool() {
        Some(true) => return Some(Shield::default()),
        Some(false) => return None,
        None if !spot.is_map() => {
            spot.wrong("true, false or fields (maxBody, budget, burst)");
            return None;
        }
        None => {}
    }
    let fields = spot.fields(&SHIELD)?;
    let mut shield = Shield::default();
    if let Some(size) = fields.get("maxBody").and_then(|spot| spot.parsed(units::size)) {
        shield.max_body = size;
    }
    if let Some(spot) = fields.get("budget")
        && let Some(parts) = spot.parsed(units::parts)
    {
        if parts % 100 != 0 {
            spot.error("expects whole percents");
        }
        shield.budget_percent = parts / 100;
    }
    if let Some(burst) = fields.get("burst").and_then(|spot| spot.whole(0, 1_000_000)) {
        shield.burst = u32::try_from(burst).unwrap_or(shield.burst);
    }
    Some(shield)
}

fn mirror(spot: &Spot, site: &mut Site) -> Option<Mirror> {
    let fields = spot.fields(&MIRROR)?;
    let compared = fields.get("compare").and_then(|spot| compare::read(&spot));
    let parts = fields.get("percent").and_then(|spot| spot.parsed(units::parts));
    let max_body = fields.get("maxBody").and_then(|spot| spot.parsed(units::size));
    let in_flight = fields.get("maxInFlight").and_then(|spot| spot.whole(1, 1_000_000));
    let named = fields.need("version")?;
    if site.broken {
        return None;
    }
    let version = site.version(named.text()?, &named)?;
    if site.of_role(Role::Primary).contains(&version.as_str()) || site.split.weights.of(&version) == WHOLE {
        named.error(format!(
            "`{version}` answers the requests itself; a mirror copies them to another version"
        ));
    }
    let (compare, settings) = compared.unzip();
    site.compared = settings;
    Some(Mirror {
        compare,
        version,
        parts: parts.unwrap_or(WHOLE),
        on_trial: false,
        max_body: max_body.unwrap_or(MIRROR_BODY),
        max_in_flight: in_flight.and_then(|n| usize::try_from(n).ok()).unwrap_or(MIRRORS_IN_FLIGHT),
    })
}
