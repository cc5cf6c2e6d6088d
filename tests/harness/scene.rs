//! A rollout with users: two versions of `web`, a file that says how one is released,
//! and requests that go on while it is.

use super::app::pair;
use super::load::GAP;
use super::{App, Ask, Load, Origin};

pub struct Scene {
    pub primary: Origin,
    pub canary: Origin,
    pub app: App,
    pub load: Load,
}

impl Scene {
    /// A rollout of these lines, and traffic on so many connections that has begun.
    pub fn start(rollout: &str, connections: usize) -> Scene {
        Scene::of(Origin::start("primary"), Origin::start("canary"), rollout, connections)
    }

    pub fn of(primary: Origin, canary: Origin, rollout: &str, connections: usize) -> Scene {
        let app = App::start(&yaml(&primary, &canary, rollout));
        let load = Load::start(app.address(), connections, GAP, Ask::get("/"));
        load.pass(25 * connections as u64);
        Scene { primary, canary, app, load }
    }
}

pub fn yaml(primary: &Origin, canary: &Origin, rollout: &str) -> String {
    pair(primary.address, canary.address, "") + &rollout_of(rollout)
}

pub fn rollout_of(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("rollouts:\n  web:\n{}", lines.concat())
}
