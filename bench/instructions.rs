//! User instructions per request, counted by callgrind: the figure that a noisy machine cannot
//! move. Counting starts after a warm-up and stops with the last answer, so start-up is not in it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::duo::Duo;
use crate::duo::Length;
use crate::duo::Plan;
use crate::peers;
use crate::peers::Choices;
use crate::peers::Kind;
use crate::process::Priority;
use crate::workplace;
use crate::workplace::Workplace;

/// One peer may take this long under callgrind.
const PATIENCE: Duration = Duration::from_secs(120);
/// Switching the counting off stops the proxy for a while, and then it is still slow.
const DRAIN: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub struct Options {
    /// Requests counted
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Who, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "relay,serin,nginx,haproxy")]
    only: Vec<Kind>,
    /// serin's binary; without it, it is built with `cargo build --release`
    #[arg(long)]
    serin: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    for program in ["valgrind", "callgrind_control"] {
        workplace::find(program).with_context(|| format!("{program} is not installed (Debian: valgrind)"))?;
    }
    let wants_serin = options.only.iter().any(|kind| matches!(kind, Kind::Serin | Kind::SerinPlain));
    let serin = if wants_serin { Some(workplace::serin(options.serin.as_deref())?) } else { None };
    println!("| proxy | user instructions per request | of it the busiest thread |\n|---|---|---|");
    for &kind in &options.only {
        match count(kind, options, serin.as_deref()) {
            Ok(Some((all, busiest))) => println!("| {} | {all:.0} | {busiest:.0} |", kind.name()),
            Ok(None) => println!("| {} | not found | |", kind.name()),
            Err(error) => println!("| {} | failed: {error:#} | |", kind.name()),
        }
    }
    Ok(())
}

/// Instructions per request, of all threads and of the busiest: an idle thread's ticks weigh far
/// more under callgrind, where requests are slower but the clock is not.
fn count(kind: Kind, options: &Options, serin: Option<&Path>) -> Result<Option<(f64, f64)>> {
    // SAFETY: takes a number; the default action of the signal ends this process.
    unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
    let workplace = Workplace::new()?;
    let mut duo = Duo::new()?;
    let out = format!("--callgrind-out-file={}/callgrind.%p", workplace.path.display());
    let under = [
        "valgrind",
        "--tool=callgrind",
        "--trace-children=yes",
        "--instr-atstart=no",
        "--separate-threads=yes",
        &out,
    ];
    let choices = Choices {
        serin: serin.map(Path::to_owned),
        envoy: None,
        priority: Priority::Ordinary,
        under: under.map(str::to_owned).to_vec(),
    };
    let Some(peer) = peers::start(kind, &choices, &mut duo, &workplace)? else { return Ok(None) };
    let Some(process) = &peer.process else { return Ok(None) };
    let members: Vec<String> = process.members()?.iter().map(u32::to_string).collect();
    let mut switch = Switch::On;
    let plan = Plan {
        target: peer.address,
        connections: options.connections,
        warm_up: Duration::from_secs(3),
        length: Length::Answers(options.requests, PATIENCE),
        drain: DRAIN,
    };
    let window = duo.run(&plan, || switch.turn(&members))?;
    drop(peer);
    if window.errors > 0 || window.answered < options.requests {
        bail!("{}: {} answers, {} errors", kind.name(), window.answered, window.errors);
    }
    let totals = totals(&workplace.path)?;
    let per_request = |instructions: u64| instructions as f64 / window.answered as f64;
    let busiest = totals.iter().copied().max().context("callgrind left no totals")?;
    Ok(Some((per_request(totals.iter().sum()), per_request(busiest))))
}

/// What the next call of the probe does to the counting.
enum Switch {
    On,
    Off,
}

impl Switch {
    fn turn(&mut self, members: &[String]) -> Result<()> {
        let word = match self {
            Switch::On => "on",
            Switch::Off => "off",
        };
        *self = Switch::Off;
        let status = Command::new("callgrind_control").args(["-i", word]).args(members).output()?.status;
        if !status.success() {
            bail!("callgrind_control -i {word} failed");
        }
        Ok(())
    }
}

/// The totals of every file that callgrind wrote: one per process and thread.
fn totals(folder: &Path) -> Result<Vec<u64>> {
    let mut totals = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("callgrind.") {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
        totals.extend(line.and_then(|line| line.trim().parse::<u64>().ok()));
    }
    Ok(totals)
}
