//! `kill -9` at any moment of a rollout: what comes back is the same rollout in
//! the same step, or a rolled back one, and never more canary than before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::app::pair;
use crate::harness::load::tally;
use crate::harness::{Answer, App, Ask, Conn, Load, Origin, Seeded, eventually, plausible, require};

const KILLS: u64 = 50;
const STEP: Duration = Duration::from_millis(700);
const LADDER: [f64; 3] = [10.0, 30.0, 60.0];
const ROLLOUT: &str = "rollouts:\n  web:\n    steps: [{weight: 10, for: 700ms}, {weight: 30, for: 700ms}, {weight: 60, for: 700ms}]\n    \
                       bake: 700ms\n    analysis: {window: 0s, minRequests: 3}\n";

/// How a trial's canary behaves, and so where its kill is aimed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Aim {
    /// A good canary, killed anywhere from before the start to after the end.
    Anywhere,
    /// A bad canary, killed within milliseconds of its first failure.
    Rollback,
}

#[derive(Clone, Debug)]
struct Seen {
    phase: String,
    step: usize,
    progress: f64,
    canary: f64,
}

fn look(app: &App) -> Seen {
    let status = app.rollout("web");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("not a number in {status}"));
    Seen {
        phase: status["phase"].as_str().expect("a phase").to_owned(),
        step: number(&status["step"]) as usize,
        progress: number(&status["step_progress"]),
        canary: number(&status["weights"]["canary"]),
    }
}

/// The next rung: where a rollout may have gone between our look and our kill,
/// or between its restart and our look.
fn next(seen: &Seen) -> Option<f64> {
    match seen.phase.as_str() {
        "idle" => Some(LADDER[0]),
        "running" => Some(LADDER.get(seen.step + 1).copied().unwrap_or(100.0)),
        _ => None,
    }
}

/// Panics unless `after` is what may follow `before` over a crash.
fn judge(seed: u64, before: &Seen, killed_after: Duration, after: &Seen, up_for: Duration) {
    let words = format!(
        "seed {seed}: before {before:?}, killed {killed_after:?} later, {up_for:?} after restart {after:?}"
    );
    let over = ["rolled_back", "aborted"].contains(&after.phase.as_str());
    if over {
        assert_eq!(after.canary, 0.0, "{words}");
        return;
    }
    let step = STEP.as_secs_f64();
    // It may have passed its step just before the kill, and only if its time was up by then.
    let moved_before = before.progress * step + killed_after.as_secs_f64() + 0.05 >= step;
    // Or after the restart, and then the new step is younger than the restart.
    let moved_after = after.progress * step <= up_for.as_secs_f64() + 0.05;
    // A rollback puts the weight down before it is written, and is remembered all the same.
    let same = after.canary <= before.canary && after.phase == before.phase && after.step == before.step;
    // From 60 % it goes to 100 % and bakes; from baking to its end with nothing more to give.
    let ended = before.phase == "baking" && after.phase == "succeeded" && after.canary <= before.canary;
    let started = before.phase == "idle" && after.step == 0;
    let advanced = next(before) == Some(after.canary) && (started || moved_before || moved_after);
    assert!(same || ended || advanced, "{words}");
}

fn trial(seed: u64, aim: Aim) -> String {
    let mut random = Seeded(seed);
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    if aim == Aim::Rollback {
        canary.behave(|seen| if seen.nth > 10 { Answer::status(500) } else { Answer::ok() });
    }
    let mut app = App::start(&(pair(primary.address, canary.address, "") + ROLLOUT));
    let load = Load::start(app.address(), 2, Duration::from_millis(4), Ask::get("/"));
    load.pass(10);
    let moment = Duration::from_secs_f64(random.unit() * 4.2 * STEP.as_secs_f64());
    let begun = Instant::now();
    app.command("web", "start");
    match aim {
        // The moment itself is what is drawn, so the clock is what is waited for.
        Aim::Anywhere => std::thread::sleep(moment.saturating_sub(begun.elapsed())),
        Aim::Rollback => {
            let deadline = Instant::now() + crate::harness::PATIENCE;
            while canary.failing_since().is_none() && Instant::now() < deadline {
                std::hint::spin_loop();
            }
            std::thread::sleep(Duration::from_micros((random.unit() * 30_000.0) as u64));
        }
    }
    let before = look(&app);
    let looked = Instant::now();
    app.kill9();
    let killed_after = looked.elapsed();
    drop(load.stop());
    app.restart();
    let up = Instant::now();
    let after = look(&app);
    judge(seed, &before, killed_after, &after, up.elapsed());
    // What it says is what it does.
    let seen = tally(app.address(), 2, 80, &Ask::get("/"));
    let now = look(&app);
    let share = after.canary.max(now.canary) / 100.0;
    if aim == Aim::Anywhere {
        let count = seen.get("canary").copied().unwrap_or(0);
        assert!(
            count as f64 <= 80.0 * share || plausible(count, 80, share, 6.0),
            "seed {seed}: {count} of 80 at {now:?}"
        );
    }
    format!(
        "{seed:>3} {aim:?}: {} step {} at {} % -> {} step {} at {} %",
        before.phase, before.step, before.canary, after.phase, after.step, after.canary
    )
}

