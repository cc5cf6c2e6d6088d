//! serin beside a real Envoy: the same route tables, the same origins, the same
//! requests, and what came of them compared. What differs on purpose stands in
//! `decisions.rs`, and there alone.
//!
//! `SERIN_DIFFER_SEED=7 cargo test --test integration differ::` runs one table
//! again; `SERIN_DIFFER_CASES=20000` runs on until so many requests were made.

mod as_envoy;
mod as_serin;
mod change;
mod client;
mod crowd;
mod decisions;
mod deed;
mod gate;
mod odd;
mod request;
mod seen;
mod stage;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::harness::envoy::{self, Envoy};
use crate::harness::{App, Seeded};
use request::{Case, Talk};
use seen::Seen;
use stage::Stage;
use table::Table;

/// Tables of which the suite makes sure. What was never drawn before is for a
/// long run: a test that finds something new on every tenth day says nothing
/// about the change that it was run for.
const SEEDS: std::ops::Range<u64> = 1..25;
/// A long run ends when it has found so many differences.
const MOST: usize = 20;
/// So many requests are expected to show every decision.
const MANY: usize = 5_000;
const TALKS: usize = 10;
const PAGE: &str = "# Where serin differs from Envoy\n\n\
    Both are put before the same origins and asked the same, on route tables that are rendered for each\n\
    (`tests/differ.rs`, against Envoy 1.40 with its defaults). What is not on this page is the same: status,\n\
    fields, body, the version chosen, what the origin saw and how often, and whether the connection is kept.\n\
    This page is written by that test.\n\n\
    Envoy is set to do what serin does without being asked: `ignore_port_in_host_matching`,\n\
    `server_header_transformation: PASS_THROUGH`, `accept_http_10`, `enable_trailers`. serin is told to be no\n\
    edge, as Envoy is not without `use_remote_address`: `forwarded: {edge: false}`. A cookie that is not\n\
    there fits an inverted question about its value in Envoy; in serin it never does, as for a header in both.\n";

/// Both proxies on one table.
struct Pair {
    envoy: Envoy,
    serin: App,
    behind_envoy: Stage,
    behind_serin: Stage,
    used: Used,
}

/// Names of the decisions that have taken a difference out.
type Used = Mutex<BTreeSet<&'static str>>;

impl Pair {
    fn start(program: &Path, table: &Table) -> Pair {
        let (behind_envoy, behind_serin) = (Stage::start(), Stage::start());
        let theirs = as_envoy::render(table, "differ", &|end| behind_envoy.address(end));
        let ours = as_serin::render(table, &|end| behind_serin.address(end));
        let serin = App::start(&serde_json::to_string_pretty(&ours).expect("a value can be written"));
        Pair {
            envoy: Envoy::start(program, &theirs),
            serin,
            behind_envoy,
            behind_serin,
            used: Used::default(),
        }
    }

    fn say(&self, talk: &Talk) -> (Vec<Seen>, Vec<Seen>) {
        std::thread::scope(|scope| {
            let theirs = scope.spawn(|| client::say(talk, self.envoy.listener("differ"), &self.behind_envoy));
            let ours = client::say(talk, self.serin.address(), &self.behind_serin);
            (theirs.join().expect("no panic"), ours)
        })
    }

    /// The first case of the talk in which the two differ, and how.
    fn differ(&self, talk: &Talk) -> Option<(usize, String)> {
        let (theirs, ours) = self.say(talk);
        let pairs = theirs.into_iter().zip(ours).enumerate();
        pairs.zip(&talk.cases).find_map(|((nth, (theirs, ours)), case)| {
            settled(case, theirs, ours, &self.used).map(|text| (nth, text))
        })
    }

    /// As `differ`, for a difference that shows again: a crowded machine may
    /// make one that is none.
    fn differ_surely(&self, talk: &Talk) -> Option<(usize, String)> {
        self.differ(talk)?;
        self.differ(talk)
    }
}

/// How the two still differ when all that is meant to differ is taken out.
fn settled(case: &Case, mut theirs: Seen, mut ours: Seen, used: &Used) -> Option<String> {
    decisions::neutral(&mut theirs);
    decisions::neutral(&mut ours);
    for decision in decisions::all() {
        let before = seen::distance(&theirs, &ours);
        (decision.settle)(case, &mut theirs, &mut ours);
        if seen::distance(&theirs, &ours) < before {
            used.lock().expect("no panic").insert(decision.name);
        }
    }
    seen::compare(&theirs, &ours)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Where the configurations of a table stay when something differed.
fn keep(pair: &Pair, seed: u64) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/differ/{seed}"));
    std::fs::create_dir_all(&folder).expect("the target folder is ours");
    for (from, name) in [(pair.envoy.config(), "envoy.json"), (pair.serin.config(), "serin.yaml")] {
        std::fs::copy(from, folder.join(name)).expect("the target folder is ours");
    }
    folder
}

