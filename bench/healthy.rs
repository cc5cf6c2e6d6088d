//! Hours of releases that are no worse: how many of them are rolled back. Traffic, weight and failures are those
//! of a grid, each of its corners as often as the next, each hour with a seed of its own; all are counted.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serin::judge::analysis::Analysis;
use serin::rehearse::Version;
use serin::rehearse::blips;
use serin::rehearse::play::End;
use serin::rehearse::play::play;
use serin::rehearse::scenario::Scenario;
use serin::rehearse::users::Users;
use serin::rollout::Phase;

use crate::crew;
use crate::exposure;
use crate::shares;
use crate::trial;
use crate::trial::Trial;

const HOUR: Duration = Duration::from_secs(3600);
const RATES: [f64; 4] = [10.0, 100.0, 1_000.0, 10_000.0];
const SPLITS: [u32; 4] = [1, 5, 10, 50];
const FAILURES: [f64; 4] = [0.0, 0.001, 0.01, 0.05];
const CORNERS: usize = RATES.len() * SPLITS.len() * FAILURES.len();
/// How long an endpoint fails, where one does.
const BLIPS_MS: [u64; 4] = [250, 1_000, 2_000, 5_000];

/// What is supposed of the hours of one table.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alike,
    /// The canary has one endpoint and the primary the others, of the same size; each fails for a moment now and then.
    Blips,
    /// The canary fails as much more as is just tolerated, or is as much slower.
    Failing,
    Slower,
    /// Alike, and a 99 % objective is asked for.
    Objective,
}

/// One hour: where on the grid it stood, and what became of it.
struct Hour {
    rate: usize,
    split: usize,
    failure: usize,
    blip: usize,
    seed: u64,
    end: End,
    suspended: bool,
}

/// Each table is told as soon as it is there: the next may take long.
pub fn run(hours: u32, tell: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let [all, some, fewer] =
        [hours, hours / 4, hours / 16].map(|hours| (hours as usize).div_ceil(CORNERS) * CORNERS);
    let mut section = |title: &str, kind, count| {
        let hours = played(title, kind, count);
        tell(&format!("**{title}**\n\n{}\n", tables(&hours, kind)))
    };
    section("The same release on both sides", Kind::Alike, all)?;
    section("The same, and every endpoint fails for a moment every 20 minutes", Kind::Blips, some)?;
    section("The same release, and a 99 % objective", Kind::Objective, fewer)?;
    section("A canary that fails as much more as is just tolerated", Kind::Failing, fewer)?;
    section("A canary that is as much slower as is just tolerated", Kind::Slower, fewer)?;
    tell(&format!("**Request by request**\n\n{}", by_request(hours / 100)))
}

fn played(title: &str, kind: Kind, count: usize) -> Vec<Hour> {
    crew::each(&title.to_lowercase(), count, |at| {
        let corner = at % CORNERS;
        let (rate, split) = (corner % RATES.len(), corner / RATES.len() % SPLITS.len());
        let failure = corner / RATES.len() / SPLITS.len();
        let blip = at / CORNERS % BLIPS_MS.len();
        let seed = at as u64;
        let run = play(&plan(kind, SPLITS[split]).spec(), &scenario(kind, rate, split, failure, blip), seed);
        Hour { rate, split, failure, blip, seed, end: run.end, suspended: run.cut.is_some() }
    })
}

fn plan(kind: Kind, percent: u32) -> Trial {
    let analysis = match kind {
        Kind::Objective => exposure::with_objective(),
        Kind::Alike | Kind::Blips | Kind::Failing | Kind::Slower => Analysis::default(),
    };
    let version = Version::failing(0.0);
    Trial { percent, rps: 0.0, primary: version, canary: version, analysis, hold: HOUR }
}

fn scenario(kind: Kind, rate: usize, split: usize, failure: usize, blip: usize) -> Scenario {
    let alike = Scenario { rps: RATES[rate], baseline: FAILURES[failure], ..Scenario::default() };
    match kind {
        Kind::Alike | Kind::Objective => alike,
        Kind::Blips => {
            Scenario { blip: Duration::from_millis(BLIPS_MS[blip]), endpoints: 100 / SPLITS[split], ..alike }
        }
        Kind::Failing => Scenario { errors: Some(1.2 * alike.baseline + 0.0005), ..alike },
        Kind::Slower => Scenario { latency: 1.1, ..alike },
    }
}

