//! Chooses the version that answers a request: by rule, by user, or by coin.
//!
//! The weights of a split are one cell, swapped whole. A worker compares one
//! pointer per request to see whether they have changed.

#![expect(clippy::disallowed_types, reason = "its locks are the control side's; no request waits for them")]

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod generation;
mod rule;
mod sticky;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::head::Head;
use crate::model::Role;
use crate::reading::GenerationReading;
use crate::reading::Way;
use crate::rewrite::Peer;
use crate::weights::Weights;
use arc_swap::ArcSwap;

pub use generation::{Arm, Generation, begin_at, next_id};
pub use rule::{ForceRule, Trial};
pub use sticky::Compiled as Sticky;
pub use sticky::point_of;

/// How long a superseded generation stays readable after its last request.
const LINGER_US: u64 = 5_000_000;
/// Superseded generations kept at most.
const MAX_PAST: usize = 128;

/// What lives on when the table around it is replaced: weights and evidence.
pub struct SplitCell {
    pub name: String,
    pub versions: Vec<(String, Role)>,
    pub generation: Arc<ArcSwap<Generation>>,
    /// Ages in microseconds at which a request under way speaks; 0 for never.
    slow_us: AtomicU64,
    reveal_us: AtomicU64,
    /// Superseded generations with the time they were superseded. Touched by
    /// the control side alone.
    past: Mutex<VecDeque<(u64, Arc<Generation>)>>,
    workers: usize,
}

impl SplitCell {
    pub fn new(name: &str, versions: Vec<(String, Role)>, weights: &Weights, workers: usize) -> SplitCell {
        let generation = Generation::new(weights.clone(), &versions, workers);
        SplitCell {
            name: name.to_owned(),
            versions,
            generation: Arc::new(ArcSwap::from_pointee(generation)),
            slow_us: AtomicU64::new(0),
            reveal_us: AtomicU64::new(0),
            past: Mutex::default(),
            workers,
        }
    }

    /// Puts new weights in force for every request from now on.
    pub fn shift(&self, weights: &Weights) -> u64 {
        // Locked around the swap, so that no reading misses a generation.
        let mut past = self.past.lock().expect("no holder of this lock panics");
        let next = Arc::new(Generation::new(weights.clone(), &self.versions, self.workers));
        let id = next.id;
        let previous = self.generation.swap(next);
        past.push_back((clock::now_us(), previous));
        if past.len() > MAX_PAST {
            let quiet = past.iter().position(|(_, generation)| generation.is_quiet());
            past.remove(quiet.unwrap_or(0));
        }
        id
    }

    /// Takes over what the split's cell before this one knew: its marks and its
    /// evidence.
    pub fn inherit(&self, before: &SplitCell) {
        for (mine, theirs) in [(&self.slow_us, &before.slow_us), (&self.reveal_us, &before.reveal_us)] {
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let live = before.generation.load_full();
        let mut past = self.past.lock().expect("no holder of this lock panics");
        let earlier = before.past.lock().expect("no holder of this lock panics");
        past.extend(earlier.iter().cloned().chain([(clock::now_us(), live)]));
    }

    pub fn mark(&self, slow_us: Option<u64>, reveal_us: Option<u64>) {
        self.slow_us.store(slow_us.unwrap_or(0), Ordering::Relaxed);
        self.reveal_us.store(reveal_us.unwrap_or(0), Ordering::Relaxed);
    }

    pub fn is_slow(&self, age_us: u64) -> bool {
        passed(&self.slow_us, age_us)
    }

    pub fn is_revealed(&self, age_us: u64) -> bool {
        passed(&self.reveal_us, age_us)
    }

    /// Current and recent generations, oldest first.
    pub fn read(&self) -> Vec<GenerationReading> {
        let now = clock::now_us();
        let mut past = self.past.lock().expect("no holder of this lock panics");
        past.retain(|(since, generation)| now < since + LINGER_US || !generation.is_quiet());
        let mut readings: Vec<_> = past.iter().map(|(_, generation)| generation.read()).collect();
        readings.push(self.generation.load().read());
        readings
    }
}

fn passed(mark: &AtomicU64, age_us: u64) -> bool {
    let mark = mark.load(Ordering::Relaxed);
    mark != 0 && age_us > mark
}

/// Which version, and how it came about.
pub struct Choice {
    pub version: usize,
    pub way: Way,
    pub set_cookies: Vec<String>,
}

/// What a split asks of a request before its weights are.
pub struct Rules<'a> {
    pub force: &'a [ForceRule],
    pub trial: Option<&'a Trial>,
    pub sticky: Option<&'a Sticky>,
}

/// `random` is one uniform number, drawn for this request alone.
pub fn choose(
    generation: &Generation,
    rules: &Rules<'_>,
    head: &Head<'_>,
    peer: &Peer,
    random: u64,
) -> Choice {
    if let Some(rule) = rules.force.iter().find(|rule| rule.applies(head, peer)) {
        return Choice { version: rule.version, way: Way::Forced, set_cookies: Vec::new() };
    }
    let place = rules.sticky.and_then(|sticky| sticky.place(head, random));
    let (point, set_cookie) = match place {
        Some(place) => (place.point, place.set_cookie),
        None => (point_of(random), None),
    };
    let set_cookies = set_cookie.into_iter().collect();
    let matched = generation.weights.matched();
    if matched > 0
        && let Some(trial) = rules.trial.filter(|trial| trial.applies(head, peer))
    {
        let version = if point < matched { trial.version } else { generation.primary };
        return Choice { version, way: Way::Matched, set_cookies };
    }
    Choice { version: generation.owner(point), way: Way::Tossed, set_cookies }
}
