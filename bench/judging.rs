//! What it costs serin to judge many splits: processor time without any traffic, and of each request
//! while 1,000 rollouts are judged ten times a second.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;

use crate::jobs;
use crate::peers::Kind;
use crate::process::Process;
use crate::report::Grid;
use crate::report::Section;
use crate::report::Table;
use crate::rounds;
use crate::setting::By;
use crate::setting::PLAIN;
use crate::setting::Setting;
use crate::setting::Split;
use crate::stage::Stage;
use crate::versus;
use crate::versus::Run;
use crate::workloads;
use crate::workloads::Case;

const SPLITS: [usize; 2] = [1, 1_000];

pub fn measure(run: &Run, versions: &mut Vec<(String, String)>, section: &mut Section) -> Result<()> {
    // Checkpoints are written every ten seconds, and are part of it.
    let time = Duration::from_secs_f64(if run.quick { 1.0 } else { 20.0 });
    let mut grid = Grid::new(
        "processor time of serin without traffic, and resident memory",
        &[("% of one core", 2), ("us per split and second", 1), ("MiB", 1)],
    );
    for count in SPLITS {
        versus::end_in(run.pace.most(2) + time * 2 + Duration::from_secs(60));
        let setting = Setting { split: Split::Services(count), ..PLAIN };
        let case = Case { setting, job: jobs::routes(count, By::Path), ..workloads::plain() };
        let mut stage = Stage::new(case, &run.choices, &run.workplace)?;
        stage.fill(&[Kind::Serin, Kind::SerinPlain], &run.choices)?;
        for peer in &stage.peers {
            let process = peer.process.as_ref().context("serin has a process")?;
            // What starting 1,000 rollouts left to be written is not judging.
            std::thread::sleep(Duration::from_millis(500));
            let used = idle(process, time)?;
            let name = match peer.kind {
                Kind::Serin => format!("{count} rollouts running"),
                _ => format!("{count} splits, none judged"),
            };
            grid.add(&name, 0, [used * 100.0]);
            grid.add(&name, 1, [used * 1e6 / count as f64]);
            grid.add(&name, 2, [process.resident_kib()? as f64 / 1024.0]);
        }
        let rows = rounds::run(&run.pace, 64, 1, &mut stage);
        let title = format!("per request, {count} splits, 64 of them asked; with rollouts and without");
        versus::note(&stage, &title, versions, section);
        section.tables.push(Table::Cost { title, rows });
    }
    section.tables.insert(0, Table::Grid(grid));
    Ok(())
}

/// Share of a core that the process uses while nothing is asked of it.
fn idle(process: &Process, time: Duration) -> Result<f64> {
    let (before, start) = (process.spent()?, Instant::now());
    std::thread::sleep(time);
    let after = process.spent()?;
    let used = (after.user + after.system).saturating_sub(before.user + before.system);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}
