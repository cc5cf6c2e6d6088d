//! Chooses the version that answers a request: by rule, by user, or by coin.
//!
//! The weights of a split are one cell, swapped whole. A worker compares one
//! pointer per request to see whether they have changed.

#![expect(clippy::disallowed_types, reason = "its locks are the control side's; no request waits for them")]

mod fresh;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod generation;
mod rule;
mod sticky;
mod strata;
mod units;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::head::Head;
use crate::model::Role;
use crate::reading::GenerationReading;
use crate::reading::PairsReading;
use crate::reading::Way;
use crate::rewrite::Peer;
use crate::tally::Count;
use crate::weights::WHOLE;
use crate::weights::Weights;
use arc_swap::ArcSwap;

pub use fresh::Fresh;
pub use generation::{Arm, Generation, begin_at, next_id, take_id};
pub use rule::{ForceRule, Trial};
pub use sticky::Compiled as Sticky;
pub use sticky::point_of;
pub use strata::{MAX_STRATA, Strata};
use units::Units;

/// How long a superseded generation stays readable after its last request.
const LINGER_US: u64 = 5_000_000;
/// Superseded generations kept at most.
const MAX_PAST: usize = 128;

/// What lives on when the table around it is replaced: weights and evidence.
pub struct SplitCell {
    pub name: String,
    pub versions: Vec<(String, Role)>,
    /// Parts of the traffic that are counted apart, by name.
    pub strata: Arc<[String]>,
    pub generation: Arc<ArcSwap<Generation>>,
    /// Ages in microseconds at which a request under way speaks; 0 for never.
    slow_us: AtomicU64,
    reveal_us: AtomicU64,
    /// Superseded generations with the time they were superseded. Touched by
    /// the control side alone.
    past: Mutex<VecDeque<(u64, Arc<Generation>)>>,
    /// Requests that were mirrored, with how original and copy have ended.
    pairs: Box<[Pairs]>,
    /// Users who have failed already, where users stay with a version.
    units: Arc<Units>,
    /// Users one of whose requests was watched since they were last tossed for.
    watched: Arc<Units>,
    /// How often the evidence has changed, by worker: a look that finds the same
    /// sum need not read it.
    moves: Arc<[Moves]>,
    /// Generations that came after the cell's first.
    shifts: AtomicU64,
    workers: usize,
}

/// One worker's mirrored requests whose both ends are known.
#[derive(Default)]
#[repr(align(128))]
pub struct Pairs {
    pub neither_failed: Count,
    pub original_failed: Count,
    pub copy_failed: Count,
    pub both_failed: Count,
}

#[derive(Default)]
#[repr(align(128))]
struct Moves(Count);

impl SplitCell {
    pub fn new(
        name: &str,
        versions: Vec<(String, Role)>,
        strata: &Arc<[String]>,
        weights: &Weights,
        workers: usize,
    ) -> SplitCell {
        let generation =
            Generation::named(generation::take_id(), weights.clone(), &versions, strata, workers);
        SplitCell {
            name: name.to_owned(),
            versions,
            strata: strata.clone(),
            generation: Arc::new(ArcSwap::from_pointee(generation)),
            slow_us: AtomicU64::new(0),
            reveal_us: AtomicU64::new(0),
            past: Mutex::default(),
            pairs: (0..workers).map(|_| Pairs::default()).collect(),
            units: Arc::default(),
            watched: Arc::default(),
            moves: (0..workers).map(|_| Moves::default()).collect(),
            shifts: AtomicU64::new(0),
            workers,
        }
    }

    /// The same cell, with what the one before it knew of users. What that one has
    /// under way still moves.
    pub fn knowing(self, before: &SplitCell) -> SplitCell {
        let first = self.generation.load_full();
        let first =
            Generation::named(first.id, first.weights.clone(), &self.versions, &self.strata, self.workers);
        let generation = Arc::new(ArcSwap::from_pointee(follow(first, &before.generation.load()).0));
        let (units, watched, moves) = (before.units.clone(), before.watched.clone(), before.moves.clone());
        SplitCell { generation, units, watched, moves, ..self }
    }

    /// To be called when a count of its evidence has changed.
    pub fn moved(&self, worker: usize) {
        self.moves[worker].0.add(1);
    }

    /// How often anything that a reading tells has changed. Only grows, for as long
    /// as the cell is the split's.
    pub fn moves(&self) -> u64 {
        let shifts = self.shifts.load(Ordering::Acquire);
        self.moves.iter().map(|moves| moves.0.get()).fold(shifts, u64::wrapping_add)
    }

    pub fn pairs(&self, worker: usize) -> &Pairs {
        &self.pairs[worker]
    }

    pub fn read_pairs(&self) -> PairsReading {
        let mut sum = PairsReading::default();
        for shard in &self.pairs {
            sum.neither_failed += shard.neither_failed.get();
            sum.original_failed += shard.original_failed.get();
            sum.copy_failed += shard.copy_failed.get();
            sum.both_failed += shard.both_failed.get();
        }
        sum
    }

    /// Has nothing of this user failed before, since a canary got its first weight?
    pub fn fails_first(&self, unit: u64) -> bool {
        self.units.insert(unit)
    }

