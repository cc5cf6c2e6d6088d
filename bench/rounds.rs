//! The peers of one case in interleaved rounds: what one request costs each on one core, how many a
//! second it serves, and whether what it did was what it was told.

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::duo::Length;
use crate::duo::Plan;
use crate::duo::Window;
use crate::h2::Call;
use crate::h2load;
use crate::h2load::Amount;
use crate::peers::Kind;
use crate::process::Priority;
use crate::process::Process;
use crate::process::Spent;
use crate::report::Cpu;
use crate::report::Figures;
use crate::report::Row;
use crate::setting::Split;
use crate::stage::LOAD_CORE;
use crate::stage::Stage;

const DRAIN: Duration = Duration::from_millis(500);
/// Fewer answers than this say nothing of the share.
const ENOUGH_FOR_SHARE: u64 = 2_000;
/// How far from what was told the canary's share may be: a file that means something else is further.
const SHARE_MARGIN: f64 = 0.03;

#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    pub seconds: f64,
    pub warm_up: f64,
    pub priority: Priority,
    /// wrk as the load.
    pub wrk: bool,
}

impl Pace {
    /// No run of so many peers takes longer than this.
    pub fn most(&self, peers: usize) -> Duration {
        let once = Duration::from_secs_f64(self.seconds + self.warm_up) + DRAIN + Duration::from_secs(1);
        once * (self.rounds * peers) as u32 + Duration::from_secs(45) * peers as u32
    }
}

pub fn run(pace: &Pace, connections: usize, copies: u64, stage: &mut Stage) -> Vec<Row> {
    let count = stage.peers.len();
    let mut rows: Vec<Row> = stage
        .peers
        .iter()
        .map(|peer| Row { kind: peer.kind, rounds: vec![None; pace.rounds], resident_kib: None })
        .collect();
    for round in 0..pace.rounds {
        for step in 0..count {
            let which = (round + step) % count;
            let kind = stage.peers[which].kind;
            let figures = match stage.call {
                Some(call) => with_h2load(pace, which, call, stage),
                None if pace.wrk => with_wrk(pace, connections, which, stage),
                None => with_duo(pace, connections, which, stage),
            };
            match figures
                .and_then(|figures| checked(figures, kind, copies, stage.setting.split, stage.setting.canary))
            {
                Ok(figures) => {
                    eprintln!("round {} {}: {}", round + 1, kind.name(), brief(&figures));
                    rows[which].rounds[round] = Some(figures);
                }
                Err(error) => eprintln!("round {} {}: failed: {error:#}", round + 1, kind.name()),
            }
            let process = stage.peers[which].process.as_ref();
            rows[which].resident_kib = process.and_then(|process| process.resident_kib().ok());
        }
    }
    rows
}

/// The upstreams' account must be the load's: a peer that answers by itself, asks twice or sends
/// all to one version would be measured at another job.
fn checked(figures: Figures, kind: Kind, copies: u64, split: Split, canary: u32) -> Result<Figures> {
    if kind == Kind::Direct {
        return Ok(figures);
    }
    let asked = figures.asked[0] + figures.asked[1];
    let wanted = figures.answered * copies;
    // Those under way as the window opened and closed; copies may lag behind.
    let margin = 400 + wanted / 50 + figures.errors;
    ensure!(asked.abs_diff(wanted) <= margin, "{wanted} requests were to reach the upstreams, {asked} did");
    let share = figures.asked[1] as f64 / asked.max(1) as f64;
    let meant = match split {
        Split::Coin | Split::Sticky | Split::Services(_) => f64::from(canary) / 100.0,
        Split::Mirror => 0.5,
        Split::Routes(..) => 0.0,
    };
    // The relay draws once a connection.
    if kind != Kind::Relay && asked > ENOUGH_FOR_SHARE {
        let off = (share - meant).abs();
        ensure!(off <= SHARE_MARGIN, "the canary got {:.1} % of the requests", share * 100.0);
    }
    Ok(figures)
}

