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
use crate::harness::{Answer, App, Ask, Load, Origin};

const GAP: Duration = Duration::from_millis(2);

/// Nothing has to be proved and nothing is slow: what is left is quick and sure.
const QUICK: &str = "{window: 0s, minRequests: 5, slowdown: false, promotion: false, success: 99%}";

struct Scene {
    primary: Origin,
    canary: Origin,
    app: App,
    load: Load,
}

/// Two versions of `web`, a rollout of these lines, and ordinary users.
fn scene(rollout: &str) -> Scene {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&yaml(&primary, &canary, rollout));
    let load = Load::start(app.address(), 2, GAP, Ask::get("/"));
    load.pass(50);
    Scene { primary, canary, app, load }
}

fn yaml(primary: &Origin, canary: &Origin, rollout: &str) -> String {
    pair(primary.address, canary.address, "") + &rollout_of(rollout)
}

fn rollout_of(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("rollouts:\n  web:\n{}    analysis: {QUICK}\n", lines.concat())
}

/// Fails every second request.
fn bad(seen: &crate::harness::origin::Seen) -> Answer {
    if seen.nth.is_multiple_of(2) { Answer::status(500) } else { Answer::ok() }
}

/// The origin that answers a request with these lines in its head.
fn who(app: &App, ask: &Ask) -> String {
    app.conn().ask(ask).origin().to_owned()
}
