//! What the counters said at one moment: plain numbers, cumulative since the
//! process began, so that readings of workers, of replicas and of a process and
//! its predecessor simply add.

mod health;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::codes::CodeReading;
use crate::exemplars;
use crate::exemplars::ExemplarReading;
use crate::histogram::Histogram;
use crate::model::Role;
use crate::weights::Weights;

pub use health::{EndpointReading, HealthReading};

/// All counters at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Shared, as what follows: most versions of a large fleet rest, and are as they were.
    pub versions: Vec<Arc<VersionReading>>,
    pub splits: Vec<SplitReading>,
    pub endpoints: Vec<Arc<EndpointsReading>>,
    pub health: Vec<Arc<HealthReading>>,
    /// Of this process alone: what another has under way it counts itself.
    #[serde(skip)]
    pub breakers: Vec<Arc<BreakersReading>>,
    pub connections: u64,
    pub overload: OverloadReading,
    /// Requests that no split took: no route, malformed, direct answers.
    pub unrouted: u64,
    /// HTTP/2 connections closed for what their clients sent.
    pub floods: u64,
    /// Requests refused by a rate limit.
    #[serde(default)]
    pub limited: u64,
    /// Requests delayed and aborted by injected faults.
    #[serde(default)]
    pub delayed: u64,
    #[serde(default)]
    pub aborted: u64,
    /// Of TLS with clients, those that led to a connection and those that did not.
    pub handshakes: u64,
    pub handshakes_failed: u64,
    /// Mirrored requests whose answers were handed out to be compared, and those for
    /// which there was no room.
    pub compared: u64,
    pub compared_dropped: u64,
}

/// Who has sent a request; each is counted in one place and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    #[default]
    ByUsers,
    /// A mirrored copy.
    AsCopy,
    /// Ourselves, so that there is something to judge.
    AsLoad,
}

/// Counters of one version in one role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionReading {
    pub service: String,
    pub version: String,
    pub role: Role,
    pub sent: Sent,
    pub counts: Counts,
    /// Time to the last byte of every counted answer.
    pub latency: Histogram,
    /// All answers by status code, those that count against nobody too.
    #[serde(default)]
    pub codes: Vec<CodeReading>,
    #[serde(default)]
    pub exemplars: Vec<ExemplarReading>,
}

/// The endpoints of one version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointsReading {
    pub service: String,
    pub version: String,
    pub total: usize,
    pub healthy: usize,
    /// How often an endpoint came or went.
    pub changes: u64,
    /// Names asked for that were answered, and that were not.
    pub resolved: u64,
    pub failed: u64,
    /// Some of its endpoints are names.
    pub has_names: bool,
    /// Names whose latest question was not answered, and why.
    pub unresolved: Vec<(String, String)>,
}

/// Requests by how they ended, and what else happened on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub success: u64,
    pub failure: u64,
    /// The client went away, or the fault was ours: counts against nobody.
    pub uncounted: u64,
    /// By status class, 1xx to 5xx; index 0 is "no answer at all".
    pub classes: [u64; 6],
    pub in_flight: u64,
    /// Attempts beyond the first that this version was given.
    pub retries: u64,
    /// All attempts that this version was given, by how they ended; in the order
    /// of [`Attempt::ALL`].
    pub attempts: [u64; Attempt::ALL.len()],
    /// Requests that a retry policy has saved.
    pub retry_success: u64,
    /// Requests that failed when their policy allowed no more retries.
    pub retry_exhausted: u64,
    /// Retries not made because too many were under way.
    pub retry_overflow: u64,
    /// Failures of this version that the primary answered instead.
    pub shielded: u64,
    /// Requests of this version that another answered, for none of its endpoints
    /// was well.
    pub fallback: u64,
    /// Attempts that went to any endpoint, for too few were well.
    pub panicked: u64,
    /// Requests of this version that were copied to a mirror.
    pub mirrored: u64,
    /// Copies not made or abandoned because a bound was reached.
    pub mirror_dropped: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// How much is too much just now, and what was turned away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverloadReading {
    /// 0 none, 1 no keep-alive, 2 no requests, 3 no connections.
    pub stage: u8,
    pub refused_requests: u64,
    pub refused_connections: u64,
}

