//! The two releases of the demo, one promoted, one rolled back for its errors
//! and again for its slowness, played over the admin API.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc::Receiver;

use super::Stage;
use super::admin::Figures;
use super::admin::Status;
use super::admin::Told;
use super::load::Seen;
use super::load::Tally;
use super::origin::Release;
use super::summary::Fault;
use super::summary::Outcome;
use super::summary::Summary;
use super::view;
use super::view::Frame;
use super::view::Row;
use super::view::Screen;
use super::view::Step;
use crate::clock::Moment;
use crate::rollout::EventKind;
use crate::rollout::Phase;

pub const ROLLOUT: &str = "web";

/// Canary's percent and seconds of each step, as the config has them.
const STEPS: [(u32, u32); 3] = [(5, 5), (25, 3), (50, 3)];
const BAKE_SECONDS: u32 = 2;

/// The relative latency test needs a thousand answers of the primary before it
/// knows what is usual; more make it surer.
const HISTORY: u64 = 2000;
/// How often serin is asked and the view is drawn.
const BEAT: Duration = Duration::from_millis(100);
/// The view's figures are those of the last beats, two seconds of them.
const BEATS: usize = 20;
/// Longer than any rollout of the story takes.
const DEADLINE: Duration = Duration::from_secs(60);
/// After a verdict, until the last answers have come and a watcher has read it.
const SETTLE: Duration = Duration::from_millis(1500);

struct Act {
    key: &'static str,
    fault: Fault,
    release: Release,
    title: &'static str,
}

const ACTS: [Act; 3] = [
    Act { key: "good", fault: Fault::None, release: Release::good("v2"), title: "a good release" },
    Act {
        key: "errors",
        fault: Fault::Errors,
        release: Release::failing("v3", 0.05),
        title: "a bad release, 5 % of its answers are errors",
    },
    Act {
        key: "slow",
        fault: Fault::Slowness,
        release: Release::slow("v4", 0.10, Duration::from_millis(120)),
        title: "no errors now, but every tenth answer comes 120 ms later",
    },
];

/// The config that the demo runs with, whole.
pub fn config(primary: std::net::SocketAddr, canary: std::net::SocketAddr) -> String {
    let steps: String = STEPS
        .iter()
        .map(|(percent, seconds)| format!("      - {{weight: {percent}, for: {seconds}s}}\n"))
        .collect();
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
services:
  web:
    primary: {primary}
    canary: {canary}
rollouts:
  {ROLLOUT}:
    steps:
{steps}    bake: {BAKE_SECONDS}s
    analysis: {{window: 0s}}   # no burst guard, see below
"
    )
}

/// Said beside the config, because it is not what a service should run with.
pub const GUARD: [&str; 3] = [
    "window: 0s lets serin roll back at the first sufficient evidence. By default",
    "(10s) it cuts the canary to a trickle at that same moment and confirms for 20",
    "to 45 s, so that a passing hiccup costs nobody a release.",
];

