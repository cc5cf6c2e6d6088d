//! `serin rehearse`, as somebody calls it before a release.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::app::SERIN;

fn rehearse(more: &[&str]) -> Output {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/minimal.yaml");
    Command::new(SERIN).args(["rehearse", "-c", example]).args(more).output().expect("serin can be run")
}

fn reports(more: &[&str]) -> Value {
    let told = rehearse(&[more, &["--json"]].concat());
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).expect("it says JSON")
}

#[test]
fn a_plan_lets_good_releases_through_and_stops_those_that_fail() {
    let told = reports(&["--runs", "40", "--scenario", "rps=200", "--scenario", "errors=100%"]);
    let [healthy, broken] = [0, 1].map(|at| &told[0]["reports"][at]);
    assert_eq!(told[0]["rollout"], "web");
    assert!(healthy["rolled_back"].as_u64() <= Some(1), "{healthy}");
    // The plan is six minutes; the first step waits a little for its proof.
    let promoted_after = healthy["promoted_after_seconds"].as_f64();
    assert!((Some(360.0)..Some(500.0)).contains(&promoted_after), "{healthy}");
    assert_eq!(broken["rolled_back"], 40, "{broken}");
    assert_eq!(broken["promoted"], 0, "{broken}");
    let cut = &broken["cut"];
    assert!(cut["failures"].as_f64() < Some(10.0) && cut["seconds"].as_f64() < Some(10.0), "{broken}");
    assert!(broken["rollback"]["seconds"].as_f64() >= cut["seconds"].as_f64(), "{broken}");
}

#[test]
fn the_same_seed_rehearses_the_same() {
    let ask = ["--runs", "5", "--scenario", "errors=3%,onset=30s"];
    assert_eq!(reports(&ask), reports(&ask));
    let other = [&ask[..], &["--seed", "99"]].concat();
    assert_ne!(reports(&ask), reports(&other));
}

#[test]
fn a_fault_that_slips_through_is_told_with_what_would_catch_it() {
    let told = reports(&["--runs", "20", "--scenario", "rps=2", "--scenario", "errors=3%"]);
    let advice = &told[0]["advice"][0];
    assert_eq!(advice["scenario"], "errors 0.1 -> 3 %", "{told}");
    assert!(advice["caught"].is_number() && advice["planned_seconds"].is_number(), "{advice}");
}

#[test]
fn what_is_asked_wrongly_is_said_by_name() {
    for (more, named) in [
        (&["--scenario", "errors=200%"][..], "errors=200%"),
        (&["--scenario", "colour=blue"], "colour"),
        (&["nobody"], "nobody"),
    ] {
        let told = rehearse(more);
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(1), "{said}");
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn other_tools_rules_are_played_on_the_same_traffic_and_told_with_their_settings() {
    let ask = [
        "--runs",
        "10",
        "--scenario",
        "rps=500",
        "--scenario",
        "errors=100%",
        "--compare",
        "flagger,argo,kayenta",
    ];
    let told = reports(&ask);
    let judged = told[0]["compared"].as_array().expect("a list");
    let names: Vec<&str> = judged.iter().filter_map(|judged| judged["judge"].as_str()).collect();
    assert_eq!(names, ["serin", "flagger", "argo", "kayenta"]);
    let broken = |at: usize| &judged[at]["reports"][1];
    assert!((0..4).all(|at| broken(at)["rolled_back"] == 10), "{judged:?}");
    // Five failed checks and one more tick; four failures are more than three; one judgement at the end.
    let seconds = |at: usize| broken(at)["rollback"]["seconds"].as_f64().expect("it was rolled back");
    assert_eq!([1, 2, 3].map(|at| seconds(at).round()), [360.0, 240.0, 360.0]);
    let failures = |at: usize| broken(at)["exposed_failures"].as_f64().expect("a number");
    assert!((1..4).all(|at| failures(0) < failures(at)), "{judged:?}");
    assert!(judged[1]["rules"].as_str().is_some_and(|rules| rules.contains("success rate at least 99 %")));
    let table = rehearse(&ask);
    let said = String::from_utf8_lossy(&table.stdout);
    assert!(
        said.contains("argo: background analysis") && said.contains("none of these tools was run"),
        "{said}"
    );
    let nobody = rehearse(&["--compare", "spinnaker"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("flagger, argo, kayenta"));
}

#[test]
fn endpoints_that_fail_for_a_moment_are_no_fault_of_the_release() {
    let told =
        reports(&["--runs", "20", "--scenario", "rps=1000,baseline=0%,blip=1s", "--scenario", "errors=100%"]);
    let [healthy, broken] = [0, 1].map(|at| &told[0]["reports"][at]);
    assert_eq!(healthy["scenario"], "no worse, blips of 1s");
    assert!(healthy["failures"].as_f64() > Some(0.0), "all failures are blips: {healthy}");
    assert!(healthy["rolled_back"].as_u64() <= Some(1), "{healthy}");
    assert_eq!(broken["rolled_back"], 20, "{broken}");
}

#[test]
fn what_of_a_plan_is_not_played_is_said() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let plan = folder.path().join("serin.yaml");
    let text = "listen: 127.0.0.1:8080\nservices:\n  web: {primary: 127.0.0.1:9001, canary: 127.0.0.1:9002}\n\
                rollouts:\n  web:\n    steps: [{weight: 10, for: 1m}]\n    \
                analysis: {strata: [{header: x-tenant, values: [acme]}]}\n";
    std::fs::write(&plan, text).expect("the folder can be written to");
    let ask = |more: &[&str]| {
        let told = Command::new(SERIN).args(["rehearse", "--runs", "2", "-c"]).arg(&plan).args(more).output();
        String::from_utf8(told.expect("serin can be run").stdout).expect("it says text")
    };
    let said = ask(&[]);
    assert!(said.contains("not played: x-tenant acme apart"), "{said}");
    let told: Value = serde_json::from_str(&ask(&["--json"])).expect("it says JSON");
    assert_eq!(told[0]["left_out"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(reports(&["--runs", "2"])[0]["left_out"].as_array().map(Vec::len), Some(0));
}
