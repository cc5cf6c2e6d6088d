//! `serin demo`: two real servers, the real proxy as a process of its own, real
//! users, and releases that go well and badly within half a minute.
//!
//! Nothing here is part of the product's path. What it reports is measured at
//! both ends of the proxy, by the origins and by the users.

mod admin;
mod load;
mod origin;
mod process;
mod story;
mod summary;
mod view;

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Clock;
use crate::clock::Moment;

use admin::Admin;
use load::Load;
use origin::{Origin, Release};
use process::Process;
use summary::Summary;
use view::Screen;

/// Busy enough for a verdict in seconds, light enough for two cores.
const REQUESTS_PER_SECOND: f64 = 800.0;

/// All that runs. The users leave first, then the proxy goes, then the origins.
pub(crate) struct Stage {
    load: Load,
    clock: Arc<Clock>,
    admin: Admin,
    process: Process,
    primary: Origin,
    canary: Origin,
}

/// Plays the demo. Fails unless the good release was promoted and the bad ones
/// rolled back. With `keep` everything runs on until a signal comes; with
/// `json` the last line of stdout is one object.
pub fn run(keep: bool, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let (stage, summary) = tokio::select! {
            played = perform() => played?,
            () = signals.any() => bail!("stopped before the story ended"),
        };
        let mut screen = Screen::plain();
        for line in summary.lines() {
            screen.say(&line);
        }
        if keep {
            stage.introduce(&mut screen);
        }
        if json {
            screen.say(&summary.json().to_string());
        }
        if keep {
            signals.any().await;
        }
        if !summary.as_it_should() {
            bail!("a rollout did not end as it should");
        }
        Ok(())
    })
}

async fn perform() -> anyhow::Result<(Stage, Summary)> {
    let mut screen = Screen::open();
    let mut stage = Stage::set(&mut screen)?;
    let summary = story::play(&mut stage, &mut screen).await;
    screen.close();
    Ok((stage, summary?))
}

impl Stage {
    fn set(screen: &mut Screen) -> anyhow::Result<Stage> {
        let clock = Arc::new(Clock::start(Moment(0)));
        let primary = Origin::start("primary", Release::good("v1"), Arc::clone(&clock))?;
        let canary = Origin::start("canary", Release::good("v1"), Arc::clone(&clock))?;
        let config = story::config(primary.address, canary.address);
        let process = Process::start(&config).context("cannot start the proxy")?;
        screen.say("serin runs as a process of its own with this file:");
        screen.say("");
        for line in config.lines() {
            screen.say(&format!("    {line}"));
        }
        screen.say("");
        for line in story::GUARD {
            screen.say(line);
        }
        screen.say("");
        let load = Load::start(process.listener, REQUESTS_PER_SECOND)?;
        Ok(Stage { load, clock, admin: Admin { address: process.admin }, process, primary, canary })
    }

    fn introduce(&self, screen: &mut Screen) {
        let admin = self.admin.address;
        screen.say("");
        screen.say("everything runs on until ctrl-c:");
        for (what, value) in [
            ("admin", format!("http://{admin}")),
            ("traffic", format!("http://{}", self.process.listener)),
            ("config", self.process.config_file().display().to_string()),
            ("watch", format!("serin status {} --watch --admin {admin}", story::ROLLOUT)),
            ("again", format!("serin retry {} --admin {admin}", story::ROLLOUT)),
        ] {
            screen.say(&format!("  {what:<9}{value}"));
        }
    }
}

/// Everything that asks a process to end. They are caught so that the proxy is
/// ended too.
struct Signals([Signal; 3]);

impl Signals {
    fn install() -> anyhow::Result<Signals> {
        Ok(Signals([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
