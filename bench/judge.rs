//! The judge in numbers, as one page: scenarios, bounds and healthy hours, and which command has made it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::exposure;
use crate::healthy;
use crate::machine;
use crate::proof;
use crate::scenarios;

#[derive(clap::Args)]
pub struct Options {
    /// Seeds per scenario; 0 leaves the scenarios out
    #[arg(long, default_value_t = 200)]
    seeds: u32,
    /// Beside the scenarios, so many hours of releases that are no worse
    #[arg(long, default_value_t = 0)]
    healthy: u32,
    /// Writes the page to this file, section by section
    #[arg(long)]
    out: Option<PathBuf>,
}

struct Page<'o> {
    text: String,
    out: Option<&'o Path>,
}

pub fn run(options: &Options) -> Result<()> {
    anyhow::ensure!(options.seeds != 1, "a mean and its error need two seeds at least");
    let command: Vec<String> = std::env::args().skip(1).collect();
    let text = format!(
        "# The judge in numbers, {}\n\n`cargo run --release -p serin-bench -- {}`, commit {}. {METHOD}\n",
        machine::today(),
        command.join(" "),
        machine::commit()
    );
    let mut page = Page { text, out: options.out.as_deref() };
    let (seeds, passes) = (options.seeds, options.seeds * PASSES);
    if options.healthy > 0 {
        page.begin("Releases that are no worse: false rollbacks", HEALTHY);
        healthy::run(options.healthy, &mut |tables| page.go_on(tables))?;
    }
    if seeds > 0 {
        page.add("Until a bad release is cut and rolled back", SCENARIOS, scenarios::run(seeds))?;
        let failures = exposure::failures(seeds);
        page.add("Failures: requests exposed against the least possible", FAILURES, failures)?;
        page.add("Slowness: the same", SLOWNESS, exposure::slowness(seeds))?;
        page.add("Proof before promotion against the least possible", PROOF, proof::requests(seeds))?;
        page.add("False promotions", PROMOTIONS, proof::false_promotions(passes))?;
    }
    if page.out.is_none() {
        print!("{}", page.text);
    }
    Ok(())
}

impl Page<'_> {
    fn add(&mut self, title: &str, words: &str, tables: String) -> Result<()> {
        self.begin(title, words);
        self.go_on(&tables)
    }

    fn begin(&mut self, title: &str, words: &str) {
        self.text.push_str(&format!("\n## {title}\n\n{words}\n"));
    }

    fn go_on(&mut self, tables: &str) -> Result<()> {
        self.text.push_str(&format!("\n{}\n", tables.trim_end()));
        match self.out {
            Some(path) => {
                fs::write(path, &self.text).with_context(|| format!("cannot write {}", path.display()))
            }
            None => Ok(()),
        }
    }
}

/// Stages at the margin, for each seed of the others: a share of a few percent is to be told from 5 %.
const PASSES: u32 = 15;

const METHOD: &str = "serin's own engine and judge on synthetic traffic: log-normal answers (median 50 ms, p99 200 ms), \
independent failures, Poisson arrivals. Deterministic, whatever the build: the machine only matters for how long it \
takes. Seeds are 0, 1, 2 and so on, and each is counted. `±` is a standard error.";

const SCENARIOS: &str = "At 1,000 requests/s, with the defaults and a 99 % objective; means over the seeds. `Cut` is when \
the weight falls to a trickle of one request per second; what follows is its confirmation.";

const FAILURES: &str = "Canary requests at 1,000 requests/s until its weight falls, at a bound of 0.1 % on false rollbacks. \
The least possible is ln(1000) over the information of a request against the nearest pair of rates that is tolerated, which \
no method with this bound can beat on average (but for one that is told the primary's rate, as an objective is). What the \
judge can know are answers; requests go on being sent while the deciding ones are under way.";

const SLOWNESS: &str = "The least possible against the nearest pair of distributions in which the canary is nowhere slower \
than the primary by more than the tolerated tenth (at least 1 ms).";

const PROOF: &str = "Canary requests until it is shown, at a chance of 5 % to pass for a canary that is not good enough, that \
one that is like the primary stays within its margin. `The test needs`: given the requests as soon as they are over. `By the \
proof`: what the engine had sent to the canary by then; it waits for whole cohorts of requests to end.";

const PROMOTIONS: &str = "Canaries that are worse by exactly what must not pass (of the p99: by the least that is not less, \
whichever of three buckets of 3 % the judge takes for it), at 100 requests/s, which may pass at any look within 45 minutes and are stopped by nothing else.";

const HEALTHY: &str = "One-hour rollouts in one step with the defaults, after ten minutes of watching the primary: every \
combination of 10, 100, 1,000 and 10,000 requests/s, 1, 5, 10 and 50 % for the canary, and 0, 0.1, 1 and 5 % of failures, as \
often as each other. The bound is the exact one-sided one of 95 % confidence. Blips: the canary has one endpoint and the \
primary as many of the same size as its share says; each fails entirely for 0.25, 1, 2 or 5 s (a quarter of the hours each), \
every 20 minutes on average and each at its own times, and nobody fails over. Just what is tolerated: failures 1.2 times the \
primary's and 0.05 points; answers that take a tenth longer. Counted by the look, except for the last table.";