/// What came of the talks over one table, or over several.
#[derive(Default)]
struct Found {
    requests: usize,
    differences: Vec<String>,
    used: BTreeSet<&'static str>,
}

/// All talks over one table.
fn run(program: &Path, seed: u64) -> Found {
    let mut dice = Seeded(seed);
    let table = Table::draw(&mut dice);
    let talks: Vec<_> = (0..TALKS).map(|n| Talk::draw(&mut dice, &table, n as u64 * 100 + 1)).collect();
    let pair = Pair::start(program, &table);
    let requests = talks.iter().map(|talk| talk.cases.len()).sum();
    // A version may have three retries under way, and a talk has one.
    let together = if table.retries() { 3 } else { TALKS };
    let mut differences = Vec::new();
    for talks in talks.chunks(together) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = talks
                .iter()
                .map(|talk| scope.spawn(|| pair.differ_surely(talk).map(|at| report(&pair, seed, talk, at))))
                .collect();
            differences.extend(asked.into_iter().filter_map(|one| one.join().expect("no panic")));
        });
    }
    Found { requests, differences, used: pair.used.into_inner().expect("no panic") }
}

/// Everything that somebody needs to look into a difference.
fn report(pair: &Pair, seed: u64, talk: &Talk, (nth, text): (usize, String)) -> String {
    let folder = keep(pair, seed);
    // Alone on its connection, the case may say as much with less.
    let (before, text) = match pair.differ_surely(&talk.only(nth)) {
        Some((_, text)) => (String::new(), text),
        None => (talk.cases[..nth].iter().map(told).collect(), text),
    };
    let next = talk.cases.get(nth + 1).filter(|_| !before.is_empty()).map(told).unwrap_or_default();
    format!(
        "--- table {seed}, {:?}, {} ---\n  again: SERIN_DIFFER_SEED={seed} cargo test --test integration differ::\n{before}{}{text}{next}",
        talk.protocol,
        folder.display(),
        told(&talk.cases[nth])
    )
}

/// A request and what the origins do.
fn told(case: &Case) -> String {
    let request = &case.request;
    let head = stage::latin(&request.head(case.id)).escape_debug().to_string().replace("\\r\\n", "\n  ");
    let odd = request.odd.map_or(String::new(), |odd| format!("; {}", odd.name()));
    let mut text = format!(
        "  {}\n  body {:?}, cut {:?}, expects {}{odd}\n",
        head.trim_end(),
        request.body,
        request.cut,
        request.expects
    );
    for deed in &case.deeds {
        text += &format!("  {deed:?}\n");
    }
    text
}

/// `DIFFERENCES.md` as it should be.
fn page() -> String {
    let mut text = String::from(PAGE);
    for decision in decisions::all() {
        let lines = [("Envoy", decision.envoy), ("serin", decision.serin), ("Why", decision.why)];
        text += &format!("\n## {}\n\n", decision.name);
        text.extend(lines.map(|(who, what)| format!("- **{who}**: {what}.\n")));
    }
    text
}

#[test]
fn the_page_of_differences_is_in_step() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differ/DIFFERENCES.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, page()).expect("the repository can be written to");
    }
    let written = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(written, page(), "run again with UPDATE_EXPECT=1 and look at what changed");
}

#[test]
fn seeded_tables_are_served_as_by_envoy() {
    let Some(program) = envoy::program() else { return };
    let wanted = number("SERIN_DIFFER_CASES");
    let mut all = Found::default();
    for seed in seeds() {
        let found = run(&program, seed);
        all.requests += found.requests;
        all.used.extend(found.used);
        if wanted.is_some() {
            found.differences.iter().for_each(|text| eprintln!("{text}"));
        }
        all.differences.extend(found.differences);
        if let Some(wanted) = wanted {
            eprintln!("table {seed}: {} requests, {} differences", all.requests, all.differences.len());
            if all.requests as u64 >= wanted || all.differences.len() > MOST {
                break;
            }
        }
    }
    let count = all.differences.len();
    assert!(count == 0, "{count} differences in {} requests:\n{}", all.requests, all.differences.join("\n"));
    // Some of them are rare.
    if all.requests >= MANY {
        let unused = decisions::all().map(|one| one.name).filter(|name| !all.used.contains(name));
        assert_eq!(unused.collect::<Vec<_>>(), [""; 0], "no request shows these differences any more");
    }
}

/// The tables to be drawn: those of the suite, one that was asked for, or ever
/// new ones.
fn seeds() -> Vec<u64> {
    if let Some(seed) = number("SERIN_DIFFER_SEED") {
        return vec![seed];
    }
    let Some(cases) = number("SERIN_DIFFER_CASES") else { return SEEDS.collect() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
    let fresh = now.as_millis() as u64 % 1_000_000_000;
    (0..cases).map(|n| fresh + n).collect()
}
