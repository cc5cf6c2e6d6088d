//! The command line: `serin run` is the server, everything else asks it.

mod client;
mod command;
mod diff;
mod rehearse;
mod replay;
mod run;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo;
use crate::rehearse::tools::Tool;

const EXITS: &str = "\
Exit codes:
  0  done
  1  error, also in the usage
  2  the rollout was rolled back or aborted (status --wait)
  3  timed out (status --wait --timeout)
  4  the admin API cannot be reached";

const COLUMNS: &str = "\
Columns:
  STEP      the present step, how many there are, how much of its time has passed
  EVIDENCE  against the canary, in percent of what a rollback needs
  ODDS      of each test; with the burst guard on, no window counts more than tenfold
  RPS, SUCCESS, P50, P99
            of the last seconds
  REQUESTS, FAILED
            since serin began to run, with the failures that users were shielded from";

const DEMO: &str = "\
It takes half a minute. Two servers, their users and serin run on free loopback
ports; nothing else is needed and nothing is left behind.";

const SCENARIOS: &str = "\
A scenario is a list of:
  rps=50          requests per second to both versions
  baseline=0.1%   share of the primary's answers that fail
  p50=50ms, p99=200ms
                  how long the primary's answers take
  errors=2%       share of the canary's answers that fail
  latency=x1.5    all of the canary's answers take so much longer
  tail=x2         its p99 alone does
  matching=10%    share of the requests that a trial's rules match
  onset=10m       how long after the start it begins
The engine and the judge are those that run; the traffic is independent requests
with log-normal times, and each ends in the second in which it began.";

const AGAIN: &str = "\
The journal holds what the engine was given while a rollout was under way, as far
back as its two files of about 16 MiB go. The same serin decides the same from it,
bit for bit. Ends with 1 where any decision is another one.";

#[derive(Parser)]
#[command(name = "serin", version, about = "A traffic-splitting HTTP proxy with canary analysis built in", after_help = EXITS)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the proxy
    Run(Run),
    /// Print all problems of a configuration file
    Check(Config),
    /// Show rollouts, or one with its tests
    #[command(after_help = format!("{COLUMNS}\n\n{EXITS}"))]
    Status(Status),
    /// Show where answers of a mirror's version differ from the primary's
    Diff(Diff),
    /// Start a rollout
    Start(Named),
    /// Pass the present pause or step; at the last, promote; while baking, end the watch
    Promote(Named),
    /// Give the canary all traffic at once, whatever steps are left
    Skip(Named),
    /// Take all traffic back to the primary
    Abort(Named),
    /// Bring the old version back at once, also after the end while it is kept
    Rollback(Named),
    /// Keep a rollout at its present weight; the judge goes on watching
    Pause(Named),
    /// Keep everything as it is, whatever the judge says
    Freeze(Named),
    /// Cut the canary to a trickle until resumed
    Suspend(Named),
    /// End a pause, a freeze, a suspension by hand or a hold
    Resume(Named),
    /// Start again after a rollback or abort
    Retry(Named),
    /// Set the weights of a split that no rollout holds
    Weights(Weights),
    /// Play a rollout's plan on synthetic traffic: what it would catch, when, and at what cost
    #[command(after_help = SCENARIOS)]
    Rehearse(Rehearse),
    /// Decide again what a journal has recorded, and see what another policy would have done
    #[command(after_help = AGAIN)]
    Replay(Replay),
    /// Try what tells people of events
    #[command(subcommand)]
    Alerts(Alerts),
    /// Watch a good release being promoted and two bad ones being rolled back
    #[command(after_help = DEMO)]
    Demo(Demo),
}

