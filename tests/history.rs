//! The metrics' past outlives the process, however that ends.

use std::process::Child;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::app::pair;
use crate::harness::prometheus::encoded;
use crate::harness::{App, Ask, Load, Origin, eventually, eventually_some};

/// The requests of primary at each second that is known, stale ones left out.
fn points(app: &App) -> Vec<(f64, f64)> {
    let asked = "serin_responses_total{version=\"primary\",class=\"2xx\"}[1h]";
    let answer = app.get_json(&format!("/api/v1/query?query={}", encoded(asked)));
    let series = answer["data"]["result"].as_array().expect("a matrix");
    assert!(series.len() < 2, "one series of these labels: {answer}");
    let values = series.first().and_then(|series| series["values"].as_array()).cloned().unwrap_or_default();
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok()).expect("a number");
    values.iter().map(|pair| (number(&pair[0]), number(&pair[1]))).collect()
}

fn written(app: &App) -> Option<SystemTime> {
    let files = std::fs::read_dir(app.folder().join("serin-state/history")).ok()?;
    let times = files.filter_map(|file| {
        let file = file.expect("the folder can be read");
        file.path()
            .extension()
            .is_some_and(|end| end == "block")
            .then(|| file.metadata().ok()?.modified().ok())?
    });
    times.max()
}

/// What was known before is known after, but for so many of the last seconds.
fn goes_on(app: &App, before: &[(f64, f64)], lost: usize) {
    let last = before.last().expect("it had a past").0;
    let after = eventually_some("there is more than before", || {
        let points = points(app);
        points.last().is_some_and(|point| point.0 > last + 1.0).then_some(points)
    });
    let kept: Vec<(f64, f64)> = after.iter().copied().filter(|point| point.0 <= last).collect();
    assert!(before.starts_with(&kept), "{before:?} became {kept:?}");
    assert!(before.len() - kept.len() <= lost, "{before:?} became {kept:?}");
}

fn ended(mut child: Child) {
    eventually("the old process ends", || matches!(child.try_wait(), Ok(Some(_))));
}

#[test]
fn the_past_is_known_after_a_kill_a_hot_restart_and_an_end() {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let mut app = App::start(&pair(origins[0].address, origins[1].address, ""));
    let load = Load::start(app.address(), 1, Duration::from_millis(5), Ask::get("/"));
    let first = eventually_some("it is written", || written(&app));
    eventually("it is written again", || written(&app).is_some_and(|time| time > first));
    let before = points(&app);
    assert_eq!(load.stop().failures(), 0);
    app.kill9();
    let folder = app.folder().join("serin-state/history");
    // What a power cut leaves is passed over.
    std::fs::write(folder.join("1000.block"), "serin past 1\n torn").expect("the folder is ours");
    app.restart();
    goes_on(&app, &before, 1);
    let answer = app.get_json(&format!(
        "/api/v1/query?query={}",
        encoded("sum(increase(serin_responses_total{version=\"primary\"}[1h])) > 0")
    ));
    assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(1), "across the restart: {answer}");
    let before = points(&app);
    ended(app.succeed());
    goes_on(&app, &before, 0);
    let before = points(&app);
    app.signal("TERM");
    assert_eq!(app.ended(), Some(0));
    app.restart();
    goes_on(&app, &before, 0);
}

#[test]
fn what_was_sent_has_a_past_of_its_own_while_traffic_comes_and_goes() {
    let receiver = Origin::start("receiver");
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let rollout = format!(
        "rollouts:\n  web:\n    steps: [{{weight: 10, for: 1h}}]\n    \
         webhooks: [{{name: told, type: event, url: 'http://{}/'}}]\n",
        receiver.address
    );
    let app = App::start(&(pair(origins[0].address, origins[1].address, "") + &rollout));
    let seconds = || app.get_json("/api/v1/status/tsdb")["data"]["headStats"]["seconds"].as_u64();
    let pass = |more: u64| {
        let until = seconds().expect("a number") + more;
        eventually("seconds are written", || seconds() >= Some(until));
    };
    app.command("web", "start");
    eventually("it is told", || receiver.requests() > 0);
    for _ in 0..2 {
        let load = Load::start(app.address(), 1, Duration::from_millis(5), Ask::get("/"));
        pass(2);
        load.stop();
        pass(2);
    }
    let labels = [("receiver", "webhook told of web"), ("result", "delivered")];
    let asked = "serin_letters_total{receiver=\"webhook told of web\",result=\"delivered\"}";
    let answer = app.get_json(&format!("/api/v1/query?query={}", encoded(asked)));
    let known = answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    assert_eq!(known, Some(app.metric("serin_letters_total", &labels)), "{answer}");
}
