//! Two services that are one release: their weights move together, and either can
//! end it for both.

use super::*;
use crate::harness::app::head;
use crate::harness::eventually;

fn two(origins: &[Origin; 4]) -> String {
    let [web, web_new, api, api_new] = origins.each_ref().map(|origin| origin.address);
    head(2)
        + &format!(
            "services:\n  web: {{primary: {web}, canary: {web_new}}}\n  api: {{primary: {api}, canary: {api_new}}}\n\
             routes:\n  - {{match: {{prefix: /api}}, service: api}}\n  - {{service: web}}\n"
        )
        + &rollout_of("services: [web, api]\nsteps: [{weight: 30, for: 60s}]")
}

#[test]
fn weights_of_both_move_together_and_a_failure_of_one_ends_both() {
    let origins = ["web", "web-new", "api", "api-new"].map(Origin::start);
    let mut app = App::start(&two(&origins));
    let percent = |app: &App, service: &str| {
        let splits = app.get_json("/splits");
        let split = splits.as_array().into_iter().flatten().find(|split| split["name"] == service).cloned();
        split.and_then(|split| split["weights"]["canary"].as_f64())
    };
    app.command("web", "start");
    assert_eq!((percent(&app, "web"), percent(&app, "api")), (Some(30.0), Some(30.0)));
    app.kill9();
    app.restart();
    assert_eq!((percent(&app, "web"), percent(&app, "api")), (Some(30.0), Some(30.0)));
    assert_eq!(app.try_weights("api", &[("primary", 100.0)]).status, 409, "the rollout holds them");
    let load = [Ask::get("/"), Ask::get("/api")].map(|ask| Load::start(app.address(), 2, GAP, ask));
    eventually("both have traffic", || origins[1].requests() > 30 && origins[3].requests() > 30);
    origins[3].behave(bad);
    app.await_phase("web", "rolled_back");
    assert_eq!((percent(&app, "web"), percent(&app, "api")), (Some(0.0), Some(0.0)));
    for load in load {
        assert_eq!(load.stop().failures(), 0);
    }
}
