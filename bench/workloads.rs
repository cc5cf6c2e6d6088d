//! The workloads by name, and the cases that each consists of.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::duo::Job;
use crate::h2::Call;
use crate::jobs;
use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::PLAIN;
use crate::setting::Setting;
use crate::setting::Split;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Workload {
    /// HTTP/1.1, 512 B, a 90/10 split by chance
    Plain,
    /// The same by cookie, after a header match
    Sticky,
    /// HTTP/2 from the client, HTTP/1.1 to the upstreams
    H2,
    /// gRPC over HTTP/2 on both sides: unary, and 100 messages streamed
    Grpc,
    /// TLS 1.3, connections kept
    Tls,
    /// A full TLS 1.3 handshake for every request
    Handshake,
    /// Answers of 64 KiB
    Body64k,
    /// Answers of 1 MiB
    Body1m,
    /// Requests of 64 KiB and of 1 MiB
    Upload,
    /// All to the primary, with a copy to the canary
    Mirror,
    /// 1, 1,000 and 10,000 routes, each with its cluster
    Routes,
    /// A new connection for every request
    Churn,
    /// Latency added at a fixed rate, open loop
    Latency,
    /// Memory idle, per connection, per stream and with 10,000 clusters
    Memory,
    /// Start, change of weights, scrape
    Start,
    /// What judging 1,000 splits costs
    JudgeCost,
    /// One worker and two
    Workers,
    /// All of these
    All,
}

pub const ALL: [Workload; 17] = [
    Workload::Plain,
    Workload::Sticky,
    Workload::H2,
    Workload::Grpc,
    Workload::Tls,
    Workload::Handshake,
    Workload::Body64k,
    Workload::Body1m,
    Workload::Upload,
    Workload::Mirror,
    Workload::Routes,
    Workload::Churn,
    Workload::Latency,
    Workload::Memory,
    Workload::Start,
    Workload::JudgeCost,
    Workload::Workers,
];

impl Workload {
    pub fn name(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// One job for every peer.
pub struct Case {
    pub title: String,
    pub setting: Setting,
    pub job: Job,
    /// Over HTTP/2 and by h2load, instead of by the duo.
    pub call: Option<Call>,
    pub connections: usize,
    /// Requests that an upstream sees for each one that is asked.
    pub copies: u64,
}

const CONNECTIONS: usize = 64;
/// Of these large bodies are under way at once.
const BODY_CONNECTIONS: usize = 16;

const OVER_TLS: Setting = Setting { front: Front::Tls, ..PLAIN };

fn case(title: &str, setting: Setting, job: Job) -> Case {
    Case { title: title.to_owned(), setting, job, call: None, connections: CONNECTIONS, copies: 1 }
}

fn with_bodies(title: &str, job: Job) -> Case {
    Case { connections: BODY_CONNECTIONS, ..case(title, Setting { bodies: true, ..PLAIN }, job) }
}

fn over_h2(title: &str, back: Back, call: Call) -> Case {
    let setting = Setting { front: Front::Http2, back, ..PLAIN };
    Case { call: Some(call), ..case(title, setting, jobs::plain()) }
}

/// The cases whose figure is the cost of a request; none for workloads that measure something else.
/// `tls_client` is a client that believes the peers' certificate.
pub fn cases(workload: Workload, tls_client: &Arc<ClientConfig>) -> Vec<Case> {
    match workload {
        Workload::Plain => vec![plain()],
        Workload::Sticky => vec![sticky()],
        Workload::H2 => vec![h2()],
        Workload::Grpc => vec![
            over_h2("gRPC, one message of 64 B up and one of 512 B down", Back::Http2, Call::Grpc(1)),
            over_h2("gRPC, one message up and a stream of 100 of 512 B down", Back::Http2, Call::Grpc(100)),
        ],
        Workload::Tls => vec![tls(tls_client)],
        Workload::Handshake => vec![case(
            "a full TLS 1.3 handshake (P-256, X25519) and one request, then closed",
            OVER_TLS,
            jobs::tls(tls_client, true),
        )],
        Workload::Body64k => vec![body(64)],
        Workload::Body1m => vec![body(1024)],
        Workload::Upload => vec![
            with_bodies("requests of 64 KiB, 16 connections", jobs::upload(64 * 1024)),
            with_bodies("requests of 1 MiB, 16 connections", jobs::upload(1024 * 1024)),
        ],
        Workload::Mirror => {
            let setting = Setting { split: Split::Mirror, ..PLAIN };
            let title = "all to the primary and a copy to the canary, 64 connections, 512 B";
            vec![Case { copies: 2, ..case(title, setting, jobs::plain()) }]
        }
        Workload::Routes => [(1, By::Path), (1_000, By::Path), (10_000, By::Path), (10_000, By::Host)]
            .into_iter()
            .map(|(count, by)| routes(count, by))
            .collect(),
        Workload::Churn => vec![case("a new connection for every request", PLAIN, jobs::churn())],
        Workload::Workers => vec![
            case("one worker", PLAIN, jobs::plain()),
            case("two workers", Setting { workers: 2, ..PLAIN }, jobs::plain()),
        ],
        Workload::Latency | Workload::Memory | Workload::Start | Workload::JudgeCost | Workload::All => {
            Vec::new()
        }
    }
}

pub fn plain() -> Case {
    case("HTTP/1.1, 64 connections kept, 512 B answers, 90/10 by chance", PLAIN, jobs::plain())
}

pub fn sticky() -> Case {
    let setting = Setting { split: Split::Sticky, ..PLAIN };
    case("90/10 by the cookie of 1,000 users, after a header match that fits none", setting, jobs::sticky())
}

pub fn tls(tls_client: &Arc<ClientConfig>) -> Case {
    case("TLS 1.3, 64 connections kept, 512 B answers", OVER_TLS, jobs::tls(tls_client, false))
}

pub fn h2() -> Case {
    over_h2("8 HTTP/2 connections with 10 streams each, HTTP/1.1 upstreams", Back::Http1, Call::Get(512))
}

pub fn body(kib: usize) -> Case {
    with_bodies(&format!("answers of {kib} KiB, 16 connections"), jobs::download(kib * 1024))
}

fn routes(count: usize, by: By) -> Case {
    let told = match by {
        By::Path => "by path prefix",
        By::Host => "by host",
    };
    let title = match count {
        1 => format!("1 route {told}"),
        _ => format!("{count} routes {told}, each to its own cluster; 64 of them asked"),
    };
    let setting = Setting { split: Split::Routes(count, by), ..PLAIN };
    case(&title, setting, jobs::routes(count, by))
}
