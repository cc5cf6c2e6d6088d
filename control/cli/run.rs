//! `serin run` and `serin check`.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::{Exit, LogFormat, Run};
use crate::app::{App, Options};
use crate::certificates;
use crate::clock::{Clock, Moment};
use crate::config;
use crate::config::Files;
use crate::source;

pub fn run(run: &Run) -> anyhow::Result<Exit> {
    log(run.log_format);
    let config = run.config.config.clone();
    let options = Options { config, admin: run.admin, hot_restart: run.hot_restart };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::start(&options).await?;
        if run.announce {
            announce(&app)?;
        }
        app.run(pending()).await;
        Ok(Exit::Done)
    })
}

/// All problems at once; warnings alone are no failure.
pub fn check(path: &Path) -> anyhow::Result<Exit> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let files = Files::beside(path, source::file::read_referenced);
    match config::load(&path.display().to_string(), &text, &files) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                println!("{warning}");
            }
            let now = Clock::start(Moment::default()).now();
            for warning in certificates::warnings(&loaded.model, now) {
                println!("{}: warning: {warning}", path.display());
            }
            let services = counted(loaded.model.services.len(), "service");
            let rollouts = counted(loaded.rollouts.len(), "rollout");
            println!("{}: good ({services}, {rollouts})", path.display());
            Ok(Exit::Done)
        }
        Err(problems) => {
            for problem in &problems {
                println!("{problem}");
            }
            Ok(Exit::Error)
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Logs go to stderr, so that stdout holds nothing but what was asked for.
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logger.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logger.json().flatten_event(true).init(),
    }
}

fn announce(app: &App) -> anyhow::Result<()> {
    let listeners: BTreeMap<&str, String> =
        app.bound.0.iter().map(|(name, address)| (name.as_str(), address.to_string())).collect();
    let line = serde_json::json!({ "admin": app.admin.to_string(), "listeners": listeners });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("cannot announce")
}
