//! More requests at once than a version may have under way, beside Envoy: who is
//! turned away, who waits and is served, and how many reach the endpoint.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::as_envoy;
use crate::harness::client::{Reply, once};
use crate::harness::envoy::{self, Envoy};
use crate::harness::{Answer, App, Ask, Origin, Seeded};

/// How long the endpoint holds each answer; by then all have come.
const HELD: Duration = Duration::from_millis(1_800);
/// Who is neither answered nor at the endpoint by then waits.
const PATIENT: Duration = Duration::from_millis(120);
const CROWD: usize = 5;
/// So many bounds are tried side by side.
const TOGETHER: usize = 6;
const BOUNDS: usize = 24;
/// So many of them have to turn somebody away, or nothing is compared.
const BITING: usize = BOUNDS / 2;

/// What a version may have; `None` is without a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    connections: Option<u32>,
    pending: Option<u32>,
    requests: Option<u32>,
    http2: bool,
}

impl Bounds {
    fn draw(dice: &mut Seeded) -> Bounds {
        Bounds {
            connections: dice.pick(&[None, Some(1), Some(2)]),
            pending: dice.pick(&[None, Some(0), Some(1), Some(2)]),
            requests: dice.pick(&[None, Some(1), Some(3)]),
            http2: dice.chance(40),
        }
    }

    fn cluster(self, name: &str, to: SocketAddr) -> Value {
        let most = |bound: Option<u32>| bound.unwrap_or(1_000_000);
        let mut cluster = as_envoy::cluster_of(name, to, self.http2);
        cluster["circuit_breakers"] = json!({"thresholds": [{
            "max_connections": most(self.connections),
            "max_pending_requests": most(self.pending),
            "max_requests": most(self.requests),
        }]});
        cluster
    }

    fn service(self, to: SocketAddr) -> Value {
        let mut breaker = json!({});
        let bounds =
            [("connections", self.connections), ("pending", self.pending), ("requests", self.requests)];
        for (name, bound) in bounds {
            if let Some(bound) = bound {
                breaker[name] = json!(bound);
            }
        }
        let protocol = if self.http2 { "http2" } else { "http1" };
        json!({"primary": {"endpoints": [to.to_string()], "protocol": protocol, "breaker": breaker}})
    }
}

/// Of each request, in the order in which they came: status and what was told
/// of an overload; and how many the endpoint was asked.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    answers: Vec<(u16, Option<String>)>,
    asked: u64,
}

fn outcome(to: SocketAddr, path: &str, origin: &Origin) -> Outcome {
    let before = origin.requests();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let mut asked = Vec::new();
        for _ in 0..CROWD {
            let seen = origin.requests();
            let one = scope.spawn(move || once(to, &Ask::get(path)));
            let deadline = Instant::now() + PATIENT;
            while !one.is_finished() && origin.requests() == seen && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            asked.push(one);
        }
        asked.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let told = |reply: &Reply| (reply.status, reply.header("x-envoy-overloaded").map(str::to_owned));
    Outcome { answers: replies.iter().map(told).collect(), asked: origin.requests() - before }
}

fn held() -> Origin {
    Origin::answering("held", |_| Answer::ok().after(HELD))
}

impl Outcome {
    fn turns_away(&self) -> bool {
        self.answers.iter().any(|(status, told)| *status == 503 && told.is_some())
    }
}

/// How the two differ, and how many of the bounds turned somebody away. Each is
/// one version, at a path of its own.
fn compare(program: &Path, all: &[Bounds]) -> (Vec<String>, usize) {
    let path = |nth: usize| format!("/{nth}");
    let (behind_envoy, behind_serin): (Vec<_>, Vec<_>) = all.iter().map(|_| (held(), held())).unzip();
    let routes = (0..all.len()).map(|nth| {
        json!({"match": {"path": path(nth)}, "route": {"cluster": format!("c{nth}"), "timeout": "20s"}})
    });
    let clusters = all.iter().zip(&behind_envoy).enumerate();
    let clusters: Vec<_> =
        clusters.map(|(nth, (bounds, origin))| bounds.cluster(&format!("c{nth}"), origin.address)).collect();
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": routes.collect::<Vec<_>>()}]);
    let listener = as_envoy::listener_of("crowd", json!({"virtual_hosts": hosts}));
    let envoy = Envoy::start(program, &json!({"listeners": [listener], "clusters": clusters}));
    let services: serde_json::Map<_, _> = all
        .iter()
        .zip(&behind_serin)
        .enumerate()
        .map(|(nth, (bounds, origin))| (format!("c{nth}"), bounds.service(origin.address)))
        .collect();
    let routes: Vec<_> = (0..all.len())
        .map(|nth| json!({"match": {"exact": path(nth)}, "service": format!("c{nth}")}))
        .collect();
    let document = json!({"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "workers": 1, "services": services, "routes": routes});
    let app = App::start(&document.to_string());
    let differ = |nth: usize| {
        std::thread::scope(|scope| {
            let theirs = scope.spawn(|| outcome(envoy.listener("crowd"), &path(nth), &behind_envoy[nth]));
            let ours = outcome(app.address(), &path(nth), &behind_serin[nth]);
            let theirs = theirs.join().expect("no panic");
            let text =
                (theirs != ours).then(|| format!("{:?}\n  envoy {theirs:?}\n  serin {ours:?}", all[nth]));
            (text, ours.turns_away())
        })
    };
    let (mut found, mut biting) = (Vec::new(), 0);
    for together in (0..all.len()).collect::<Vec<_>>().chunks(TOGETHER) {
        std::thread::scope(|scope| {
            // A crowded machine may make a difference that does not show again.
            let differ = &differ;
            let surely = |nth| match differ(nth) {
                (Some(_), _) => differ(nth),
                alike => alike,
            };
            let asked: Vec<_> = together.iter().map(|nth| scope.spawn(move || surely(*nth))).collect();
            for (text, turned_away) in asked.into_iter().map(|one| one.join().expect("no panic")) {
                found.extend(text);
                biting += usize::from(turned_away);
            }
        });
    }
    (found, biting)
}

#[test]
fn a_crowd_is_turned_away_as_by_envoy() {
    let Some(program) = envoy::program() else { return };
    let mut dice = Seeded(7);
    let mut all: Vec<Bounds> = Vec::new();
    while all.len() < BOUNDS {
        let bounds = Bounds::draw(&mut dice);
        if !all.contains(&bounds) {
            all.push(bounds);
        }
    }
    let (found, biting) = compare(&program, &all);
    assert!(found.is_empty(), "{} of {BOUNDS} differ:\n{}", found.len(), found.join("\n"));
    assert!(biting >= BITING, "only {biting} of {BOUNDS} turned anybody away");
}
