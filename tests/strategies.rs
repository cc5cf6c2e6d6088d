//! Each strategy from start to end on the real binary, with users and with
//! upstreams that turn bad in the middle; and `kill -9` in each of its places.

mod ab;
mod blue_green;
mod chaos;
mod experiment;
mod kill;
mod mirror_first;
mod queue;
mod several;
mod way_back;

use std::time::Duration;

use crate::harness::app::pair;
use crate::harness::load::GAP;
use crate::harness::scene::{self, Scene};
use crate::harness::{Answer, App, Ask, Load, Origin};

/// Nothing has to be proved and nothing is slow: what is left is quick and sure.
const QUICK: &str = "{window: 0s, minRequests: 5, slowdown: false, promotion: false, success: 99%}";

/// Two versions of `web`, a rollout of these lines, and ordinary users.
fn scene(rollout: &str) -> Scene {
    Scene::start(&quickly(rollout), 2)
}

fn rollout_of(lines: &str) -> String {
    scene::rollout_of(&quickly(lines))
}

fn quickly(lines: &str) -> String {
    format!("{lines}\nanalysis: {QUICK}")
}

/// Fails every second request.
fn bad(seen: &crate::harness::origin::Seen) -> Answer {
    if seen.nth.is_multiple_of(2) { Answer::status(500) } else { Answer::ok() }
}

/// The origin that answers a request with these lines in its head.
fn who(app: &App, ask: &Ask) -> String {
    app.conn().ask(ask).origin().to_owned()
}
