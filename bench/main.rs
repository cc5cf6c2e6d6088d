//! Numbers, printed on demand: serin beside its peers, and the judge over its scenarios.
//! Nothing here is a test: a figure is for a person to read, and it always comes with its machine.

#![expect(clippy::disallowed_methods, reason = "to measure is to look at the clock")]

mod instructions;
mod micro;
mod scenarios;
mod versus;

mod chart;
mod judging;
mod latency;
mod memory;
mod report;
mod rounds;
mod stage;
mod starting;
mod workloads;

mod configs;
mod peers;
mod setting;

mod caller;
mod duo;
mod h2;
mod h2load;
mod jobs;
mod origin;
mod relay;

mod epoll;
mod machine;
mod process;
mod workplace;

use clap::Parser;

/// Measures serin against its peers.
#[derive(Parser)]
#[command(name = "serin-bench")]
enum Task {
    /// CPU per request and requests/s on one pinned core, serin and its peers in interleaved rounds
    Versus(versus::Options),
    /// User instructions per request, by callgrind
    Instructions(instructions::Options),
    /// Time and instructions of the request path's parts, each alone
    Micro(micro::Options),
    /// Time and canary failures until rollback, over the scenarios of the judge
    Judge {
        /// Seeds per scenario
        #[arg(long, default_value_t = 200)]
        seeds: u32,
    },
    /// Keeps a core awake, started by `versus`
    #[command(hide = true)]
    Spin,
    /// The floor of `versus`, started by it: copies bytes and knows no HTTP
    #[command(hide = true)]
    Relay(relay::Options),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Versus(options) => versus::run(&options),
        Task::Instructions(options) => instructions::run(&options),
        Task::Micro(options) => micro::run(&options),
        Task::Judge { seeds } => {
            println!("{}", scenarios::run(seeds));
            Ok(())
        }
        Task::Spin => latency::spin(),
        Task::Relay(options) => relay::run(&options),
    }
}
