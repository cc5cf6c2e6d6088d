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

use crate::duo::Length;
use crate::duo::Plan;
use crate::h2::Call;
use crate::h2load;
use crate::h2load::Amount;
use crate::jobs;
use crate::peers::Choices;
use crate::peers::Kind;
use crate::peers::Peer;
use crate::process::Priority;
use crate::process::Process;
use crate::stage::LOAD_CORE;
use crate::stage::Stage;
use crate::versus::PROXY_CORE;
use crate::workloads;
use crate::workloads::Case;
use crate::workloads::Workload;
use crate::workplace;
use crate::workplace::Workplace;

/// One peer may take this long under callgrind.
const PATIENCE: Duration = Duration::from_secs(120);
/// Switching the counting off stops the proxy for a while, and then it is still slow.
const DRAIN: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub struct Options {
    /// Which workloads, comma-separated: plain, sticky, tls, h2, body64k
    #[arg(long, value_enum, value_delimiter = ',', default_value = "plain")]
    workload: Vec<Workload>,
    /// Requests counted
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Who, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "relay,serin,nginx,haproxy")]
    only: Vec<Kind>,
    /// serin's binary; without it, it is built with `cargo build --release`
    #[arg(long)]
    serin: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    for program in ["valgrind", "callgrind_control"] {
        workplace::find(program).with_context(|| format!("{program} is not installed (Debian: valgrind)"))?;
    }
    let wants_serin = options.only.iter().any(|kind| kind.is_serin());
    let serin = if wants_serin { Some(workplace::serin(options.serin.as_deref())?) } else { None };
    println!(
        "| workload | proxy | user instructions per request | of it the busiest thread |\n|---|---|---|---|"
    );
    for &workload in &options.workload {
        for &kind in &options.only {
            let name = format!("| {} | {} |", workload.name(), kind.name());
            match count(workload, kind, options.requests, serin.as_deref()) {
                Ok(Ok((all, busiest))) => println!("{name} {all:.0} | {busiest:.0} |"),
                Ok(Err(why)) => println!("{name} {why} | |"),
                Err(error) => println!("{name} failed: {error:#} | |"),
            }
        }
    }
    Ok(())
}

fn case(workload: Workload, workplace: &Workplace) -> Result<Case> {
    Ok(match workload {
        Workload::Plain => workloads::plain(),
        Workload::Sticky => workloads::sticky(),
        Workload::H2 => workloads::h2(),
        Workload::Body64k => workloads::body(64),
        Workload::Tls => workloads::tls(&jobs::certificate(&workplace.path)?),
        other => bail!("{} is not counted; plain, sticky, tls, h2 and body64k are", other.name()),
    })
}

/// Instructions per request, of all threads and of the busiest: an idle thread's ticks weigh far
/// more under callgrind, where requests are slower but the clock is not.
fn count(
    workload: Workload,
    kind: Kind,
    requests: u64,
    serin: Option<&Path>,
) -> Result<std::result::Result<(f64, f64), String>> {
    // SAFETY: takes a number; the default action of the signal ends this process.
    unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
    let workplace = Workplace::new()?;
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
        beside: None,
        envoy: None,
        priority: Priority::Ordinary,
        under: under.map(str::to_owned).to_vec(),
        cores: vec![PROXY_CORE],
    };
    let case = case(workload, &workplace)?;
    let connections = case.connections;
    let mut stage = Stage::new(case, &choices, &workplace)?;
    let peer = match stage.one(kind, &choices)? {
        Ok(peer) => peer,
        Err(why) => return Ok(Err(why)),
    };
    let members = match &peer.process {
        Some(process) => process.members()?.iter().map(u32::to_string).collect(),
        None => Vec::new(),
    };
    let answered = match stage.call {
        Some(call) => over_h2(&mut stage, &peer, call, requests, &members)?,
        None => over_http1(&mut stage, &peer, connections, requests, &members)?,
    };
    drop(peer);
    let totals = totals(&workplace.path)?;
    let per_request = |instructions: u64| instructions as f64 / answered as f64;
    let busiest = totals.iter().copied().max().context("callgrind left no totals")?;
    Ok(Ok((per_request(totals.iter().sum()), per_request(busiest))))
}

fn over_http1(
    stage: &mut Stage,
    peer: &Peer,
    connections: usize,
    requests: u64,
    members: &[String],
) -> Result<u64> {
    let mut switch = Switch::On;
    let plan = Plan {
        target: peer.address,
        connections,
        warm_up: Duration::from_secs(3),
        length: Length::Answers(requests, PATIENCE),
        drain: DRAIN,
    };
    let window = stage.duo.run(&plan, || switch.turn(members))?;
    if window.errors > 0 || window.answered < requests {
        bail!("{} answers, {} errors", window.answered, window.errors);
    }
    Ok(window.answered)
}

fn over_h2(stage: &mut Stage, peer: &Peer, call: Call, requests: u64, members: &[String]) -> Result<u64> {
    let asked = |stage: &mut Stage, count: u64| -> Result<u64> {
        let command = h2load::command(peer.address, call, &Amount::Requests(count), stage.workplace)?;
        let mut client = Process::start(command, &[LOAD_CORE], Priority::Ordinary)?;
        stage.duo.serve_while(|| Ok(client.alive()))?;
        let told = h2load::read(&stage.workplace.log_all("h2load"), call)?;
        if told.errors > 0 || told.succeeded < count {
            bail!("{} answers, {} errors", told.succeeded, told.errors);
        }
        Ok(told.succeeded)
    };
    asked(stage, requests / 10)?;
    let mut switch = Switch::On;
    switch.turn(members)?;
    let answered = asked(stage, requests)?;
    switch.turn(members)?;
    Ok(answered)
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