/// The bounds on what may be under way to a version.
#[derive(Clone, Debug)]
pub struct BreakersReading {
    pub service: String,
    pub version: String,
    pub breakers: Vec<BreakerReading>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerReading {
    /// `connections`, `pending`, `requests` or `retries`.
    pub what: &'static str,
    pub taken: u32,
    pub most: u32,
}

/// How an attempt to get an answer from a version has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// With a status below 500.
    Answered,
    ServerError,
    ConnectFailure,
    Reset,
    Refused,
    TryTimeout,
    /// The time of the whole request.
    Timeout,
    /// A circuit breaker let it not out.
    Overflow,
    /// Among others that the client has left.
    Other,
}

impl Attempt {
    pub const ALL: [(&'static str, Attempt); 9] = [
        ("answered", Attempt::Answered),
        ("server-error", Attempt::ServerError),
        ("connect-failure", Attempt::ConnectFailure),
        ("reset", Attempt::Reset),
        ("refused", Attempt::Refused),
        ("per-try-timeout", Attempt::TryTimeout),
        ("timeout", Attempt::Timeout),
        ("overflow", Attempt::Overflow),
        ("other", Attempt::Other),
    ];
}

/// The evidence of one split, kept by generation of its weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SplitReading {
    pub split: String,
    pub service: String,
    /// The generation that new requests belong to.
    pub current: u64,
    pub weights: Weights,
    /// Current and recent generations, oldest first. A generation leaves the
    /// list some time after its last request ended.
    pub generations: Vec<GenerationReading>,
    pub sticky: bool,
    /// Mirrored requests, where there is a mirror.
    #[serde(default)]
    pub pairs: Option<MirrorReading>,
    /// Of this process, at most as new as the counts.
    #[serde(skip)]
    pub state: State,
}

/// What became of the primary's requests that a mirror got a copy of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorReading {
    /// Who got the copies.
    pub version: String,
    pub pairs: PairsReading,
}

/// Requests of the primary and copies of them, by who has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairsReading {
    pub neither_failed: u64,
    pub original_failed: u64,
    pub copy_failed: u64,
    pub both_failed: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GenerationReading {
    /// Unique in the life of the process; grows by time.
    pub id: u64,
    pub weights: Weights,
    /// Users from this point on counted for `ArmReading::first`.
    #[serde(default)]
    pub fresh_from: u32,
    pub arms: Vec<ArmReading>,
    /// Parts that are counted apart, within the arms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<StratumReading>,
}

/// Of one part of the traffic how requests have ended, and nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StratumReading {
    pub name: String,
    pub arms: Vec<ArmReading>,
}

/// What became of the requests that the coin (or a force rule) gave to one
/// version, whatever retry or shielding did with them afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmReading {
    pub version: String,
    /// How its requests came here.
    #[serde(alias = "forced", deserialize_with = "way")]
    pub way: Way,
    pub dispatched: u64,
    pub ok: u64,
    pub failed: u64,
    /// Ended by the client or by a fault of our own; in no other column.
    pub aborted: u64,
    /// Older than the split's slow mark, counted when the age passed it.
    pub slow: u64,
    /// Failures that `latency` already holds because their age passed the
    /// reveal mark while they were still under way.
    pub failed_revealed: u64,
    /// Of `failed`, those whose user had not failed before. Where no user is known
    /// each request is one.
    #[serde(default)]
    pub failed_units: u64,
    /// Of the requests in `first`, those that have failed.
    #[serde(default)]
    pub first_failed: u64,
    /// Of `ok` and `failed`, those that we have sent ourselves; and of these the failed.
    #[serde(default)]
    pub load: u64,
    #[serde(default)]
    pub load_failed: u64,
    /// Ages of `ok` requests, and of requests under way that passed the reveal
    /// mark (these at that age).
    pub latency: Histogram,
    /// The same of the first request of each user, failures in the last bucket, where
    /// users keep a version; counted while there is a reveal mark.
    #[serde(default)]
    pub first: Histogram,
}

/// How a request came to its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The coin was tossed by the weights.
    Tossed,
    /// A rule named the version.
    Forced,
    /// The rules of a trial took it out of the others, and among these the coin
    /// was tossed by the trial's share.
    Matched,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Tossed, Way::Forced, Way::Matched];
}