fn tables(hours: &[Hour], kind: Kind) -> String {
    let mut text = String::from(
        "|  | hours | rolled back | at most, 95 % | suspended meanwhile | promoted | neither |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut row =
        |name: &str, of: &dyn Fn(&&Hour) -> bool| text.push_str(&row(name, hours.iter().filter(of)));
    for (rate, rps) in RATES.iter().enumerate() {
        row(&format!("{rps} requests/s"), &|hour| hour.rate == rate);
    }
    for (split, percent) in SPLITS.iter().enumerate() {
        row(&format!("{percent} % to the canary"), &|hour| hour.split == split);
    }
    for (failure, share) in FAILURES.iter().enumerate() {
        row(&format!("{} % failures", 100.0 * share), &|hour| hour.failure == failure);
    }
    if kind == Kind::Blips {
        for (blip, ms) in BLIPS_MS.iter().enumerate() {
            row(&format!("for {} s", *ms as f64 / 1000.0), &|hour| hour.blip == blip);
        }
    }
    row("all", &|_| true);
    text.push_str(&named(hours, kind));
    text
}

fn row<'h>(name: &str, hours: impl Iterator<Item = &'h Hour>) -> String {
    let (mut all, mut back, mut suspended, mut promoted) = (0, 0, 0, 0);
    for hour in hours {
        all += 1;
        back += usize::from(hour.end == End::RolledBack);
        suspended += usize::from(hour.suspended);
        promoted += usize::from(hour.end == End::Promoted);
    }
    let (share, most) = (back as f64 / all as f64, shares::percent(shares::at_most(back, all)));
    let share = if back == 0 { String::new() } else { format!(" ({})", shares::percent(share)) };
    format!(
        "| {name} | {all} | {back}{share} | {most} | {suspended} | {promoted} | {} |\n",
        all - back - promoted
    )
}

/// Those that were rolled back, so that they can be looked at again.
fn named(hours: &[Hour], kind: Kind) -> String {
    let back: Vec<String> = hours
        .iter()
        .filter(|hour| hour.end == End::RolledBack)
        .map(|hour| {
            let (rps, percent, failures) =
                (RATES[hour.rate], SPLITS[hour.split], 100.0 * FAILURES[hour.failure]);
            let blip =
                if kind == Kind::Blips { format!(", {} ms", BLIPS_MS[hour.blip]) } else { String::new() };
            format!("{} ({rps} requests/s, {percent} %, {failures} % failures{blip})", hour.seed)
        })
        .collect();
    match back.len() {
        0 => String::new(),
        1..=60 => format!("\nRolled back, by seed: {}.\n", back.join("; ")),
        _ => format!("\nRolled back: {}, too many to name here.\n", back.len()),
    }
}

/// Requests that take their time and end in any order, a look at each canary failure; each by its own coin, or of
/// users who keep their version.
fn by_request(hours: u32) -> String {
    let mut text = String::from(
        "| requests | requests/s | failures | hours | rolled back | at most, 95 % | suspended meanwhile |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let hours = hours as usize;
    for (name, users) in
        [("each by its own coin", None), ("of 2,000 users who keep their version", Some(2_000))]
    {
        for (rps, failure) in [(10.0, 0.001), (100.0, 0.001), (100.0, 0.01)] {
            let version = Version::failing(failure);
            let analysis = Analysis::default();
            let trial = Trial { percent: 10, rps, primary: version, canary: version, analysis, hold: HOUR };
            let told = format!("{name}, {rps} requests/s");
            let played = crew::each(&told, hours, |seed| hour(&trial, users, seed as u64));
            let back = played.iter().filter(|(back, _)| *back).count();
            let suspended = played.iter().filter(|(_, suspended)| *suspended).count();
            let most = shares::percent(shares::at_most(back, hours));
            let failures = 100.0 * failure;
            let _ =
                writeln!(text, "| {name} | {rps} | {failures} % | {hours} | {back} | {most} | {suspended} |");
        }
    }
    text
}

/// Was it rolled back, and did its weight fall?
fn hour(trial: &Trial, users: Option<usize>, seed: u64) -> (bool, bool) {
    let mut rehearsal = trial.rehearsal(seed);
    if let Some(count) = users {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(blips::apart(seed));
        rehearsal = rehearsal.among(Users::new(count, 0.5, &mut random));
    }
    trial::start(&mut rehearsal);
    let mut suspended = false;
    while trial::seconds(&rehearsal) < HOUR.as_secs_f64() && !rehearsal.rollout.phase().is_final() {
        rehearsal.look(&[]);
        suspended |= rehearsal.parts() < trial.parts();
    }
    (rehearsal.rollout.phase() == Phase::RolledBack, suspended)
}
