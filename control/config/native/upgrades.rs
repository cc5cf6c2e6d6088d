//! What requests of a route may turn into.

use serin_proxy::model::{Connect, Match, Upgrades};

use crate::config::fields::Fields;

use super::units;

const CONNECT: [(&str, Connect); 2] = [("terminate", Connect::Terminate), ("forward", Connect::Forward)];

/// `upgrade` and `connect` of a route that matches by `matches`.
pub fn read(fields: &Fields, matches: &[Match]) -> Upgrades {
    let mut upgrades = Upgrades::default();
    for spot in fields.get("upgrade").map(|spot| spot.one_or_more()).unwrap_or_default() {
        let Some(name) = spot.parsed(units::token) else { continue };
        match name.to_ascii_lowercase().as_str() {
            "connect" => spot.error("CONNECT is allowed by `connect: terminate` or `connect: forward`"),
            "h2c" => spot.error("HTTP/2 needs no upgrade: a client may speak it from its first byte"),
            lower if upgrades.protocols.iter().any(|other| other == lower) => {
                spot.error(format!("`{lower}` stands twice"));
            }
            lower => upgrades.protocols.push(lower.to_owned()),
        }
    }
    upgrades.connect = fields.get("connect").and_then(|spot| spot.word(&CONNECT));
    let asked = matches.iter().any(|one| one.connect);
    if asked && !fields.has("connect") {
        fields.spot().error(
            "matches CONNECT and does not say what becomes of it: `connect: terminate` or `connect: forward`",
        );
    }
    if !asked && let Some(spot) = fields.get("connect") {
        spot.error("no CONNECT gets here: this route needs `match: {connect: true}`");
    }
    if fields.has("direct") {
        for name in ["upgrade", "connect"] {
            if let Some(spot) = fields.get(name) {
                spot.error("a direct answer changes no protocol; drop this");
            }
        }
    }
    upgrades
}