/// Plays everything and tells what it came to.
pub async fn play(stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<Summary> {
    let mut teller = Teller::new(stage).await?;
    teller.warm_up(stage, screen).await?;
    let mut outcomes = Vec::new();
    for act in &ACTS {
        let outcome = teller.perform(act, stage, screen).await?;
        if outcome.phase == Phase::Succeeded {
            // The next release is compared with this one.
            stage.primary.deploy(act.release);
        }
        outcomes.push(outcome);
    }
    Ok(Summary { outcomes, took: teller.elapsed(stage) })
}

/// What is carried from one beat to the next.
struct Teller {
    began: Moment,
    events: Receiver<Told>,
    title: String,
    recent: VecDeque<Sample>,
    ladder: Vec<Step>,
    zero_at: Option<Moment>,
}

/// All cumulative counts at one moment.
struct Sample {
    at: Moment,
    users: Tally,
    versions: BTreeMap<String, Figures>,
}

impl Teller {
    async fn new(stage: &Stage) -> anyhow::Result<Teller> {
        Ok(Teller {
            began: stage.clock.now(),
            events: stage.admin.events().await?,
            title: String::new(),
            recent: VecDeque::new(),
            ladder: Vec::new(),
            zero_at: None,
        })
    }

    async fn warm_up(&mut self, stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<()> {
        self.title = "all traffic on the primary; serin learns what is usual".to_owned();
        while stage.load.tally().primary.requests < HISTORY {
            if self.elapsed(stage) > DEADLINE {
                bail!("the proxy answered too few of the demo's requests");
            }
            self.beat(stage, screen).await?;
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        act: &Act,
        stage: &mut Stage,
        screen: &mut Screen,
    ) -> anyhow::Result<Outcome> {
        self.title = format!("{}: {}", act.release.name, act.title);
        let headline = format!("{}  {}", view::seconds(self.elapsed(stage)), self.title);
        screen.say(&console::Style::new().bold().apply_to(headline).to_string());
        self.zero_at = None;
        // What is shown of a canary is of this release alone.
        self.recent.clear();
        let begun = stage.clock.now();
        self.start(stage).await?;
        // Only now: after a promotion the canary had all the traffic until here.
        stage.canary.deploy(act.release);
        let before = stage.load.tally();

        let mut parts = 0;
        let status = loop {
            let status = self.beat(stage, screen).await?;
            if status.canary_parts > 0 {
                parts = status.canary_parts;
            }
            let over = matches!(status.phase, Phase::Succeeded | Phase::RolledBack | Phase::Aborted);
            if over || stage.clock.now().since(begun) > DEADLINE {
                break status;
            }
        };
        let ended = stage.clock.now();
        while stage.clock.now().since(ended) < SETTLE {
            self.beat(stage, screen).await?;
        }
        let rolled_back = status.phase == Phase::RolledBack;
        Ok(Outcome {
            key: act.key,
            release: act.release,
            fault: act.fault,
            phase: status.phase,
            took: ended.since(begun),
            watched: stage.clock.now().since(begun),
            users: stage.load.tally().since(&before),
            ledger: stage.canary.ledger(),
            zero_at: rolled_back.then(|| self.zero_at.unwrap_or(status.since)),
            parts,
            sentence: status.sentence,
        })
    }

    /// A rollout that ended badly is retried, any other is started.
    async fn start(&self, stage: &Stage) -> anyhow::Result<()> {
        let command = match stage.admin.status(ROLLOUT).await?.phase {
            Phase::RolledBack | Phase::Aborted => "retry",
            _ => "start",
        };
        stage.admin.command(ROLLOUT, command).await
    }

    /// Looks once, tells what is new, draws, and waits.
    async fn beat(&mut self, stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<Status> {
        let status = match stage.admin.status(ROLLOUT).await {
            Ok(status) => status,
            Err(error) => match stage.process.ended() {
                Some(reason) => bail!(reason),
                None => return Err(error).context("the story cannot go on"),
            },
        };
        while let Ok(told) = self.events.try_recv() {
            self.tell(&told, stage, screen);
        }
        self.recent.push_back(Sample {
            at: stage.clock.now(),
            users: stage.load.tally(),
            versions: status.versions.clone(),
        });
        if self.recent.len() > BEATS {
            self.recent.pop_front();
        }
        screen.show(&self.frame(stage, &status));
        tokio::time::sleep(BEAT).await;
        Ok(status)
    }

    fn tell(&mut self, told: &Told, stage: &Stage, screen: &mut Screen) {
        let event = &told.event;
        if event.kind == EventKind::RolledBack {
            self.zero_at = Some(told.in_force());
        }
        if event.kind == EventKind::Probed {
            return;
        }
        screen.tell(&format!("{}    ", view::seconds(self.elapsed(stage))), &event.text);
    }

    fn elapsed(&self, stage: &Stage) -> Duration {
        stage.clock.now().since(self.began)
    }

    fn frame(&mut self, stage: &Stage, status: &Status) -> Frame {
        // A rollout that was rolled back shows how far it had come.
        if !matches!(status.phase, Phase::RolledBack | Phase::Aborted) {
            self.ladder = ladder(status);
        }
        Frame {
            title: self.title.clone(),
            elapsed: self.elapsed(stage),
            phase: status.phase,
            steps: self.ladder.clone(),
            canary_parts: status.canary_parts,
            rows: self.rows(stage, status),
            sentence: status.sentence.clone(),
            meter: status.rollback_meter,
        }
    }

    fn rows(&self, stage: &Stage, status: &Status) -> Vec<Row> {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else { return Vec::new() };
        let seconds = last.at.since(first.at).as_secs_f64().max(BEAT.as_secs_f64());
        let users = last.users.since(&first.users);
        let version = |name: &str, origin: &super::origin::Origin, parts: u32, seen: &Seen| {
            let now = last.versions.get(name).copied().unwrap_or_default();
            let then = first.versions.get(name).copied().unwrap_or_default();
            let requests = now.requests.saturating_sub(then.requests);
            let failures = now.failures.saturating_sub(then.failures);
            row(
                &format!("{name} {}", origin.release().name),
                Some(parts),
                seconds,
                (requests, failures),
                seen,
            )
        };
        let all = users.all();
        vec![
            version("primary", &stage.primary, 10_000 - status.canary_parts, &users.primary),
            version("canary", &stage.canary, status.canary_parts, &users.canary),
            row("users", None, seconds, (all.requests, all.failures), &all),
        ]
    }
}

/// Counts are serin's, so that what was shielded shows; times are the users'.
fn row(name: &str, parts: Option<u32>, seconds: f64, counts: (u64, u64), seen: &Seen) -> Row {
    let (requests, failures) = counts;
    Row {
        name: name.to_owned(),
        parts,
        per_second: requests as f64 / seconds,
        success: (requests > 0).then(|| 1.0 - failures as f64 / requests as f64),
        p50_us: seen.latency.quantile_us(0.5),
        p99_us: seen.latency.quantile_us(0.99),
    }
}

fn ladder(status: &Status) -> Vec<Step> {
    let done = |step: usize| match status.phase {
        Phase::Baking | Phase::Succeeded => 1.0,
        Phase::Idle | Phase::RolledBack | Phase::Aborted => 0.0,
        _ if step < status.step => 1.0,
        _ if step == status.step => status.step_progress,
        _ => 0.0,
    };
    let mut steps: Vec<Step> = STEPS
        .iter()
        .enumerate()
        .map(|(i, (percent, _))| Step { label: format!("{percent} %"), done: done(i) })
        .collect();
    let baked = match status.phase {
        Phase::Succeeded => 1.0,
        Phase::Baking => status.step_progress,
        _ => 0.0,
    };
    steps.push(Step { label: "bake".to_owned(), done: baked });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: Phase, step: usize, step_progress: f64) -> Status {
        serde_json::from_value(serde_json::json!({
            "name": "web", "phase": phase, "step": step, "steps": 3, "step_progress": step_progress,
            "canary_parts": 500, "since": 1, "sentence": "", "rollback_meter": 0.0,
        }))
        .unwrap()
    }

    #[test]
    fn ladder_fills_step_by_step_and_then_the_bake() {
        let done = |phase, step, progress| -> Vec<f64> {
            ladder(&status(phase, step, progress)).iter().map(|step| step.done).collect()
        };
        assert_eq!(done(Phase::Idle, 0, 0.0), [0.0, 0.0, 0.0, 0.0]);
        assert_eq!(done(Phase::Running, 1, 0.25), [1.0, 0.25, 0.0, 0.0]);
        assert_eq!(done(Phase::Suspended, 0, 0.5), [0.5, 0.0, 0.0, 0.0]);
        assert_eq!(done(Phase::Baking, 2, 0.5), [1.0, 1.0, 1.0, 0.5]);
        assert_eq!(done(Phase::Succeeded, 2, 1.0), [1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn config_is_good_and_says_what_the_view_shows() {
        let (primary, canary) = (([127, 0, 0, 1], 1000).into(), ([127, 0, 0, 1], 1001).into());
        let loaded =
            crate::config::load("serin.yaml", &config(primary, canary), &crate::config::Files::none())
                .unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let [spec] = &loaded.rollouts[..] else { panic!("one rollout, not {:?}", loaded.rollouts) };
        assert_eq!(
            (spec.name.as_str(), spec.primary.as_str(), spec.canary.as_str()),
            (ROLLOUT, "primary", "canary")
        );
        assert_eq!(spec.analysis.window, Duration::ZERO);
        let planned: u32 = STEPS.iter().map(|(_, seconds)| seconds).sum();
        assert_eq!(spec.planned().as_secs(), u64::from(planned));
        assert_eq!(spec.steps.len(), STEPS.len());
    }

    #[test]
    fn status_is_what_the_engine_gives() {
        let (primary, canary) = (([127, 0, 0, 1], 1000).into(), ([127, 0, 0, 1], 1001).into());
        let loaded =
            crate::config::load("serin.yaml", &config(primary, canary), &crate::config::Files::none())
                .unwrap();
        let rollout = crate::rollout::Rollout::new(loaded.rollouts[0].clone());
        let json = serde_json::to_value(rollout.status(Moment(5))).unwrap();
        let status: Status = serde_json::from_value(json).unwrap();
        assert_eq!((status.phase, status.canary_parts), (Phase::Idle, 0));
    }

    #[test]
    fn story_is_one_good_release_and_two_ways_to_be_bad() {
        let kinds: Vec<Fault> = ACTS.iter().map(|act| act.fault).collect();
        assert_eq!(kinds, [Fault::None, Fault::Errors, Fault::Slowness]);
        let good = ACTS[0].release;
        assert!(ACTS[1].release.failing >= 0.05 && ACTS[1].release.slow == good.slow);
        assert!(ACTS[2].release.slow > 0.0 && ACTS[2].release.failing == good.failing);
    }
}
