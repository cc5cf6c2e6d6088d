//! Two services that are one release: their weights move together, and either can
//! end it for both.

use super::*;
use crate::harness::app::head;
use crate::harness::eventually;

fn two(origins: &[Origin; 4]) -> String {
    services(origins) + &rollout_of("services: [web, api]\nsteps: [{weight: 30, for: 60s}]")
}

fn services(origins: &[Origin; 4]) -> String {
    let [web, web_new, api, api_new] = origins.each_ref().map(|origin| origin.address);
    head(2)
        + &format!(
            "services:\n  web: {{primary: {web}, canary: {web_new}}}\n  api: {{primary: {api}, canary: {api_new}}}\n\
             routes:\n  - {{match: {{prefix: /api}}, service: api}}\n  - {{service: web}}\n"
        )
}

/// Both, where something is to be shown of them together.
fn proving(origins: &[Origin; 4], margin: &str) -> App {
    let app = App::start(
        &(services(origins)
            + &format!(
                "rollouts:\n  web:\n    services: [web, api]\n    steps: [{{weight: 50, for: 1s}}]\n    \
                 bake: 100ms\n    analysis: {{slowdown: false, inconclusive: wait, promotion: {{margin: {margin}}}}}\n"
            )),
    );
    app.command("web", "start");
    app
}

fn load_of_both(app: &App) -> [Load; 2] {
    [Ask::get("/"), Ask::get("/api")].map(|ask| Load::start(app.address(), 2, GAP, ask))
}

#[test]
fn what_both_have_shown_is_one_proof() {
    let origins = ["web", "web-new", "api", "api-new"].map(Origin::start);
    let app = proving(&origins, "10%");
    let load = load_of_both(&app);
    eventually("they are promoted", || app.phase("web") == "succeeded");
    let proved = app.get_json("/history?kind=proved");
    assert!(
        proved[0]["text"].as_str().is_some_and(|text| text.starts_with("ADVANCE (good enough)")),
        "{proved}"
    );
    for load in load {
        assert_eq!(load.stop().failures(), 0);
    }
}

#[test]
fn requests_of_both_are_counted_for_the_proof() {
    let origins = ["web", "web-new", "api", "api-new"].map(Origin::start);
    let app = proving(&origins, "0.001%");
    let load = load_of_both(&app);
    // What is the newest cohort's is not counted yet: an eighth of the step, at most.
    let mut told = (0, 0, 0);
    eventually("more are counted than either has", || {
        let counted = app.rollout("web")["checks"][0]["requests"].as_u64().unwrap_or(0);
        told = (counted, origins[1].requests(), origins[3].requests());
        counted > 300 && 3 * counted > 4 * told.1.max(told.2)
    });
    assert!(told.0 <= told.1 + told.2, "{told:?}");
    assert_eq!(app.phase("web"), "running", "none of that is enough");
    for load in load {
        assert_eq!(load.stop().failures(), 0);
    }
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
    let load = load_of_both(&app);
    eventually("both have traffic", || origins[1].requests() > 30 && origins[3].requests() > 30);
    origins[3].behave(bad);
    app.await_phase("web", "rolled_back");
    assert_eq!((percent(&app, "web"), percent(&app, "api")), (Some(0.0), Some(0.0)));
    for load in load {
        assert_eq!(load.stop().failures(), 0);
    }
}
