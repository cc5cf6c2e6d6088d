//! A number that one worker alone writes and anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count with a single writer. Whoever reads one sees all that its worker
/// counted before; on x86 that costs nothing.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
