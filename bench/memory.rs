//! Resident memory of each peer's process tree: idle, holding connections, holding streams, and with a
//! large table. Each peer is started afresh for each, alone.

use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::h2;
use crate::h2::Call;
use crate::jobs;
use crate::peers::Kind;
use crate::peers::Peer;
use crate::process::Process;
use crate::report::Grid;
use crate::report::Section;
use crate::report::Table;
use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::PLAIN;
use crate::setting::Setting;
use crate::setting::Split;
use crate::stage::Stage;
use crate::versus;
use crate::versus::Run;
use crate::workloads;
use crate::workloads::Case;

const CONNECTIONS: [usize; 2] = [1_000, 5_000];
/// More than that, and HAProxy wants more descriptors than many machines give.
const ROOM: usize = 9_900;
/// Open streams on each of so many HTTP/2 connections; what every peer allows by default.
const STREAMS: usize = 90;
const H2_CONNECTIONS: usize = 10;
const CLUSTERS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// Closing is done by then, and what is given back is given back.
const AFTER: Duration = Duration::from_millis(500);

const COLUMNS: [(&str, usize); 8] = [
    ("idle, MiB", 1),
    ("1,000 idle connections, MiB", 1),
    ("5,000, MiB", 1),
    ("KiB per connection", 2),
    ("after they close, MiB", 1),
    ("KiB per open HTTP/2 stream", 2),
    ("10,000 routes and clusters, MiB", 1),
    ("KiB per route and cluster", 2),
];

pub fn measure(run: &Run, versions: &mut Vec<(String, String)>, section: &mut Section) -> Result<()> {
    let mut grid = Grid::new("resident memory; every connection has done one request", &COLUMNS);
    for &kind in run.kinds.iter().filter(|&&kind| kind != Kind::Direct) {
        versus::end_in(Duration::from_secs(200));
        let name = kind.name();
        for (what, done) in [
            ("connections", connections(kind, run, versions, section, &mut grid)),
            ("streams", streams(kind, run, section, &mut grid)),
            ("clusters", clusters(kind, run, section, &mut grid)),
        ] {
            if let Err(error) = done {
                eprintln!("{name}, {what}: {error:#}");
                section.notes.push(format!("{name}, {what}: {error:#}."));
            }
        }
        eprintln!("{name}: done");
    }
    section.tables.push(Table::Grid(grid));
    Ok(())
}

/// One peer, alone; none with the reason noted.
fn alone(kind: Kind, stage: &mut Stage, run: &Run, section: &mut Section) -> Result<bool> {
    match stage.one(kind, &run.choices)? {
        Ok(peer) => stage.peers.push(peer),
        Err(why) => section.missing.push((kind.name().to_owned(), why)),
    }
    Ok(!stage.peers.is_empty())
}

fn connections(
    kind: Kind,
    run: &Run,
    versions: &mut Vec<(String, String)>,
    section: &mut Section,
    grid: &mut Grid,
) -> Result<()> {
    let case = Case { setting: Setting { room: ROOM, ..PLAIN }, ..workloads::plain() };
    let mut stage = Stage::new(case, &run.choices, &run.workplace)?;
    if !alone(kind, &mut stage, run, section)? {
        return Ok(());
    }
    let name = kind.name();
    let idle = resident(&stage.peers[0])?;
    grid.add(name, 0, [idle / 1024.0]);
    let mut held = 0;
    let mut most = idle;
    for (index, count) in CONNECTIONS.into_iter().enumerate() {
        stage.duo.hold(stage.peers[0].address, count - held, PATIENCE)?;
        held = count;
        most = resident(&stage.peers[0])?;
        grid.add(name, 1 + index, [most / 1024.0]);
    }
    grid.add(name, 3, [(most - idle) / held as f64]);
    stage.duo.forget_callers();
    std::thread::sleep(AFTER);
    grid.add(name, 4, [resident(&stage.peers[0])? / 1024.0]);
    versus::note(&stage, "for connections", versions, section);
    Ok(())
}

fn streams(kind: Kind, run: &Run, section: &mut Section, grid: &mut Grid) -> Result<()> {
    let setting = Setting { front: Front::Http2, back: Back::Http2, ..PLAIN };
    let case = Case { setting, call: Some(Call::Endless), ..workloads::plain() };
    let mut stage = Stage::new(case, &run.choices, &run.workplace)?;
    if !alone(kind, &mut stage, run, section)? {
        return Ok(());
    }
    let peer = &stage.peers[0];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (before, after) = runtime.block_on(async {
        let mut clients = Vec::new();
        let mut open = Vec::new();
        for _ in 0..H2_CONNECTIONS {
            let mut client = h2::connect(peer.address).await?;
            open.push(client.send_request(h2::request(Call::Endless, peer.address)?).await?);
            clients.push(client);
        }
        let before = resident(peer)?;
        for client in &mut clients {
            for _ in 1..STREAMS {
                client.ready().await?;
                let request = client.send_request(h2::request(Call::Endless, peer.address)?);
                let response =
                    tokio::time::timeout(PATIENCE, request).await.context("no head of an answer")??;
                ensure!(response.status() == 200, "status {}", response.status());
                open.push(response);
            }
        }
        let after = resident(peer)?;
        anyhow::Ok((before, after))
    })?;
    grid.add(kind.name(), 5, [(after - before) / (H2_CONNECTIONS * (STREAMS - 1)) as f64]);
    versus::note(&stage, "for streams", &mut Vec::new(), section);
    Ok(())
}

fn clusters(kind: Kind, run: &Run, section: &mut Section, grid: &mut Grid) -> Result<()> {
    let setting = Setting { split: Split::Routes(CLUSTERS, By::Path), ..PLAIN };
    let case = Case { setting, job: jobs::routes(CLUSTERS, By::Path), ..workloads::plain() };
    let mut stage = Stage::new(case, &run.choices, &run.workplace)?;
    let missing = section.missing.len();
    if !alone(kind, &mut stage, run, section)? {
        section.missing.truncate(missing);
        return Ok(());
    }
    let full = resident(&stage.peers[0])?;
    grid.add(kind.name(), 6, [full / 1024.0]);
    let row = grid.rows.iter().find(|(name, _)| name == kind.name());
    if let Some(&idle) = row.and_then(|(_, cells)| cells[0].first()) {
        grid.add(kind.name(), 7, [(full - idle * 1024.0) / CLUSTERS as f64]);
    }
    Ok(())
}

/// In KiB.
fn resident(peer: &Peer) -> Result<f64> {
    let process = peer.process.as_ref().context("it has a process")?;
    Process::resident_kib(process).map(|kib| kib as f64)
}
