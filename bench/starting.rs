//! How long until something is in force: from the start of the program to its first answer, from a change
//! of weights to the first request that obeys it and to the last that does not; and what a scrape costs.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::configs;
use crate::jobs;
use crate::peers;
use crate::peers::Kind;
use crate::peers::Peer;
use crate::process::Process;
use crate::report::Grid;
use crate::report::Section;
use crate::report::Table;
use crate::setting::By;
use crate::setting::PLAIN;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::stage::Stage;
use crate::versus;
use crate::versus::Run;
use crate::workloads;
use crate::workloads::Case;

/// A change that is not in force by then is not going to be.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that disobey are looked for so long after the first that obeys.
const LOOK: Duration = Duration::from_millis(150);
const CONNECTIONS: usize = 64;

pub fn measure(run: &Run, versions: &mut Vec<(String, String)>, section: &mut Section) -> Result<()> {
    versus::end_in(Duration::from_secs(400));
    let proxies: Vec<Kind> =
        run.kinds.iter().copied().filter(|kind| !matches!(kind, Kind::Direct | Kind::Relay)).collect();
    let starts = starts(&proxies, run, versions, section)?;
    let changes = changes(&proxies, run, section)?;
    let scrapes = scrapes(&proxies, run, section)?;
    section.tables.extend([starts, changes, scrapes].map(Table::Grid));
    Ok(())
}

