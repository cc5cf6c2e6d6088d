//! How the process lets go of its clients when it is to end.

use crate::config::fields::Fields;
use crate::config::loaded::Drain;

use super::units;

const FIELDS: [&str; 2] = ["timeout", "delay"];

pub fn read(document: &Fields) -> Drain {
    let mut drain = Drain::default();
    let Some(fields) = document.get("drain").and_then(|spot| spot.fields(&FIELDS)) else {
        return drain;
    };
    if let Some(timeout) = fields.get("timeout").and_then(|spot| spot.parsed(units::duration)) {
        drain.timeout = timeout;
    }
    if let Some(delay) = fields.get("delay").and_then(|spot| spot.parsed(units::duration)) {
        drain.delay = delay;
    }
    drain
}
