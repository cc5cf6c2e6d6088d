//! What is done when there is too much: keep-alive ends first, then requests are
//! refused, and at last connections are.
//!
//! One worker looks a few times a second; all others, and every request, only read
//! what it found. So memory may overshoot its ceiling by what comes in between two
//! looks: the stages begin below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::model;
use crate::tally::Count;

/// Stages of memory, each with the share of the ceiling where it begins.
const STEPS: [(Stage, f64); 3] =
    [(Stage::NoKeepAlive, 0.90), (Stage::NoRequests, 0.95), (Stage::NoConnections, 0.98)];
/// A stage ends this far below where it began.
const SLACK: f64 = 0.02;
/// From this share of the connections' ceiling on idle ones have to go.
const CROWDED: f64 = 0.95;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    None,
    NoKeepAlive,
    NoRequests,
    NoConnections,
}

/// Ceilings of the process, where the model names none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceilings {
    pub memory_bytes: Option<u64>,
    pub connections: Option<u64>,
}

#[derive(Default)]
pub struct Overload {
    own: Ceilings,
    stage: AtomicU8,
    /// Of each worker: client connections that came and went.
    seats: Box<[Seats]>,
}

/// What one worker counts.
#[derive(Default)]
#[repr(align(128))]
pub struct Seats {
    pub opened: Count,
    pub closed: Count,
    pub refused_requests: Count,
    pub refused_connections: Count,
}

/// What there is, against what there may be.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub memory_bytes: u64,
    pub connections: u64,
}

impl Overload {
    pub fn new(own: Ceilings, workers: usize) -> Arc<Overload> {
        let seats = (0..workers).map(|_| Seats::default()).collect();
        Arc::new(Overload { own, seats, ..Overload::default() })
    }

    pub fn seats(&self, worker: usize) -> &Seats {
        &self.seats[worker]
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::None,
            1 => Stage::NoKeepAlive,
            2 => Stage::NoRequests,
            _ => Stage::NoConnections,
        }
    }

    pub fn refuses_requests(&self) -> bool {
        self.stage() >= Stage::NoRequests
    }

    pub fn refuses_connections(&self) -> bool {
        self.stage() >= Stage::NoConnections
    }

    /// Whether one more client connection is one too many.
    pub fn is_full(&self, asked: &model::Overload) -> bool {
        let most = asked.connections.or(self.own.connections);
        most.is_some_and(|most| self.connections() >= most)
    }

    pub fn connections(&self) -> u64 {
        let open = |seats: &Seats| {
            // In this order, so that nobody seems to have left before he came.
            let closed = seats.closed.get();
            seats.opened.get().saturating_sub(closed)
        };
        self.seats.iter().map(open).sum()
    }

    pub fn refused(&self) -> [u64; 2] {
        let sum = |of: fn(&Seats) -> &Count| self.seats.iter().map(|seats| of(seats).get()).sum();
        [sum(|seats| &seats.refused_requests), sum(|seats| &seats.refused_connections)]
    }

    /// Draws the consequences of what was found. Called by one worker alone.
    pub fn weigh(&self, asked: &model::Overload, memory_bytes: u64) -> Stage {
        let load = Load { memory_bytes, connections: self.connections() };
        let before = self.stage();
        let memory_ceiling = asked.memory_bytes.or(self.own.memory_bytes);
        let connections_ceiling = asked.connections.or(self.own.connections);
        let now = stage(before, load, memory_ceiling, connections_ceiling);
        if now != before {
            self.stage.store(now as u8, Ordering::Relaxed);
            let Load { memory_bytes, connections } = load;
            let told = tracing::field::debug(now);
            if now > before {
                tracing::warn!(
                    stage = told,
                    memory_bytes,
                    ?memory_ceiling,
                    connections,
                    ?connections_ceiling,
                    "overload"
                );
            } else {
                tracing::info!(stage = told, memory_bytes, connections, "overload eases");
            }
        }
        now
    }
}

/// The stage that a load calls for, given the one that is on.
fn stage(before: Stage, load: Load, memory: Option<u64>, connections: Option<u64>) -> Stage {
    let share = |used: u64, most: Option<u64>| most.map_or(0.0, |most| used as f64 / most.max(1) as f64);
    let filled = share(load.memory_bytes, memory);
    let mut now = Stage::None;
    for (step, begins) in STEPS {
        let from = if before >= step { begins - SLACK } else { begins };
        if filled >= from {
            now = step;
        }
    }
    let crowded = if before == Stage::None { CROWDED } else { CROWDED - SLACK };
    match share(load.connections, connections) >= crowded {
        true => now.max(Stage::NoKeepAlive),
        false => now,
    }
}

/// What the kernel says that we hold; none where it cannot be asked.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Gives back to the system what the allocator keeps for later.
pub fn shrink() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes a plain number and may be called from any thread.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(before: Stage, memory_bytes: u64, connections: u64) -> Stage {
        stage(before, Load { memory_bytes, connections }, Some(1_000), Some(100))
    }

    #[test]
    fn stages_follow_one_another_and_end_below_where_they_began() {
        assert_eq!(at(Stage::None, 899, 0), Stage::None);
        assert_eq!(at(Stage::None, 900, 0), Stage::NoKeepAlive);
        assert_eq!(at(Stage::None, 950, 0), Stage::NoRequests);
        assert_eq!(at(Stage::NoRequests, 935, 0), Stage::NoRequests);
        assert_eq!(at(Stage::NoRequests, 929, 0), Stage::NoKeepAlive);
        assert_eq!(at(Stage::NoKeepAlive, 2_000, 0), Stage::NoConnections);
        assert_eq!(at(Stage::NoConnections, 0, 0), Stage::None);
    }

    #[test]
    fn a_crowd_ends_keep_alive_and_nothing_else() {
        assert_eq!(at(Stage::None, 0, 94), Stage::None);
        assert_eq!(at(Stage::None, 0, 95), Stage::NoKeepAlive);
        assert_eq!(at(Stage::NoKeepAlive, 0, 94), Stage::NoKeepAlive);
        assert_eq!(at(Stage::NoKeepAlive, 0, 500), Stage::NoKeepAlive);
        assert_eq!(at(Stage::NoKeepAlive, 0, 92), Stage::None);
    }

    #[test]
    fn without_ceilings_there_is_never_too_much() {
        let load = Load { memory_bytes: u64::MAX, connections: u64::MAX };
        assert_eq!(stage(Stage::None, load, None, None), Stage::None);
    }
}