/// Also as it was written when there were but two ways.
fn way<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Way, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Word(Way),
        Forced(bool),
    }
    Ok(match Written::deserialize(from)? {
        Written::Word(way) => way,
        Written::Forced(true) => Way::Forced,
        Written::Forced(false) => Way::Tossed,
    })
}

impl Reading {
    /// Adds what a predecessor counted. Of its splits only the evidence counts,
    /// and only where the split is still there.
    pub fn add(&mut self, before: &Reading) {
        self.connections += before.connections;
        self.unrouted += before.unrouted;
        self.overload.refused_requests += before.overload.refused_requests;
        self.overload.refused_connections += before.overload.refused_connections;
        self.floods += before.floods;
        self.handshakes += before.handshakes;
        self.handshakes_failed += before.handshakes_failed;
        self.compared += before.compared;
        self.compared_dropped += before.compared_dropped;
        self.limited += before.limited;
        self.delayed += before.delayed;
        self.aborted += before.aborted;
        for theirs in &before.versions {
            match self.versions.iter_mut().find(|mine| mine.is_same(theirs)) {
                Some(mine) => {
                    let mine = Arc::make_mut(mine);
                    mine.counts.add(&theirs.counts);
                    mine.latency.add(&theirs.latency);
                    for code in &theirs.codes {
                        codes::add(&mut mine.codes, code);
                    }
                    for exemplar in &theirs.exemplars {
                        exemplars::add(&mut mine.exemplars, *exemplar);
                    }
                }
                // Counters never go back: what is no longer routed stays readable.
                None => self.versions.push(theirs.clone()),
            }
        }
        for mine in &mut self.endpoints {
            let same = |theirs: &&Arc<EndpointsReading>| {
                (&theirs.service, &theirs.version) == (&mine.service, &mine.version)
            };
            if let Some(theirs) = before.endpoints.iter().find(same) {
                let mine = Arc::make_mut(mine);
                // What there is now is ours to say; what has happened adds up.
                mine.changes += theirs.changes;
                mine.resolved += theirs.resolved;
                mine.failed += theirs.failed;
            }
        }
        for mine in &mut self.health {
            if let Some(theirs) = before.health.iter().find(|theirs| theirs.is_same(mine)) {
                Arc::make_mut(mine).add(theirs);
            }
        }
        precede(&mut self.splits, &before.splits);
    }
}

/// What tells two readings of a split apart: where it is the same, nothing has
/// moved. The default is that of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied: u64,
    pub moves: u64,
}

/// Puts a predecessor's generations before those of the same split.
pub fn precede(splits: &mut [SplitReading], before: &[SplitReading]) {
    for split in splits {
        if let Some(theirs) = before.iter().find(|theirs| theirs.split == split.split) {
            split.generations.splice(0..0, theirs.generations.iter().cloned());
        }
    }
}

impl VersionReading {
    fn is_same(&self, other: &VersionReading) -> bool {
        (&self.service, &self.version, self.role, self.sent)
            == (&other.service, &other.version, other.role, other.sent)
    }
}

impl Counts {
    /// Taken apart in full, so that no count is ever forgotten here.
    pub fn add(&mut self, other: &Counts) {
        let Counts {
            success,
            failure,
            uncounted,
            classes,
            in_flight,
            retries,
            attempts,
            retry_success,
            retry_exhausted,
            retry_overflow,
            shielded,
            fallback,
            panicked,
            mirrored,
            mirror_dropped,
            bytes_in,
            bytes_out,
        } = other;
        for (mine, theirs) in self.classes.iter_mut().zip(classes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.attempts.iter_mut().zip(attempts) {
            *mine += theirs;
        }
        self.retry_success += retry_success;
        self.retry_exhausted += retry_exhausted;
        self.retry_overflow += retry_overflow;
        self.success += success;
        self.failure += failure;
        self.uncounted += uncounted;
        self.in_flight += in_flight;
        self.retries += retries;
        self.shielded += shielded;
        self.fallback += fallback;
        self.panicked += panicked;
        self.mirrored += mirrored;
        self.mirror_dropped += mirror_dropped;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
    }
}