#[derive(Args)]
struct Config {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "serin.yaml")]
    config: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    config: Config,
    /// Serve the admin API here instead of where the file says
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Print one line of JSON with all addresses once ready
    #[arg(long)]
    announce: bool,
    /// Take over from the serin that runs on the same state directory, if one does
    #[arg(long)]
    hot_restart: bool,
    /// How log lines look; what is logged is set by RUST_LOG
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Where the serin is that is asked.
#[derive(Args)]
struct Ask {
    /// Address of the admin API
    #[arg(long, env = "SERIN_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Named {
    /// The rollout
    name: String,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct Status {
    /// The rollout; without it all of them
    name: Option<String>,
    /// Show again every second until interrupted
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// Return when the rollout has succeeded, or was rolled back or aborted
    #[arg(long, requires = "name")]
    wait: bool,
    /// Longest time to wait, such as 90s or 10m
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct Diff {
    /// The service; without it all whose answers are compared
    service: Option<String>,
    /// Show also what is not known to differ by the version
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct Weights {
    /// The split, which has the name of its service
    split: String,
    /// Percent by version; versions left out get none
    #[arg(required = true, value_name = "VERSION=PERCENT", value_parser = share)]
    shares: Vec<(String, f64)>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Subcommand)]
enum Alerts {
    /// Send a test to all receivers of alerts, or to one
    Test(TestAlerts),
}

#[derive(Args)]
struct TestAlerts {
    /// The receiver; without it all of them
    receiver: Option<String>,
    /// How bad it pretends to be
    #[arg(long, value_name = "SEVERITY", default_value = "info", value_parser = ["info", "warn", "error"])]
    severity: String,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct Rehearse {
    /// The rollout; without it all of them
    name: Option<String>,
    #[command(flatten)]
    config: Config,
    /// What to suppose; may be given several times. Without a fault the usual ones
    #[arg(long, value_name = "KEY=VALUE,...")]
    scenario: Vec<String>,
    /// Runs of each scenario. Default: 1000, with --compare 100
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: Option<u32>,
    /// The first seed; the same seed gives the same runs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Judge the same traffic by the rules of these, too: flagger, argo, kayenta
    #[arg(long, value_name = "TOOL,...", value_delimiter = ',', value_parser = Tool::parse)]
    compare: Vec<Tool>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Replay {
    /// The state directory of a serin that runs or has run, or a journal.jsonl of one
    journal: PathBuf,
    /// The rollout; without it all of them
    #[arg(long)]
    name: Option<String>,
    /// A configuration whose rollouts of the same names are decided by instead
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Demo {
    /// Keep everything running at the end
    #[arg(long)]
    keep: bool,
    /// Print the figures as one object on the last line
    #[arg(long)]
    json: bool,
}

/// How a command ended, as a script sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Error = 1,
    RolledBack = 2,
    TimedOut = 3,
    Unreachable = 4,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Nothing is left to do when even the usage cannot be printed.
            let _ = told.print();
            return exit_code(if told.use_stderr() { Exit::Error } else { Exit::Done });
        }
    };
    let exit = obey(cli.verb).unwrap_or_else(|error| {
        eprintln!("serin: {error:#}");
        if error.is::<client::Unreachable>() { Exit::Unreachable } else { Exit::Error }
    });
    exit_code(exit)
}

fn obey(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Run(run) => run::run(&run),
        Verb::Check(config) => run::check(&config.config),
        Verb::Status(status) => status::status(&status),
        Verb::Diff(options) => diff::diff(&options),
        Verb::Start(named) => command::command(&named, "start"),
        Verb::Promote(named) => command::command(&named, "promote"),
        Verb::Abort(named) => command::command(&named, "abort"),
        Verb::Skip(named) => command::command(&named, "skip"),
        Verb::Rollback(named) => command::command(&named, "rollback"),
        Verb::Freeze(named) => command::command(&named, "freeze"),
        Verb::Suspend(named) => command::command(&named, "suspend"),
        Verb::Pause(named) => command::command(&named, "pause"),
        Verb::Resume(named) => command::command(&named, "resume"),
        Verb::Retry(named) => command::command(&named, "retry"),
        Verb::Weights(weights) => command::weights(&weights),
        Verb::Rehearse(options) => rehearse::rehearse(&options),
        Verb::Replay(options) => replay::replay(&options),
        Verb::Alerts(Alerts::Test(test)) => command::test_alerts(&test),
        Verb::Demo(options) => demo::run(options.keep, options.json).map(|()| Exit::Done),
    }
}

fn exit_code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}

fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|cause: jiff::Error| cause.to_string())?;
    Duration::try_from(signed).map_err(|_| "a time to wait cannot be negative".to_owned())
}

fn share(text: &str) -> Result<(String, f64), String> {
    let (version, percent) = text.split_once('=').ok_or("expected VERSION=PERCENT")?;
    let percent =
        percent.trim_end_matches('%').parse().map_err(|_| format!("{percent:?} is no percentage"))?;
    Ok((version.to_owned(), percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_shares_are_read_as_people_write_them() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert!(duration("-1s").is_err());
        assert_eq!(share("canary=2.5%").unwrap(), ("canary".to_owned(), 2.5));
        assert!(share("canary").is_err());
    }
}
