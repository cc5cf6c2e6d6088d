//! The parts of the request path, each alone. Instructions are the figure that is kept: callgrind counts
//! the same every time, so a change of a few percent is one of the code. Time, taken by divan, is for the eye.
//!
//! A part is run by this program again, under callgrind, N times and 3 N times; the difference is what
//! 2 N cost. callgrind looks on only from when all is set up: ten thousand regexes are compiled unseen.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serin::config;
use serin_proxy::Model;
use serin_proxy::micro;
use serin_proxy::micro::Counting;
use serin_proxy::micro::Routing;

use crate::jobs;
use crate::looking;
use crate::origin;
use crate::workplace;
use crate::workplace::Workplace;

/// A change beyond this is told as one, and fails `--compare`.
const TOLERATED: f64 = 0.03;
const TIMES: u64 = 2_000;

#[derive(clap::Args)]
pub struct Options {
    /// Count instructions by callgrind instead of taking times
    #[arg(long)]
    instructions: bool,
    /// Count, and compare with bench/baseline.json; fails where something got dearer by over 3 %
    #[arg(long)]
    compare: bool,
    /// Count, and keep the counts as bench/baseline.json
    #[arg(long)]
    save: bool,
    /// With counts: only parts whose name holds this
    #[arg(long, default_value = "")]
    only: String,
    /// One part, set up, and then so many times when told to go; how callgrind is given it
    #[arg(long, hide = true, num_args = 2)]
    unit: Option<Vec<String>>,
}

type Part = Box<dyn Fn(u64)>;

pub fn run(options: &Options) -> Result<()> {
    if let Some([name, times]) = options.unit.as_deref() {
        return unit(name, times.parse()?);
    }
    let names: Vec<String> = names().into_iter().filter(|name| name.contains(&options.only)).collect();
    let counting = options.instructions || options.compare || options.save;
    let before: BTreeMap<String, f64> = match (options.compare, fs::read_to_string(baseline())) {
        (true, Ok(text)) => serde_json::from_str(&text)?,
        (true, Err(error)) => bail!("no baseline to compare with: {error}"),
        (false, _) => BTreeMap::new(),
    };
    if !counting {
        divan::Divan::default().run_benches();
        return Ok(());
    }
    println!("| part | instructions | before | change |\n|---|---|---|---|");
    let mut counts = BTreeMap::new();
    let mut dearer = Vec::new();
    for name in &names {
        let now = count(name)?;
        let was = before.get(name).copied();
        let change = was.map(|was| now / was - 1.0);
        let cells = [
            format!("{now:.1}"),
            was.map_or_else(String::new, |was| format!("{was:.1}")),
            change.map_or_else(String::new, |change| format!("{:+.1} %", change * 100.0)),
        ];
        println!("| {name} | {} |", cells.join(" | "));
        counts.insert(name.clone(), now);
        if change.is_some_and(|change| change > TOLERATED) {
            dearer.push(name.clone());
        }
    }
    if options.save {
        fs::write(baseline(), serde_json::to_string_pretty(&counts)? + "\n")?;
        eprintln!("kept in {}", baseline().display());
    }
    if !dearer.is_empty() {
        bail!("dearer by over {:.0} %: {}", TOLERATED * 100.0, dearer.join(", "));
    }
    Ok(())
}

fn baseline() -> PathBuf {
    workplace::repository().join("bench/baseline.json")
}

/// Every part so many times over; the column of items is what a second holds of it.
#[divan::bench(args = names())]
fn parts(bencher: divan::Bencher, name: &str) {
    let part = part(name).expect("the names are those of parts");
    bencher.counter(divan::counter::ItemsCount::new(TIMES)).bench_local(|| part(TIMES));
}

fn count(name: &str) -> Result<f64> {
    // Some are found by a walk along the table, which takes its time under callgrind.
    let count = if name.ends_with("/10000") { TIMES / 20 } else { TIMES };
    let [once, thrice] = [count, 3 * count].map(|times| instructions(name, times));
    Ok((thrice? - once?) as f64 / (2 * count) as f64)
}

fn instructions(name: &str, times: u64) -> Result<u64> {
    let workplace = Workplace::new()?;
    let out = workplace.path.join("callgrind");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["micro", "--unit", name, &times.to_string()])
        .stderr(Stdio::null());
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("valgrind cannot be started (Debian: valgrind)")?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut go, told) = stdin.zip(stdout).context("both are pipes")?;
    BufReader::new(told).read_line(&mut String::new())?;
    let on = Command::new("callgrind_control").args(["-i", "on", &child.id().to_string()]).output()?;
    writeln!(go).with_context(|| format!("{name} does not wait under callgrind"))?;
    if !(child.wait()?.success() && on.status.success()) {
        bail!("{name} did not run under callgrind");
    }
    let text = fs::read_to_string(&out)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    total.and_then(|total| total.trim().parse().ok()).context("callgrind told no total")
}

