//! When there is too much, over all listeners together.

use serin_proxy::model::Overload;

use crate::config::fields::Fields;

use super::units;

const FIELDS: [&str; 2] = ["memory", "connections"];
const LEAST_MEMORY: usize = 16 << 20;

pub fn read(document: &Fields) -> Overload {
    let mut overload = Overload::default();
    let Some(fields) = document.get("overload").and_then(|spot| spot.fields(&FIELDS)) else {
        return overload;
    };
    if let Some(spot) = fields.get("memory") {
        let bytes = spot.parsed(units::size);
        if bytes.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            spot.error("must be at least 16MiB");
        }
        overload.memory_bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
    }
    overload.connections = fields.get("connections").and_then(|spot| spot.whole(1, 10_000_000));
    overload
}
