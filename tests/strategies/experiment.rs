//! Experiment: a second copy of the old version beside the canary, with its share.

use super::*;
use crate::harness::app::head;
use crate::harness::{eventually, load::tally};

pub fn three(primary: &Origin, baseline: &Origin, canary: &Origin, steps: &str) -> String {
    let version = |name: &str, role: &str, origin: &Origin| {
        format!("      {name}: {{role: {role}, endpoints: {}}}\n", origin.address)
    };
    head(2)
        + "services:\n  web:\n    versions:\n"
        + &version("old", "primary", primary)
        + &version("again", "other", baseline)
        + &version("new", "canary", canary)
        + &rollout_of(&format!("baseline: again\n{steps}\nbake: 100ms"))
}

#[test]
fn baseline_has_the_canarys_share_and_leaves_with_promotion() {
    let origins = ["old", "again", "new"].map(Origin::start);
    let [old, again, new] = &origins;
    let app = App::start(&three(old, again, new, "steps: [{weight: 20, for: 60s}]"));
    app.command("web", "start");
    let weights = app.rollout("web")["weights"].clone();
    assert_eq!(weights, serde_json::json!({"old": 60.0, "again": 20.0, "new": 20.0}));
    let seen = tally(app.address(), 2, 1_000, &Ask::get("/"));
    for name in ["again", "new"] {
        let count = seen.get(name).copied().unwrap_or(0);
        assert!(crate::harness::plausible(count, 1_000, 0.2, 6.0), "{seen:?}");
    }
    app.command("web", "promote");
    assert_eq!(app.canary_percent("web"), 100.0);
    assert_eq!(tally(app.address(), 2, 100, &Ask::get("/")).get("new"), Some(&100));
}

#[test]
fn a_canary_worse_than_its_baseline_is_rolled_back() {
    let origins = ["old", "again", "new"].map(Origin::start);
    let [old, again, new] = &origins;
    let app = App::start(&three(old, again, new, "steps: [{weight: 20, for: 60s}]"));
    let load = Load::start(app.address(), 3, GAP, Ask::get("/"));
    app.command("web", "start");
    eventually("it has traffic", || new.requests() > 50);
    new.behave(bad);
    app.await_phase("web", "rolled_back");
    let weights = app.rollout("web")["weights"].clone();
    assert_eq!((weights["old"].as_f64(), weights["new"].as_f64()), (Some(100.0), Some(0.0)), "{weights}");
    assert_eq!(load.stop().failures(), 0);
}