    /// The same within one part of the traffic.
    pub fn fails_first_in(&self, stratum: u8, unit: u64) -> bool {
        const APART: u64 = 0x9e37_79b9_7f4a_7c15;
        let there = |unit: u64| unit.wrapping_add((u64::from(stratum) + 1).wrapping_mul(APART)).max(1);
        self.units.insert(if unit == 0 { 0 } else { there(unit) })
    }

    /// Is this the user's first request since he was tossed for, and does anybody
    /// watch?
    pub fn watches_first(&self, unit: u64) -> bool {
        self.reveal_us.load(Ordering::Relaxed) != 0 && self.watched.insert(unit)
    }

    /// Puts new weights in force for every request from now on.
    pub fn shift_as(&self, weights: &Weights, id: u64) -> u64 {
        // Locked around the swap, so that no reading misses a generation.
        let mut past = self.past.lock().expect("no holder of this lock panics");
        let next = Generation::named(id, weights.clone(), &self.versions, &self.strata, self.workers);
        let (next, users) = follow(next, &self.generation.load());
        match users {
            Users::Known => {}
            Users::Tossed => self.watched.forget(),
            Users::New => {
                self.units.forget();
                self.watched.forget();
            }
        }
        let previous = self.generation.swap(Arc::new(next));
        self.shifts.fetch_add(1, Ordering::Release);
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

/// What a change of weights means for users who are known.
enum Users {
    Known,
    /// Some have been tossed for once more.
    Tossed,
    /// A canary gets its first weight: all begin anew.
    New,
}

/// Goes on from the tosses of the generation before.
fn follow(next: Generation, before: &Generation) -> (Generation, Users) {
    let all_on_one =
        |weights: &Weights| weights.matched() == 0 && weights.iter().any(|(_, parts)| parts == WHOLE);
    if all_on_one(&before.weights) && !all_on_one(&next.weights) {
        return (next, Users::New);
    }
    let (next, again) = next.after(before.fresh);
    (next, if again { Users::Tossed } else { Users::Known })
}

fn passed(mark: &AtomicU64, age_us: u64) -> bool {
    let mark = mark.load(Ordering::Relaxed);
    mark != 0 && age_us > mark
}

/// Which version, and how it came about.
pub struct Choice {
    pub version: usize,
    pub way: Way,
    /// The user, where a user keeps a version; zero where each request is by itself.
    pub unit: u64,
    /// Users keep a version here, and this one's toss is fresh.
    pub fresh: bool,
    /// The part of the traffic that it is of, where parts are counted apart.
    pub stratum: Option<u8>,
    pub set_cookies: Vec<String>,
    /// Asked by our own load.
    pub load: bool,
}

/// What a split asks of a request before its weights are.
pub struct Rules<'a> {
    pub force: &'a [ForceRule],
    pub trial: Option<&'a Trial>,
    pub sticky: Option<&'a Sticky>,
    pub strata: Option<&'a Strata>,
    /// The request's.
    pub route: &'a str,
}

/// `random` is one uniform number, drawn for this request alone.
pub fn choose(
    generation: &Generation,
    rules: &Rules<'_>,
    head: &Head<'_>,
    peer: &Peer,
    random: u64,
) -> Choice {
    let load = peer.load;
    if let Some(rule) = rules.force.iter().find(|rule| rule.applies(head, peer)) {
        let (version, way, set_cookies) = (rule.version, Way::Forced, Vec::new());
        return Choice { version, way, unit: 0, fresh: false, stratum: None, set_cookies, load };
    }
    let place = rules.sticky.and_then(|sticky| sticky.place(head, random));
    let (point, unit, set_cookie) = match place {
        Some(place) => (point_of(place.unit), place.unit, place.set_cookie),
        None => (point_of(random), 0, None),
    };
    let set_cookies = set_cookie.into_iter().collect();
    let stratum = rules.strata.and_then(|strata| strata.of(rules.route, head));
    let fresh = rules.sticky.is_some() && point >= generation.fresh.from;
    let matched = generation.weights.matched();
    if matched > 0
        && let Some(trial) = rules.trial.filter(|trial| trial.applies(head, peer))
    {
        let version = if point < matched { trial.version } else { generation.primary };
        return Choice { version, way: Way::Matched, unit, fresh, stratum, set_cookies, load };
    }
    Choice { version: generation.owner(point), way: Way::Tossed, unit, fresh, stratum, set_cookies, load }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_watched_once_for_each_toss() {
        let versions = vec![("old".to_owned(), Role::Primary), ("new".to_owned(), Role::Canary)];
        let weights = |parts| Weights::pair("old", "new", parts);
        let cell = SplitCell::new("web", versions.clone(), &Arc::default(), &weights(0), 1);
        let shift = |parts| cell.shift_as(&weights(parts), generation::take_id());
        shift(500);
        assert!(!cell.watches_first(7), "nobody asks");
        cell.mark(None, Some(1_000));
        assert!(cell.watches_first(7) && !cell.watches_first(7));
        shift(10);
        shift(500);
        assert!(!cell.watches_first(7), "he stands where he stood");
        let next = SplitCell::new("web", versions, &Arc::default(), &weights(500), 1).knowing(&cell);
        next.mark(None, Some(1_000));
        assert!(!next.watches_first(7), "a reload tosses for nobody");
        shift(2_000);
        assert_eq!(cell.generation.load().fresh.from, 500);
        assert!(cell.watches_first(7));
        shift(0);
        shift(500);
        assert_eq!(cell.generation.load().fresh.from, 0, "another start");
    }
}
