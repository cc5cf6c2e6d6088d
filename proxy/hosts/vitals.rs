//! How one endpoint fares: what upkeep found out about it. Lives as long as its
//! location is listed, through reloads and new answers of DNS.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One bit of an endpoint's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(u32);

impl Flag {
    /// Its active check fails, or has not passed yet.
    pub const FAILED_CHECK: Flag = Flag(1);
    /// An outlier, for a time.
    pub const EJECTED: Flag = Flag(1 << 1);
    /// Gets nothing new; what it has may end.
    pub const DRAINING: Flag = Flag(1 << 2);

    /// An endpoint with one of these is not picked, but in a panic.
    pub const KEEPS_OUT: [Flag; 3] = [Flag::FAILED_CHECK, Flag::EJECTED, Flag::DRAINING];
}

pub struct Vitals {
    flags: AtomicU32,
    /// When it was first listed, or last came back to health: slow start counts from here.
    fresh_us: AtomicU64,
    workers: usize,
}

impl Vitals {
    pub fn new(workers: usize, now_us: u64) -> Vitals {
        Vitals { flags: AtomicU32::new(0), fresh_us: AtomicU64::new(now_us), workers }
    }

    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag.0 != 0
    }

    pub fn is_healthy(&self) -> bool {
        Flag::KEEPS_OUT.iter().all(|flag| !self.has(*flag))
    }

    pub fn fresh_us(&self) -> u64 {
        self.fresh_us.load(Ordering::Relaxed)
    }

    /// It begins anew: slow start, where asked for, leads it back.
    pub fn freshen(&self, now_us: u64) {
        self.fresh_us.store(now_us, Ordering::Relaxed);
    }

    /// How many workers may count something of it.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Whether that was a change. Only [`super::Hosts::mark`] calls this, for the
    /// pickers must hear of it.
    pub(super) fn mark(&self, flag: Flag, on: bool) -> bool {
        let before = if on {
            self.flags.fetch_or(flag.0, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!flag.0, Ordering::AcqRel)
        };
        (before & flag.0 != 0) != on
    }
}
