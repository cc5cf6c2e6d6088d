//! Numbers, printed on demand: serin beside its peers, and the judge over its scenarios.
//! Nothing here is a test: a figure is for a person to read, and it always comes with its machine.

#![expect(clippy::disallowed_methods, reason = "to measure is to look at the clock")]

mod instructions;
mod judge;
mod micro;
mod versus;

mod exposure;
mod healthy;
mod looking;
mod proof;
mod scenarios;

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

mod least;
mod trial;

mod crew;
mod epoll;
mod machine;
mod process;
mod shares;
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
    /// The judge over its scenarios, beside what is possible at all; and over hours in which nothing is wrong
    Judge(judge::Options),
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
        Task::Judge(options) => judge::run(&options),
        Task::Spin => latency::spin(),
        Task::Relay(options) => relay::run(&options),
    }
}