fn starts(
    kinds: &[Kind],
    run: &Run,
    versions: &mut Vec<(String, String)>,
    section: &mut Section,
) -> Result<Grid> {
    let times = if run.quick { 2 } else { 7 };
    let mut grid = Grid::new("from the start of the program to the first right answer", &[("ms", 1)]);
    let mut stage = Stage::new(workloads::plain(), &run.choices, &run.workplace)?;
    for _ in 0..times {
        for &kind in kinds {
            let (setting, upstreams) = (stage.setting, stage.upstreams());
            let Ok(mut peer) = peers::launch(kind, &setting, &run.choices, upstreams, stage.workplace)?
            else {
                continue;
            };
            while !stage.duo.reaches(peer.address, Duration::from_secs(1))? {
                if !peer.alive() || peer.started.elapsed() > PATIENCE {
                    bail!(
                        "{} did not start: {}",
                        kind.name(),
                        stage.workplace.log_tail(&format!("{kind:?}"))
                    );
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            grid.add(kind.name(), 0, [peer.started.elapsed().as_secs_f64() * 1e3]);
            stage.peers = vec![peer];
        }
    }
    versus::note(&stage, "to start", versions, section);
    Ok(grid)
}

fn changes(kinds: &[Kind], run: &Run, section: &mut Section) -> Result<Grid> {
    let times = if run.quick { 2 } else { 10 };
    let mut grid = Grid::new(
        "weights from all on one version to all on the other, 64 connections asking all the while",
        &[
            ("ms to the first request that obeys", 2),
            ("ms to the last that does not", 2),
            ("failed requests", 0),
        ],
    );
    for &kind in kinds {
        let setting = Setting { canary: 0, movable: true, ..PLAIN };
        let mut stage = Stage::new(Case { setting, ..workloads::plain() }, &run.choices, &run.workplace)?;
        match stage.one(kind, &run.choices)? {
            Ok(peer) => stage.peers.push(peer),
            Err(why) => {
                section.missing.push((format!("{} (change of weights)", kind.name()), why));
                continue;
            }
        }
        let mut ways = vec![(kind.name().to_owned(), Way::Usual)];
        if kind == Kind::Serin {
            ways.push(("serin, by its file and SIGHUP".to_owned(), Way::File));
        }
        for (name, way) in ways {
            for turn in 0..times {
                let canary = if turn % 2 == 0 { 100 } else { 0 };
                match change(&mut stage, canary, way) {
                    Ok(samples) => {
                        for (column, sample) in samples.into_iter().enumerate() {
                            grid.add(&name, column, [sample]);
                        }
                    }
                    Err(error) => {
                        section.notes.push(format!("{name}, change of weights: {error:#}."));
                        break;
                    }
                }
            }
            eprintln!("{name}: changed");
        }
        versus::note(&stage, "change of weights", &mut Vec::new(), section);
    }
    Ok(grid)
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As the peer's manual does it fastest.
    Usual,
    File,
}

/// One change under load: milliseconds to the first request that obeys, to the last that does not, and
/// how many requests failed.
fn change(stage: &mut Stage, canary: u32, way: Way) -> Result<[f64; 3]> {
    let (setting, upstreams) = (Setting { canary, ..stage.setting }, stage.upstreams());
    let Stage { duo, peers, workplace, .. } = stage;
    let peer = &peers[0];
    let (old, new) = if canary == 0 { (1, 0) } else { (0, 1) };
    duo.forget_callers();
    for _ in 0..CONNECTIONS {
        duo.call(peer.address)?;
    }
    let settled = Instant::now() + Duration::from_millis(100);
    while Instant::now() < settled {
        duo.turn(0, Some(peer.address))?;
    }
    let errors = duo.errors();
    let folder = workplace.path.as_path();
    let places = Places {
        listen: peer.address,
        admin: peer.admin,
        primary: upstreams[0],
        canary: upstreams[1],
        folder,
    };
    let start = Instant::now();
    // Told by this thread, which has its core: another would first have to be given one.
    let told = tell(peer, &setting, &places, way)?;
    let (mut first, mut last) = (None, start);
    while first.is_none_or(|first: Instant| first.elapsed() < LOOK) {
        let before = duo.asked();
        duo.turn(0, Some(peer.address))?;
        let (now, after) = (Instant::now(), duo.asked());
        if after[new] > before[new] && first.is_none() {
            first = Some(now);
        }
        if after[old] > before[old] {
            last = now;
        }
        ensure!(now < start + PATIENCE, "not in force within {} s", PATIENCE.as_secs());
    }
    match told {
        Told::Silently => {}
        Told::Http(stream) => peers::answer(stream).map(drop)?,
        Told::Socket(mut socket) => {
            let mut words = String::new();
            socket.read_to_string(&mut words)?;
            ensure!(words.trim().is_empty(), "{words}");
        }
    }
    let first = first.context("the loop ended by it")?;
    let failed = (duo.errors() - errors) as f64;
    duo.forget_callers();
    let ms = |moment: Instant| (moment - start).as_secs_f64() * 1e3;
    Ok([ms(first), ms(last), failed])
}

/// Where the peer's answer to the change will come, if it gives one.
enum Told {
    Silently,
    Http(TcpStream),
    Socket(UnixStream),
}

/// Tells the peer its new weights.
fn tell(peer: &Peer, setting: &Setting, places: &Places, way: Way) -> Result<Told> {
    let (primary, canary) = (100 - setting.canary, setting.canary);
    let write = |name: &str, text: &str| -> Result<()> {
        // Renamed into place: some watch the file, and must not see half of it.
        std::fs::write(places.folder.join("new"), text)?;
        Ok(std::fs::rename(places.folder.join("new"), places.folder.join(name))?)
    };
    let had = "it had a file before";
    Ok(match peer.kind {
        Kind::Serin | Kind::SerinPlain | Kind::Beside if way == Way::File => {
            write(&format!("{:?}.yaml", peer.kind), &configs::serin::config(setting, places, false))?;
            hang_up(peer)?;
            Told::Silently
        }
        Kind::Serin | Kind::SerinPlain | Kind::Beside => {
            let weights = format!("{{\"primary\": {primary}, \"canary\": {canary}}}");
            let path = "/splits/web/weights";
            Told::Http(peers::tell(peer.admin, "PUT", path, "application/json", &weights)?)
        }
        Kind::Envoy => {
            let path = format!("/runtime_modify?split.primary={primary}&split.canary={canary}");
            Told::Http(peers::tell(peer.admin, "POST", &path, "text/plain", "")?)
        }
        Kind::Haproxy => {
            let mut socket = UnixStream::connect(places.folder.join("haproxy.sock"))?;
            writeln!(socket, "set weight web/primary {primary}; set weight web/canary {canary}")?;
            Told::Socket(socket)
        }
        Kind::Nginx => {
            write("nginx.conf", &configs::nginx::config(setting, places).context(had)?)?;
            hang_up(peer)?;
            Told::Silently
        }
        Kind::Traefik => {
            write("traefik-routes.yaml", &configs::traefik::config(setting, places).context(had)?)?;
            Told::Silently
        }
        Kind::Caddy => {
            let config = configs::caddy::config(setting, places).context(had)?;
            Told::Http(peers::tell(peer.admin, "POST", "/load", "text/caddyfile", &config)?)
        }
        Kind::Direct | Kind::Relay => bail!("it has no weights"),
    })
}

fn hang_up(peer: &Peer) -> Result<()> {
    let process = peer.process.as_ref().context("it has a process")?;
    process.signal(libc::SIGHUP);
    Ok(())
}

fn scrapes(kinds: &[Kind], run: &Run, section: &mut Section) -> Result<Grid> {
    let times = if run.quick { 5 } else { 40 };
    let mut grid = Grid::new(
        "one scrape in Prometheus' text: processor time of the proxy, and how much is read",
        &[("ms, 1 route", 2), ("KiB", 1), ("ms, 1,000 clusters", 2), ("KiB, 1,000 clusters", 0)],
    );
    for &kind in kinds {
        let path = match kind {
            Kind::Serin | Kind::SerinPlain | Kind::Beside | Kind::Haproxy => "/metrics",
            Kind::Envoy => "/stats/prometheus",
            _ => continue,
        };
        for (column, count) in [1, 1_000].into_iter().enumerate() {
            let setting = Setting { split: Split::Routes(count, By::Path), ..PLAIN };
            let case = Case { setting, job: jobs::routes(count, By::Path), ..workloads::plain() };
            let mut stage = Stage::new(case, &run.choices, &run.workplace)?;
            stage.fill(&[kind], &run.choices)?;
            let Some(peer) = stage.peers.first() else { continue };
            let process = peer.process.as_ref().context("it has a process")?;
            match scrape(process, peer.admin, path, times) {
                Ok((ms, kib)) => {
                    grid.add(kind.name(), column * 2, [ms]);
                    grid.add(kind.name(), column * 2 + 1, [kib]);
                }
                Err(error) => section.notes.push(format!("{}, scrape: {error:#}.", kind.name())),
            }
        }
    }
    Ok(grid)
}

fn scrape(process: &Process, admin: SocketAddr, path: &str, times: u32) -> Result<(f64, f64)> {
    let before = process.spent()?;
    let mut bytes = 0;
    for _ in 0..times {
        let text = peers::ask(admin, "GET", path, "")?;
        ensure!(text.contains("# TYPE"), "no metrics");
        bytes += text.len();
    }
    let after = process.spent()?;
    let used = (after.user + after.system).saturating_sub(before.user + before.system);
    Ok((used.as_secs_f64() * 1e3 / f64::from(times), bytes as f64 / f64::from(times) / 1024.0))
}
