//! `serin replay`: what a real serin has decided is decided again from its journal,
//! over kills and restarts, and another policy decides otherwise.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::app::{SERIN, pair};
use crate::harness::load::GAP;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually};

/// Not judged by speed: on a crowded machine either of two threads can starve.
const ROLLOUT: &str = "rollouts:\n  web:\n    steps: [{weight: 20, for: 1s}, {weight: 50, for: 1s}]\n    bake: 1s\n    \
                       analysis: {minRequests: 20, slowdown: false, window: 0s, falseRollbacks: 0.0001%}\n";

fn replay(app: &App, more: &[&str]) -> Output {
    let state = app.folder().join("serin-state");
    Command::new(SERIN).arg("replay").arg(state).args(more).output().expect("serin can be run")
}

/// What it says of the one rollout, and whether it says that all is the same.
fn report(app: &App, more: &[&str]) -> (Value, bool) {
    let told = replay(app, &[more, &["--json"]].concat());
    let text = String::from_utf8_lossy(&told.stdout);
    let said: Value = serde_json::from_str(&text)
        .unwrap_or_else(|cause| panic!("{cause}: {text} {}", String::from_utf8_lossy(&told.stderr)));
    (said["rollouts"][0].clone(), told.status.code() == Some(0))
}

/// The kinds that decisions told, each with its outcome.
fn told(report: &Value) -> Vec<(String, String)> {
    let mut kinds = Vec::new();
    for decision in report["decisions"].as_array().expect("a list") {
        let outcome = decision["again"]["outcome"].as_str().expect("an outcome").to_owned();
        for action in decision["actions"].as_array().expect("a list") {
            if let Some(kind) = action["tell"]["event"]["kind"].as_str() {
                kinds.push((kind.to_owned(), outcome.clone()));
            }
        }
    }
    kinds
}

fn load(app: &App) -> Load {
    let load = Load::start(app.address(), 4, GAP, Ask::get("/"));
    load.pass(100);
    load
}

#[test]
fn a_promotion_a_kill_and_a_rollback_are_decided_again_and_another_policy_otherwise() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let mut app = App::start(&(pair(primary.address, canary.address, "") + ROLLOUT));
    let before = load(&app);
    app.command("web", "start");
    eventually("it is at its second step", || app.rollout("web")["step"] == 1);
    app.kill9();
    drop(before.stop());
    app.restart();
    let after = load(&app);
    app.await_phase("web", "succeeded");
    // Slowly enough that there are looks between what is enough for one policy and for the other.
    canary.behave(|seen| if seen.nth % 10 == 0 { Answer::status(500) } else { Answer::ok() });
    app.command("web", "start");
    app.await_phase("web", "rolled_back");

    // Asked beside the one that runs, as anybody would.
    let (was, is_same) = report(&app, &[]);
    let kinds = told(&was);
    assert!(is_same, "{was}");
    assert!(kinds.iter().all(|(_, outcome)| outcome == "same"), "{kinds:?}");
    for wanted in ["started", "step", "promoted", "baked", "rolled_back"] {
        assert!(kinds.iter().any(|(kind, _)| kind == wanted), "{wanted} is missing in {kinds:?}");
    }
    assert_eq!((&was["states_differ"], &was["was_under_way"]), (&Value::from(0), &Value::from(false)));
    assert!(was["states"].as_u64() > Some(4) && was["looks"].as_u64() > Some(40), "{was}");
    let breaks = was["breaks"].as_array().expect("a list");
    assert_eq!(breaks.len(), 1, "the kill, and nothing else: {breaks:?}");
    drop(after.stop());
    app.kill9();

    let text = replay(&app, &[]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("rolled_back") && text.contains("serin was started again"), "{text}");

    // A policy that is content with less evidence.
    let lax = ROLLOUT.replace("0.0001%", "20%");
    std::fs::write(app.folder().join("lax.yaml"), pair(primary.address, canary.address, "") + &lax).unwrap();
    let policy = app.folder().join("lax.yaml").display().to_string();
    let (would, is_same) = report(&app, &["--policy", &policy]);
    assert!(is_same, "what was decided stays the same: {would}");
    let last = |runs: &Value| runs.as_array().and_then(|runs| runs.last().cloned()).expect("a run");
    let (recorded, supposed) = (last(&would["supposed"]["recorded"]), last(&would["supposed"]["runs"]));
    assert_eq!(
        (&recorded["end"]["kind"], &supposed["end"]["kind"]),
        (&"rolled_back".into(), &"rolled_back".into())
    );
    assert!(supposed["requests"].as_u64() < recorded["requests"].as_u64(), "{supposed} {recorded}");
    assert!(supposed["end"]["at"].as_u64() <= recorded["end"]["at"].as_u64(), "{supposed} {recorded}");
    let text = replay(&app, &["--policy", &policy]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("under the weights that were in force") && text.contains("sooner"), "{text}");
}

#[test]
fn a_torn_end_is_told_and_damage_before_it_is_named_with_its_line() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let mut app = App::start(&(pair(primary.address, canary.address, "") + ROLLOUT));
    let load = load(&app);
    app.command("web", "start");
    eventually("it is at its second step", || app.rollout("web")["step"] == 1);
    app.kill9();
    drop(load.stop());
    let journal = app.folder().join("serin-state/journal.jsonl");
    let content = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &content[..content.len() - 7]).unwrap();
    let torn = replay(&app, &[]);
    let text = String::from_utf8_lossy(&torn.stdout);
    assert_eq!(torn.status.code(), Some(0), "{text}");
    assert!(text.contains("the last line is torn"), "{text}");

    let text =
        String::from_utf8(content).unwrap().replacen("\"kind\":\"decision\"", "\"kind\":\"decisoin\"", 1);
    std::fs::write(&journal, text).unwrap();
    let damaged = replay(&app, &[]);
    let words = String::from_utf8_lossy(&damaged.stderr);
    assert_eq!(damaged.status.code(), Some(1), "{words}");
    assert!(words.contains("journal.jsonl:") && words.contains("cannot be read"), "{words}");

    let nowhere = replay(&app, &["--name", "other"]);
    assert_eq!(nowhere.status.code(), Some(1));
    std::fs::remove_file(&journal).unwrap();
    let words = replay(&app, &[]);
    assert!(String::from_utf8_lossy(&words.stderr).contains("there is no journal in"));
}