#[test]
fn fifty_kills_never_leave_more_canary_than_was_decided() {
    let lines = std::sync::Mutex::new(Vec::new());
    let turn = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= KILLS {
                        return;
                    }
                    let aim = if seed % 4 == 3 { Aim::Rollback } else { Aim::Anywhere };
                    let line = trial(seed, aim);
                    lines.lock().expect("no holder panics").push(line);
                }
            });
        }
    });
    let lines = lines.into_inner().expect("no holder panicked");
    println!("{}", lines.join("\n"));
    assert_eq!(lines.len() as u64, KILLS);
}

/// From here on no file of the program grows beyond what its journal has: the
/// kernel ends it at the next line, as that is to be written.
fn end_at_the_next_line(app: &App) -> bool {
    let Some(program) = require("prlimit") else { return false };
    let journal = std::fs::metadata(app.folder().join("serin-state/journal.jsonl")).expect("a journal");
    let limit = format!("--fsize={}", journal.len());
    let status = std::process::Command::new(program).args(["--pid", &app.pid().to_string(), &limit]).status();
    status.expect("it can be run").success()
}

#[test]
fn a_fall_that_was_in_force_is_remembered_where_the_kill_came_before_its_line() {
    let steps = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 70, for: 60s}]\n    \
                 analysis: {window: 0s, minRequests: 3}\n";
    for aim in ["rolled_back", "aborted"] {
        let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
        let mut app = App::start(&(pair(primary.address, canary.address, "") + steps));
        let load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
        app.command("web", "start");
        eventually("the canary answers", || canary.requests() > 20);
        if !end_at_the_next_line(&app) {
            return;
        }
        match aim {
            "rolled_back" => canary.behave(|_| Answer::status(500)),
            // Nobody answers: the process ends in the middle of it.
            _ => drop(Conn::open(app.admin).try_ask(&Ask::post("/rollouts/web/abort", ""))),
        }
        app.ended();
        drop(load.stop());
        let state =
            std::fs::read_to_string(app.folder().join("serin-state/journal.jsonl")).expect("a journal");
        assert!(!state.contains(&format!("\"kind\":\"{aim}\"")), "the journal does not know of it");
        let asked = canary.requests();
        canary.behave(|_| Answer::ok());
        app.restart();
        assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), (aim, 0.0), "{}", app.log());
        assert!(app.log().contains("had fallen when the process was killed"), "{}", app.log());
        assert_eq!(tally(app.address(), 2, 100, &Ask::get("/")).get("canary"), None);
        assert_eq!(canary.requests(), asked, "not one more request");
        // From now on the journal knows, and the page beside it is free.
        app.kill9();
        let cell = app.folder().join("serin-state/falls.cell");
        std::fs::write(&cell, b"who knows what").expect("it is ours");
        app.restart();
        assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), (aim, 0.0));
        assert!(app.log().contains("holds no notes of falls"), "{}", app.log());
    }
}

#[test]
fn a_restart_without_a_rollout_keeps_the_weights_of_the_file() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let mut app = App::start(&pair(primary.address, canary.address, "weights: {primary: 75, canary: 25}"));
    app.kill9();
    app.restart();
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 25.0);
}

#[test]
fn a_rolled_back_release_stays_rolled_back() {
    let (primary, canary) = (Origin::start("primary"), Origin::answering("canary", |_| Answer::status(500)));
    let mut app = App::start(&(pair(primary.address, canary.address, "") + ROLLOUT));
    let load = Load::start(app.address(), 2, Duration::from_millis(2), Ask::get("/"));
    app.command("web", "start");
    let before = app.await_phase("web", "rolled_back");
    drop(load.stop());
    for _ in 0..2 {
        app.kill9();
        app.restart();
        let after = app.rollout("web");
        assert_eq!(after["phase"], "rolled_back");
        assert_eq!(app.canary_percent("web"), 0.0);
        assert_eq!(after["sentence"], before["sentence"], "the reason is remembered");
    }
    assert_eq!(tally(app.address(), 2, 200, &Ask::get("/")).get("canary"), None);
}

#[test]
fn an_operators_pause_and_abort_survive() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 70, for: 60s}]\n";
    let mut app = App::start(&(pair(primary.address, canary.address, "") + rollout));
    app.command("web", "start");
    app.await_phase("web", "running");
    app.command("web", "pause");
    app.await_phase("web", "paused");
    app.kill9();
    app.restart();
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("paused", 20.0));
    app.command("web", "resume");
    app.await_phase("web", "running");
    app.command("web", "abort");
    app.await_phase("web", "aborted");
    app.kill9();
    app.restart();
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("aborted", 0.0));
}

/// All files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the state is there").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path if path.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

#[test]
fn a_torn_last_line_in_the_journal_is_passed_over() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 70, for: 60s}]\n";
    let mut app = App::start(&(pair(primary.address, canary.address, "") + rollout));
    app.command("web", "start");
    app.await_phase("web", "running");
    app.kill9();
    let journals = files(&app.folder().join("serin-state"));
    assert!(!journals.is_empty(), "a running rollout has left no trace on disk");
    for journal in journals {
        let file = std::fs::OpenOptions::new().append(true).open(journal);
        file.expect("it is ours").write_all(b"{\"half a li").expect("it can be written to");
    }
    app.restart();
    assert_eq!((app.phase("web").as_str(), app.canary_percent("web")), ("running", 20.0));
    app.command("web", "promote");
    eventually("it goes on", || app.canary_percent("web") == 70.0);
    app.kill9();
    app.restart();
    assert_eq!(app.canary_percent("web"), 70.0, "what was written after the torn line is read too");
}