fn unit(name: &str, times: u64) -> Result<()> {
    let part = part(name)?;
    // What is made when it is first needed is made now.
    part(1);
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    part(times);
    // To take all down again is not part of it.
    std::process::exit(0);
}

const SIZES: [usize; 3] = [1, 1_000, 10_000];
const LOOKUPS: [&str; 5] = ["exact", "prefix", "regex", "header", "host"];

fn names() -> Vec<String> {
    let lookups = LOOKUPS.iter().flat_map(|kind| SIZES.map(|size| format!("route/{kind}/{size}")));
    let others =
        ["split/coin", "split/sticky", "split/forced", "tally", "head/read", "head/write", "answer/relay"];
    lookups.chain(others.into_iter().chain(looking::NAMES).map(str::to_owned)).collect()
}

/// The part of this name, all set up.
fn part(name: &str) -> Result<Part> {
    let request = jobs::plain().requests.remove(0);
    let pieces: Vec<&str> = name.split('/').collect();
    Ok(match pieces[..] {
        ["route", kind, size] => {
            let routing = routing(kind, size.parse()?)?;
            Box::new(move |times| routing.find(times))
        }
        ["split", kind] => {
            let (config, head) = split(kind)?;
            let routing = Routing::new(&model(&config)?, &head).map_err(anyhow::Error::msg)?;
            Box::new(move |times| routing.choose(times))
        }
        ["tally"] => {
            let counting = Counting::default();
            Box::new(move |times| counting.count(times))
        }
        ["head", "read"] => {
            Box::new(move |times| assert!(micro::read_request(&request, times), "the head is regular"))
        }
        ["head", "write"] => Box::new(move |times| {
            assert!(micro::write_request(&request, times, &mut Vec::new()), "the head is regular");
        }),
        ["answer", "relay"] => {
            let answer = origin::answer(&origin::body(jobs::BODY_BYTES));
            Box::new(move |times| {
                assert!(micro::relay_answer(&answer, times, &mut Vec::new()), "the answer is whole");
            })
        }
        ["look", what, rps] => looking::part(what, rps.parse()?)?,
        _ => bail!("there is no part {name}"),
    })
}

/// The route asked for stands in the middle of the table, so that a search along it shows.
fn routing(kind: &str, size: usize) -> Result<Routing> {
    let (mut services, mut routes) = ("services:\n  web: {primary: 127.0.0.1:1}\n".to_owned(), String::new());
    let asked = size / 2;
    for index in 0..size {
        let (hosts, wanted) = match kind {
            "exact" => ("", format!("match: {{exact: /shop-{index}/products/42}}, ")),
            "prefix" => ("", format!("match: {{prefix: /shop-{index}/}}, ")),
            "regex" => ("", format!("match: {{regex: \"/shop-{index}/[a-z]+/[0-9]+\"}}, ")),
            "header" => {
                ("", format!("match: {{prefix: /, headers: [{{name: x-shop, exact: shop-{index}}}]}}, "))
            }
            "host" => ("hosts: ", String::new()),
            _ => bail!("routes are not told apart by {kind}"),
        };
        let host =
            if hosts.is_empty() { String::new() } else { format!("hosts: shop-{index}.example.com, ") };
        routes.push_str(&format!("  - {{{host}{wanted}service: web}}\n"));
    }
    services.push_str("routes:\n");
    let config = format!("listen: 127.0.0.1:8080\n{services}{routes}");
    let host =
        if kind == "host" { format!("shop-{asked}.example.com") } else { "shop.example.com".to_owned() };
    let head = format!(
        "GET /shop-{asked}/products/42?view=full HTTP/1.1\r\nhost: {host}\r\nuser-agent: serin-bench/1\r\n\
         accept: application/json\r\ncookie: sid=3f9c2a71d0b84e55; theme=dark\r\nx-shop: shop-{asked}\r\n\r\n"
    );
    Routing::new(&model(&config)?, head.as_bytes()).map_err(anyhow::Error::msg)
}

fn split(kind: &str) -> Result<(String, Vec<u8>)> {
    let more = match kind {
        "coin" => "",
        "sticky" => "    sticky: {cookie: sid}\n",
        "forced" => "    force: [{header: x-canary, exact: always, version: canary}]\n",
        _ => bail!("no version is chosen by {kind}"),
    };
    let config = format!(
        "listen: 127.0.0.1:8080\nservices:\n  web:\n    primary: 127.0.0.1:1\n    canary: 127.0.0.1:2\n    \
         weights: {{primary: 90, canary: 10}}\n{more}"
    );
    // Forced asks for the field and does not find it, as nearly all requests do.
    Ok((config, jobs::plain().requests.remove(0)))
}

fn model(text: &str) -> Result<Model> {
    match config::load("micro.yaml", text, &config::Files::none()) {
        Ok(loaded) => Ok(loaded.model),
        Err(problems) => bail!("{problems:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_run() {
        for name in names() {
            part(&name).unwrap_or_else(|error| panic!("{name}: {error:#}"))(3);
        }
    }
}
