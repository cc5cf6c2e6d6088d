//! Latency in an open loop: requests fall due at a fixed rate whatever became of those before, and each
//! is timed from when it was due. What waits for a slow one is thus counted, too.
//! An idle-class spinner keeps the proxy's core awake: leaving a virtual machine's halt takes longer
//! than a proxy does, and would be measured instead.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use hdrhistogram::Histogram;

use crate::duo::Duo;
use crate::peers::Kind;
use crate::process::Priority;
use crate::process::Process;
use crate::process::Spent;
use crate::report::Grid;
use crate::report::Section;
use crate::report::Table;
use crate::stage::Stage;
use crate::versus;
use crate::versus::PROXY_CORE;
use crate::versus::Run;
use crate::workloads;

const RATE: u32 = 2_000;
const CONNECTIONS: usize = 64;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

pub fn measure(run: &Run, versions: &mut Vec<(String, String)>, section: &mut Section) -> Result<()> {
    let (rounds, time) = if run.quick { (2, 0.5) } else { (5, 3.0) };
    versus::end_in(Duration::from_secs(400));
    let mut stage = Stage::new(workloads::plain(), &run.choices, &run.workplace)?;
    stage.fill(&run.kinds, &run.choices)?;
    let spinner = {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("spin");
        Process::start(command, &[PROXY_CORE], Priority::Idle)?
    };
    let mut grid = Grid::new(
        &format!("{RATE} requests/s over {CONNECTIONS} connections, microseconds from when each was due"),
        &[
            ("p50", 0),
            ("p99", 0),
            ("p99.9", 0),
            ("p50 added to direct", 0),
            ("p99 added", 0),
            ("p99.9 added", 0),
            ("CPU us/request", 1),
        ],
    );
    for round in 0..rounds {
        let mut direct = None;
        for which in 0..stage.peers.len() {
            // Direct first, so that the others know what it was in this round; they take turns.
            let which = match which {
                0 => 0,
                _ => 1 + (which - 1 + round) % (stage.peers.len() - 1),
            };
            let peer = &stage.peers[which];
            let name = peer.kind.name();
            let spent = || peer.process.as_ref().map(Process::spent).transpose();
            let before = spent()?;
            let quantiles = match open_loop(&mut stage.duo, peer.address, Duration::from_secs_f64(time)) {
                Ok(quantiles) => quantiles,
                Err(error) => {
                    section.notes.push(format!("{name}, round {}: {error:#}.", round + 1));
                    continue;
                }
            };
            if peer.kind == Kind::Direct {
                direct = Some(quantiles);
            }
            note(&mut grid, name, quantiles, direct, before.zip(spent()?), time);
            eprintln!("round {} {name}: {quantiles:?} us", round + 1);
        }
    }
    drop(spinner);
    versus::note(&stage, "as `plain`", versions, section);
    section.tables.push(Table::Grid(grid));
    Ok(())
}

fn note(
    grid: &mut Grid,
    name: &str,
    quantiles: [f64; 3],
    direct: Option<[f64; 3]>,
    spent: Option<(Spent, Spent)>,
    time: f64,
) {
    for (column, took) in quantiles.into_iter().enumerate() {
        grid.add(name, column, [took]);
        if let Some(direct) = direct {
            grid.add(name, column + 3, [took - direct[column]]);
        }
    }
    if let Some((before, after)) = spent {
        let used = (after.user + after.system).saturating_sub(before.user + before.system);
        grid.add(name, 6, [used.as_secs_f64() * 1e6 / (f64::from(RATE) * time)]);
    }
}

/// The quantiles in microseconds.
fn open_loop(duo: &mut Duo, target: SocketAddr, time: Duration) -> Result<[f64; 3]> {
    let mut idle = connected(duo, target)?;
    let errors = duo.errors();
    let mut due_of: Vec<Option<Instant>> = Vec::new();
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let gap = Duration::from_secs(1) / RATE;
    let total = (time.as_secs_f64() * f64::from(RATE)) as u64;
    let start = Instant::now();
    let mut begun = 0;
    while times.len() < total {
        let now = Instant::now();
        while begun < total && start + gap * begun as u32 <= now {
            // Nobody is free: the request waits, and its time runs.
            let Some(token) = idle.pop_front() else { break };
            if due_of.len() <= token {
                due_of.resize(token + 1, None);
            }
            due_of[token] = Some(start + gap * begun as u32);
            begun += 1;
            if !duo.ask(token) {
                bail!("a connection was lost");
            }
        }
        duo.turn(0, None)?;
        while let Some(token) = duo.rested() {
            let due = due_of.get_mut(token).and_then(Option::take).context("an answer to no question")?;
            times.record(due.elapsed().as_nanos() as u64)?;
            idle.push_back(token);
        }
        if duo.errors() > errors {
            bail!("an answer was wrong or did not come");
        }
        if now > start + time + PATIENCE {
            bail!("{} of {total} answers came", times.len());
        }
    }
    duo.forget_callers();
    Ok(QUANTILES.map(|quantile| times.value_at_quantile(quantile) as f64 / 1e3))
}

/// All connections open, each with one request behind it.
fn connected(duo: &mut Duo, target: SocketAddr) -> Result<VecDeque<usize>> {
    duo.forget_callers();
    let end = Instant::now() + PATIENCE;
    for _ in 0..CONNECTIONS {
        duo.call(target)?;
    }
    let mut idle = VecDeque::new();
    while idle.len() < CONNECTIONS {
        duo.turn(0, None)?;
        while let Some(token) = duo.rested() {
            idle.push_back(token);
        }
        if Instant::now() > end {
            bail!("of {CONNECTIONS} connections {} were answered", idle.len());
        }
    }
    Ok(idle)
}

/// Runs until it is killed, and only when nobody else wants the core.
pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