fn with_duo(pace: &Pace, connections: usize, which: usize, stage: &mut Stage) -> Result<Figures> {
    let peer = &stage.peers[which];
    let plan = Plan {
        target: peer.address,
        connections,
        warm_up: Duration::from_secs_f64(pace.warm_up),
        length: Length::Time(Duration::from_secs_f64(pace.seconds)),
        drain: DRAIN,
    };
    let window = stage.duo.run(&plan, || peer.process.as_ref().map(Process::spent).transpose())?;
    if window.answered == 0 {
        bail!("no request was answered");
    }
    Ok(figures(&window))
}

/// h2load on the load's core, the upstreams on the same one. Its connecting is part of the window.
fn with_h2load(pace: &Pace, which: usize, call: Call, stage: &mut Stage) -> Result<Figures> {
    let peer = &stage.peers[which];
    let command =
        h2load::command(peer.address, call, &Amount::Seconds(pace.seconds + pace.warm_up), stage.workplace)?;
    let first = stage.asked();
    let peer = &stage.peers[which];
    let spent = || peer.process.as_ref().map(Process::spent).transpose();
    let before = spent()?;
    let start = Instant::now();
    let mut client = Process::start(command, &[LOAD_CORE], pace.priority)?;
    stage.duo.serve_while(|| Ok(client.alive()))?;
    let wall = start.elapsed();
    let after = spent()?;
    let told = h2load::read(&stage.workplace.log_all("h2load"), call)?;
    let last = stage.asked();
    Ok(figures(&Window {
        answered: told.succeeded,
        errors: told.errors,
        asked: [last[0] - first[0], last[1] - first[1]],
        wall,
        before,
        after,
    }))
}

/// wrk on the load's core, the upstreams on the same one. Its connecting is part of the window.
fn with_wrk(pace: &Pace, connections: usize, which: usize, stage: &mut Stage) -> Result<Figures> {
    let peer = &stage.peers[which];
    let mut command = Command::new("wrk");
    command
        .args(["-t", "1", "-c", &connections.to_string()])
        .args(["-d", &format!("{}s", pace.seconds.ceil().max(1.0))])
        .args(["-H", "Host: shop.example.com", "-H", "User-Agent: wrk", "-H", "accept: application/json"])
        .args(["-H", "accept-encoding: gzip, br", "-H", "cookie: sid=3f9c2a71d0b84e55; theme=dark"])
        .arg(format!("http://{}/products/42?view=full", peer.address));
    stage.workplace.log("wrk", &mut command)?;
    let spent = || peer.process.as_ref().map(Process::spent).transpose();
    let before = spent()?;
    let start = Instant::now();
    let mut wrk = Process::start(command, &[LOAD_CORE], pace.priority)?;
    let asked = stage.duo.serve_while(|| Ok(wrk.alive()))?;
    let window = Window {
        answered: asked[0] + asked[1],
        errors: wrk_errors(&stage.workplace.log_all("wrk"))?,
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
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / window.answered.max(1) as f64;
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
        answered: window.answered,
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

    #[test]
    fn a_peer_at_another_job_is_not_measured() {
        let figures = |asked| Figures { cpu: None, per_second: 1.0, answered: 10_000, errors: 0, asked };
        let check = |asked, copies, split| checked(figures(asked), Kind::Nginx, copies, split, 10).is_ok();
        assert!(check([9_000, 1_000], 1, Split::Coin));
        assert!(!check([10_000, 0], 1, Split::Coin), "nothing for the canary");
        assert!(!check([4_500, 500], 1, Split::Coin), "half of the answers are the peer's own");
        assert!(check([10_000, 9_990], 2, Split::Mirror));
        assert!(!check([10_000, 0], 2, Split::Mirror), "no copies");
        assert!(!check([9_000, 1_000], 1, Split::Routes(1, crate::setting::By::Path)));
    }
}
