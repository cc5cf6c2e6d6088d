//! A recent request for each doubling of durations, by the id that was given to
//! it: what leads from a slow bucket to a request in the logs.
//!
//! A place is written at most once a second, so that most requests only look at
//! it; a reader that meets a place while it is written takes none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use serde::{Deserialize, Serialize};

use crate::clock;

/// Up to 128 us, then each doubling, and all from 67 s.
const PLACES: usize = 21;
const FIRST_BITS: u32 = 7;
const REST_US: u64 = 1_000_000;

/// One request that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExemplarReading {
    /// What its `x-request-id` was made of; `request_id` writes it.
    pub id: [u64; 2],
    pub us: u64,
    /// When it ended, since the Unix epoch.
    pub unix_ms: u64,
}

/// Takes its memory with the first request.
#[derive(Default)]
pub struct Exemplars(OnceLock<Box<[Place; PLACES]>>);

#[derive(Default)]
struct Place {
    /// Odd while the place is written, 0 before it ever was.
    turn: AtomicU64,
    id: [AtomicU64; 2],
    us: AtomicU64,
    at_us: AtomicU64,
}

impl Exemplars {
    /// An id of zeros is none.
    pub fn record(&self, id: [u64; 2], us: u64, now_us: u64) {
        if id == [0, 0] {
            return;
        }
        let place = &self.0.get_or_init(Box::default)[place_of(us)];
        let turn = place.turn.load(Ordering::Relaxed);
        if turn != 0 && now_us < place.at_us.load(Ordering::Relaxed) + REST_US {
            return;
        }
        place.turn.store(turn + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in place.id.iter().chain([&place.us, &place.at_us]).zip([id[0], id[1], us, now_us])
        {
            word.store(value, Ordering::Relaxed);
        }
        place.turn.store(turn + 2, Ordering::Release);
    }

    pub fn add_to(&self, sum: &mut Vec<ExemplarReading>) {
        let Some(places) = self.0.get() else { return };
        for exemplar in places.iter().filter_map(Place::read) {
            add(sum, exemplar);
        }
    }
}

impl Place {
    fn read(&self) -> Option<ExemplarReading> {
        let turn = self.turn.load(Ordering::Acquire);
        let [id, other, us, at_us] =
            [&self.id[0], &self.id[1], &self.us, &self.at_us].map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if turn == 0 || turn % 2 == 1 || self.turn.load(Ordering::Relaxed) != turn {
            return None;
        }
        let now_ms = clock::since_epoch().as_millis() as u64;
        let age_ms = clock::now_us().saturating_sub(at_us) / 1000;
        Some(ExemplarReading { id: [id, other], us, unix_ms: now_ms.saturating_sub(age_ms) })
    }
}

fn place_of(us: u64) -> usize {
    let bits = u64::BITS - us.leading_zeros();
    (bits.saturating_sub(FIRST_BITS) as usize).min(PLACES - 1)
}

/// Of each doubling the later is kept.
pub fn add(sum: &mut Vec<ExemplarReading>, more: ExemplarReading) {
    match sum.iter_mut().find(|exemplar| place_of(exemplar.us) == place_of(more.us)) {
        Some(exemplar) if exemplar.unix_ms < more.unix_ms => *exemplar = more,
        Some(_) => {}
        None => sum.push(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubling_keeps_one_and_changes_it_once_a_second() {
        let exemplars = Exemplars::default();
        let now_us = clock::now_us();
        for (id, us, after) in
            [(1, 100, 0), (2, 100, 10), (3, 200, 10), (4, 255, REST_US + 11), (0, 9_000, 20)]
        {
            exemplars.record([id, 0], us, now_us + after);
        }
        let mut read = Vec::new();
        exemplars.add_to(&mut read);
        let mut found: Vec<(u64, u64)> = read.iter().map(|exemplar| (exemplar.id[0], exemplar.us)).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, 100), (4, 255)]);
    }

    #[test]
    fn every_duration_has_a_place() {
        assert_eq!([0, 127, 128, 255, 256].map(place_of), [0, 0, 1, 1, 2]);
        assert_eq!(place_of(u64::MAX), PLACES - 1);
    }
}
