//! How long a route's requests may take, and what is told of it.

use std::time::Duration;

use serin_proxy::model::{Route, Tell, Timeouts};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 6] = ["timeout", "idleTimeout", "totalTimeout", "maxDuration", "grpcTimeout", "tell"];
const TELL: [&str; 3] = ["attempts", "attemptsToClient", "timeLeft"];

const TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a route waits for.
#[derive(Default)]
pub struct Waits {
    request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    timeouts: Timeouts,
    tell: Tell,
}

impl Waits {
    /// What holds where nothing is said.
    pub fn usual() -> Waits {
        Waits { request_timeout: Some(TIMEOUT), idle_timeout: Some(IDLE_TIMEOUT), ..Waits::default() }
    }

    pub fn put_into(self, route: &mut Route) {
        route.request_timeout = self.request_timeout;
        route.idle_timeout = self.idle_timeout;
        route.timeouts = self.timeouts;
        route.tell = self.tell;
    }
}

/// A direct answer waits for nobody.
pub fn read(fields: &Fields, direct: bool) -> Waits {
    if direct {
        for spot in FIELDS.iter().filter_map(|name| fields.get(name)) {
            spot.error("a direct answer waits for nobody; drop this");
        }
    }
    let time = |name| fields.get(name).and_then(|spot| spot.parsed(units::timeout));
    let usual = Waits::usual();
    let waits = Waits {
        request_timeout: time("timeout").unwrap_or(usual.request_timeout),
        idle_timeout: time("idleTimeout").unwrap_or(usual.idle_timeout),
        timeouts: Timeouts {
            total: time("totalTimeout").flatten(),
            duration: time("maxDuration").flatten(),
            grpc: fields.get("grpcTimeout").and_then(|spot| grpc(&spot)),
        },
        tell: fields.get("tell").and_then(|spot| tell(&spot)).unwrap_or_default(),
    };
    if direct { Waits::default() } else { waits }
}

fn grpc(spot: &Spot) -> Option<Duration> {
    let fields = spot.fields(&["max"])?;
    let max = fields.need("max")?.parsed(units::timeout)?;
    Some(max.unwrap_or(Duration::ZERO))
}

fn tell(spot: &Spot) -> Option<Tell> {
    let fields = spot.fields(&TELL)?;
    let said = |name| fields.get(name).and_then(|spot| spot.bool()).unwrap_or(false);
    Some(Tell {
        attempts_up: said("attempts"),
        attempts_down: said("attemptsToClient"),
        time_left: said("timeLeft"),
    })
}
